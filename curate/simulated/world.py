"""Build a simulated world on disk: media, exports, annotations, and the truth about them.

Under the root: `media/<host>/<path>` as hosts serve it, `redirects.json`, `exports/reddit`, `exports/x`,
`annotations.json`, and, last, `truth.json`. The same spec gives the same bytes, however many processes
draw it.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from curate.simulated import reddit_export, serving, truth, x_export
from curate.simulated.annotations import label_studio_export
from curate.simulated.plan import (
    REDDIT,
    X_ACCOUNTS,
    Copy,
    Picture,
    Plan,
    PlannedPost,
    X,
    plan_world,
)
from curate.simulated.server import REDIRECTS
from curate.simulated.spec import World, WorldSpec
from curate.work import Engine, Serial
from schemas.errors import InputError

Progress = Callable[[int, int], None]
Served = list[tuple[int, bytes, tuple[int, int]]]
PLACEHOLDER = "i.imgur.com/removed.png"


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file below `media/`, and the size of its picture in pixels, (0, 0) if it has none."""

    path: str
    digest: str
    size: tuple[int, int]


def build_world(
    root: Path,
    spec: WorldSpec,
    *,
    on_progress: Progress | None = None,
    engine: Engine | None = None,
) -> World:
    """Write the world of `spec` under `root`, which must be empty or absent.

    `on_progress(done, total)` hears of every picture drawn. The `engine` that draws changes nothing in
    what is written.
    """
    if root.exists() and any(root.iterdir()):
        raise InputError(f"{root} is not empty; a simulated world needs a new or an empty folder")
    plan = plan_world(spec)
    drawn = _drawn(spec, plan, engine or Serial())
    files = _write_media(root, spec, plan, on_progress or (lambda done, total: None), drawn)
    exports = (*_write_reddit(root, spec, plan, files), *_write_x(root, plan, files))
    labels = {files[n].digest: label for n, label in truth.labels_of(plan).items() if n in files}
    annotations = label_studio_export(spec, labels)
    _write_json(root / "annotations.json", annotations)
    told = truth.truth_of(spec, plan, {n: asdict(f) for n, f in files.items()}, [
        path.relative_to(root).as_posix() for path in exports
    ])  # fmt: skip
    _write_json(root / "truth.json", told)
    told = orjson.loads((root / "truth.json").read_bytes())
    return World(
        root, exports, root / "media", root / "annotations.json", root / "truth.json", told
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _write_media(
    root: Path, spec: WorldSpec, plan: Plan, on_progress: Progress, drawn: Iterator[Served]
) -> dict[int, ServedFile]:
    """Write every served file; returns them by copy number, without those that answer 404."""
    files = {}
    for done, served in enumerate(drawn, start=1):
        for number, content, size in served:
            files[number] = _write_file(root, path_of(plan.copies[number]), content, size)
        on_progress(done, len(plan.pictures))
    redirects = {}
    for copy in plan.copies:
        broken = serving.broken_bytes(spec, copy) if copy.picture is None else None
        if broken is not None:
            files[copy.number] = _write_file(root, path_of(copy), broken, (0, 0))
        if copy.kind == "placeholder":
            redirects[f"/{path_of(copy)}"] = f"/{PLACEHOLDER}"
    _write_file(root, PLACEHOLDER, serving.placeholder_png(), (0, 0))
    _write_json(root / REDIRECTS, redirects)
    return files


def _write_file(root: Path, path: str, content: bytes, size: tuple[int, int]) -> ServedFile:
    target = root / "media" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return ServedFile(path, hashlib.sha256(content).hexdigest(), size)


def path_of(copy: Copy) -> str:
    """Where below `media/` a copy is served: host and path, without any query."""
    if copy.platform == X:
        return f"pbs.twimg.com/media/{x_export.basename_of(copy)}"
    url, preview = reddit_export.urls_of(copy, (0, 0))
    chosen = preview if copy.where == "preview" else url
    return chosen.removeprefix("https://").partition("?")[0]


def _drawn(spec: WorldSpec, plan: Plan, engine: Engine) -> Iterator[Served]:
    """The served copies of each picture, in the order of pictures."""
    copies: dict[int, list[Copy]] = {}
    for copy in plan.copies:
        if copy.picture is not None:
            copies.setdefault(copy.picture, []).append(copy)
    jobs = [(spec, picture, copies[picture.index]) for picture in plan.pictures]
    return engine.map(_draw, jobs)


def _draw(job: tuple[WorldSpec, Picture, list[Copy]]) -> Served:
    return serving.serve_picture(*job)


def _write_reddit(
    root: Path, spec: WorldSpec, plan: Plan, files: dict[int, ServedFile]
) -> tuple[Path, ...]:
    """The dump of 2026-01, the one of 2015-06, and a listing with the newest posts."""
    folder = root / "exports" / REDDIT
    folder.mkdir(parents=True)
    posts = [p for p in plan.posts if p.platform == REDDIT]
    records = _reddit_records(plan, posts, files)
    where = truth.exports_of(posts)
    new, old = folder / truth.DUMP, folder / truth.OLD_DUMP
    listed = folder / truth.LISTING
    reddit_export.write_dump(new, _dump_lines(spec, records, where))
    old_posts = [records[i] for i, names in where.items() if truth.OLD_DUMP in names]
    reddit_export.write_dump(
        old, (reddit_export.dump_line(reddit_export.as_of_2015(r)) for r in old_posts)
    )
    newest = [records[i] for i, names in where.items() if truth.LISTING in names]
    newest.sort(key=lambda r: (-r["created_utc"], r["id"]))
    listed.write_bytes(reddit_export.listing(newest))
    return new, old, listed


def _reddit_records(
    plan: Plan, posts: list[PlannedPost], files: dict[int, ServedFile]
) -> dict[str, dict[str, Any]]:
    sizes = {number: file.size for number, file in files.items() if any(file.size)}
    records: dict[str, dict[str, Any]] = {}
    for post in posts:
        if post.parent is None:
            copies = [plan.copies[n] for n in post.copies]
            records[post.post_id] = reddit_export.submission(post, copies, sizes)
    for post in posts:
        if post.parent is not None:
            records[post.post_id] = reddit_export.crosspost(post, records[post.parent])
    return records


def _dump_lines(
    spec: WorldSpec, records: dict[str, dict[str, Any]], where: dict[str, tuple[str, ...]]
) -> Iterator[bytes]:
    """The lines of the 2026 dump by time, with one broken line in the middle if `spec` says so."""
    chosen = [records[i] for i, names in where.items() if truth.DUMP in names]
    chosen.sort(key=lambda r: (r["created_utc"], r["id"]))
    for position, record in enumerate(chosen):
        line = reddit_export.dump_line(record)
        if spec.bad_line and position == len(chosen) // 2:
            yield line[: len(line) // 2]
        yield line


def _write_x(root: Path, plan: Plan, files: dict[int, ServedFile]) -> tuple[Path, ...]:
    """One archive per account."""
    folder = root / "exports" / X
    folder.mkdir(parents=True)
    return tuple(_write_account(root, folder, plan, files, author) for author in range(X_ACCOUNTS))


def _write_account(
    root: Path, folder: Path, plan: Plan, files: dict[int, ServedFile], author: int
) -> Path:
    mine = [p for p in plan.posts if p.platform == X and p.author == author]
    by_id = {p.post_id: p for p in plan.posts if p.platform == X and p.parent is None}
    sizes = {number: file.size for number, file in files.items() if any(file.size)}

    def tweet(post: PlannedPost) -> dict[str, Any]:
        copies = [plan.copies[n] for n in post.copies]
        return x_export.tweet(post, copies, sizes, by_id[post.parent] if post.parent else None)

    members = {
        x_export.member_of(post, plan.copies[n]): root / "media" / files[n].path
        for post in mine if post.trap != "remote-only" for n in post.copies if n in files
    }  # fmt: skip
    members |= _video_members(root, [tweet(p) for p in mine if p.kind == "video"])
    deleted = [tweet(p) for p in mine if p.kind == "deleted"]
    kept = [tweet(p) for p in mine if p.kind != "deleted"]
    notes = [x_export.note_tweet(p) for p in mine if p.trap == "long"]
    path = folder / x_export.archive_name(author)
    x_export.write_archive(path, author, kept, notes, deleted, members)
    return path


def _video_members(root: Path, tweets: list[dict[str, Any]]) -> dict[str, Path]:
    """A few bytes of MP4 header under the variant's name, beside where the host would serve it."""
    members = {}
    for row in tweets:
        url = row["tweet"]["extended_entities"]["media"][0]["video_info"]["variants"][0]["url"]
        path = url.removeprefix("https://").partition("?")[0]
        _write_file(root, path, b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", (0, 0))
        name = path.rpartition("/")[2]
        members[f"data/tweets_media/{row['tweet']['id_str']}-{name}"] = root / "media" / path
    return members
