"""Hashes against ImageHash, and the one canonical decode."""

import hashlib
import io

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from curate import fingerprint


def as_int(hashed: imagehash.ImageHash) -> int:
    return int(str(hashed), 16)


def scene(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


shapes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=150, deadline=None)
@given(shapes.flatmap(lambda s: arrays.arrays(np.uint8, (*s, 3))))
def test_hashes_equal_imagehash_on_any_pixels(pixels):
    image = Image.fromarray(pixels)

    assert fingerprint.phash(image) == as_int(imagehash.phash(image))
    assert fingerprint.dhash(image) == as_int(imagehash.dhash(image))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr"])
def test_hashes_equal_imagehash_in_every_mode(mode):
    image = scene().convert(mode)

    assert fingerprint.phash(image) == as_int(imagehash.phash(image))


@pytest.mark.parametrize("kind", ["black", "white", "stripes", "gradient", "symmetric"])
def test_hashes_equal_imagehash_where_coefficients_are_zero_or_tied(kind):
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    pixels = {
        "black": np.zeros((64, 64), np.uint8),
        "white": np.full((64, 64), 255, np.uint8),
        "stripes": (np.indices((64, 64))[1] % 8 // 4 * 255).astype(np.uint8),
        "gradient": ramp,
        "symmetric": np.maximum(ramp, ramp[:, ::-1]),
    }[kind]
    image = Image.fromarray(pixels)

    assert fingerprint.phash(image) == as_int(imagehash.phash(image))


def test_hashes_equal_imagehash_on_real_pictures(shared):
    folder = shared / "data"
    paths = sorted((folder / "faces-clean").rglob("*.jpg"))[::40]
    paths += sorted((folder / "x-served-ai").rglob("*.jpg"))[::6]
    for path in paths:
        with Image.open(path) as image:
            assert fingerprint.phash(image) == as_int(imagehash.phash(image)), path.name
            assert fingerprint.dhash(image) == as_int(imagehash.dhash(image)), path.name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_same_scene_in_any_orientation_is_the_same_pixels(orientation):
    turned = scene()
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for step in undo.get(orientation, []):
        turned = turned.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    turned.save(out, "PNG", exif=exif)

    upright = fingerprint.upright(Image.open(out))

    assert fingerprint.pixel_digest(upright) == fingerprint.pixel_digest(scene())


def test_real_files_in_all_orientations_look_alike(shared):
    paths = sorted((shared / "data" / "edge-cases" / "exif-orientation").glob("*.jpg"))
    hashes = []
    for path in paths:
        with Image.open(path) as image:
            hashes.append(fingerprint.phash(fingerprint.upright(image)))

    assert len(paths) == 9
    assert max((a ^ b).bit_count() for a in hashes for b in hashes) <= 4


def test_opaque_alpha_palette_and_rgb_have_the_same_pixels():
    picture = scene().quantize(64)
    rgb = picture.convert("RGB")

    digests = {
        fingerprint.pixel_digest(fingerprint.upright(image))
        for image in (picture, rgb, rgb.convert("RGBA"))
    }

    assert len(digests) == 1


def test_transparency_counts_as_pixels_and_is_seen_on_white():
    clear = scene().convert("RGBA")
    clear.putalpha(0)

    upright = fingerprint.upright(clear)

    assert upright.mode == "RGBA"
    assert fingerprint.flatten(upright).getextrema() == ((255, 255),) * 3


def test_sixteen_bit_grey_keeps_its_tones():
    tones = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    wide = fingerprint.upright(Image.fromarray(tones))

    assert wide.mode == "RGB"
    assert np.array_equal(np.asarray(wide)[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("top", "dtype"), [(1.0, np.float32), (255.0, np.float32), (65535, np.int32)]
)
def test_float_and_wide_integer_samples_are_scaled_by_their_range(top, dtype):
    samples = (np.linspace(0, 1, 64).reshape(8, 8) * top).astype(dtype)
    image = fingerprint.upright(Image.fromarray(samples))

    assert image.getextrema()[0] == (0, 255)


@pytest.mark.parametrize("colour", ["black", "white", "#7f7f7f", "#123456"])
def test_a_picture_of_one_colour_has_no_perceptual_fingerprint(colour):
    assert fingerprint.fingerprints(Image.new("RGB", (200, 100), colour)) == {}


def test_a_plain_gradient_has_no_perceptual_fingerprint():
    ramp = np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))

    assert fingerprint.fingerprints(Image.fromarray(ramp).convert("RGB")) == {}


def test_a_scene_has_both_views():
    found = fingerprint.fingerprints(scene())

    assert list(found) == ["phash", "dhash"]
    assert fingerprint.to_hex(found["phash"]) == str(imagehash.phash(scene()))
    assert fingerprint.informative(scene())


def test_the_pixel_digest_is_one_hash_over_mode_size_and_samples():
    tall = scene(size=(7, 1300))
    expected = hashlib.sha256(b"RGB 7 1300\n" + tall.tobytes()).hexdigest()

    assert fingerprint.pixel_digest(tall) == expected
    assert fingerprint.pixel_digest(tall) != fingerprint.pixel_digest(tall.rotate(180))
