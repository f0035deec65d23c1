import http.server
import io
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from curate.connect import Addresses, Refused, is_public
from curate.download import Downloader, looks_like_image
from curate.placeholders import CONTENTS
from schemas.policy import FetchPolicy

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def picture(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


JPEG = picture()


def send(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        stated = {
            "Content-Length": str(len(body)),
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        handler.send_response(status)
        for name, value in stated.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Site:
    """A real server: each path has a list of answers, the last of which is repeated."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def on(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, dict(self.headers)))
        self.site.ports.add(self.client_address[1])
        answers = self.site.answers.get(self.path.split("?")[0], [send(b"gone", 404)])
        try:
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site("")
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave early here
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def policy(site: Site, **fields: object) -> FetchPolicy:
    base = {"timeout_s": 0.5, "total_timeout_s": 3.0, "attempts": 1, "max_bytes": 1_000_000}
    mirrors = {"img.example": site.url}
    return FetchPolicy(**{**base, "mirrors": mirrors, **fields})  # type: ignore[arg-type]


def get(site: Site, path: str, **fields: object):
    with Downloader(policy(site, **fields)) as downloader:
        return downloader.get(f"https://img.example{path}")


def test_bytes_come_exactly_as_they_were_served(site):
    site.on("/a.jpg", send(JPEG, Content_Type="image/jpeg"))

    got = get(site, "/a.jpg?width=9&s=ab")

    assert got.data == JPEG
    assert (got.failure, got.status, got.served_type) == (None, 200, "image/jpeg")
    [(path, headers)] = site.asked
    assert path == "/a.jpg"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("wildrf")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (send(b"gone", 404), "http-404"),
        (send(b"<html>sorry</html>", Content_Type="image/jpeg"), "not-an-image"),
        (send(b""), "empty"),
        (send(JPEG, Content_Length="10000000"), "too-large"),
        (send(JPEG, X_Robots_Tag="noindex, noai"), "opted-out"),
        (send(JPEG, X_Robots_Tag="otherbot: NoImageAI"), "opted-out"),
        (send(JPEG, X_Robots_Tag="nofollow, noimageindex"), "opted-out"),
        (send(JPEG, X_Robots_Tag="wildrf: noindex"), "opted-out"),
        (send(JPEG, X_Robots_Tag="max-snippet: 5, none"), "opted-out"),
        (send(JPEG, Content_Encoding="gzip"), "content-encoding"),
        (send(JPEG, Content_Encoding="BR"), "content-encoding"),
        (send(b"", 302, Location="https://i.imgur.com/removed.png"), "placeholder"),
        (send(b"", 302, Location="//s.example/en-us/photo_unavailable_l.png"), "placeholder"),
        (send(b"", 302, Location="ftp://img.example/a"), "bad-scheme"),
        (send(b"", 302, Location="/a"), "too-many-redirects"),
        (send(b"", 302), "http-302"),
        (send(b"", 302, Location="http://10.0.0.1/latest"), "private-address"),
        (send(b"", 302, Location="http://169.254.169.254/latest"), "private-address"),
        (send(b"", 302, Location="http://[::1]/latest"), "private-address"),
        (send(b"", 302, Location="http://0.0.0.0/latest"), "private-address"),
    ],
)
def test_an_answer_that_is_no_picture_gives_a_cause(site, answer, cause):
    site.on("/a", answer)

    got = get(site, "/a")

    assert (got.data, got.failure) == (None, cause)


@pytest.mark.parametrize(
    "tag", ["otherbot: noindex", "nofollow", "noarchive, otherbot: noindex, nofollow", "all"]
)
def test_what_is_asked_of_other_robots_or_of_nobody_is_no_wish_to_be_left_out(site, tag):
    site.on("/a.jpg", send(JPEG, X_Robots_Tag=tag))

    assert get(site, "/a.jpg").data == JPEG


def test_a_workspace_may_decide_that_robots_tags_do_not_count(site):
    site.on("/a.jpg", send(JPEG, X_Robots_Tag="noai, noindex"))

    with Downloader(policy(site), honour_opt_out=False) as downloader:
        assert downloader.get("https://img.example/a.jpg").data == JPEG


def test_an_encoding_that_is_none_is_no_reason_to_refuse(site):
    site.on("/a.jpg", send(JPEG, Content_Encoding="aws-chunked"))

    assert get(site, "/a.jpg").data == JPEG


def test_known_placeholders_are_told_by_their_bytes(site):
    (reddit,) = [known for known in CONTENTS if known.pixels]
    head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"".join(n.to_bytes(4) for n in reddit.pixels)
    site.on("/a", send(head.ljust(reddit.size, b"\0")))
    site.on("/b", send(head.ljust(reddit.size + 1, b"\0")))
    site.on("/c", send(head[:16] + b"\0\0\1\0\0\0\1\0".ljust(reddit.size - 16, b"\0")))

    assert get(site, "/a").failure == "placeholder"
    assert get(site, "/b").failure is None
    assert get(site, "/c").failure is None


def test_a_redirect_on_the_mirror_is_followed(site):
    site.on("/a", send(b"", 301, Location="/b.jpg"))
    site.on("/b.jpg", send(JPEG))

    assert get(site, "/a").data == JPEG


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_may_pass_says_so_and_how_long_to_wait(site, status):
    site.on("/a", send(b"", status, Retry_After="2"))

    got = get(site, "/a", attempts=3)

    assert (got.failure, got.may_pass, got.retry_after) == (f"http-{status}", True, 2.0)
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_both_forms_by_the_servers_own_clock(site, value, seconds):
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.date_time_string = lambda _=None: "Sat, 21 Nov 2026 10:00:00 GMT"  # type: ignore[method-assign]
        send(b"", 429, Retry_After=value)(handler)

    site.on("/a", answer)

    assert get(site, "/a").retry_after == seconds


def test_a_missing_file_will_not_be_there_in_a_moment(site):
    assert not get(site, "/a").may_pass


def test_an_answer_that_nobody_wants_does_not_cost_its_connection(site):
    site.on("/b.jpg", send(JPEG))

    with Downloader(policy(site)) as downloader:
        for path in ("/none", "/b.jpg", "/none", "/b.jpg"):
            downloader.get(f"https://img.example{path}")

    assert len(site.ports) == 1


def test_a_connection_that_breaks_in_the_body_gives_a_cause(site):
    def reset(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(JPEG[:100], Content_Length="5000")(handler)
        linger = b"\x01\0\0\0\0\0\0\0"
        handler.wfile.flush()
        time.sleep(0.1)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(handler.connection.detach())

    site.on("/a", reset)

    assert get(site, "/a").failure == "reset"


def broken_off(data: bytes, at: int, **headers: str) -> Answer:
    """The beginning of `data`, and then the connection is gone."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(data[:at], Content_Length=str(len(data)), **headers)(handler)
        handler.close_connection = True

    return answer


def rest(data: bytes, at: int, total: int | None = None, **headers: str) -> Answer:
    stated = f"bytes {at}-{len(data) - 1}/{total or len(data)}"
    return send(data[at:], 206, Content_Range=stated, **headers)


@pytest.mark.parametrize(
    "vouching",
    [
        {"ETag": '"v1"'},
        {"Last_Modified": "Sat, 21 Nov 2020 10:00:00 GMT"},
    ],
)
def test_a_body_that_broke_off_is_asked_for_from_there(site, vouching):
    site.on("/a", broken_off(JPEG, 100, **vouching), rest(JPEG, 100))

    got = get(site, "/a", attempts=2)

    assert (got.data, got.failure, got.status) == (JPEG, None, 206)
    (_, first), (_, second) = site.asked
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=100-", *vouching.values())


def test_a_body_that_changed_meanwhile_is_taken_whole(site):
    other = picture("PNG")
    site.on("/a", broken_off(JPEG, 100, ETag='"v1"'), send(other, ETag='"v2"'))

    assert get(site, "/a", attempts=2).data == other


@pytest.mark.parametrize(
    "answer",
    [
        rest(JPEG, 90),
        rest(JPEG, 100, total=99_999),
        send(JPEG[100:], 206),
        send(b"", 416),
        send(JPEG[100:], 206, Content_Range="bytes 100-120/*"),
    ],
)
def test_a_rest_that_does_not_fit_is_not_put_together(site, answer):
    site.on("/a", broken_off(JPEG, 100, ETag='"v1"'), answer)

    got = get(site, "/a", attempts=3)

    assert (got.data, got.failure, got.may_pass) == (None, "length-mismatch", True)


@pytest.mark.parametrize("vouching", [{}, {"ETag": 'W/"v1"'}])
def test_nothing_is_put_together_that_nobody_vouches_for(site, vouching):
    site.on("/a", broken_off(JPEG, 100, **vouching), rest(JPEG, 100))

    assert get(site, "/a", attempts=3).failure == "length-mismatch"
    assert len(site.asked) == 1


def test_a_body_that_breaks_off_where_it_did_before_is_given_up(site):
    site.on("/a", broken_off(JPEG, 100, ETag='"v1"'), rest(JPEG[:100], 100, len(JPEG)))

    assert get(site, "/a", attempts=9).failure == "length-mismatch"
    assert len(site.asked) == 2


def test_a_body_shorter_than_stated_gives_a_cause(site):
    def short(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(JPEG, Content_Length="5000")(handler)
        handler.close_connection = True

    site.on("/a", short)

    assert get(site, "/a").failure == "length-mismatch"


@pytest.mark.parametrize("size", [200, 150_000])
def test_a_body_longer_than_stated_gives_a_cause_and_harms_nobody_after_it(site, size):
    site.on("/long", send(JPEG + bytes(400_000), Content_Length=str(size)))
    site.on("/next.jpg", send(JPEG))

    with Downloader(policy(site)) as downloader:
        got = downloader.get("https://img.example/long")
        after = downloader.get("https://img.example/next.jpg")

    assert (got.data, got.failure) == (None, "length-mismatch")
    assert after.data == JPEG


def test_a_server_that_says_nothing_or_drips_is_left(site):
    def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(0.8)

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(JPEG[:10], Content_Length="5000")(handler)
        for _ in range(200):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    def drip_in_the_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + bytes(200):
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    def only_ever_continue(handler: http.server.BaseHTTPRequestHandler) -> None:
        while True:
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.02)

    site.on("/silent", silent)
    site.on("/drip", drip)
    site.on("/headers", drip_in_the_headers)
    site.on("/continue", only_ever_continue)
    started = time.monotonic()

    assert get(site, "/silent", timeout_s=0.3).failure == "timeout"
    assert get(site, "/drip", total_timeout_s=0.6).failure == "timeout"
    assert get(site, "/headers", total_timeout_s=0.4).failure == "timeout"
    assert get(site, "/continue", total_timeout_s=0.4).failure == "timeout"
    assert time.monotonic() - started < 3


def test_a_body_without_end_is_left_at_the_limit(site):
    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(JPEG, Content_Length="")(handler)
        while True:
            handler.wfile.write(bytes(65_536))

    def endless_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X-More: and more\r\n" * 100)

    site.on("/a", endless)
    site.on("/b", endless_headers)

    assert get(site, "/a").failure == "too-large"
    assert get(site, "/b").failure == "bad-response"


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", "bad-url"),
        ("not a url", "bad-url"),
        ("file:///etc/passwd", "bad-scheme"),
        ("gopher://x/1", "bad-scheme"),
        ("http://", "bad-url"),
        ("http://user:pw@img.example/a", "bad-url"),
        ("http://[bad/", "bad-url"),
        ("http://a..b.example/", "bad-url"),
        ("http://x:99999/", "bad-url"),
        ("http://127.0.0.1/a", "private-address"),
        ("http://2130706433/a", "private-address"),
        ("http://localhost/a", "private-address"),
        ("https://192.168.1.1/a", "private-address"),
        ("http://[::ffff:127.0.0.1]/a", "private-address"),
        ("http://does-not-exist.invalid/a", "dns"),
    ],
)
def test_a_bad_or_private_url_gives_a_cause_and_never_raises(url, cause):
    with Downloader(FetchPolicy(attempts=1)) as downloader:
        assert downloader.get(url).failure == cause


def test_the_address_that_was_checked_is_the_one_connected_to_and_asked_once(site):
    asked: list[str] = []
    site.on("/a.jpg", send(JPEG))
    port = int(site.url.rsplit(":", 1)[1])

    def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.9.9.9"]

    with Downloader(
        policy(site), resolver=resolver, allowed={"127.0.0.1"}.__contains__
    ) as downloader:
        got = downloader.get(f"http://pictures.example:{port}/a.jpg")

    assert got.data == JPEG
    assert asked == ["pictures.example"]
    assert site.asked[0][1]["Host"] == f"pictures.example:{port}"


def test_tls_asks_for_the_name_at_the_checked_address_and_verifies_it(tmp_path):
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.handle_request)
    thread.start()

    with Downloader(
        FetchPolicy(attempts=1, timeout_s=2),
        resolver=lambda *_: ["127.0.0.1"],
        allowed=lambda _: True,
    ) as downloader:
        got = downloader.get(f"https://pictures.example:{server.server_port}/a.jpg")
    thread.join()
    server.server_close()

    assert asked == ["pictures.example"]
    assert got.failure == "tls"


def certificate(folder: Path) -> Path:
    """A key and a certificate that nobody trusts, in one file."""
    path = folder / "server.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=pictures.example"
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    path.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return path


def test_a_name_with_one_private_address_is_refused(site):
    def resolver(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    with Downloader(policy(site), resolver=resolver) as downloader:
        assert downloader.get("http://rebind.example/a").failure == "private-address"


def test_a_public_site_cannot_redirect_to_the_address_of_a_mirror(site):
    site.on("/a", send(b"", 302, Location=f"{site.url}/b.jpg"))
    site.on("/b.jpg", send(JPEG))
    port = int(site.url.rsplit(":", 1)[1])

    def resolver(host: str, _: int) -> list[str]:
        return ["127.0.0.1"]

    def allowed(_: str) -> bool:
        return len(site.asked) == 0

    with Downloader(policy(site), resolver=resolver, allowed=allowed) as downloader:
        assert downloader.get(f"http://public.example:{port}/a").failure == "private-address"


def test_a_folder_may_be_a_mirror_and_is_not_left(tmp_path, site):
    (tmp_path / "mirror/x").mkdir(parents=True)
    (tmp_path / "mirror/x/a b.jpg").write_bytes(JPEG)
    (tmp_path / "mirror/x/link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    mirrors = {"img.example": str(tmp_path / "mirror")}

    assert get(site, "/x/a%20b.jpg?s=1", mirrors=mirrors).data == JPEG
    for path in ("/x/none.jpg", "/../secret.jpg", "/%2e%2e/secret.jpg", "/x/link.jpg", "/x"):
        assert get(site, path, mirrors=mirrors).failure == "mirror-missing", path
    assert get(site, "/x/a%20b.jpg", mirrors=mirrors, max_bytes=10).failure == "too-large"


def test_a_port_that_nobody_listens_on_is_refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mirrors = {"img.example": f"http://127.0.0.1:{port}"}

    with Downloader(FetchPolicy(attempts=1, mirrors=mirrors)) as downloader:
        assert downloader.get("http://img.example/a").failure == "refused"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_picture_formats_are_told_by_their_first_bytes(kind):
    assert looks_like_image(picture(kind))


@pytest.mark.parametrize("data", [b"", b"<html>", b"BM is short for", b"RIFF1234WAVE", b"%PDF-1.7"])
def test_other_bytes_are_no_picture(data):
    assert not looks_like_image(data)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "0.0.0.0", "224.0.0.1", "255.255.255.255", "168.63.129.16", "::1", "::",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "2002:a00:1::",
        "64:ff9b::a00:1", "198.18.0.1", "192.0.2.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_open_internet_are_told(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_public_addresses_are_told(address):
    assert is_public(address)


def test_addresses_are_remembered_for_a_short_time_and_checked_each_time():
    now, asked, public = [0.0], [], {"93.184.216.34"}

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        if host == "gone.example":
            raise socket.gaierror("no such name")
        return ["93.184.216.34"]

    addresses = Addresses(resolver, lambda a: a in public, clock=lambda: now[0])

    for _ in range(3):
        assert addresses.of("a.example", 443) == ["93.184.216.34"]
        with pytest.raises(socket.gaierror):
            addresses.of("gone.example", 443)
    assert asked == ["a.example", "gone.example"]
    public.clear()
    with pytest.raises(Refused):
        addresses.of("a.example", 443)
    now[0] = 61.0
    with pytest.raises(Refused):
        addresses.of("a.example", 443)
    assert asked == ["a.example", "gone.example", "a.example"]


def test_every_address_of_a_host_is_tried(site):
    port = int(site.url.rsplit(":", 1)[1])
    site.on("/a.jpg", send(JPEG))

    with Downloader(
        policy(site), resolver=lambda *_: ["127.1.2.3", "127.0.0.1"], allowed=lambda _: True
    ) as downloader:
        got = downloader.get(f"http://pictures.example:{port}/a.jpg")

    assert got.data == JPEG
