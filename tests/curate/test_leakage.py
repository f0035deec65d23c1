import io
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from PIL import ImageDraw, ImageOps

from curate.leakage import CHECKS, CONFIRM_BITS, COPIED, Leak, find_leaks, is_one_picture, summarise
from curate.probe import examine
from curate.simulated.capture import through_camera
from curate.simulated.scenes import SCENES, render_scene
from curate.simulated.spec import rng_for
from curate.survey import Surveyed, survey
from curate.work import Serial
from schemas.layout import place
from schemas.records import Image, Match

FAR = (0x0F0F_3C3C_5A5A_9696, 0xF0F0_C3C3_A5A5_6969, 0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321)


def item(path: str, n: int, **changes: object) -> Surveyed:
    """A labelled image unlike any other `n`."""
    image = Image(digest=f"{n:064x}", made_by="test", bytes=1000, format="JPEG", pixels=f"{n:x}p")
    row = Surveyed(path, place(PurePosixPath(path)), image, FAR[n % 4], FAR[(n + 1) % 4])
    return replace(row, **changes)  # type: ignore[arg-type]


TRAIN = item("train/0_real/a.jpg", 0)
TEST = item("test/x/0_real/b.jpg", 1)
FAKE = item("train/1_fake/c.jpg", 2)


def scene(number: int) -> Picture.Image:
    """A photograph of a scene of its own."""
    rng = rng_for(0, "leakage", number)
    return through_camera(render_scene(sorted(SCENES)[number], (360, 270), rng), rng)


def seen(path: str, picture: Picture.Image, quality: int = 85) -> Surveyed:
    """The row of a picture that is saved as JPEG."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=quality)
    found = examine(data.getvalue(), max_pixels=10**8)
    bits = {one.view: one.bits for one in found.fingerprints}
    return Surveyed(
        path,
        place(PurePosixPath(path)),
        found.image,
        bits["phash"],
        bits["dhash"],
        thumbnails=found.thumbnails,
    )


def cut(picture: Picture.Image) -> Picture.Image:
    w, h = picture.size
    return picture.crop((w // 8, h // 8, w, h))


def bordered(picture: Picture.Image) -> Picture.Image:
    return ImageOps.expand(picture, 36, "white")


def captioned(picture: Picture.Image) -> Picture.Image:
    strip = picture.height // 6
    page = Picture.new("RGB", (picture.width, picture.height + strip), "white")
    page.paste(picture, (0, strip))
    ImageDraw.Draw(page).text((9, 9), "when you see it", fill="black", font_size=strip // 2)
    return page


def on_a_phone(picture: Picture.Image) -> Picture.Image:
    screen = Picture.new("RGB", (400, 800), "#15202b")
    screen.paste(picture.resize((400, 300)), (0, 200))
    ImageDraw.Draw(screen).text((20, 140), "somebody on a network", fill="white", font_size=24)
    return screen


def covered(picture: Picture.Image) -> Picture.Image:
    page, (w, h) = picture.copy(), picture.size
    ImageDraw.Draw(page).rectangle((w * 0.1, h * 0.1, w * 0.45, h * 0.5), fill="white")
    return page


CHANGES: dict[str, Callable[[Picture.Image], Picture.Image]] = {
    "crop": cut,
    "border": bordered,
    "caption": captioned,
    "screenshot": on_a_phone,
    "mirror": ImageOps.mirror,
    "rotation": lambda picture: picture.rotate(90, expand=True),
    "overlay": covered,
}

ORIGINAL = seen("train/0_real/a.jpg", scene(0))

PLANTED = {
    "same-bytes": [TRAIN, replace(TEST, image=replace(TEST.image, digest=TRAIN.image.digest))],
    "same-pixels": [TRAIN, replace(TEST, image=replace(TEST.image, pixels=TRAIN.image.pixels))],
    "near": [TRAIN, replace(TEST, phash=FAR[0] ^ 0b111, dhash=FAR[1] ^ 0b1)],
    **{
        kind: [ORIGINAL, seen("test/x/0_real/b.jpg", change(scene(0)))]
        for kind, change in CHANGES.items()
    },
    "group": [replace(TRAIN, group="g"), replace(TEST, group="g")],
    "author": [replace(TRAIN, author="k1"), replace(TEST, author="k1")],
    "post": [replace(TRAIN, post="x/7"), replace(TEST, post="x/7")],
    "label-conflict": [TRAIN, replace(FAKE, image=replace(FAKE.image, pixels=TRAIN.image.pixels))],
}


def test_every_check_has_a_set_that_leaks_in_exactly_its_way() -> None:
    assert PLANTED.keys() == CHECKS.keys()


@pytest.mark.parametrize("kind", CHECKS)
def test_a_check_finds_the_leak_made_in_its_way_and_no_other_check_does(kind: str) -> None:
    leaks = find_leaks(PLANTED[kind], distance_bits=8)

    assert [leak.kind for leak in leaks] == [kind]
    assert {leaks[0].a, leaks[0].b} == {item.path for item in PLANTED[kind]}
    assert leaks[0].evidence


@pytest.mark.parametrize("kind", [kind for kind in CHECKS if kind != "label-conflict"])
def test_what_two_platforms_of_the_test_split_share_is_no_leak(kind: str) -> None:
    first, second = PLANTED[kind]
    moved = replace(
        first, path="test/y/0_real/a.jpg", placement=place(PurePosixPath("test/y/0_real/a.jpg"))
    )

    assert find_leaks([moved, second], distance_bits=8) == []


def test_unrelated_images_do_not_leak() -> None:
    assert find_leaks([TRAIN, TEST, FAKE], distance_bits=8) == []


def test_the_earlier_split_comes_first_and_the_distance_is_told() -> None:
    (leak,) = find_leaks(reversed(PLANTED["near"]), distance_bits=8)

    assert (leak.split_a, leak.split_b) == ("train", "test")
    assert leak.evidence == "pHash distance 3, dHash distance 1"


def test_a_look_alike_whose_dhash_disagrees_is_not_a_near_duplicate() -> None:
    other = (1 << (CONFIRM_BITS + 1)) - 1
    pair = [TRAIN, replace(TEST, phash=TRAIN.phash, dhash=(TRAIN.dhash or 0) ^ other)]

    assert find_leaks(pair, distance_bits=8) == []


def test_near_duplicates_are_found_whatever_groups_the_manifest_states() -> None:
    pair = [replace(PLANTED["near"][0], group="g1"), replace(PLANTED["near"][1], group="g2")]

    assert [leak.kind for leak in find_leaks(pair, distance_bits=8)] == ["near"]


def test_a_conflict_of_labels_is_found_within_one_split_and_in_a_set_without_splits() -> None:
    real = item("0_real/a.jpg", 0)
    fake = item("1_fake/a.jpg", 0)

    (leak,) = find_leaks([real, fake], distance_bits=8)

    assert (leak.kind, leak.a, leak.b) == ("label-conflict", "0_real/a.jpg", "1_fake/a.jpg")
    assert leak.evidence == "same bytes; labels real and fake"


@given(st.lists(st.sampled_from(["train", "val", "test/x", "test/y"]), max_size=12))
def test_each_image_of_an_author_in_two_splits_is_named(folders: list[str]) -> None:
    items = [item(f"{folder}/0_real/{n}.jpg", n, author="k") for n, folder in enumerate(folders)]
    items = [replace(one, phash=None, dhash=None) for one in items]

    leaks = find_leaks(items, distance_bits=8)

    several = len({folder.split("/")[0] for folder in folders}) > 1
    named = {path for leak in leaks for path in (leak.a, leak.b)}
    assert named == ({one.path for one in items} if several else set())
    assert all(leak.split_a != leak.split_b for leak in leaks)
    assert len(leaks) <= 3 * len(items)


@given(st.permutations([r for rows in PLANTED.values() for r in rows if not r.thumbnails][:8]))
def test_the_answer_does_not_depend_on_the_order_of_the_items(items: list[Surveyed]) -> None:
    unique = list({one.path + one.image.digest: one for one in items}.values())

    assert find_leaks(unique, distance_bits=8) == find_leaks(
        sorted(unique, key=lambda one: one.path), distance_bits=8
    ) or len({one.path for one in unique}) < len(unique)


def test_the_summary_counts_each_kind() -> None:
    leak = Leak("near", "a", "b", "train", "test", "pHash distance 3")

    told = summarise([leak])

    assert told["clean"] is False
    assert told["counts"]["near"] == 1
    assert sum(told["counts"].values()) == 1
    assert told["leaks"][0]["split_b"] == "test"


@pytest.mark.parametrize("kind", COPIED)
def test_a_verified_copy_tells_what_was_done_to_it_and_how_sure_that_is(kind: str) -> None:
    (leak,) = find_leaks(PLANTED[kind], distance_bits=8)

    told, score, distance = leak.evidence.split(", ")
    assert told == kind
    assert 0.65 <= float(score.removeprefix("score ")) <= 1
    assert int(distance.removeprefix("distance ")) <= 10


def test_pictures_of_other_scenes_are_no_copies_however_they_were_changed() -> None:
    changes = list(CHANGES.values())
    items = [
        seen(f"{split}/0_real/{n}.jpg", changes[n % len(changes)](scene(n)) if n % 2 else scene(n))
        for n, split in zip(range(len(SCENES)), ["train", "val", "test/x"] * 9, strict=False)
    ]

    assert find_leaks(items, distance_bits=8) == []


def test_near_copies_that_are_verified_say_so() -> None:
    pair = [ORIGINAL, seen("test/x/0_real/b.jpg", scene(0), quality=60)]

    (leak,) = find_leaks(pair, distance_bits=8)

    assert leak.kind == "near"
    assert "; verified as near, score 0.9" in leak.evidence or "score 1.00" in leak.evidence


def test_a_near_copy_that_no_hash_shows_is_near_all_the_same() -> None:
    pair = [ORIGINAL, seen("test/x/0_real/b.jpg", scene(0), quality=60)]

    (leak,) = find_leaks([replace(one, phash=None) for one in pair], distance_bits=8)

    assert (leak.kind, leak.evidence.split(",")[0]) == ("near", "near")


def test_copies_within_one_split_are_no_leak() -> None:
    items = [ORIGINAL, seen("train/0_real/b.jpg", ImageOps.mirror(scene(0)))]

    assert find_leaks(items, distance_bits=8) == []


def test_a_copy_in_several_places_is_named_in_each() -> None:
    mirrored = seen("test/x/0_real/b.jpg", ImageOps.mirror(scene(0)))
    again = "test/y/0_real/c.jpg"
    items = [
        ORIGINAL,
        mirrored,
        replace(mirrored, path=again, placement=place(PurePosixPath(again))),
    ]

    leaks = find_leaks(items, distance_bits=8)

    assert {(leak.kind, leak.a, leak.b) for leak in leaks} == {
        ("mirror", ORIGINAL.path, mirrored.path),
        ("mirror", ORIGINAL.path, again),
    }


@pytest.mark.parametrize(("kind", "wrong"), [("mirror", True), ("crop", True), ("overlay", False)])
def test_a_label_is_called_wrong_by_a_copy_only_if_it_is_sure_and_unaltered(
    kind: str, wrong: bool
) -> None:
    fake = seen("train/1_fake/b.jpg", CHANGES[kind](scene(0)))

    leaks = find_leaks([ORIGINAL, fake], distance_bits=8)

    assert [leak.kind for leak in leaks] == (["label-conflict"] if wrong else [])
    assert all(leak.evidence.endswith("; labels real and fake") for leak in leaks)


@pytest.mark.parametrize(
    ("kind", "distance", "score", "same"),
    [
        ("mirror", 4, 0.9, True),
        ("mirror", 5, 1.0, False),
        ("mirror", 0, 0.89, False),
        ("overlay", 0, 1.0, False),
        ("near", 0, 1.0, False),
    ],
)
def test_a_picture_that_was_altered_may_have_another_label_with_right(
    kind: str, distance: int, score: float, same: bool
) -> None:
    assert is_one_picture(Match("a", "b", kind, distance, "t", verified=score)) is same


COPIES = [
    seen(f"{split}/0_real/{n}-{kind}.jpg", CHANGES[kind](scene(n)) if kind else scene(n))
    for (n, kind), split in zip(
        product(range(3), ["", "crop", "mirror"]), ["train", "val", "test/x", "test/y"] * 3, strict=False
    )
]  # fmt: skip


@settings(deadline=None, max_examples=8)
@given(st.permutations(range(len(COPIES))))
def test_copies_do_not_depend_on_the_order_of_the_items(order: list[int]) -> None:
    leaks = find_leaks([COPIES[n] for n in order], distance_bits=8)

    assert leaks == find_leaks(COPIES, distance_bits=8)
    assert {"crop", "mirror"} <= {leak.kind for leak in leaks}


def test_thumbnails_that_the_items_do_not_carry_are_read() -> None:
    items = PLANTED["mirror"]
    held = {one.image.digest: one.thumbnails for one in items}

    leaks = find_leaks(
        [replace(one, thumbnails=()) for one in items],
        distance_bits=8,
        read=lambda digests: [row for digest in digests for row in held[digest]],
    )

    assert [leak.kind for leak in leaks] == ["mirror"]


def test_near_duplicates_across_the_splits_of_the_biased_shoes_are_listed(shared: Path) -> None:
    rows = survey(shared / "data" / "shoes-biased", Serial(), max_pixels=10**8)

    leaks = find_leaks(rows, distance_bits=8)

    near = [leak for leak in leaks if leak.kind == "near"]
    assert near
    assert all(leak.a.startswith("train/") and leak.b.startswith("test/") for leak in near)
