"""What a simulated world holds, decided before a pixel is drawn.

`plan_world` is pure: pictures, the copies of each that platforms serve, the posts that bear them, and
what is broken on purpose. A copy is made from the picture or from an earlier copy, as reposts are.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from curate.simulated.scenes import SCENES, Rng
from curate.simulated.spec import WorldSpec, rng_for, token
from schemas.labels import Label

REDDIT, X = "reddit", "x"
START = datetime(2026, 1, 1, tzinfo=UTC)
START_2015 = datetime(2015, 6, 1, tzinfo=UTC)
SECONDS = 14 * 24 * 3600
REAL_TAGS = ("photography", "nature", "nofilter", "streetphotography")
FAKE_TAGS = ("midjourney", "AIart", "stablediffusion", "dalle", "aigenerated")
REAL_PLACES = (
    ("itookapicture", None), ("streetphotography", None), ("NaturePics", None),
    ("pics", "Photography"), ("pics", "No filter"),
)  # fmt: skip
FAKE_PLACES = (
    ("midjourney", None), ("StableDiffusion", "Workflow Included"), ("dalle", None),
    ("pics", "AI art"), ("aiArt", "aigenerated"),
)  # fmt: skip
OPENINGS = (
    "Morning",
    "Late light",
    "Quiet corner",
    "First try",
    "A walk",
    "Study",
    "Found this",
    "Colours",
)
PLACES = ("by the river", "in the old town", "after the rain", "near home", "at café Zoë", "up north",
          "between the houses", "on a Sunday")  # fmt: skip
NEAR_KINDS = frozenset({"repost", "crop"})
HARD_KINDS = frozenset({"big-crop", "caption", "screenshot", "mirror"})
ASPECTS = (4 / 3, 4 / 3, 3 / 2, 1.0, 3 / 4, 2 / 3, 16 / 9, 4 / 5)
BASE36 = string.digits + string.ascii_lowercase
BASE64 = string.ascii_letters + string.digits + "-_"
X_ACCOUNTS = 3
PICTURES_PER_AUTHOR = 5  # so that splits by author stay balanced as the world grows
BOTH_SIDES = 2  # the author of each platform who posts real and generated pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """One distinct picture. `size` is (width, height) in pixels, both even."""

    index: int
    label: Label
    scene: str
    size: tuple[int, int]
    platform: str

    @property
    def name(self) -> str:
        """How `truth.json` calls it."""
        return f"p{self.index:05d}"


@dataclass(frozen=True, slots=True)
class Copy:
    """One served image. `made_from` is the number of the copy it was made from, None for the picture.

    `kind` is original, repost, same-bytes, crop, big-crop, caption, screenshot, mirror, or what is
    broken: dead, placeholder, html, truncated, empty, bomb. `picture` is None for the broken ones.
    `where` is original, preview (only the preview host has it) or imgur.
    """

    number: int
    picture: int | None
    kind: str
    platform: str
    name: str
    made_from: int | None = None
    where: str = "original"


@dataclass(frozen=True, slots=True)
class PlannedPost:
    """One post. `copies` are numbers of copies in order; `tag` is what it claims to be.

    `kind` is image, gallery, crosspost, retweet, text, video, removed, or a broken kind of `Copy`.
    `author` counts within its platform; `parent` is the post id that a crosspost or retweet repeats.
    """

    platform: str
    post_id: str
    kind: str
    author: int
    created_at: datetime
    label: Label | None
    tag: str
    community: str
    flair: str | None
    title: str
    copies: tuple[int, ...] = ()
    mislabelled: bool = False
    parent: str | None = None
    trap: str | None = None
    media_kind: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole world, in order: `copies[n].number == n`."""

    pictures: tuple[Picture, ...]
    copies: tuple[Copy, ...]
    posts: tuple[PlannedPost, ...]


def plan_world(spec: WorldSpec) -> Plan:
    """Everything of the world that `spec` names. Pure."""
    pictures = tuple(_pictures(spec))
    copies = _copies(spec, pictures)
    posts = list(_posts(spec, pictures, copies))
    posts = _set_traps(spec, posts, copies)
    posts += _repeats(spec, posts) + list(_broken_posts(spec, copies)) + list(_other_posts(spec))
    return Plan(pictures, tuple(copies), tuple(posts))


def _pictures(spec: WorldSpec) -> Iterator[Picture]:
    order = rng_for(spec.seed, "labels").permutation(spec.images)
    kinds = tuple(SCENES)
    for index in range(spec.images):
        rng = rng_for(spec.seed, "picture", index)
        rank = int(order[index])
        fake = rank < round(spec.fake_share * spec.images)
        position = rank if fake else rank - round(spec.fake_share * spec.images)
        reddit = int((position + 1) * spec.reddit_share) > int(position * spec.reddit_share)
        yield Picture(
            index,
            Label.FAKE if fake else Label.REAL,
            kinds[position // 2 % len(kinds)],
            _size(spec, rng),
            REDDIT if reddit else X,
        )


def _size(spec: WorldSpec, rng: Rng) -> tuple[int, int]:
    aspect = ASPECTS[int(rng.integers(len(ASPECTS)))]
    long = int(rng.integers(spec.min_side, spec.max_side + 1))
    width, height = (long, long / aspect) if aspect >= 1 else (long * aspect, long)
    return int(width) // 2 * 2, int(height) // 2 * 2


def _copies(spec: WorldSpec, pictures: tuple[Picture, ...]) -> list[Copy]:
    """The original of each picture, then the copies made from them."""
    copies = [
        Copy(p.index, p.index, "original", p.platform, _media_name(spec, p.platform, p.index))
        for p in pictures
    ]
    order = [int(i) for i in rng_for(spec.seed, "copies").permutation(spec.images)]
    on_reddit = [i for i in order if pictures[i].platform == REDDIT]
    same = on_reddit[: spec.planted(spec.same_bytes_share)]
    rest = iter([i for i in order if i not in set(same)])
    wanted = [("same-bytes", i) for i in same]
    for kind, share in _copy_shares(spec):
        wanted += [(kind, i) for _, i in zip(range(spec.planted(share)), rest, strict=False)]
    for kind, index in wanted:
        number, home = len(copies), pictures[index].platform
        platform = _copy_platform(spec, kind, home, number)
        name = _media_name(spec, platform, number)
        copies.append(Copy(number, index, kind, platform, name, made_from=index))
    return copies


def _copy_shares(spec: WorldSpec) -> tuple[tuple[str, float], ...]:
    return (
        ("repost", spec.repost_share),
        ("crop", spec.crop_share),
        ("big-crop", spec.big_crop_share),
        ("caption", spec.caption_share),
        ("screenshot", spec.screenshot_share),
        ("mirror", spec.mirror_share),
    )


def _copy_platform(spec: WorldSpec, kind: str, home: str, number: int) -> str:
    if kind == "same-bytes":
        return REDDIT
    away = X if home == REDDIT else REDDIT
    stays = kind != "repost" and rng_for(spec.seed, "copy-platform", number).random() < 0.5
    return home if stays else away


def _media_name(spec: WorldSpec, platform: str, number: int) -> str:
    if platform == REDDIT:
        return token(spec.seed, "reddit-media", number, 13, BASE36)
    return "G" + token(spec.seed, "x-media", number, 14, BASE64)


def _posts(
    spec: WorldSpec, pictures: tuple[Picture, ...], copies: list[Copy]
) -> Iterator[PlannedPost]:
    """Posts of all copies: single images, and some galleries, each of pictures with one label."""
    index = 0
    for platform in (REDDIT, X):
        for label in (Label.REAL, Label.FAKE):
            mine = [
                c.number for c in copies if c.platform == platform and c.kind == "original"
                and c.picture is not None and pictures[c.picture].label is label
            ]  # fmt: skip
            for k, group in enumerate(
                _chunks(mine, rng_for(spec.seed, f"gallery/{platform}/{label}"))
            ):
                post = _post(spec, platform, index, label, group)
                yield post if k else replace(post, author=BOTH_SIDES)
                index += 1
    for copy in copies:
        if copy.kind != "original" and copy.picture is not None:
            yield _post(spec, copy.platform, index, pictures[copy.picture].label, (copy.number,))
            index += 1


def _chunks(numbers: list[int], rng: Rng) -> Iterator[tuple[int, ...]]:
    """`numbers` in order, mostly one by one; the first group is always a gallery."""
    start = 0
    while start < len(numbers):
        many = start == 0 or rng.random() < 0.1
        stop = start + (int(rng.integers(2, 5)) if many else 1)
        yield tuple(numbers[start:stop])
        start = stop


def _post(
    spec: WorldSpec, platform: str, index: int, label: Label, copies: tuple[int, ...],
    *, lie: bool = False,
) -> PlannedPost:  # fmt: skip
    rng = rng_for(spec.seed, "post", index)
    created = START + timedelta(seconds=int(rng.integers(SECONDS)))
    claim = Label(1 - label) if lie else label
    place = (FAKE_PLACES if claim else REAL_PLACES)[int(rng.integers(5))]
    tags = FAKE_TAGS if claim else REAL_TAGS
    hashtag = tags[int(rng.integers(len(tags)))]
    return PlannedPost(
        platform,
        _post_id(platform, index, created),
        "gallery" if len(copies) > 1 and platform == REDDIT else "image",
        _author(platform, label, rng, spec.images),
        created,
        label,
        f"#{hashtag}" if platform == X else (f"flair:{place[1]}" if place[1] else f"r/{place[0]}"),
        place[0] if platform == REDDIT else "",
        place[1] if platform == REDDIT else None,
        f"{OPENINGS[int(rng.integers(8))]} {PLACES[int(rng.integers(8))]}",
        copies,
        mislabelled=lie,
    )


def _post_id(platform: str, index: int, created: datetime) -> str:
    """Reddit: base 36, rising. X: a snowflake, whose upper bits are the time."""
    if platform == REDDIT:
        return base36(36**5 * 51 + index * 7919)
    return str(snowflake(created) + index % 4096)


def base36(number: int) -> str:
    """`number` in Reddit's digits."""
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = BASE36[rest] + digits
    return digits or "0"


def snowflake(at: datetime) -> int:
    """The smallest X id of this time: milliseconds since 2010-11-04T01:42:54.657Z, shifted by 22."""
    return (int(at.timestamp() * 1000) - 1288834974657) << 22


def _author(platform: str, label: Label, rng: Rng, images: int) -> int:
    """`BOTH_SIDES` or one of the label's own; on X there are three authors, one archive each."""
    each = max(20, images // PICTURES_PER_AUTHOR)
    if rng.random() < (0.4 if platform == X else 0.1):
        return BOTH_SIDES
    return int(label) if platform == X else 3 + int(label) + 2 * int(rng.integers(0, each))


def _set_traps(spec: WorldSpec, posts: list[PlannedPost], copies: list[Copy]) -> list[PlannedPost]:
    """Wrong tags, and the single cases that parsers fall over; each on a post of its own."""
    order = [int(i) for i in rng_for(spec.seed, "traps").permutation(len(posts))]
    originals = [i for i in order if copies[posts[i].copies[0]].kind == "original"]
    singles = [i for i in originals if len(posts[i].copies) == 1]
    traps = iter(singles)
    for i in [next(traps) for _ in range(min(spec.planted(spec.mislabelled_share), len(singles)))]:
        posts[i] = _mislabel(spec, posts[i], i)
    left = list(traps)
    for trap in ("old-dump", "preview-only", "remote-only", "renamed", "long", "both-exports"):
        found = next((i for i in left if _suits(trap, posts[i])), None)
        if found is not None:
            left.remove(found)
            posts[found] = _trapped(posts[found], trap, copies)
    return posts


def _mislabel(spec: WorldSpec, post: PlannedPost, index: int) -> PlannedPost:
    assert post.label is not None
    lie = _post(spec, post.platform, index, post.label, post.copies, lie=True)
    return replace(post, tag=lie.tag, community=lie.community, flair=lie.flair, mislabelled=True)


def _suits(trap: str, post: PlannedPost) -> bool:
    if trap == "old-dump":
        return post.platform == REDDIT and post.label is Label.REAL
    return post.platform == (REDDIT if trap in ("preview-only", "both-exports") else X)


def _trapped(post: PlannedPost, trap: str, copies: list[Copy]) -> PlannedPost:
    number = post.copies[0]
    if trap == "preview-only":
        copies[number] = replace(copies[number], where="preview")
    if trap == "old-dump":
        copies[number] = replace(copies[number], where="imgur", name=copies[number].name[:7])
        shift = post.created_at - START
        return replace(
            post, trap=trap, created_at=START_2015 + shift, post_id="3" + post.post_id[1:]
        )
    return replace(post, trap=trap)


def _repeats(spec: WorldSpec, posts: list[PlannedPost]) -> list[PlannedPost]:
    """Crossposts on Reddit and retweets on X: new posts that show another post's pictures."""
    repeats = []
    for platform, kind in ((REDDIT, "crosspost"), (X, "retweet")):
        whole = [p for p in posts if p.platform == platform and p.trap is None]
        parents = sorted(whole, key=lambda p: -len(p.copies))[:2]
        for k, parent in enumerate(parents):
            created = parent.created_at + timedelta(hours=5 + k)
            repeats.append(replace(
                parent, kind=kind, parent=parent.post_id, created_at=created,
                post_id=_post_id(platform, 4000 + k if platform == X else spec.images * 4 + k, created),
                author=(parent.author + 1) % X_ACCOUNTS if platform == X else 5,
            ))  # fmt: skip
    return repeats


def _broken_posts(spec: WorldSpec, copies: list[Copy]) -> Iterator[PlannedPost]:
    """Posts whose one image cannot be had, or is not what it says."""
    kinds = ["dead"] * spec.planted(spec.dead_share)
    kinds += ["placeholder"] * (2 * spec.planted(spec.placeholder_share))
    kinds += [k for k in ("html", "truncated", "empty", "bomb") for _ in range(spec.corrupt)]
    for k, kind in enumerate(kinds):
        number, index = len(copies), 3 * spec.images + k
        on_x = kind in ("dead", "truncated") and k % 2 == 1
        platform, where = (X if on_x else REDDIT), "imgur" if kind == "placeholder" else "original"
        name = _media_name(spec, platform, number)[: 7 if where == "imgur" else None]
        copies.append(Copy(number, None, kind, platform, name, where=where))
        post = _post(spec, platform, index, Label(k % 2), (number,))
        yield replace(post, kind="image", label=None, media_kind=kind)


def _other_posts(spec: WorldSpec) -> Iterator[PlannedPost]:
    """Posts that hold no image for us: text, video, and what was removed or withdrawn."""
    rows = ((REDDIT, "text"), (REDDIT, "text"), (REDDIT, "video"), (REDDIT, "removed"), (REDDIT, "deleted"),
            (REDDIT, "withdrawn"), (X, "text"), (X, "video"), (X, "deleted"))  # fmt: skip
    for k, (platform, kind) in enumerate(rows):
        post = _post(spec, platform, 5 * spec.images + k, Label(k % 2), ())
        yield replace(post, kind=kind, label=None)
