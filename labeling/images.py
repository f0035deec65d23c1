"""Where annotators' browsers find the pictures: original bytes under neutral names.

Either Label Studio serves them from a folder of its machine
(https://labelstud.io/guide/storage#Local-storage), or any web server does that serves the media
folder. Nothing is re-encoded. A file in the shared folder is either absent or complete.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from schemas.errors import ServiceError, StoreError

SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "HEIF": ".heic",
}
"""True format, as in the image row, to the suffix by which Label Studio states a media type."""


def file_name(digest: str, image_format: str | None) -> str:
    """The neutral name of one image: its digest, and a suffix for the server's media types."""
    return digest + SUFFIXES.get(image_format or "", "")


def local_file_url(folder: str, name: str) -> str:
    """The address at which Label Studio serves `name` from `folder` under its document root."""
    return "/data/local-files/?d=" + quote(f"{folder.strip('/')}/{name}")


def web_url(base_url: str, digest: str) -> str:
    """The address of a digest on a web server whose `base_url` is the media folder."""
    return f"{base_url.rstrip('/')}/{digest[:2]}/{digest[2:4]}/{digest}"


def shared_folder(document_root: Path, name: str) -> Path:
    """The folder `name` under the server's document root, created when absent.

    Raises:
        ServiceError: the document root is not there, or the folder would not be below it.
    """
    root = document_root.absolute()
    if not root.is_dir():
        raise ServiceError(
            f"the document root {root} is not a folder; give the one that Label Studio runs with "
            "as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        )
    folder = Path(os.path.normpath(root / name))
    if folder == root or root not in folder.parents:
        raise ServiceError(
            f"the folder {folder} is not below the document root {root}; Label Studio serves "
            "subfolders of it only, so name one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def place(name: str, folder: Path, *, file: Path | None, read: Callable[[], bytes]) -> bool:
    """Put one image into the shared folder, linked to `file` where the disk allows, else copied.

    Args:
        name: the neutral name.
        folder: the shared folder.
        file: the image in a store on a local disk; None when the store is elsewhere.
        read: its bytes, asked for only when there is no file.

    Returns:
        False if it was there already.

    Raises:
        StoreError: the disk refused, or the image is not where it was said to be.
    """
    target = folder / name
    if target.exists():
        return False
    incoming = folder / f".{name}.{os.getpid()}.incoming"
    try:
        if file is None:
            incoming.write_bytes(read())
        else:
            _link(file, incoming)
        incoming.replace(target)
    except OSError as error:
        raise StoreError(
            f"{name} cannot be put into {folder} ({error.strerror}); "
            "make sure that it is in the store and that the disk has room"
        ) from None
    finally:
        incoming.unlink(missing_ok=True)
    return True


def _link(file: Path, target: Path) -> None:
    """A hard link, or a copy across disks and where links are not allowed."""
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, target)
