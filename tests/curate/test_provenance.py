"""What files claim of their origin: marks of programs, cameras and platforms, and nothing personal."""

import gzip
import io
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from curate.probe import examine, heif, iptc, xmp
from curate.probe.provenance import PARAMETERS, SOURCE_TYPES
from schemas.records import Evidence

INFOTEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
PACKET = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
SECRETS = ("Jane Q Doe", "jane@example.org", "51 deg 30", "a portrait of my neighbour")


def scene(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).convert(mode)


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or scene()).save(out, format, **options)
    return out.getvalue()


def jpeg_with(*segments: tuple[int, bytes], data: bytes | None = None) -> bytes:
    data = data or encoded("JPEG")
    added = (bytes([0xFF, m]) + (len(b) + 2).to_bytes(2) + b for m, b in segments)
    return data[:2] + b"".join(added) + data[2:]


def png_text(**texts: str) -> bytes:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    return encoded("PNG", pnginfo=info)


def packet(properties: str, *, inside: str = "") -> bytes:
    spaces = {
        "x": "adobe:ns:meta/",
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "ps": "http://ns.adobe.com/photoshop/1.0/",
        "dc": "http://purl.org/dc/elements/1.1/",
        "dct": "http://purl.org/dc/terms/",
        "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    }
    names = " ".join(f'xmlns:{k}="{v}"' for k, v in spaces.items())
    return (
        f"<x:xmpmeta {names}><rdf:RDF><rdf:Description {properties}>{inside}</rdf:Description>"
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def uri(name: str) -> str:
    return f"http://cv.iptc.org/newscodes/digitalsourcetype/{name}"


def rows(data: bytes) -> dict[tuple[str, str], tuple[str, str]]:
    return {(r.kind, r.origin): (r.direction, r.detail) for r in examine(data).evidence}


def exif_with(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    numbers = {"description": 0x010E, "make": 0x010F, "model": 0x0110, "software": 0x0131}
    numbers |= {"artist": 0x013B, "copyright": 0x8298, "xp_comment": 0x9C9C, "xp_author": 0x9C9D}
    photo = {"comment": 0x9286, "maker_note": 0x927C, "exposure": 0x829A, "owner": 0xA430}
    for name, value in tags.items():
        target = exif if name in numbers else exif.get_ifd(0x8769)
        target[numbers.get(name) or photo[name]] = value
    return exif


@pytest.mark.parametrize(
    ("key", "value", "generator"),
    [
        ("parameters", INFOTEXT, "AUTOMATIC1111 or compatible"),
        ("parameters", INFOTEXT + ", Version: f2.0.1v1.10.1", "Forge"),
        ("parameters", INFOTEXT + ", App: SD.Next, Version: 1", "SD.Next"),
        ("parameters", INFOTEXT + ', Civitai resources: [{"type":"checkpoint"}]', "Civitai"),
        ("parameters", '{"sui_image_params": {"prompt": "x"}}', "SwarmUI"),
        ("parameters", '{"adm_guidance": "(1.5, 0.8, 0.3)"}', "Fooocus"),
        ("prompt", '{"3": {"class_type": "KSampler", "inputs": {}}}', "ComfyUI"),
        ("workflow", '{"last_node_id": 9, "nodes": []}', "ComfyUI"),
        ("invokeai_metadata", '{"app_version": "4.2"}', "InvokeAI"),
        ("invokeai_graph", '{"id": "x"}', "InvokeAI"),
        ("sd-metadata", '{"model": "stable diffusion"}', "InvokeAI"),
        ("Dream", '"a cat" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms', "InvokeAI"),
        ("Comment", '{"steps": 28, "sampler": "k_euler", "uc": "bad"}', "NovelAI"),
        ("Software", "NovelAI", "NovelAI"),
        ("generation_data", '{"models": [], "prompt": "x"}', "Tensor.Art"),
        ("use_stable_diffusion_model", "sd-v1-4.ckpt", "Easy Diffusion"),
        (
            "Description",
            "a cat --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef",
            "Midjourney",
        ),
    ],
)
def test_a_generator_is_named_by_what_it_writes_into_png_text(key, value, generator):
    found = rows(png_text(**{key: value}))

    assert found[("generator", f"png:{key}")] == ("fake", generator)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Dream", "half-size, full-Size"),
        ("invokeai_metadata", "none"),
        ("Software", "a review of NovelAI"),
        ("Description", "Job ID: painter"),
        ("parameters", "Steps: one, two"),
        ("Comment", "my sampler is broken"),
        ("fooocus_scheme", "unknown"),
    ],
)
def test_words_that_only_look_like_parameters_are_no_claim(key, value):
    assert rows(png_text(**{key: value})) == {}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        ("comment", b"UNICODE\0" + INFOTEXT.encode("utf-16-be"), "UserComment"),
        ("comment", b"UNICODE\0" + INFOTEXT.encode("utf-16-le"), "UserComment"),
        ("comment", b"ASCII\0\0\0" + INFOTEXT.encode(), "UserComment"),
        ("description", INFOTEXT, "ImageDescription"),
        ("xp_comment", INFOTEXT.encode("utf-16-le"), "XPComment"),
    ],
)
def test_parameters_are_found_in_every_free_text_of_exif(format, tag, value, name):
    exif = exif_with(software="Tool", **{tag: value})  # alone in the photo's own tags PNG loses it
    found = rows(encoded(format, exif=exif))

    assert found == {("generator", f"exif:{name}"): ("fake", "AUTOMATIC1111 or compatible")}


def test_a_comfyui_workflow_in_make_and_model_is_no_camera():
    exif = exif_with(
        make='workflow:{"last_node_id": 9, "nodes": []}',
        model='prompt:{"1": {"inputs": {"text": "Jane Q Doe"}, "class_type": "X"}}',
    )
    examined = examine(encoded("WEBP", exif=exif))

    assert examined.image.camera_make is examined.image.camera_model is None
    assert {row.kind for row in examined.evidence} == {"generator"}
    assert {row.detail for row in examined.evidence} == {"ComfyUI"}


def test_parameters_are_found_in_comments_of_jpeg_and_gif():
    jpeg = jpeg_with((0xFE, INFOTEXT.encode()))

    assert ("generator", "jpeg:COM") in rows(jpeg)
    assert ("generator", "gif:comment") in rows(encoded("GIF", comment=INFOTEXT.encode()))


def hidden(text: str, mode: str, *, packed: bool) -> bytes:
    """A PNG with `text` in its lowest bits, as sd-webui-stealth-pnginfo lays it out."""
    body = gzip.compress(text.encode()) if packed else text.encode()
    mark = f"stealth_{'png' if mode == 'RGBA' else 'rgb'}{'comp' if packed else 'info'}".encode()
    message = mark + (8 * len(body)).to_bytes(4) + body
    pixels = np.asarray(scene(mode)).copy()
    bands = 1 if mode == "RGBA" else 3
    columns = pixels[..., -bands:].swapaxes(0, 1).copy()
    flat = columns.reshape(-1)
    bits = np.unpackbits(np.frombuffer(message, np.uint8))
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    pixels[..., -bands:] = columns.swapaxes(0, 1)
    return encoded("PNG", Image.fromarray(pixels))


@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (INFOTEXT, "AUTOMATIC1111 or compatible"),
        ('{"Software": "NovelAI", "Comment": "{}"}', "NovelAI"),
        ("nothing we know", "stealth PNG info"),
    ],
)
def test_hidden_parameters_name_their_generator(mode, packed, text, name):
    (found,) = rows(hidden(text, mode, packed=packed)).values()

    assert found == ("fake", name)


def test_a_hidden_length_beyond_the_picture_is_harmless():
    pixels = np.full((40, 40, 4), 255, np.uint8)
    mark = np.unpackbits(np.frombuffer(b"stealth_pngcomp\xff\xff\xff\xff", np.uint8))
    flat = np.full(1600, 254, np.uint8)
    flat[: len(mark)] |= mark
    pixels[..., 3] = flat.reshape(40, 40).T
    (found,) = rows(encoded("PNG", Image.fromarray(pixels))).values()

    assert found == ("fake", "stealth PNG info")


@pytest.mark.parametrize("name", SOURCE_TYPES)
def test_each_source_type_is_read_as_attribute_element_and_resource(name):
    written = (
        packet(f'ext:DigitalSourceType="{uri(name)}"'),
        packet("", inside=f"<ext:DigitalSourceType>{uri(name)}</ext:DigitalSourceType>"),
        packet("", inside=f'<ext:DigitalSourceType rdf:resource="{uri(name)}"/>'),
        packet(f'ext:DigitalSourceType="{name}"'),
    )
    for text in written:
        assert xmp.read([text]).source_types == [name]


def test_a_source_type_in_a_persons_sentence_is_no_claim():
    text = packet(f'dc:title="{uri("digitalCapture")}"', inside=uri("trainedAlgorithmicMedia"))

    assert rows(jpeg_with((0xE1, PACKET + text))) == {}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF"])
def test_xmp_is_read_in_every_container(format):
    text = packet(f'ext:DigitalSourceType="{uri("trainedAlgorithmicMedia")}"')
    if format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", text.decode(), zip=True)
        data = encoded("PNG", pnginfo=info)
    elif format == "GIF":
        plain, trailer = encoded("GIF"), bytes([1, *range(255, -1, -1), 0])
        at = 13 + 3 * 2 ** ((plain[10] & 7) + 1)
        data = plain[:at] + b"\x21\xff\x0bXMP DataXMP" + text + trailer + plain[at:]
    elif format == "TIFF":
        data = encoded("TIFF", tiffinfo={700: text})
    else:
        data = encoded(format, xmp=text)

    found = rows(data)
    assert found[("iptc", "xmp:DigitalSourceType/trainedAlgorithmicMedia")][0] == "fake"


def extension_segments(text: bytes, piece: int, guid: bytes | None = None) -> list[bytes]:
    guid = guid or xmp._md5(text)
    starts = range(0, len(text), piece)
    head = [EXTENSION + guid + len(text).to_bytes(4) + s.to_bytes(4) for s in starts]
    return [h + text[s : s + piece] for h, s in zip(head, starts, strict=True)]


def test_extended_xmp_is_put_together_in_any_order_and_only_whole():
    text = packet(f'ext:DigitalSourceType="{uri("digitalCapture")}"', inside=" " * 900)
    pieces = [(0xE1, body) for body in extension_segments(text, 200)]
    key = ("iptc", "xmp:DigitalSourceType/digitalCapture")

    assert key in rows(jpeg_with(*pieces))
    assert key in rows(jpeg_with(*reversed(pieces)))
    assert rows(jpeg_with(*pieces[1:])) == {}
    assert rows(jpeg_with(*[(0xE1, b) for b in extension_segments(text, 200, b"0" * 32)])) == {}


@pytest.mark.parametrize(
    "text",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + packet("", inside="&b;"),
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + packet(""),
        b"<a>" * 200_000,
        b"<x " + b"".join(b'a%d="" ' % n for n in range(50_000)) + b"/>",
        b"\xff\xfe" + "<x/>".encode("utf-16-le") * 9,
        b'<?xml version="1.0" encoding="rot13"?><x/>',
        b"\0" * 5_000_000,
        packet("", inside="<ext:DigitalSourceType>" + "<rdf:li>x</rdf:li>" * 50_000),
    ],
)
def test_hostile_xmp_gives_nothing_and_takes_no_time(text):
    began = time.process_time()

    assert xmp.read([text]).source_types == []
    assert time.process_time() - began < 2


def test_what_stood_before_the_damage_of_a_packet_counts():
    whole = packet(f'ext:DigitalSourceType="{uri("trainedAlgorithmicMedia")}"')

    assert xmp.read([whole[:-30]]).source_types == ["trainedAlgorithmicMedia"]


@given(st.binary(max_size=300))
def test_no_bytes_make_the_readers_of_metadata_raise(data):
    xmp.read([data, packet("")[:40] + data])
    iptc.read(data)
    iptc.read(b"8BIM\x04\x04\0\0\0\0\0\x20\x1c\x02" + data)
    heif.read(data)
    heif.read(b"\0\0\1\0meta\0\0\0\0\0\0\0\x40iinf" + data)
    xmp.extended([data, data * 3])


def iim(*fields: tuple[int, bytes], more: bytes = b"") -> bytes:
    body = b"".join(b"\x1c\x02" + bytes([n]) + len(v).to_bytes(2) + v for n, v in fields)
    padded = body + b"\0" * (len(body) & 1)
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(body).to_bytes(4) + padded + more


RESOLUTION = b"8BIM\x03\xed\0\0\0\0\0\x10" + bytes(16)


def test_platforms_blocks_are_platform_traces_and_an_editors_block_is_none():
    meta = iim((40, b"FBMD0a000a70010000"), (103, b"AbCdEf"))
    edited = iim((5, b"title"), more=RESOLUTION)
    for block, told in ((meta, "Meta"), (iim(), "a bare APP13 block")):
        ((kind, origin), (direction, detail)) = rows(jpeg_with((0xED, block))).popitem()
        assert (kind, origin, direction) == ("platform-trace", "jpeg:APP13", "neither")
        assert detail.startswith(told)

    assert rows(jpeg_with((0xED, edited))) == {}
    assert rows(jpeg_with((0xED, iim((40, b"please FBMD"), (5, b"x"))))) == {}


def test_the_structure_of_x_is_a_platform_trace_only_without_metadata():
    like_x = encoded("JPEG", quality=85, progressive=True, subsampling="4:2:0")
    key = ("platform-trace", "jpeg:structure")

    assert rows(like_x)[key][0] == "neither"
    for other in (
        encoded("JPEG", quality=85, subsampling="4:2:0"),
        encoded("JPEG", quality=84, progressive=True, subsampling="4:2:0"),
        encoded("JPEG", quality=85, progressive=True, subsampling="4:4:4"),
        jpeg_with((0xFE, b"a comment"), data=like_x),
    ):
        assert key not in rows(other)


@pytest.mark.parametrize("line", ["Made with Google AI", " made with google ai "])
def test_a_credit_that_a_tool_writes_is_a_claim_and_a_persons_is_not(line):
    assert rows(jpeg_with((0xE1, PACKET + packet(f'ps:Credit="{line}"')))) == {
        ("iptc", "xmp:Credit"): ("fake", "Made with Google AI")
    }
    assert ("iptc", "iptc:Credit") in rows(jpeg_with((0xED, iim((110, line.encode())))))
    assert rows(jpeg_with((0xE1, PACKET + packet('ps:Credit="not made with Google AI"')))) == {}


def test_the_creator_tool_of_xmp_may_be_a_generator():
    found = rows(jpeg_with((0xE1, PACKET + packet('xmp:CreatorTool="Adobe Firefly 3"'))))

    assert found == {("generator", "xmp:CreatorTool"): ("fake", "Adobe Firefly")}


def test_what_cameras_add_is_told_beside_the_camera():
    exif = exif_with(make="Apple", model="iPhone 15", exposure=0.01, maker_note=b"Apple iOS\0\0\1")
    mpf, gain = (0xE2, b"MPF\0MM\0*"), (0xE1, PACKET + packet('hdrgm:Version="1.0"'))
    found = rows(jpeg_with(mpf, gain, data=encoded("JPEG", exif=exif)))

    assert found[("camera", "exif:Make,Model")] == ("real", "Apple iPhone 15, with exposure")
    assert found[("camera-processing", "exif:MakerNote")] == ("real", "maker note")
    others = {o: d for (k, o), (d, _) in found.items() if o.startswith("file:")}
    assert set(others.values()) == {"neither"}
    assert len(others) == 2


def test_a_maker_note_without_a_camera_is_nothing():
    assert rows(encoded("JPEG", exif=exif_with(maker_note=b"fooocus"))) == {}


def test_exif_and_xmp_of_avif_are_read_from_its_boxes():
    text = packet(f'ext:DigitalSourceType="{uri("digitalCapture")}"')
    exif = exif_with(make="Maker", model="M1")
    items = heif.read(encoded("AVIF", exif=exif, xmp=text))

    assert items.xmp == text
    assert items.exif.endswith(exif.tobytes()[6:])


def test_iphone_photos_are_known_without_a_decoder(shared):
    found = [heif.read(p.read_bytes()) for p in (shared / "data").rglob("*.[hH][eE][iI][cC]")]
    if not found:
        pytest.skip("needs a HEIC file in ../shared/data")

    assert any(item.exif or item.xmp for item in found)


def personal_files() -> list[bytes]:
    """Files with personal text in every place that is read, marks of generators beside it."""
    name, mail, place, prompt = SECRETS
    words = f"{prompt}, {name}, {mail}, {place}"
    infotext = INFOTEXT.replace("a cat", words)
    exif = exif_with(
        description=words, artist=name, copyright=name, owner=name, make="Apple", model="iPhone",
        comment=b"ASCII\0\0\0" + infotext.encode(), xp_comment=infotext.encode("utf-16-le"),
        xp_author=name.encode("utf-16-le"),
    )  # fmt: skip
    exif.get_ifd(0x8825)[29] = place
    text = packet(
        f'ps:Credit="{name}" xmp:CreatorTool="{words}" dct:provenance="https://x.org/{name}"',
        inside=f"<dc:description><rdf:Alt><rdf:li>{infotext}</rdf:li></rdf:Alt></dc:description>"
        f"<ext:DigitalSourceType>{words}</ext:DigitalSourceType>"
        f"<dc:creator>{name}</dc:creator>",
    )
    block = iim(
        (80, name.encode()),
        (110, name.encode()),
        (65, words.encode()),
        (40, b"FBMD" + name.encode()),
    )
    jpeg = jpeg_with(
        (0xE1, PACKET + text), (0xED, block), (0xFE, infotext.encode()),
        *((0xE1, body) for body in extension_segments(text, 999)),
        data=encoded("JPEG", exif=exif),
    )  # fmt: skip
    keys = ("parameters", "Comment", "Description", "Author", "Title", "Dream", "sd-metadata")
    info = PngInfo()
    for key in keys:
        info.add_text(key, f'{{"{words}"}}\n{infotext}\n"{words}" -s 5 -S 6')
    info.add_itxt("XML:com.adobe.xmp", text.decode())
    return [
        jpeg,
        encoded("PNG", exif=exif, pnginfo=info),
        encoded("WEBP", exif=exif, xmp=text),
        encoded("AVIF", exif=exif, xmp=text),
        encoded("GIF", comment=infotext.encode()),
        hidden(infotext[:300], "RGBA", packed=True),
    ]


def test_nothing_personal_reaches_a_row():
    for data in personal_files():
        examined = examine(data)
        said = repr((examined.image, examined.evidence))

        assert examined.evidence
        for secret in SECRETS:
            assert secret not in said


def test_details_of_evidence_are_short(evidence_of: Callable[[bytes], tuple[Evidence, ...]]):
    for data in personal_files():
        assert all(len(row.detail) < 120 for row in evidence_of(data))


@pytest.fixture
def evidence_of() -> Callable[[bytes], tuple[Evidence, ...]]:
    return lambda data: examine(data).evidence


@pytest.mark.parametrize(
    "text",
    [
        "Steps: 1, " * 100_000,
        "Steps: 1, Sampler: " * 50_000,
        '" -s ' * 200_000,
        "Job ID: " * 100_000,
        '"class_type"' * 80_000,
    ],
)
def test_hostile_text_takes_no_time(text):
    began = time.process_time()
    for _, fits in PARAMETERS:
        fits(text)
    rows(png_text(parameters=text, Dream=text))

    assert time.process_time() - began < 2


def test_a_text_bomb_is_read_to_a_bound():
    packed = zlib.compress(b"Steps: 1, " * 10_000_000)
    body = b"parameters\0\0" + packed
    data = encoded("PNG")
    crc = zlib.crc32(b"zTXt" + body).to_bytes(4)
    began = time.process_time()
    rows(data[:33] + len(body).to_bytes(4) + b"zTXt" + body + crc + data[33:])

    assert time.process_time() - began < 2
