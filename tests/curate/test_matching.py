"""Which images are the same picture, and what was done to the copy."""

import hashlib
import io
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from curate import groups, matching
from curate.probe import examine, full_pixels
from curate.simulated.capture import through_camera
from curate.simulated.scenes import SCENES, render_scene
from curate.simulated.spec import rng_for

SIZE = (360, 270)


def scene(number):
    rng = rng_for(0, "matching", number)
    kinds = sorted(SCENES)
    return through_camera(render_scene(kinds[number % len(kinds)], SIZE, rng), rng)


PICTURES = [scene(number) for number in range(len(SCENES))]


def encoded(image, format="JPEG", **options):
    out = io.BytesIO()
    image.convert("RGB").save(out, format, **({"quality": 85} | options))
    return out.getvalue()


def find(files, distance=8, **options):
    by_digest = {x.image.digest: x for x in map(examine, files)}
    return list(
        matching.find_matches(
            [x.image for x in by_digest.values()],
            lambda digests: chain.from_iterable(by_digest[d].thumbnails for d in digests),
            distance_bits=distance,
            made_by="t",
            **options,
        )
    )


def kinds_of(change):
    """The kinds told of every picture and its changed copy; one None for each copy not found."""
    files = {encoded(p): encoded(change(p)) for p in PICTURES}
    owner = {}
    for number, pair in enumerate(files.items()):
        owner |= {examine(data).image.digest: number for data in pair}
    found = find(chain.from_iterable(files.items()))
    assert all(owner[m.a] == owner[m.b] for m in found)
    return [m.kind for m in found] + [None] * (len(files) - len(found))


def cropped(left, top, right, bottom):
    def change(image):
        w, h = image.size
        return image.crop(
            (round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom)))
        )

    return change


def captioned(image):
    strip = round(image.height * 0.15)
    page = Image.new("RGB", (image.width, image.height + strip), "white")
    page.paste(image, (0, strip))
    ImageDraw.Draw(page).text((9, 9), "when you finally see it", fill="black", font_size=strip // 2)
    return page


def on_a_phone(image):
    screen = Image.new("RGB", (400, 800), "#15202b")
    screen.paste(image.resize((400, 300)), (0, 200))
    draw = ImageDraw.Draw(screen)
    for y in (20, 60, 100, 150, 560, 610, 650, 690, 730):
        draw.text((20, y), "somebody wrote this below it", fill="white", font_size=18)
    for x in range(30, 400, 90):
        draw.ellipse((x, 520, x + 20, 540), outline="white", width=3)
    return screen


def boxed(image):
    marked = image.copy()
    ImageDraw.Draw(marked).rectangle((100, 80, 168, 131), fill="black")
    return marked


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("near", lambda image: image.resize((180, 135))),
        ("crop", cropped(0.05, 0.05, 0.05, 0.05)),
        ("crop", cropped(0.1, 0.1, 0.1, 0.1)),
        ("crop", cropped(0, 0, 0, 0.1)),
        ("border", lambda image: ImageOps.expand(image, 18, "white")),
        ("caption", captioned),
        ("screenshot", on_a_phone),
        ("mirror", ImageOps.mirror),
        ("mirror", ImageOps.flip),
        ("rotation", lambda image: image.transpose(Image.Transpose.ROTATE_90)),
        ("rotation", lambda image: image.transpose(Image.Transpose.ROTATE_180)),
        ("rotation", lambda image: image.transpose(Image.Transpose.ROTATE_270)),
    ],
)
def test_a_copy_is_found_and_the_match_says_what_was_done(kind, change):
    told = kinds_of(change)

    assert told.count(None) == 0
    assert told.count(kind) >= len(told) - 2


def test_a_solid_box_is_seen_through_and_told_where_it_covers_much():
    told = kinds_of(boxed)

    assert told.count(None) <= 1
    assert set(told) <= {"overlay", "near", None}
    assert "overlay" in told


def test_different_pictures_do_not_match():
    assert find(map(encoded, PICTURES)) == []


def test_one_picture_in_two_formats_has_the_same_pixels_once_both_are_decoded():
    jpeg = encoded(PICTURES[0])
    png = encoded(Image.open(io.BytesIO(jpeg)), "PNG")
    files = {examine(data).image.digest: data for data in (jpeg, png)}

    (unsure,) = find(files.values())
    (match,) = find(files.values(), pixels_of=lambda digest: full_pixels(files[digest]))

    assert (unsure.kind, match.kind, match.verified) == ("near", "same-pixels", 1.0)


def test_a_recompressed_picture_has_other_pixels():
    files = {
        examine(d).image.digest: d for d in (encoded(PICTURES[0]), encoded(PICTURES[0], quality=60))
    }

    (match,) = find(files.values(), pixels_of=lambda digest: full_pixels(files[digest]))

    assert match.kind == "near"


def test_other_metadata_are_the_same_pixels():
    plain = encoded(PICTURES[0])
    described = encoded(PICTURES[0], comment=b"a holiday", icc_profile=b"profile")

    (match,) = find([plain, described])

    assert (match.kind, match.distance, match.verified) == ("same-pixels", 0, 1.0)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_flat_pictures_and_gradients_match_by_their_pixels_alone(format):
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    flat = [Image.new("RGB", (200, 200), c) for c in ("white", "#fefefe", "black")]
    tiny = [Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + k) for k in (0, 9)]

    files = [encoded(i, format) for i in (ramp, ramp.transpose(2), *flat, *tiny)]

    assert find(files) == []


def test_images_that_do_not_decode_match_nothing():
    whole = encoded(PICTURES[0])

    assert find([whole[:3000], whole[:4000], b"x"]) == []


COPIES = [
    encoded(change(picture))
    for picture in PICTURES[:4]
    for change in (
        lambda image: image,
        ImageOps.mirror,
        cropped(0.05, 0.05, 0.05, 0.05),
        captioned,
        lambda image: image.resize((200, 150)),
    )
]


@settings(max_examples=8, deadline=None)
@given(st.permutations(COPIES), st.sampled_from([1, 3, 7, 4096]))
def test_neither_order_nor_chunks_change_a_row(files, chunk):
    found = find(files, chunk=chunk)

    assert found == find(COPIES)
    assert len({(m.a, m.b) for m in found}) == len(found)
    assert all(m.a < m.b for m in found)


def test_many_copies_stay_one_group_with_few_matches():
    tiles = [PICTURES[0].copy() for _ in range(150)]
    for k, tile in enumerate(tiles):
        tile.putpixel((k, 0), (255, 0, 0))
    files = [encoded(tile, "PNG") for tile in tiles]

    matches = find(files)
    digests = [examine(data).image.digest for data in files]

    assert len(matches) < 150 * 149 / 2
    assert len(set(groups.connect(digests, ((m.a, m.b) for m in matches)).values())) == 1


@pytest.mark.parametrize("distance", [-1, 17, 40])
def test_a_distance_out_of_range_is_refused(distance):
    with pytest.raises(ValueError, match="0 to 16"):
        find([], distance)


def folder_groups(folder, pattern="*.jpg"):
    files = [p.read_bytes() for p in sorted(folder.rglob(pattern))]
    digests = [examine(data).image.digest for data in files]
    return groups.connect(digests, ((m.a, m.b) for m in find(files)))


def test_twelve_edits_of_one_photo_are_one_group(shared):
    sets = folder_groups(shared / "data" / "near-duplicates" / "bridge-mods")

    assert len(sets) == 12
    assert len(set(sets.values())) == 1


EDITS = {
    ("0YYEKMF3GY.jpg", "1DKCGEETES.jpg"), ("0GTFMAQMQQ.jpg", "0R4POY5DTW.jpg"),
    ("0MJ9X634NH.jpg", "0PUM4O6RRM.jpg"), ("0B925CPFSK.jpg", "1A8SFV254Q.jpg"),
    ("0C3SNOUVEY.jpg", "0CSC8SIMA9.jpg"),
}  # fmt: skip
"""Pairs of faces that are two edits of one photograph: same person, same background, same light."""


def test_no_two_people_are_merged(shared):
    paths = sorted((shared / "data" / "faces-clean").rglob("*.jpg"))
    files = {path.name: path.read_bytes() for path in paths}
    names = {hashlib.sha256(data).hexdigest(): name for name, data in files.items()}

    pairs = {tuple(sorted((names[m.a], names[m.b]))) for m in find(files.values())}

    assert len(paths) == 2200
    assert pairs <= EDITS


def test_one_picture_in_all_orientations_is_one_group(shared):
    sets = folder_groups(shared / "data" / "edge-cases" / "exif-orientation")

    assert len(set(sets.values())) == 1
