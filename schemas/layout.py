"""Where an image stands in a benchmark folder, read from its path alone.

WildRF: ``train/0_real``, ``val/1_fake``, ``test/<platform>/0_real``. ForenSynths nests classes,
``train/<class>/0_real``, and tests per generator, ``test/<generator>/<class>/1_fake``. GenImage calls the
leaves ``nature`` and ``ai``.
"""

from dataclasses import dataclass
from pathlib import PurePath

from schemas.labels import Label, Split

LEAVES: dict[str, Label] = {
    "0_real": Label.REAL,
    "1_fake": Label.FAKE,
    "nature": Label.REAL,
    "ai": Label.FAKE,
}
"""Leaf folder names and what they hold."""

SPLITS: dict[str, Split] = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
}
"""Folder names that mean a split."""

MANIFEST = "manifest.parquet"
"""The file beside the splits that lists every image of a release."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".webp", ".gif"}
    | {".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl"}
)
"""File name endings that say image; what a file really is, only its bytes say."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Split, platform (or generator, or class) and label, as the folders say.

    `split` is None in a tree without splits; `platform` is "" where no folder names one.
    """

    split: Split | None
    platform: str
    label: Label


def place(path: PurePath) -> Placement | None:
    """Where `path`, relative to the set's root, stands; None if it lies under no leaf folder."""
    folders = path.parts[:-1]
    leaf = next((i for i in reversed(range(len(folders))) if folders[i] in LEAVES), None)
    if leaf is None:
        return None
    above = folders[:leaf]
    split = next((SPLITS[name] for name in above if name in SPLITS), None)
    platform = "/".join(name for name in above if name not in SPLITS)
    return Placement(split, platform, LEAVES[folders[leaf]])


def folder(split: Split, platform: str, label: Label) -> str:
    """The WildRF folder of an image; only test is divided by platform."""
    middle = f"{platform}/" if split is Split.TEST and platform else ""
    return f"{split.value}/{middle}{label.folder}"
