"""Reddit submissions as the public dumps and the listing JSON hold them.

Dumps (`RS_YYYY-MM.zst`): one JSON object per line, keys sorted, zstd with a window that default decoders
refuse; the 2015 one has `created_utc` as text and no `url_overridden_by_dest`. Listing
(`/r/x/new.json` without `raw_json=1`): every `&` in media urls is `&amp;`, comments come along, and
`created_utc` is a float. Reddit has no hashtags: the community, the flair and the title carry the tags.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

from curate.simulated.plan import BASE36, REDDIT, START, Copy, PlannedPost, base36

WINDOW_LOG = 31
Sizes = Mapping[int, tuple[int, int]]


def urls_of(copy: Copy, size: tuple[int, int]) -> tuple[str, str]:
    """The address of the image, and that of its signed preview."""
    if copy.where == "imgur":
        return f"https://i.imgur.com/{copy.name}.jpg", ""
    suffix = "png" if copy.kind == "bomb" else "jpg"
    signature = hashlib.sha1(copy.name.encode(), usedforsecurity=False).hexdigest()
    query = f"width={size[0]}&format=pjpg&auto=webp&s={signature}"
    host = f"{copy.name}.{suffix}"
    return f"https://i.redd.it/{host}", f"https://preview.redd.it/{host}?{query}"


def submission(post: PlannedPost, copies: Iterable[Copy], sizes: Sizes) -> dict[str, Any]:
    """One submission as a dump of 2026 holds it. `sizes` are (width, height) by copy number."""
    record = _common(post)
    shown = list(copies)
    if post.kind == "text":
        record |= {
            "is_self": True,
            "selftext": "A question about lenses & light.",
            "post_hint": "self",
        }
        record |= {"domain": f"self.{post.community}", "url": _link(post)}
    elif post.kind == "video":
        record |= _video(post)
    elif post.kind in ("removed", "deleted", "withdrawn"):
        record |= _removal(post)
    elif len(shown) > 1:
        record |= _gallery(post, shown, sizes)
    else:
        record |= _single(shown[0], sizes)
    return record


def _common(post: PlannedPost) -> dict[str, Any]:
    created = int(post.created_at.timestamp())
    return {
        "id": post.post_id, "name": f"t3_{post.post_id}", "title": post.title, "selftext": "",
        "author": f"sim_user_{post.author}", "author_fullname": f"t2_{base36(36**5 + post.author)}",
        "created_utc": created, "created": created, "retrieved_on": created + 130_000,
        "subreddit": post.community, "subreddit_name_prefixed": f"r/{post.community}",
        "subreddit_id": f"t5_{base36(36**4 + sum(post.community.encode()))}",
        "permalink": f"/r/{post.community}/comments/{post.post_id}/simulated/",
        "link_flair_text": post.flair, "link_flair_type": "richtext" if post.flair else "text",
        "link_flair_richtext": [{"e": "text", "t": post.flair}] if post.flair else [],
        "score": 3 + created % 977, "ups": 3 + created % 977, "upvote_ratio": 0.93,
        "num_comments": created % 41, "over_18": False, "spoiler": False, "edited": False,
        "is_self": False, "is_video": False, "stickied": False, "locked": False, "media": None,
        "removed_by_category": None, "thumbnail": "default", "_meta": {"retrieved_2nd_on": created + 130_000},
    }  # fmt: skip


def _link(post: PlannedPost) -> str:
    return f"https://www.reddit.com/r/{post.community}/comments/{post.post_id}/simulated/"


def _single(copy: Copy, sizes: Sizes) -> dict[str, Any]:
    width, height = sizes.get(copy.number, (640, 480))
    url, preview = urls_of(copy, (width, height))
    record: dict[str, Any] = {
        "url": url,
        "url_overridden_by_dest": url,
        "domain": url.split("/")[2],
    }
    if preview:
        source = {"url": preview, "width": width, "height": height}
        image = {"id": copy.name, "source": source, "resolutions": [], "variants": {}}
        record |= {"post_hint": "image", "preview": {"enabled": True, "images": [image]}}
    return record


def _gallery(post: PlannedPost, copies: list[Copy], sizes: Sizes) -> dict[str, Any]:
    """`media_metadata` in reverse, so that only `gallery_data` tells the order; one failed item."""
    failed = hashlib.sha256(post.post_id.encode()).hexdigest()[:13]
    items = [{"media_id": c.name, "id": 1000 + c.number} for c in copies]
    items.append({"media_id": failed, "id": 999})
    metadata: dict[str, Any] = {failed: {"status": "failed"}}
    for copy in reversed(copies):
        width, height = sizes.get(copy.number, (640, 480))
        source = {"u": urls_of(copy, (width, height))[1], "x": width, "y": height}
        metadata[copy.name] = {
            "status": "valid", "e": "Image", "m": "image/jpg", "s": source, "p": [], "id": copy.name,
        }  # fmt: skip
    url = f"https://www.reddit.com/gallery/{post.post_id}"
    return {
        "is_gallery": True, "domain": "reddit.com", "url": url, "url_overridden_by_dest": url,
        "gallery_data": {"items": items}, "media_metadata": metadata,
    }  # fmt: skip


def _video(post: PlannedPost) -> dict[str, Any]:
    url = f"https://v.redd.it/{post.post_id}00000000"
    video = {
        "fallback_url": f"{url}/DASH_480.mp4",
        "duration": 9,
        "is_gif": False,
        "height": 480,
        "width": 854,
    }
    media = {"reddit_video": video}
    return {"is_video": True, "media": media, "secure_media": media, "post_hint": "hosted:video",
            "domain": "v.redd.it", "url": url, "url_overridden_by_dest": url}  # fmt: skip


def _removal(post: PlannedPost) -> dict[str, Any]:
    """Removed by a moderator, deleted by its author, or deleted after the dump first saw it."""
    url = f"https://i.redd.it/{post.post_id}0000000.jpg"
    record: dict[str, Any] = {"url": url, "url_overridden_by_dest": url, "domain": "i.redd.it"}
    if post.kind == "withdrawn":
        return record | {"_meta": {"was_deleted_later": True, "removal_type": "deleted"}}
    record |= {"selftext": "[removed]", "removed_by_category": "moderator"}
    if post.kind == "deleted":
        record |= {"selftext": "[deleted]", "removed_by_category": "deleted", "author": "[deleted]",
                   "author_fullname": None}  # fmt: skip
    return record


def crosspost(post: PlannedPost, parent: dict[str, Any]) -> dict[str, Any]:
    """A submission that shows `parent`: no media of its own, a relative url, no domain."""
    return _common(post) | {
        "crosspost_parent": parent["name"], "crosspost_parent_list": [parent],
        "url": parent["permalink"], "url_overridden_by_dest": parent["permalink"], "domain": "",
    }  # fmt: skip


def as_of_2015(record: dict[str, Any]) -> dict[str, Any]:
    """The submission as a dump of 2015 held it: text times, local `created`, fewer keys."""
    new = ("url_overridden_by_dest", "name", "_meta", "removed_by_category", "spoiler", "is_video",
           "link_flair_richtext", "link_flair_type", "subreddit_name_prefixed", "upvote_ratio")  # fmt: skip
    old = {key: value for key, value in record.items() if key not in new}
    created = old["created_utc"]
    return old | {"created_utc": str(created), "created": created + 28_800}


def listing(records: list[dict[str, Any]]) -> bytes:
    """A saved `/new.json`: kind Listing, one comment among the posts, urls html-escaped."""
    comment = {"kind": "t1", "data": {"id": "nsim001", "body": "Lovely &amp; quiet.", "author": "sim_user_9",
                                      "created_utc": START.timestamp(), "link_id": "t3_x"}}  # fmt: skip
    children: list[dict[str, Any]] = [{"kind": "t3", "data": _live(r)} for r in records]
    children.insert(len(children) // 2, comment)
    listed = {
        "after": None,
        "before": None,
        "dist": len(children),
        "modhash": "",
        "children": children,
    }
    return orjson.dumps({"kind": "Listing", "data": listed}, option=orjson.OPT_INDENT_2)


def _live(record: dict[str, Any]) -> dict[str, Any]:
    live = {key: value for key, value in record.items() if key not in ("_meta", "retrieved_on")}
    escaped: dict[str, Any] = orjson.loads(orjson.dumps(live).replace(b"&", b"&amp;"))
    return escaped | {
        "created_utc": float(record["created_utc"]),
        "created": float(record["created"]),
    }


def write_dump(path: Path, lines: Iterable[bytes]) -> None:
    """Write JSON lines as one zstd frame whose window is 2^`WINDOW_LOG`, as the published dumps have."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=WINDOW_LOG, hash_log=17, chain_log=16, strategy=zstandard.STRATEGY_FAST
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with path.open("wb") as raw, compressor.stream_writer(raw) as out:
        for line in lines:
            out.write(line + b"\n")


def write_reddit_dump(path: Path, lines: int, seed: int = 0) -> None:
    """Stream `lines` synthetic submissions to a `.zst` dump; there is no media behind them."""
    write_dump(path, (dump_line(record) for record in synthetic_submissions(lines, seed)))


def dump_line(record: dict[str, Any]) -> bytes:
    """One line of a dump, keys sorted."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def synthetic_submissions(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Submissions in the proportions of RS_2026-01: 13 % galleries, 7 % crossposts, half not images."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(
        ["image", "gallery", "crosspost", "text", "video"], count, p=(0.3, 0.13, 0.07, 0.4, 0.1)
    )
    for index, kind in enumerate(kinds.tolist()):
        yield _synthetic(index, kind, seed)


def _synthetic(index: int, kind: str, seed: int) -> dict[str, Any]:
    number = index * 6
    community = ("midjourney", "itookapicture", "pics", "dalle")[index % 4]
    count = 3 if kind == "gallery" else 1
    copies = [_synthetic_copy(number + k, seed) for k in range(count)]
    post = PlannedPost(
        REDDIT, base36(36**5 * 51 + index), "image" if kind == "crosspost" else kind, index % 99991,
        START + timedelta(milliseconds=58 * index), None, f"r/{community}", community, None,
        f"Simulated post {index}",
    )  # fmt: skip
    record = submission(post, copies, {})
    if kind != "crosspost":
        return record
    child = PlannedPost(
        REDDIT,
        "z" + post.post_id,
        kind,
        index % 997,
        post.created_at,
        None,
        post.tag,
        "pics",
        None,
        post.title,
    )
    return crosspost(child, record)


def _synthetic_copy(number: int, seed: int) -> Copy:
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=13).digest()
    return Copy(number, None, "original", REDDIT, "".join(BASE36[b % 36] for b in digest))
