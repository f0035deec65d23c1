"""The hosts of a simulated world, on one local port: `http://127.0.0.1:PORT/<host>/<path>`.

Answers as the hosts would: 404 for dead links, 302 to the placeholder for removed images, an HTML page
where a picture is expected. Queries are ignored, as signatures of previews are not checked.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}
REDIRECTS = "redirects.json"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    media: Path
    redirects: dict[str, str]

    def do_GET(self) -> None:
        """Answer one request; nothing outside the media folder is ever read."""
        path = unquote(urlsplit(self.path).path)
        if path in self.redirects:
            self._answer(HTTPStatus.FOUND, b"", {"Location": self.redirects[path]})
            return
        file = (self.media / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.media) or not file.is_file():
            self._answer(HTTPStatus.NOT_FOUND, b"not found\n", {"Content-Type": "text/plain"})
            return
        content = file.read_bytes()
        self._answer(HTTPStatus.OK, content, {"Content-Type": _type_of(file, content)})

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no event here."""


def _type_of(file: Path, content: bytes) -> str:
    if content[:14].lower() == b"<!doctype html":
        return "text/html; charset=utf-8"
    return TYPES.get(file.suffix.lower(), "application/octet-stream")


@contextmanager
def serve_media(root: Path) -> Iterator[str]:
    """Serve the media of the world at `root`; yields the base URL, without a slash at its end."""
    listed = root / REDIRECTS
    redirects = json.loads(listed.read_bytes()) if listed.is_file() else {}
    answers = {"media": (root / "media").resolve(), "redirects": redirects}
    handler = type("Handler", (_Handler,), answers)
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
