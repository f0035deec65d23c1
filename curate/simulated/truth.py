"""What is true of a simulated world: `truth.json`. Pure.

Everything planted is listed, so that tests and the demo can compare what was found with what was there.
"""

from collections import Counter
from dataclasses import asdict
from itertools import combinations
from typing import Any

from curate.simulated.plan import (
    BOTH_SIDES,
    FAKE_TAGS,
    HARD_KINDS,
    NEAR_KINDS,
    REAL_TAGS,
    REDDIT,
    START,
    Copy,
    Plan,
    PlannedPost,
    X,
)
from curate.simulated.spec import WorldSpec
from schemas.labels import Label

DUMP, OLD_DUMP, LISTING = "RS_2026-01.zst", "RS_2015-06.zst", "listing_new.json"
LISTED_DAYS = 12
WITH_IMAGES = ("image", "gallery")
Files = dict[int, dict[str, Any]]


def exports_of(posts: list[PlannedPost]) -> dict[str, tuple[str, ...]]:
    """Which Reddit exports hold each post: the newest are in the listing, one is in two."""
    return {post.post_id: _exports_of(post) for post in posts}


def _exports_of(post: PlannedPost) -> tuple[str, ...]:
    if post.trap == "old-dump":
        return (OLD_DUMP,)
    if post.trap == "both-exports":
        return (DUMP, LISTING)
    late = (post.created_at - START).days >= LISTED_DAYS
    return (LISTING,) if late and post.kind != "withdrawn" else (DUMP,)


def labels_of(plan: Plan) -> dict[int, Label | None]:
    """What each decodable copy shows, by copy number; None for the placeholder, which is no photo."""
    labels: dict[int, Label | None] = {}
    for copy in plan.copies:
        if copy.picture is not None:
            labels[copy.number] = plan.pictures[copy.picture].label
        elif copy.kind == "placeholder":
            labels[copy.number] = None
    return labels


def truth_of(spec: WorldSpec, plan: Plan, files: Files, exports: list[str]) -> dict[str, Any]:
    """The whole truth, ready for JSON. `files` are served files (path, digest, size) by copy number."""
    shown_in = _shown_in(plan)
    pictures = _pictures(plan, files, shown_in)
    return {
        "simulated": True,
        "spec": asdict(spec),
        "format_bias": spec.format_bias,
        "exports": exports,
        "tags": {"real": list(REAL_TAGS), "fake": list(FAKE_TAGS)},
        "annotators": [asdict(who) for who in spec.annotators],
        "pictures": pictures,
        "posts": _posts(plan),
        "broken": [_copy(c, files, shown_in) for c in plan.copies if c.picture is None],
        "pairs": _pairs(pictures),
        "both_sides_authors": [
            {"platform": p, "author": _author(p, BOTH_SIDES)} for p in (REDDIT, X)
        ],
        "mislabelled": [_key(p) for p in plan.posts if p.mislabelled and p.parent is None],
        "expected": _expected(plan, files),
    }


def _shown_in(plan: Plan) -> dict[int, tuple[PlannedPost, int]]:
    """The post and the position that first bore each copy."""
    return {
        number: (post, position)
        for post in plan.posts if post.parent is None
        for position, number in enumerate(post.copies)
    }  # fmt: skip


def _pictures(
    plan: Plan, files: Files, shown_in: dict[int, tuple[PlannedPost, int]]
) -> dict[str, Any]:
    pictures: dict[str, Any] = {
        p.name: {"truth": p.label.name.lower(), "label": int(p.label), "scene": p.scene,
                 "platform": p.platform, "width": p.size[0], "height": p.size[1], "copies": []}
        for p in plan.pictures
    }  # fmt: skip
    for copy in plan.copies:
        if copy.picture is not None:
            name = plan.pictures[copy.picture].name
            pictures[name]["copies"].append(_copy(copy, files, shown_in))
    return pictures


def _copy(copy: Copy, files: Files, shown_in: dict[int, tuple[PlannedPost, int]]) -> dict[str, Any]:
    post, position = shown_in[copy.number]
    file = files.get(copy.number, {"path": None, "digest": None, "size": (0, 0)})
    return {
        "kind": copy.kind, "findable": findable(copy.kind), "platform": copy.platform,
        "post_id": post.post_id, "position": position, "sha256": file["digest"], "path": file["path"],
        "width": file["size"][0], "height": file["size"][1], "where": copy.where, "made_from": copy.made_from,
    }  # fmt: skip


def findable(kind: str) -> str:
    """How a copy can be told to be the same picture: same-bytes, near, hard, or "" if it is none."""
    if kind in NEAR_KINDS:
        return "near"
    return "hard" if kind in HARD_KINDS else ("same-bytes" if kind == "same-bytes" else "")


def _posts(plan: Plan) -> list[dict[str, Any]]:
    reddit = exports_of([p for p in plan.posts if p.platform == REDDIT])
    return [
        _key(post) | {
            "kind": post.kind, "author": _author(post.platform, post.author), "tag": post.tag,
            "truth": None if post.label is None else post.label.name.lower(),
            "mislabelled": post.mislabelled, "community": post.community or None, "flair": post.flair,
            "created_at": post.created_at.isoformat(), "parent": post.parent, "trap": post.trap,
            "broken": post.media_kind, "media": len(post.copies),
            "exports": list(reddit.get(post.post_id, ())) if post.platform == REDDIT else [],
        }
        for post in plan.posts
    ]  # fmt: skip


def _key(post: PlannedPost) -> dict[str, str]:
    return {"platform": post.platform, "post_id": post.post_id}


def _author(platform: str, author: int) -> str:
    return f"sim_user_{author}" if platform == REDDIT else f"sim_account_{author}"


def _pairs(pictures: dict[str, Any]) -> list[dict[str, Any]]:
    """Every two served copies of one picture; a pair is as hard to find as its harder copy."""
    ranks = ("same-bytes", "near", "hard")
    pairs = []
    for name, picture in pictures.items():
        for a, b in combinations(picture["copies"], 2):
            low, high = sorted((a["sha256"], b["sha256"]))
            kinds = [c for c in (a, b) if c["findable"]]
            worst = max(kinds, key=lambda c: ranks.index(c["findable"]))
            pairs.append({"picture": name, "a": low, "b": high, "kind": worst["kind"],
                          "findable": "same-bytes" if low == high else worst["findable"]})  # fmt: skip
    return pairs


def _expected(plan: Plan, files: Files) -> dict[str, Any]:
    """Counts over both platforms. `media` are those of posts of their own; repeats come on top."""
    own = [p for p in plan.posts if p.kind in WITH_IMAGES]
    repeats = [p for p in plan.posts if p.parent is not None]
    good = {c.number for c in plan.copies if c.picture is not None}
    broken = Counter(c.kind for c in plan.copies if c.picture is None)
    return {
        "posts_with_images": dict(sorted(Counter(p.platform for p in own).items())),
        "posts_by_kind": _by_kind(plan),
        "media": dict(sorted(Counter(p.platform for p in own for _ in p.copies).items())),
        "repeats": dict(sorted(Counter(p.kind for p in repeats).items())),
        "repeat_media": sum(len(p.copies) for p in repeats),
        "good_media": len(good),
        "good_digests": len({files[n]["digest"] for n in good}),
        "broken_media": dict(sorted(broken.items())),
        "pictures": {"real": sum(p.label is Label.REAL for p in plan.pictures),
                     "fake": sum(p.label is Label.FAKE for p in plan.pictures)},
    }  # fmt: skip


def _by_kind(plan: Plan) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for post in plan.posts:
        counts.setdefault(post.platform, Counter())[post.kind] += 1
    return {platform: dict(sorted(counts[platform].items())) for platform in sorted(counts)}
