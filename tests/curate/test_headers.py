"""What headers of every format say, against Pillow, webpinfo and files made for the purpose."""

import base64
import io
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.probe import container, examine, isobmff, jpeg, jxl, riff, tiff, to_json

RNG = np.random.default_rng(11)
SCENE = Image.fromarray(RNG.integers(0, 255, (7, 9, 3), dtype=np.uint8)).resize(
    (90, 70), Image.Resampling.BICUBIC
)

JXL_LOSSY = bytes.fromhex("ff0a05c800138802008802b59f200000152aa38c1bbc9ceb")
JXL_LOSSLESS = bytes.fromhex("ff0a0508880408040100b0004b2835c63ecc0a0a2644d820")
JXL_ALPHA = bytes.fromhex(
    "ff0a0508580908101000b0004b2835c63ecc0a0a2644d8302dd4e4c41894171001c09020"
)
JXL_MOVING = bytes.fromhex(
    "ff0a0588a00900c40408040100b0004b2835c63ecc0a0a2644d82022d4e4c41894170801c0"
)
JXL_LARGE = bytes.fromhex(
    "ff0a5889d0c7001388020088020c0c00000000000000000000000000b59f200000151a92"
)
JXL_OF_JPEG = bytes.fromhex(
    "0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20"
    "000000126a786c7000000000ff0a05088804000000086a627264"
)
"""The first bytes of files that libjxl wrote."""

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAmttZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRp"
    "bG9jAAAAAERAAAIAAQAAAAACjwABAAAAAAAAAC4AAgAAAAACvQABAAAAAAAAACAAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAABVpbmZlAgAAAAACAABodmMxAAAAAA5waXRtAAAAAAABAAABqmlwcnAAAAGCaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA"
    "/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyA"
    "AAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAGAAAAAEAAAAQAAAA"
    "Af///9gAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAcWh2Y0MBBAgAAACf+AAAAAAe8AD8/Pj4AAAPA2AAAQAXQAEMAf//BAgA"
    "AAMAn/gAAAMAAB66AkBhAAEAJkIBAQQIAAADAJ/4AAADAAAewIIEFluqumubAgAAAwAyAAADAAIQYgABAAZEAcFzwYkAAAAOcGl4aQAA"
    "AAABCAAAACdhdXhDAAAAAHVybjptcGVnOmhldmM6MjAxNTphdXhpZDoxAAAAACBpcG1hAAAAAAAAAAIAAQWBAgMFhAACBYYDB4iEAAAA"
    "GmlyZWYAAAAAAAAADmF1eGwAAgABAAEAAABWbWRhdAAAACooAa8LSFggcPUDKH5P1GRUYqcNDKT7Z6MIouub/lqdJtWAnGwoqpBijrAA"
    "AAAcKAGuFpCQZ9Ar8855gcU0tK9crQSkSxzwlq6AwA=="
)
"""24 x 16 pixels with alpha, coded as 64 x 64, as libheif wrote it."""


def encoded(format: str, image: Image.Image = SCENE, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "AVIF", "WEBP", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_headers_say_what_pillow_finds_when_it_decodes(format, mode):
    try:
        data = encoded(format, SCENE.convert(mode))
    except OSError:
        pytest.skip(f"{format} has no {mode}")
    theirs = Image.open(io.BytesIO(data))
    image = examine(data).image

    assert (image.width, image.height) == theirs.size
    assert image.error is None
    assert image.frames == getattr(theirs, "n_frames", 1)
    assert (image.truncated, image.animated) == (False, False)
    if format not in {
        "BMP"
    }:  # Pillow reads the fourth channel of a bitmap as opaque or not at will
        assert image.alpha == theirs.has_transparency_data
    assert image.bit_depth == (1 if theirs.mode == "1" and format != "AVIF" else 8)


@pytest.mark.parametrize(
    ("format", "options", "compression", "lossless"),
    [
        ("PNG", {}, "deflate", True),
        ("GIF", {}, "LZW", True),
        ("BMP", {}, "none", True),
        ("TIFF", {}, "none", True),
        ("TIFF", {"compression": "tiff_lzw"}, "LZW", True),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "deflate", True),
        ("TIFF", {"compression": "jpeg"}, "JPEG", False),
        ("WEBP", {"lossless": True}, "VP8L", True),
        ("WEBP", {"quality": 60}, "VP8", False),
        ("AVIF", {}, "AV1", None),
        ("JPEG", {}, None, False),
        ("JPEG2000", {"irreversible": True}, "9-7 wavelet", False),
        ("JPEG2000", {"irreversible": False}, "5-3 wavelet", None),
    ],
)
def test_the_coding_and_whether_it_loses_are_told(format, options, compression, lossless):
    image = examine(encoded(format, **options)).image

    assert (image.compression, image.lossless) == (compression, lossless)
    assert (image.width, image.height) == SCENE.size


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "GIF", "AVIF", "TIFF"])
def test_no_other_format_is_given_a_jpeg_quality(format):
    line = to_json("x", examine(encoded(format)))

    assert line["jpeg"] is None
    assert all(v is None for k, v in line["history"].items() if k != "upscale")


def test_a_jpeg_inside_a_tiff_has_its_own_quality():
    image = examine(encoded("TIFF", compression="jpeg", quality=83)).image

    assert (image.format, image.jpeg_family, image.jpeg_quality_luma) == ("TIFF", "ijg", 83)
    assert image.jpeg_exact
    assert image.jpeg_markers is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP"])
def test_a_file_cut_short_is_told_as_that_besides_the_error(format):
    data = encoded(format)
    for share in (0.5, 0.9):
        image = examine(data[: int(len(data) * share)]).image

        assert image.truncated
        assert (image.width, image.height) == SCENE.size
    assert examine(data).image.truncated is False


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_bytes_behind_the_picture_are_counted(format):
    data = encoded(format)

    assert examine(data).image.trailing_bytes == 0
    assert examine(data + b"PK\3\4 an archive").image.trailing_bytes == 15


def test_the_second_picture_of_an_mpo_comes_behind_the_first():
    first = encoded("JPEG")
    data = encoded("MPO", save_all=True, append_images=[SCENE.rotate(180)])
    image = examine(data).image

    assert (image.format, image.frames, image.truncated) == ("MPO", 2, False)
    assert len(first) - 500 < image.trailing_bytes < len(data) - 500


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_is_told_and_its_frames_counted(format):
    frames = [SCENE.rotate(90 * k) for k in range(3)]
    image = examine(encoded(format, frames[0], save_all=True, append_images=frames[1:])).image

    assert (image.animated, image.frames) == (True, 3)


def test_pages_of_a_tiff_are_frames_but_no_animation():
    data = encoded("TIFF", save_all=True, append_images=[SCENE, SCENE])
    image = examine(data).image

    assert (image.animated, image.frames) == (False, 3)


@pytest.mark.parametrize("depth", ["I;16", "RGB"])
def test_the_depth_of_a_tiff_comes_from_its_header(depth):
    picture = SCENE if depth == "RGB" else Image.fromarray(np.ones((9, 9), dtype=np.uint16))

    assert tiff.read_tiff(encoded("TIFF", picture)).bit_depth == (8 if depth == "RGB" else 16)


def test_the_quantiser_of_a_lossy_webp_is_that_of_webpinfo(tmp_path):
    if shutil.which("webpinfo") is None:
        pytest.skip("needs webpinfo, of the package webp")
    for quality in range(0, 101, 5):
        data = encoded("WEBP", quality=quality, method=quality % 7)
        (tmp_path / "a.webp").write_bytes(data)
        command = ["webpinfo", "-bitstream_info", str(tmp_path / "a.webp")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        base = next(line for line in told.splitlines() if "Base Q" in line)

        assert riff.read_header(data).quantiser == int(base.split()[-1])


def test_the_quantiser_of_webp_falls_with_quality_and_only_lossy_ones_have_it():
    found = [examine(encoded("WEBP", quality=q)).image.webp_quantiser for q in range(0, 101, 10)]

    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (127, 0)
    assert examine(encoded("WEBP", lossless=True)).image.webp_quantiser is None
    assert examine(encoded("PNG")).image.webp_quantiser is None
    moving = encoded("WEBP", save_all=True, append_images=[SCENE.rotate(9)], quality=50)
    assert 20 < examine(moving).image.webp_quantiser < 60


def test_the_tables_of_an_exif_thumbnail_are_hashed_apart():
    small = encoded("JPEG", SCENE.resize((32, 24)), quality=31)
    head = b"II*\0\x08\0\0\0" + b"\0\0" + (14).to_bytes(4, "little")
    entries = b"".join(
        tag.to_bytes(2, "little")
        + b"\4\0"
        + (1).to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, value in ((513, 44), (514, len(small)))
    )
    exif = head + b"\2\0" + entries + bytes(4)
    body = b"Exif\0\0" + exif + small
    main = encoded("JPEG", quality=88)
    data = main[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + main[2:]
    image = examine(data).image

    assert len(exif) == 44
    assert image.thumbnail_dqt_hash == jpeg.read_header(small).dqt_hash != image.jpeg_dqt_hash
    assert examine(main).image.thumbnail_dqt_hash is None


def test_thumbnails_of_real_photos_have_tables(shared):
    rows = [
        examine(p.read_bytes()).image for p in (shared / "data" / "camera-photos").glob("*.jpg")
    ]
    hashed = [r for r in rows if r.thumbnail_dqt_hash]

    assert len(hashed) > 20
    assert sum(r.thumbnail_dqt_hash != r.jpeg_dqt_hash for r in hashed) > 10


@pytest.mark.parametrize(
    ("data", "size", "depth", "alpha", "lossless"),
    [
        (JXL_LOSSY, (40, 24), 8, False, False),
        (JXL_LOSSLESS, (40, 24), 8, False, None),
        (JXL_ALPHA, (40, 24), 8, True, None),
        (JXL_LARGE, (1001, 300), 8, False, False),
    ],
)
def test_the_first_bits_of_jpeg_xl_tell_size_and_coding(data, size, depth, alpha, lossless):
    found = jxl.read_jxl(data)

    assert (found.width, found.height, found.bit_depth) == (*size, depth)
    assert (found.alpha, found.lossless, found.animated) == (alpha, lossless, False)


def test_an_animated_jpeg_xl_and_a_recompressed_jpeg_are_told():
    assert jxl.read_jxl(JXL_MOVING).animated
    found = jxl.read_jxl(JXL_OF_JPEG)

    assert (found.compression, found.lossless) == ("JPEG, recompressed", False)
    assert (found.width, found.height) == (40, 24)


def test_a_heic_tells_the_size_that_is_shown_though_nothing_here_decodes_it():
    image = examine(HEIC).image

    assert (image.format, image.width, image.height) == ("HEIF", 24, 16)
    assert (image.alpha, image.bit_depth, image.compression) == (True, 8, "HEVC")
    assert (image.animated, image.truncated) == (False, False)
    assert examine(HEIC[:-9]).image.truncated


READERS = {
    "gif": container.read_gif,
    "bmp": container.read_bmp,
    "tiff": tiff.read_tiff,
    "tiff's jpeg": tiff.jpeg_inside,
    "thumbnail": tiff.thumbnail,
    "heif": isobmff.read_heif,
    "jpeg2000": isobmff.read_jpeg2000,
    "jxl": jxl.read_jxl,
    "webp": riff.read_header,
}
SEEDS = [
    encoded("GIF"), encoded("BMP"), encoded("TIFF"), encoded("TIFF", compression="jpeg"), HEIC,
    encoded("AVIF"), encoded("JPEG2000"), JXL_OF_JPEG, JXL_MOVING, encoded("WEBP"),
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damaged_header_makes_a_reader_raise(reader, data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        seed[data.draw(st.integers(0, min(len(seed), 400) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(seed)))

    READERS[reader](bytes(seed[:cut]))


def test_bombs_of_blocks_and_directories_end_soon():
    blocks = encoded("GIF")[:13] + b"\x21\xfe\x00" * 2_000_000
    assert container.read_gif(blocks).truncated
    loop = b"II*\0\x08\0\0\0" + b"\0\0" + (8).to_bytes(4, "little")
    assert tiff.read_tiff(loop).frames == 1
    assert isobmff.read_heif(b"\0\0\0\x08ftyp" * 100_000).frames == 1
