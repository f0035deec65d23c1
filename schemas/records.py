"""The rows of the catalog, one frozen dataclass per table, and the table of them all.

Names are the field's: a digest is the SHA-256 of the bytes, hex; a post is keyed by platform and its own
id, which is text; times are UTC. A column that is None was not stated by its source: nothing is invented.
"""

from dataclasses import dataclass
from datetime import datetime

from schemas.tables import Table, UInt64, column, table_of


@dataclass(frozen=True, slots=True)
class Source:
    """One export that was collected, and how complete it is."""

    source_id: str = column("SHA-256 of the export", key=True)
    collector: str = column("collector name and version, as name/version", key=True)
    platform: str = column("lower-case platform name")
    format: str = column("which of the platform's export formats")
    location: str = column("where the export was read", volatile=True)
    seen: int = column("records met")
    kept: int = column("posts kept")
    media: int = column("media items of the posts kept")
    skipped: str = column("JSON object: reason -> records skipped")
    complete: bool = column("False when the export itself is partial or was cut off")
    detail: str | None = column("why it is not complete", default=None)
    gone: int = column("records of posts that were deleted, removed or withheld", default=0)
    gaps: tuple[str, ...] = column("spans without a post, as from/to in ISO 8601", default=())
    first_at: datetime | None = column("time of the oldest post kept", default=None)
    last_at: datetime | None = column("time of the newest post kept", default=None)
    collected_at: datetime | None = column("when", volatile=True, default=None)


@dataclass(frozen=True, slots=True)
class Post:
    """One post as its platform published it, without its author's name."""

    platform: str = column("lower-case platform name", key=True)
    post_id: str = column("the platform's own id, as text", key=True)
    source_id: str = column("the export it was first seen in")
    author: str | None = column("keyed hash of the author's id; None if the author is gone")
    created_at: datetime | None = column("UTC")
    title: str | None = column("title, where the platform has one", default=None)
    text: str | None = column("text, with handles replaced", default=None)
    hashtags: tuple[str, ...] = column("without #, in order, as written", default=())
    community: str | None = column("subreddit, group or the like", default=None)
    flair: str | None = column("link flair or the like", default=None)
    permalink: str | None = column("a link that holds no handle", default=None)
    score: int | None = column("likes, up-votes or the like", default=None)
    replies: int | None = column("number of replies", default=None)
    sensitive: bool | None = column("the platform's own mark; None is unknown", default=None)
    language: str | None = column("BCP-47, as the platform says", default=None)
    repost_of: str | None = column("platform/post_id of the original", default=None)
    opted_out: bool = column("the author asked not to be collected", default=False)


@dataclass(frozen=True, slots=True)
class Media:
    """One image of a post: where its bytes can be had."""

    platform: str = column("lower-case platform name", key=True)
    post_id: str = column("the post it belongs to", key=True)
    position: int = column("0-based order in the post", key=True)
    source_id: str = column("the export it was first seen in")
    media_id: str | None = column("the platform's own id of the media", default=None)
    url: str | None = column("where to fetch it", default=None)
    fallback_urls: tuple[str, ...] = column("where else, in order", default=())
    member: str | None = column("path inside the export, when the bytes are there", default=None)
    alt: str | None = column("alt text written by a person", default=None)
    claimed_type: str | None = column("media type as claimed", default=None)
    claimed_width: int | None = column("pixels, as claimed", default=None)
    claimed_height: int | None = column("pixels, as claimed", default=None)
    rendition: str = column("original, preview or re-encode", default="original")


@dataclass(frozen=True, slots=True)
class Fetch:
    """One attempt to bring a media item into the store."""

    platform: str = column("of the media item", key=True)
    post_id: str = column("of the media item", key=True)
    position: int = column("of the media item", key=True)
    attempt: int = column("1 for the first", key=True)
    digest: str | None = column("SHA-256 of the bytes as received; None if it failed")
    failure: str | None = column("cause, None if it worked")
    origin: str | None = column("the URL or export member that answered", default=None)
    status: int | None = column("HTTP status, where HTTP was spoken", default=None)
    served_type: str | None = column("Content-Type as served", default=None)
    bytes: int | None = column("bytes received", default=None)
    seconds: float | None = column("duration", volatile=True, default=None)
    places: int | None = column("places the item could be had from when tried", default=None)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What was taken out for good, so that no later collection brings it back.

    It holds no name: a post and an author are known by their keyed hash alone.
    """

    kind: str = column("post, author, digest, or unfinished: what a killed run has to do", key=True)
    value: str = column("keyed hash of platform and post id, author key, or digest", key=True)
    reason: str = column("who or what asked for it, in short words")
    at: datetime | None = column("when", volatile=True, default=None)


@dataclass(frozen=True, slots=True)
class Image:
    """What the bytes of one image say, without any judgement."""

    digest: str = column("SHA-256 of the bytes", key=True)
    made_by: str = column("probe name and version")
    bytes: int = column("file size")
    format: str | None = column("true format by content: JPEG, PNG, WEBP, ...; None if unknown")
    width: int | None = column("pixels as stored, before orientation", default=None)
    height: int | None = column("pixels as stored, before orientation", default=None)
    mode: str | None = column("Pillow mode as stored", default=None)
    bit_depth: int | None = column("bits per sample", default=None)
    frames: int | None = column("number of frames", default=None)
    alpha: bool | None = column("has an alpha channel or transparency", default=None)
    icc: str | None = column("SHA-256 of the ICC profile, 16 hex digits", default=None)
    orientation: int | None = column("EXIF orientation 1-8; None if not stated", default=None)
    camera_make: str | None = column("EXIF", default=None)
    camera_model: str | None = column("EXIF", default=None)
    software: str | None = column("EXIF or PNG text", default=None)
    thumbnail: bool | None = column("has an embedded EXIF thumbnail", default=None)
    jpeg_family: str | None = column("encoder family of the tables; None if not JPEG", default=None)
    jpeg_quality_luma: int | None = column("1-100 on the family's scale", default=None)
    jpeg_quality_chroma: int | None = column("1-100 on the family's scale", default=None)
    jpeg_exact: bool | None = column("both tables equal the family's", default=None)
    jpeg_residual: float | None = column("1 - NSE of the best fit; 0 is exact", default=None)
    jpeg_quality: int | None = column("nearest IJG quality, an ordinal only", default=None)
    jpeg_subsampling: str | None = column("4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, gray", default=None)
    jpeg_progressive: bool | None = column("progressive scan", default=None)
    jpeg_restart: int | None = column("restart interval in MCUs, 0 if none", default=None)
    jpeg_huffman: str | None = column("default, optimised or arithmetic", default=None)
    jpeg_dqt_hash: str | None = column("hash of the quantisation tables, 16 hex", default=None)
    jpeg_markers: str | None = column("hash of the marker order, 16 hex", default=None)
    jpeg_scale_luma: float | None = column(
        "percent of Annex K, where the tables are a multiple of it and no IJG quality", default=None
    )
    jpeg_scale_chroma: float | None = column("the same of chroma", default=None)
    jpeg_double: float | None = column(
        "roughness of coefficient histograms: 1 to 2 if compressed coarser before; needs jpeglib",
        default=None,
    )
    thumbnail_dqt_hash: str | None = column("as jpeg_dqt_hash, of the EXIF thumbnail", default=None)
    compression: str | None = column(
        "how the container names its coding; not of JPEG", default=None
    )
    lossless: bool | None = column("False: the coding loses; True: it cannot", default=None)
    webp_quantiser: int | None = column("0-127 of lossy WebP, fine to coarse", default=None)
    animated: bool | None = column("more than one frame, to be shown in turn", default=None)
    truncated: bool | None = column("the file ends before its picture does", default=None)
    trailing_bytes: int | None = column("bytes after the end of the first picture", default=None)
    grid: float | None = column(
        "strength of an 8 x 8 block grid in pixels that are no JPEG now; None if none is significant",
        default=None,
    )
    grid_x: int | None = column("first column, 0-7, that begins a block", default=None)
    grid_y: int | None = column("first row, 0-7, that begins a block", default=None)
    upscale: float | None = column(
        "factor by which pixels were made more, if significant", default=None
    )
    blur: float | None = column(
        "variance of the Laplacian over grey levels; low is soft", default=None
    )
    noise: float | None = column("standard deviation of noise, grey levels", default=None)
    information: float | None = column("entropy of the grey histogram, bits of 8", default=None)
    png_text_keys: tuple[str, ...] = column("keywords of PNG text chunks, in order", default=())
    pixels: str | None = column(
        "SHA-256 of the upright RGB(A) pixels and their size; of a JPEG, of the coded picture they come from",
        default=None,
    )
    error: str | None = column("why it does not decode; None if it does", default=None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One claim about whether one image is real or generated. A prior, never a label."""

    digest: str = column("the image", key=True)
    kind: str = column(
        "tag, camera, camera-processing, generator, iptc, c2pa, platform-trace, last-hop, placeholder",
        key=True,
    )
    origin: str = column("where the claim was found", key=True)
    direction: str = column("real, fake or neither")
    strength: float = column("0 to 1, how much it should weigh")
    detail: str = column("what was read, free of personal text")
    made_by: str = column("stage name and version")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A 64-bit perceptual hash of one view of the picture."""

    digest: str = column("the image", key=True)
    view: str = column("which view and hash, such as phash", key=True)
    bits: UInt64 = column("the hash, most significant bit first")
    made_by: str = column("stage name and version")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small grey picture of an image, or of a picture shown inside it: what duplicates are found by."""

    digest: str = column("the image", key=True)
    view: str = column("whole, or how the part was found: trimmed, box, page, sheet", key=True)
    left: float = column("where the part begins, as a share of the upright width")
    top: float = column("where the part begins, as a share of the upright height")
    right: float = column("where the part ends")
    bottom: float = column("where the part ends")
    pixels: bytes = column("64 x 64 grey levels, row by row")
    made_by: str = column("stage name and version")


@dataclass(frozen=True, slots=True)
class Match:
    """Two images that are the same picture; `a` < `b`."""

    a: str = column("digest", key=True)
    b: str = column("digest", key=True)
    kind: str = column(
        "same-bytes, same-pixels, near, crop, border, caption, screenshot, mirror, rotation, overlay",
        key=True,
    )
    distance: int = column("Hamming distance in bits, of the two views that agree best")
    made_by: str = column("stage name, version and threshold")
    verified: float | None = column("score of the aligned comparison, 0 to 1", default=None)
    verdict: str | None = column("a reviewer's: same or different", default=None)


@dataclass(frozen=True, slots=True)
class Group:
    """Which connected set of matches an image is in, as one run of dedupe saw it."""

    version: str = column("digest of the whole grouping", key=True)
    digest: str = column("the image", key=True)
    group_id: str = column("the group: smallest digest it was made with; kept while it grows")
    canonical: bool = column("the member that stands for the group")
    why: str = column("why this member is canonical, or not")
    formerly: str | None = column(
        "the group of several that it was in before, where that was merged or split", default=None
    )


@dataclass(frozen=True, slots=True)
class Kinship:
    """Two images that match and are in different groups all the same; `a` < `b`."""

    version: str = column("the grouping that decided it", key=True)
    a: str = column("digest", key=True)
    b: str = column("digest", key=True)
    relation: str = column("chain, derived or different")
    why: str = column("one line: why the match joins nothing")


@dataclass(frozen=True, slots=True)
class Task:
    """Where an image is shown for annotation."""

    project: str = column("server URL and project id", key=True)
    digest: str = column("the image", key=True)
    task_id: int = column("the server's id of the task")


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person said of one image. Append-only: a change of mind is a new revision."""

    annotation_id: str = column("the server's unique id", key=True)
    revision: str = column("time of the last change, ISO 8601", key=True)
    digest: str = column("the image")
    annotator: str = column("keyed hash of the annotator")
    choice: str | None = column("one of schemas.labels.Choice; None if skipped")
    confidence: float | None = column("0 to 1, the annotator's own", default=None)
    ticks: tuple[str, ...] = column("reasons ticked", default=())
    seconds: float | None = column("time the annotator took", default=None)
    project: str | None = column("where it was made", default=None)
    at: datetime | None = column("when it was made", default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The label of one image, as one aggregation of the annotations saw it."""

    version: str = column("digest of the whole aggregation", key=True)
    digest: str = column("the image", key=True)
    posterior: float | None = column("P(fake); None without a vote")
    decision: int | None = column("0 real, 1 fake, None undecided")
    votes: int = column("votes that counted")
    agreement: float | None = column("share of the votes for the decision")
    method: str = column("how the votes were combined")
    why: str = column("one line: why this decision, or none")
    edited: bool | None = column("more say edited than real, and than fake", default=None)


@dataclass(frozen=True, slots=True)
class Release:
    """One assignment of images to splits, and the policy that made it."""

    name: str = column("the release's name", key=True)
    version: str = column("digest of its items")
    protocol: str = column("split protocol")
    parameters: str = column("JSON: everything the assignment depended on")
    groups: str = column("version of the grouping used")
    labels: str = column("version of the labels used")
    created_at: datetime | None = column("when", volatile=True, default=None)


@dataclass(frozen=True, slots=True)
class ReleaseItem:
    """One image of a release, or one that was left out and why."""

    name: str = column("the release's name", key=True)
    digest: str = column("the image", key=True)
    split: str | None = column("train, val or test; None if left out")
    platform: str | None = column("where it was posted")
    post_id: str | None = column("the posting it is released as; others may show it too")
    label: int | None = column("0 real, 1 fake")
    path: str | None = column("path inside the release folder")
    group_id: str | None = column("its group")
    why: str = column("why it is in this split, or why it was left out")


@dataclass(frozen=True, slots=True)
class Score:
    """What one detector said of one image."""

    model: str = column("digest of the checkpoint", key=True)
    digest: str = column("the image", key=True)
    logit: float = column("raw output; sigmoid(logit) is P(fake)")


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of one stage."""

    run_id: str = column("digest of stage, parameters and inputs", key=True)
    stage: str = column("stage name and version")
    parameters: str = column("JSON: everything the outcome depended on")
    inputs: str = column("digest of what it read")
    code_version: str = column("version of this package")
    counts: str = column("JSON: what it counted")
    seconds: float | None = column("duration", volatile=True, default=None)
    finished_at: datetime | None = column("when", volatile=True, default=None)


TABLES: tuple[Table, ...] = (
    table_of(Source, "source"),
    table_of(Post, "post"),
    table_of(Media, "media"),
    table_of(Fetch, "fetch"),
    table_of(Image, "image"),
    table_of(Evidence, "evidence"),
    table_of(Fingerprint, "fingerprint"),
    table_of(Thumbnail, "thumbnail"),
    table_of(Match, "match"),
    table_of(Group, "group"),
    table_of(Kinship, "kinship"),
    table_of(Task, "task"),
    table_of(Annotation, "annotation"),
    table_of(Verdict, "label"),
    table_of(Release, "release"),
    table_of(ReleaseItem, "release_item"),
    table_of(Score, "score"),
    table_of(Run, "run"),
    table_of(Tombstone, "tombstone"),
)
"""Every table of the catalog. To change one: its class here, and a step in `curate.migrations`."""
