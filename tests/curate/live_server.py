"""A real HTTP server that answers as Reddit, Mastodon and Bluesky do, and fails as they do.

Records are bytes, and go out as they are, so that a test can compare a capture file with them. What is
to go wrong is lined up per path: each request takes the next fault, and the one after the last is well.
"""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

CLIENT, SECRET = "client-4711", "very-secret-0815"
IDENTIFIER, APP_PASSWORD = "painter.bsky.example", "abcd-efgh-ijkl-mnop"
TOKEN = "token-of-the-server-1234"
HOSTS = (
    "www.reddit.com",
    "oauth.reddit.com",
    "mastodon.example",
    "public.api.bsky.app",
    "bsky.social",
)
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def submission(number: int, subreddit: str = "aiArt") -> bytes:
    """A child of a listing, as Reddit writes it with `raw_json=1`."""
    name = f"{number:06x}"
    data = {
        "approved_at_utc": None,
        "subreddit": subreddit,
        "selftext": "",
        "author_fullname": f"t2_p{number % 3}",
        "title": f"Castle & moor {number} \u2728 <soft light>",
        "name": f"t3_{name}",
        "is_self": False,
        "created": (BEGAN + timedelta(minutes=number)).timestamp(),
        "removed_by_category": None,
        "over_18": number % 5 == 0,
        "id": name,
        "is_video": False,
        "author": f"made_up_{number % 3}",
        "num_comments": number % 7,
        "score": number,
        "permalink": f"/r/{subreddit}/comments/{name}/castle/",
        "url": f"https://i.redd.it/pic{name}.png",
        "created_utc": (BEGAN + timedelta(minutes=number)).timestamp(),
    }
    return json.dumps({"kind": "t3", "data": data}).encode()


def status(number: int, tag: str = "aiart") -> bytes:
    """A status of a tag timeline."""
    ident = str(116_000_000_000_000_000 + number * 3_932_160_000)
    made = BEGAN + timedelta(minutes=number)
    account = {
        "id": f"10{number % 3}",
        "username": f"made_up_{number % 3}",
        "acct": f"made_up_{number % 3}",
    }
    record = {
        "id": ident,
        "created_at": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "language": "en",
        "uri": f"https://mastodon.example/users/made_up_{number % 3}/statuses/{ident}",
        "url": f"https://mastodon.example/@made_up_{number % 3}/{ident}",
        "content": f'<p>Moor {number} \u2728 <a href="https://mastodon.example/tags/{tag}">#{tag}</a></p>',
        "reblog": None,
        "account": {**account, "url": f"https://mastodon.example/@made_up_{number % 3}"},
        "media_attachments": [
            {
                "id": f"9{number}",
                "type": "image",
                "url": f"https://files.mastodon.example/original/{number}.png",
                "preview_url": f"https://files.mastodon.example/small/{number}.png",
                "remote_url": None,
                "meta": {"original": {"width": 640, "height": 480}},
                "description": "a moor",
            }
        ],
        "mentions": [],
        "tags": [{"name": tag, "url": f"https://mastodon.example/tags/{tag}"}],
    }
    return json.dumps(record, separators=(",", ":")).replace("/", "\\/").encode()


CID = "bafkreibgbv73dk7lk4qrij5xm7vri3m6hfgfxqylxbal6yau7ssieqav3a"


def view(number: int, tag: str = "aiart") -> bytes:
    """A post view of a search."""
    did = f"did:plc:madeup{number % 3}aaaaaaaaaaaaaaaaaa"
    made = (BEGAN + timedelta(minutes=number)).isoformat(timespec="milliseconds")
    made = made.replace("+00:00", "Z")
    served = f"https://cdn.bsky.app/img/feed_fullsize/plain/{did}/{CID}@jpeg"
    blob = {"$type": "blob", "ref": {"$link": CID}, "mimeType": "image/png", "size": 1234}
    record = {
        "uri": f"at://{did}/app.bsky.feed.post/3m{number:011d}".replace("0", "a").replace("1", "b"),
        "cid": "bafyreidgyvluiuegoiwctviyvw3ikiajujmukh2j5f5rc7lr6dam57v2ja",
        "author": {"did": did, "handle": f"made-up-{number % 3}.bsky.example", "labels": []},
        "record": {
            "$type": "app.bsky.feed.post",
            "createdAt": made,
            "text": f"Moor {number} \u2728 #{tag}",
            "langs": ["en"],
            "embed": {
                "$type": "app.bsky.embed.images",
                "images": [{"alt": "a moor", "image": blob}],
            },
        },
        "embed": {
            "$type": "app.bsky.embed.images#view",
            "images": [{"thumb": served, "fullsize": served, "alt": "a moor"}],
        },
        "likeCount": number,
        "indexedAt": made,
        "labels": [],
    }
    return json.dumps(record, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Fault:
    """What is answered instead: a status with headers and a body, or a body that is cut off."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    cut: bool = False
    held: bool = False  # no answer until the site is closed


@dataclass
class Site:
    """The server's state: what there is, what is to go wrong, and what was asked."""

    url: str = ""
    submissions: list[bytes] = field(default_factory=list)
    statuses: dict[str, list[bytes]] = field(default_factory=dict)
    views: dict[str, list[bytes]] = field(default_factory=dict)
    faults: dict[str, list[Fault | None]] = field(default_factory=dict)  # None: this one is well
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)
    loop: str | None = None  # "cursor": what follows is what was; "pages": the first page, forever
    pages: int = 0
    members_only: bool = False
    linkless: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def mirrors(self) -> dict[str, str]:
        return dict.fromkeys(HOSTS, self.url)

    def fail(self, path: str, *faults: Fault | None) -> None:
        self.faults.setdefault(path, []).extend(faults)

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    site: Site

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(body)

    def do_GET(self) -> None:
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self.site.asked.append((parts.path, query, dict(self.headers)))
        waiting = next(
            (f for path, f in self.site.faults.items() if f and parts.path.startswith(path)), [None]
        )
        if fault := waiting.pop(0):
            self.send(fault)
        elif parts.path == "/api/v1/access_token":
            self.send(self.reddit_token(body))
        elif parts.path.startswith("/r/") or parts.path == "/search":
            self.send(self.reddit_listing(query))
        elif parts.path.startswith("/api/v1/timelines/tag/"):
            self.send(self.mastodon_timeline(unquote(parts.path.rsplit("/", 1)[-1]), query))
        elif parts.path.endswith("createSession"):
            self.send(self.bluesky_session(json.loads(body)))
        elif parts.path.endswith(("searchPosts", "getAuthorFeed")):
            self.send(self.bluesky_posts(parts.path.rsplit(".", 1)[-1], query))
        else:
            self.send(Fault(404, body=b'{"error":"Record not found"}'))

    def send(self, fault: Fault) -> None:
        if fault.held:
            self.site.closing.wait(60)
        with contextlib.suppress(OSError):
            self.send_response(fault.status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(fault.body) + 100 * fault.cut))
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(fault.body)
            self.close_connection = fault.cut

    def page(self, records: list[bytes], start: int, size: int) -> tuple[list[bytes], int | None]:
        """A page of records, and where the next begins; loops where that is asked for."""
        self.site.pages += 1
        if self.site.loop == "pages":
            return records[:size], self.site.pages * size
        here = records[start : start + size]
        if self.site.loop == "cursor":
            return here, start or size
        return here, start + size if start + size < len(records) else None

    def reddit_token(self, form: bytes) -> Fault:
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        reading = b"grant_type=client_credentials" in form  # a person's login is another grant
        if self.headers["Authorization"] != f"Basic {expected}" or not reading:
            return Fault(401, body=b'{"message": "Unauthorized", "error": 401}')
        token = {"access_token": TOKEN, "token_type": "bearer", "expires_in": 86400, "scope": "*"}
        return Fault(body=json.dumps(token).encode())

    def reddit_listing(self, query: dict[str, str]) -> Fault:
        if self.headers["Authorization"] != f"bearer {TOKEN}" or query.get("raw_json") != "1":
            return Fault(401, body=b'{"message": "Unauthorized", "error": 401}')
        records = self.site.submissions
        names = [json.loads(r)["data"]["name"] for r in records]
        after = query.get("after")
        start = names.index(after) + 1 if after in names else 0
        here, following = self.page(records, start, int(query.get("limit", 25)))
        name = json.dumps(names[(following - 1) % len(names)] if following is not None else None)
        if self.site.loop == "pages":
            name = f'"t3_never{self.site.pages}"'
        body = b'{"kind": "Listing", "data": {"after": %b, "dist": %d, "children": [%b], "before": null}}'
        used = len(self.site.asked)
        limits = {
            "X-RateLimit-Remaining": f"{600 - used}.0",
            "X-RateLimit-Used": str(used),
            "X-RateLimit-Reset": str(600 - used),
        }
        return Fault(
            body=body % (name.encode(), len(here), b", ".join(here)),
            headers={**limits, **self.site.limits},
        )

    def mastodon_timeline(self, tag: str, query: dict[str, str]) -> Fault:
        if self.site.members_only and self.headers["Authorization"] != f"Bearer {TOKEN}":
            return Fault(422, body=b'{"error":"This method requires an authenticated user"}')
        records = self.site.statuses.get(tag.lower(), [])
        ids = [int(json.loads(r)["id"]) for r in records]
        below = int(query.get("max_id") or 2**63)
        start = sum(1 for ident in ids if ident >= below) if self.site.loop != "cursor" else 0
        here, following = self.page(records, start, int(query.get("limit", 20)))
        headers = {
            "X-RateLimit-Limit": "300",
            "X-RateLimit-Remaining": "290",
            "X-RateLimit-Reset": (datetime.now(UTC) + timedelta(minutes=4)).isoformat(),
            **self.site.limits,
        }
        if here and not self.site.linkless:
            last = json.loads(here[-1])["id"]
            if self.site.loop == "pages":
                last = str(2**60 + following)
            first = json.loads(here[0])["id"]
            base = f"https://mastodon.example/api/v1/timelines/tag/{tag}"
            headers["Link"] = (
                f'<{base}?limit=40&max_id={last}>; rel="next", <{base}?min_id={first}>; rel="prev"'
            )
        return Fault(body=b"[%b]" % b",".join(here), headers=headers)

    def bluesky_session(self, login: dict[str, str]) -> Fault:
        if login != {"identifier": IDENTIFIER, "password": APP_PASSWORD}:
            told = {
                "error": "AuthenticationRequired",
                "message": f"Invalid identifier or password {login}",
            }
            return Fault(401, body=json.dumps(told).encode())
        return Fault(body=json.dumps({"did": "did:plc:x", "accessJwt": TOKEN}).encode())

    def bluesky_posts(self, method: str, query: dict[str, str]) -> Fault:
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if method == "searchPosts" and not known and ("cursor" in query or self.site.members_only):
            return Fault(403, body=b"<html><body>403 Forbidden</body></html>")
        words = query.get("q", query.get("actor", "")).lower()
        records = self.site.views.get(words, [])
        until = query.get("until", "9")
        since = query.get("since", "0")
        if method == "searchPosts":
            records = [r for r in records if since <= json.loads(r)["indexedAt"] < until]
        start = int(query.get("cursor", 0))
        here, following = self.page(records, start, int(query.get("limit", 25)))
        if method == "getAuthorFeed":
            here = [r if b'"post"' in r[:9] else b'{"post": %b}' % r for r in here]
        cursor = b"" if following is None else b', "cursor": "%d"' % following
        kind = b"posts" if method == "searchPosts" else b"feed"
        limits = {
            "RateLimit-Limit": "3000",
            "RateLimit-Remaining": "2990",
            "RateLimit-Reset": "1772400000",
        }
        return Fault(
            body=b'{"%b": [%b]%b}' % (kind, b", ".join(here), cursor),
            headers={**limits, **self.site.limits},
        )

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def open_site() -> Iterator[Site]:
    """A server on a port of its own, with nothing on it."""
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that is gone is what some tests are about
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
