"""Thumbnails, the pictures inside a picture, and the hashes of views."""

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from curate import boxes, fingerprint, views
from curate.boxes import WHOLE, Box
from schemas.records import Thumbnail


def texture(seed=0, size=(200, 150)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (12, 16), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((grey + rng.normal(0, 10, grey.shape)).clip(0, 255).astype(np.uint8))


def shown(image, view="whole"):
    _, pixels = views.thumbnails(image)[view]
    return views.pictures([Thumbnail("d", view, 0, 0, 1, 1, pixels, "t")])


def near(box, left, top, right, bottom):
    return box.like(Box(left, top, right, bottom))


def test_a_picture_without_paper_has_one_thumbnail():
    assert list(views.thumbnails(texture())) == ["whole"]


@pytest.mark.parametrize("colour", [0, 90, 255])
def test_what_is_inside_a_border_is_found_in_any_colour(colour):
    framed = ImageOps.expand(texture(), 20, colour)

    box = boxes.find_boxes(np.asarray(framed))["trimmed"]

    assert near(box, 20 / 240, 20 / 190, 220 / 240, 170 / 190)


def test_a_picture_among_lines_of_text_is_found():
    page = Image.new("L", (200, 400), 255)
    page.paste(texture(), (0, 120))
    for y in (10, 40, 70, 300, 340):
        ImageDraw.Draw(page).text((5, y), "some words on the page above and below", fill=0)

    found = boxes.find_boxes(np.asarray(page))

    assert any(near(box, 0, 0.3, 1, 0.675) for box in found.values())


def test_a_picture_with_plain_rows_of_its_own_is_found_by_the_colour_of_the_page():
    dark = texture()
    dark.paste(8, (0, 60, 200, 90))
    page = Image.new("L", (200, 400), 255)
    page.paste(dark, (0, 120))
    ImageDraw.Draw(page).text((5, 10), "a line of text", fill=0)

    found = boxes.find_boxes(np.asarray(page))

    assert not near(found["box"], 0, 0.3, 1, 0.675)
    assert near(found["page"], 0, 0.3, 1, 0.675)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([2, 30, 256])
)
def test_boxes_of_any_pixels_lie_inside(width, height, seed, levels):
    grey = np.random.default_rng(seed).integers(0, levels, (height, width)).astype(np.uint8)

    for box in boxes.find_boxes(grey).values():
        assert 0 <= box.left < box.right <= 1
        assert 0 <= box.top < box.bottom <= 1


@pytest.mark.parametrize("turn", views.TURNS)
def test_turning_the_coefficients_is_turning_the_picture(turn):
    picture = shown(texture())
    laid = np.ascontiguousarray(turn.of(picture[0]))[None]

    turned = views.turned(views.coefficients(picture, WHOLE), turn)

    assert np.allclose(turned, views.coefficients(laid, WHOLE), atol=0.5)


def test_there_are_eight_turns_of_which_four_mirror():
    marked = np.arange(4).reshape(2, 2)

    assert len({turn.of(marked).tobytes() for turn in views.TURNS}) == 8
    assert sum(turn.mirrors for turn in views.TURNS) == 4


def test_the_hash_of_the_whole_is_near_imagehashs_of_the_thumbnail():
    """Signs here, a median there: they differ where a coefficient is nearly zero."""
    image = Image.fromarray(shown(texture())[0].astype(np.uint8))

    low = views.coefficients(shown(texture()), WHOLE)[0, :8, :8]
    theirs = imagehash.phash(image).hash

    assert ((low > 0) != theirs)[1:, 1:].sum() <= 3


@pytest.mark.parametrize("crop", views.CROPS)
def test_the_hash_of_a_crop_is_that_of_the_cropped_picture(crop):
    image = texture(3, (640, 480))
    area = tuple(round(edge) for edge in crop.pixels(*image.size))

    (offered,), _ = views.hashes(views.coefficients(shown(image), crop))
    (cut,), _ = views.hashes(views.coefficients(shown(image.crop(area)), WHOLE))

    assert (int(offered) ^ int(cut)).bit_count() <= 5


def test_a_flat_view_says_nothing_and_has_no_hash():
    flat = shown(Image.new("L", (100, 100), 200))

    assert len(views.ask(flat, 0)) == 0
    assert len(views.offer(flat, np.array([0]))) == 0


def test_every_view_of_a_scene_has_a_hash_in_order():
    asked, offered = views.ask(shown(texture()), 5), views.offer(shown(texture()), np.array([7]))

    assert asked.views.tolist() == list(range(8))
    assert offered.views.tolist() == list(range(len(views.CROPS)))
    assert set(asked.rows.tolist()) == {5}
    assert set(offered.rows.tolist()) == {7}


def test_small_grey_is_the_picture_at_a_fraction_and_transparency_is_white():
    clear = texture(size=(600, 400)).convert("RGBA")
    clear.putalpha(0)

    assert fingerprint.small_grey(texture(size=(600, 400))).size == (150, 100)
    assert fingerprint.small_grey(texture(size=(400, 800))).size == (134, 267)
    assert fingerprint.small_grey(clear).getextrema() == (255, 255)
