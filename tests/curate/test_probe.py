"""What one file says of itself: facts, claims, fingerprints, and the line that shows them."""

import hashlib
import io
import json
import time
import warnings
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from curate import fingerprint
from curate.probe import PROBE, Examined, decode, examine, to_json
from schemas.records import TABLES


def scene(size: tuple[int, int] = (96, 64)) -> Image.Image:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or scene()).save(out, format, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def png_with(*chunks: bytes) -> bytes:
    data = encoded("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(marker: int, body: bytes, data: bytes | None = None) -> bytes:
    data = data or encoded("JPEG")
    return data[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body + data[2:]


def source_type(name: str) -> bytes:
    uri = f"http://cv.iptc.org/newscodes/digitalsourcetype/{name}"
    extension = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    return f'<x xmlns:e="{extension}" e:DigitalSourceType="{uri}"/>'.encode()


def claims(examined: Examined) -> dict[str, tuple[str, str]]:
    return {row.origin: (row.direction, row.detail) for row in examined.evidence}


JPEG, PNG, WEBP, GIF = (encoded(f) for f in ("JPEG", "PNG", "WEBP", "GIF"))


def test_a_jpeg_says_all_its_facts():
    data = encoded("JPEG", quality=83, icc_profile=b"profile", progressive=True)
    image = examine(data).image

    assert image.digest == hashlib.sha256(data).hexdigest()
    assert (image.made_by, image.bytes, image.error) == (PROBE, len(data), None)
    assert (image.format, image.mode, image.width, image.height) == ("JPEG", "RGB", 96, 64)
    assert (image.bit_depth, image.frames, image.alpha, image.thumbnail) == (8, 1, False, False)
    assert image.icc == hashlib.sha256(b"profile").hexdigest()[:16]
    assert (image.jpeg_family, image.jpeg_quality_luma, image.jpeg_exact) == ("ijg", 83, True)
    assert (image.jpeg_progressive, image.jpeg_subsampling) == (True, "4:2:0")


@pytest.mark.parametrize("data", [PNG, WEBP, GIF, b""])
def test_nothing_but_a_jpeg_has_jpeg_facts(data):
    facts = asdict(examine(data).image)

    assert all(value is None for name, value in facts.items() if name.startswith("jpeg_"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "PPM"])
def test_every_format_is_told_by_its_content_and_decoded(format):
    image = examine(encoded(format)).image

    assert (image.format, image.width, image.height, image.error) == (format, 96, 64, None)
    assert image.pixels is not None


def test_lossless_formats_of_one_picture_have_the_same_pixels():
    files = [PNG, encoded("BMP"), encoded("TIFF"), encoded("WEBP", lossless=True), encoded("PPM")]

    assert len({examine(data).image.pixels for data in files}) == 1


@pytest.mark.parametrize(
    ("mode", "depth", "alpha"),
    [("1", 1, False), ("P", 8, False), ("RGBA", 8, True), ("LA", 8, True), ("I;16", 16, False)],
)
def test_odd_png_modes_are_told_and_decoded(mode, depth, alpha):
    if mode == "I;16":
        picture = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    else:
        picture = scene().convert(mode)
    image = examine(encoded("PNG", picture)).image

    assert (image.mode, image.bit_depth, image.alpha, image.error) == (mode, depth, alpha, None)
    assert image.pixels is not None


def test_a_cmyk_jpeg_is_decoded():
    image = examine(encoded("JPEG", scene().convert("CMYK"))).image

    assert (image.mode, image.error) == ("CMYK", None)


def test_frames_of_an_animation_are_counted():
    frames = [scene().rotate(90 * k) for k in range(3)]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(format, frames[0], save_all=True, append_images=frames[1:])
        assert examine(data).image.frames == 3


def test_an_mpo_is_told_and_its_first_picture_counts():
    data = encoded("MPO", save_all=True, append_images=[scene().rotate(180)], quality=91)
    image = examine(data).image

    assert (image.format, image.frames, image.jpeg_quality_luma) == ("MPO", 2, 91)


def test_exif_is_read_and_is_weak_evidence_of_a_camera():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131], exif[0x0112] = "Make\0", " A  Model ", "Tool 1", 6
    exif.get_ifd(0x8769)[0x829A] = 0.01
    for format in ("JPEG", "PNG", "WEBP"):
        examined = examine(encoded(format, exif=exif))
        image = examined.image

        assert (image.camera_make, image.camera_model) == ("Make", "A Model")
        assert (image.software, image.orientation) == ("Tool 1", 6)
        (row,) = examined.evidence
        assert (row.kind, row.direction, row.made_by) == ("camera", "real", PROBE)
        assert row.strength <= 0.3
        assert row.detail == "Make A Model, with exposure"


def test_cameras_and_thumbnails_of_real_photos_are_found(shared):
    rows = [examine(p.read_bytes()) for p in (shared / "data" / "camera-photos").glob("*.jpg")]

    assert sum(row.image.camera_make is not None for row in rows) > 50
    assert sum(bool(row.image.thumbnail) for row in rows) > 20
    assert len({row.image.jpeg_dqt_hash for row in rows}) > 24


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        ("AUTOMATIC1111/automatic1111_cropped.png", "AUTOMATIC1111 or compatible"),
        ("AUTOMATIC1111/automatic1111_cropped.jpg", "AUTOMATIC1111 or compatible"),
        ("AUTOMATIC1111/automatic1111_stealth.png", "AUTOMATIC1111 or compatible"),
        ("ComfyUI/img2img_cropped.png", "ComfyUI"),
        ("ComfyUI/unclip_2pass_cropped.png", "ComfyUI"),
        ("Fooocus/fooocus1_cropped.png", "Fooocus"),
        ("InvokeAI/invokeai_dream1.png", "InvokeAI"),
        ("InvokeAI/invokeai_imeta1.png", "InvokeAI"),
        ("InvokeAI/invokeai_sdmeta1.png", "InvokeAI"),
        ("NovelAI/novelai1_cropped.png", "NovelAI"),
    ],
)
def test_generators_are_recognised_in_real_files_without_their_prompts(shared, name, generator):
    data = (shared / "data" / "provenance" / "sd-parsers" / "parsers" / name).read_bytes()
    rows = examine(data).evidence

    assert generator in {row.detail for row in rows}
    assert all(row.direction == "fake" and row.strength >= 0.8 for row in rows)
    assert all(len(row.detail) < 40 for row in rows)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_generator_text_is_found_in_every_kind_of_text_chunk(kind):
    value = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7"
    info = PngInfo()
    if kind == "iTXt":
        info.add_itxt("parameters", value, zip=True)
    else:
        info.add_text("parameters", value, zip=kind == "zTXt")
    examined = examine(encoded("PNG", pnginfo=info))

    assert examined.image.png_text_keys == ("parameters",)
    assert claims(examined) == {"png:parameters": ("fake", "AUTOMATIC1111 or compatible")}


def test_a_text_key_alone_proves_nothing():
    info = PngInfo()
    for key in ("parameters", "prompt", "workflow", "Comment", "Software", "Description"):
        info.add_text(key, "made with GIMP")

    assert examine(encoded("PNG", pnginfo=info)).evidence == ()


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("trainedAlgorithmicMedia", "fake"),
        ("compositeWithTrainedAlgorithmicMedia", "fake"),
        ("digitalCapture", "real"),
        ("screenCapture", "neither"),
    ],
)
def test_the_iptc_source_type_is_read_from_xmp_in_every_container(name, direction):
    xmp = source_type(name)
    jpeg = jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    png = png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    for data in (jpeg, png, encoded("WEBP", xmp=xmp), encoded("AVIF", xmp=xmp)):
        assert claims(examine(data)) == {f"xmp:DigitalSourceType/{name}": (direction, name)}


def test_a_c2pa_manifest_is_noticed_and_not_believed():
    jpeg = jpeg_with(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x18jumdc2pa")
    box = bytes.fromhex("0000001875756964d8fec3d61b0e483c92975828877ec481")
    for data, origin in (
        (jpeg, "jpeg:APP11"),
        (png_with(chunk(b"caBX", b"jumb")), "png:caBX"),
        (encoded("AVIF") + box, "isobmff:uuid"),
    ):
        (row,) = examine(data).evidence
        assert (row.kind, row.origin, row.direction) == ("c2pa", origin, "neither")
        assert row.detail.startswith(("present: not checked", "invalid: "))


def test_a_source_type_that_iptc_does_not_know_is_not_repeated():
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + source_type("JaneDoe")

    assert examine(jpeg_with(0xE1, xmp)).evidence == ()


def test_a_platform_mark_is_a_trace_and_speaks_for_neither():
    fields = b"\x1c\x02\x28\0\x0aFBMD0a0009"
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(fields).to_bytes(4) + fields
    (row,) = examine(jpeg_with(0xED, block)).evidence

    assert (row.kind, row.direction, row.strength) == ("platform-trace", "neither", 0.0)


def test_evidence_has_one_row_per_kind_and_origin():
    xmp = source_type("digitalCapture")
    data = jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    rows = examine(jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp, data)).evidence

    assert len({(r.kind, r.origin) for r in rows}) == len(rows) == 1


def test_a_bomb_is_told_by_its_header_and_not_decoded():
    huge = chunk(b"IHDR", (50_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0")
    image = examine(PNG[:8] + huge + PNG[33:]).image

    assert (image.width, image.height, image.pixels) == (50_000, 50_000, None)
    assert image.error == "bomb: 50000 x 50000 pixels, limit 178956970"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"])
def test_the_limit_of_pixels_holds_for_every_format(format):
    data = encoded(format)

    assert examine(data, max_pixels=96 * 64).image.error is None
    assert examine(data, max_pixels=96 * 64 - 1).image.error.startswith("bomb: 96 x 64 pixels")


def test_compressed_text_that_would_fill_the_memory_is_read_to_a_bound():
    packed = zlib.compress(b"Steps: 1, Sampler: x" + bytes(60_000_000), 9)
    bomb = chunk(b"zTXt", b"parameters\0\0" + packed)
    start = time.process_time()
    examined = examine(png_with(*[bomb] * 100))

    assert time.process_time() - start < 2
    assert examined.image.error is None
    assert set(claims(examined)) == {"png:parameters"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image format we know"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (b"\0\0\0\x1cftypheic" + bytes(20), "no decoder for HEIF"),
        (b"\xff\xd8\xff" + b"\xff" * 3_000_000, "header is damaged"),
    ],
    ids=["empty", "html", "cut jpeg", "cut png", "heic", "fill bytes"],
)
def test_what_cannot_be_decoded_says_why_on_one_line(data, error):
    start = time.process_time()
    examined = examine(data)

    assert error in examined.image.error
    assert "\n" not in examined.image.error
    assert "0x" not in examined.image.error
    assert (examined.image.pixels, examined.fingerprints) == (None, ())
    assert time.process_time() - start < 1


def test_a_flat_picture_has_pixels_and_no_perceptual_fingerprint():
    examined = examine(encoded("PNG", Image.new("RGB", (50, 50), "red")))

    assert examined.image.pixels is not None
    assert examined.fingerprints == ()


def test_every_edge_case_gives_a_row_soon_and_without_a_warning(shared):
    folder = shared / "data" / "edge-cases"
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".json"]
    opened = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            start = time.process_time()
            examined = examine(path.read_bytes())
            assert time.process_time() - start < 2, path.name
            assert (examined.image.error is None) == (examined.image.pixels is not None), path.name
            opened += examined.image.error is None
            json.dumps(to_json(str(path), examined))
    assert len(paths) > 450
    assert opened > 200


def mutated(data: bytes):
    """The file with bytes replaced, and a piece cut out or put in."""
    places = st.integers(0, len(data) - 1)
    changes = st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)
    return st.tuples(changes, places, st.integers(0, 40), st.binary(max_size=12)).map(
        lambda plan: _apply(data, *plan)
    )


def _apply(data, changes, at, cut, insert):
    out = bytearray(data)
    for place, value in changes:
        out[place] = value
    out[at : at + cut] = insert
    return bytes(out)


SMALL = scene((24, 16))
SEEDS = [
    encoded("JPEG", SMALL, quality=40, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    encoded("JPEG", SMALL, progressive=True),
    encoded("PNG", SMALL),
    encoded("PNG", SMALL.quantize(16)),
    encoded("WEBP", SMALL),
    encoded("GIF", SMALL),
    encoded("TIFF", SMALL),
    encoded("AVIF", SMALL),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS).flatmap(mutated))
def test_no_damage_makes_it_raise_or_warn(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        examined = examine(data, max_pixels=1_000_000)

    assert (examined.image.error is None) == (examined.image.pixels is not None)
    line = json.dumps(to_json("file.jpg", examined))
    assert "0x" not in (examined.image.error or "")
    assert json.loads(line)["sha256"] == hashlib.sha256(data).hexdigest()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", JPEG[:3], PNG[:8], b"RIFF....WEBP", b"BM"]))
def test_no_bytes_make_it_raise(data, magic):
    examined = examine(magic + data, max_pixels=1_000_000)

    assert examined == examine(magic + data, max_pixels=1_000_000)


def test_rows_fit_their_tables():
    exif = Image.Exif()
    exif[0x010F] = "Make"
    examined = examine(encoded("JPEG", exif=exif))
    rows = {
        "image": [examined.image],
        "evidence": examined.evidence,
        "fingerprint": examined.fingerprints,
        "thumbnail": examined.thumbnails,
    }
    for table in TABLES:
        if table.name in rows:
            assert table.to_arrow(rows[table.name]).num_rows == len(rows[table.name]) > 0


def test_the_line_of_a_jpeg_has_the_promised_keys():
    line = to_json("a/b.png", examine(JPEG))

    assert line["path"] == "a/b.png"
    assert line["extension_mismatch"] is True
    assert set(line["jpeg"]) >= {"family", "quality_luma", "quality_chroma", "exact", "quality"}
    assert set(line["jpeg"]) >= {"subsampling", "progressive", "restart_interval", "dqt_hash"}
    assert all(len(bits) == 16 for bits in line["fingerprints"].values())
    assert line["provenance"] == []
    assert line["error"] is None


@pytest.mark.parametrize(
    ("path", "data", "mismatch"),
    [
        ("a.JPG", JPEG, False),
        ("a.jfif", JPEG, False),
        ("a.jpg", WEBP, True),
        ("a", JPEG, None),
        ("a.jpg", b"", None),
    ],
)
def test_an_ending_that_is_wrong_for_the_content_is_a_fact(path, data, mismatch):
    assert to_json(path, examine(data))["extension_mismatch"] is mismatch


def test_the_line_of_a_png_has_no_jpeg():
    assert to_json("a.png", examine(PNG))["jpeg"] is None


def test_examining_leaves_no_trace_in_pillow(tmp_path: Path):
    before = Image.MAX_IMAGE_PIXELS
    examine(JPEG, max_pixels=1)

    assert before == Image.MAX_IMAGE_PIXELS


def jpeg_bytes(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **({"quality": 90} | options))
    return out.getvalue()


def photo_like(size=(700, 500)):
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def oriented(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return {"exif": exif}


def test_the_coded_picture_of_a_jpeg_is_told_apart_whatever_surrounds_it():
    image = photo_like()
    plain, described = jpeg_bytes(image), jpeg_bytes(image, comment=b"x", icc_profile=b"profile")
    others = [
        jpeg_bytes(image, quality=89),
        jpeg_bytes(image, **oriented(6)),
        jpeg_bytes(image, subsampling=0),
    ]

    digests = [examine(data).image.pixels for data in (plain, described, plain + b"after", *others)]

    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests)) == 4
    assert examine(jpeg_bytes(image, **oriented(1))).image.pixels == digests[0]


def test_an_adobe_segment_that_changes_the_colours_changes_the_picture():
    plain = jpeg_bytes(photo_like(), keep_rgb=True)
    at = plain.index(b"Adobe") - 4 if b"Adobe" in plain else 0
    length = int.from_bytes(plain[at + 2 : at + 4]) + 2 if at else 0

    without = plain[:at] + plain[at + length :] if at else plain[:2] + ADOBE_YCC + plain[2:]

    assert examine(plain).image.pixels != examine(without).image.pixels


ADOBE_YCC = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"


def test_a_large_jpeg_has_the_facts_of_the_whole_and_hashes_near_the_whole():
    image = photo_like((1600, 1200))
    data = jpeg_bytes(image)
    whole = Image.open(io.BytesIO(data)).convert("RGB")

    seen = examine(data)
    bits = {f.view: f.bits for f in seen.fingerprints}

    assert (seen.image.width, seen.image.height, seen.image.mode) == (1600, 1200, "RGB")
    assert (bits["phash"] ^ fingerprint.phash(whole)).bit_count() <= 2
    assert (bits["dhash"] ^ fingerprint.dhash(whole)).bit_count() <= 2
    assert [t.view for t in seen.thumbnails] == ["whole"]
    assert len(seen.thumbnails[0].pixels) == 64 * 64


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.99])
def test_a_jpeg_that_ends_early_is_noticed_although_it_is_decoded_reduced(cut):
    data = jpeg_bytes(photo_like((1600, 1200)))

    seen = examine(data[: int(len(data) * cut)])

    assert "truncated" in (seen.image.error or "")
    assert (seen.image.pixels, seen.fingerprints, seen.thumbnails) == (None, (), ())


def test_reduced_decoding_of_real_files_fails_exactly_where_whole_decoding_does(shared):
    told = 0
    for path in sorted((shared / "data" / "edge-cases").rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if decode.sniff(data) != "JPEG":
            continue
        with decode.quiet():
            errors = {
                decode.decode(data, "JPEG", None, 1 << 26, reduced=reduced).error
                for reduced in (True, False)
            }
        told += 1
        assert len(errors) == 1, path.name

    assert told > 300


def test_hashes_of_real_photos_are_near_those_of_the_whole_decode(shared):
    apart = []
    for path in sorted((shared / "data" / "camera-photos").glob("*.jpg")):
        seen = examine(path.read_bytes())
        bits = {f.view: f.bits for f in seen.fingerprints}
        if bits:
            whole = fingerprint.upright(Image.open(path))
            apart.append((bits["phash"] ^ fingerprint.phash(whole)).bit_count())

    assert np.mean(apart) < 1
    assert max(apart) <= 8
