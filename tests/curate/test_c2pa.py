"""Content credentials: found in every container, read without help, and each state kept apart.

Files are signed here with c2pa-python where that is installed; one signed picture lies in tests/data,
so that reading is tested without it.
"""

import contextlib
import datetime
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import libipld
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.probe import c2pa, cbor, examine, jpeg, jumbf
from curate.probe.c2pa import Relation, State, Statement
from curate.probe.provenance import SIGNED_SOURCE_TYPES, STATE_WEIGHTS
from schemas.records import Evidence

SIGNED = Path(__file__).parents[1] / "data" / "c2pa" / "generated.jpg"
TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
WHERE = {
    "JPEG": "jpeg:APP11",
    "PNG": "png:caBX",
    "WEBP": "webp:C2PA",
    "AVIF": "isobmff:uuid",
    "TIFF": "tiff:0xcd41",
    "GIF": "gif:C2PA_GIF",
}


def picture(format: str, size: tuple[int, int] = (96, 64)) -> bytes:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(out, format)
    return out.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4) + kind + body


def superbox(label: str, *parts: bytes, kind: bytes = b"c2ma") -> bytes:
    described = kind + bytes(12) + b"\3" + label.encode() + b"\0"
    return box(b"jumb", box(b"jumd", described) + b"".join(parts))


def claim_of(label: str, content: Mapping[str, Any]) -> bytes:
    return superbox(label, box(b"cbor", libipld.encode_dag_cbor(dict(content))), kind=b"cbor")


def action(name: str, source_type: str) -> dict[str, str]:
    return {"action": name, "digitalSourceType": TYPES + source_type}


def manifest(
    label: str,
    *actions: Mapping[str, Any],
    ingredients: tuple[tuple[str, str], ...] = (),
    kind: bytes = b"c2ma",
    program: str = "Tool",
) -> bytes:
    asserted = [claim_of("c2pa.actions.v2", {"actions": [dict(a) for a in actions]})]
    for number, (relationship, target) in enumerate(ingredients):
        link = {"url": f"self#jumbf=/c2pa/{target}", "hash": b"x"}
        content = {"relationship": relationship, "activeManifest": link, "title": "Jane Q Doe"}
        asserted.append(claim_of(f"c2pa.ingredient.v3__{number}", content))
    claim = claim_of("c2pa.claim.v2", {"claim_generator_info": {"name": program}})
    signature = superbox("c2pa.signature", box(b"cbor", b"\xd2\x84"), kind=b"c2cs")
    return superbox(label, superbox("c2pa.assertions", *asserted), claim, signature, kind=kind)


def store(*manifests: bytes) -> bytes:
    return superbox("c2pa", *manifests, kind=b"c2pa")


def segments(content: bytes, piece: int, number: int = 1) -> list[bytes]:
    """The bodies of APP11 segments after the identifier JP."""
    header, body = content[:8], content[8:]
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    return [number.to_bytes(2) + (n + 1).to_bytes(4) + header + p for n, p in enumerate(pieces)]


def jpeg_with(bodies: list[bytes]) -> bytes:
    data = picture("JPEG")
    added = (b"\xff\xeb" + (len(b) + 4).to_bytes(2) + b"JP" + b for b in bodies)
    return data[:2] + b"".join(added) + data[2:]


def types_of(credentials: c2pa.Credentials) -> set[tuple[str, str]]:
    return {(str(s.relation), s.source_type) for s in credentials.statements if s.source_type}


def test_a_store_in_many_segments_is_put_together_in_any_order():
    content = store(manifest("a", action("c2pa.created", "trainedAlgorithmicMedia")))
    other = box(b"jumb", box(b"jumd", b"json" + bytes(12) + b"\3c2pa-not\0"))
    pieces = segments(content, 50, number=7) + segments(other, 40, number=2)
    found = c2pa.find_jpeg(jpeg.read_header(jpeg_with(pieces[::-1])).payloads(11, b"JP"))

    assert len(pieces) > 6
    assert found == content


def test_segments_that_carry_other_boxes_are_no_credentials():
    other = box(b"jumb", box(b"jumd", b"json" + bytes(12) + b"\3jpeg360\0"))

    assert examine(jpeg_with(segments(other, 40))).evidence == ()


def test_what_went_into_a_picture_is_told_apart_from_how_it_was_made():
    generated = action("c2pa.created", "trainedAlgorithmicMedia")
    content = store(
        manifest("part", generated),
        manifest("prompt", action("c2pa.created", "digitalCapture")),
        manifest("before", generated, ingredients=(("inputTo", "prompt"),)),
        manifest(
            "now",
            {"action": "c2pa.opened"},
            action("c2pa.edited", "compositeWithTrainedAlgorithmicMedia"),
            ingredients=(("parentOf", "before"), ("componentOf", "part")),
        ),
    )

    assert types_of(c2pa.read("x", content)) == {
        ("changed", "compositeWithTrainedAlgorithmicMedia"),
        ("parent", "trainedAlgorithmicMedia"),
        ("component", "trainedAlgorithmicMedia"),
        ("input", "digitalCapture"),
    }


def test_an_update_manifest_is_about_the_same_picture():
    content = store(
        manifest("first", action("c2pa.created", "digitalCapture")),
        manifest("update", kind=b"c2um", ingredients=(("parentOf", "first"),)),
    )

    assert types_of(c2pa.read("x", content)) == {("made", "digitalCapture")}


def test_manifests_that_go_round_in_circles_end():
    content = store(
        manifest("a", action("c2pa.created", "print"), ingredients=(("parentOf", "b"),)),
        manifest("b", ingredients=(("parentOf", "a"), ("parentOf", "b"), ("parentOf", "gone"))),
    )

    assert types_of(c2pa.read("x", content)) == {("parent", "print")}


def test_a_capture_is_believed_less_the_less_its_manifest_was_checked():
    def strength(state: State, direction: str, name: str) -> float:
        base = SIGNED_SOURCE_TYPES[name]
        assert base[0] == direction
        return base[1] * STATE_WEIGHTS[state][base[0]]

    order = (State.VALID, State.UNTRUSTED, State.PRESENT, State.INVALID)
    captured = [strength(s, "real", "digitalCapture") for s in order]
    generated = [strength(s, "fake", "trainedAlgorithmicMedia") for s in order]

    assert captured == sorted(captured, reverse=True)
    assert generated == sorted(generated, reverse=True)
    assert captured[1] < 0.5 < generated[3]
    assert captured[3] == 0


def test_a_store_that_says_nothing_is_present_and_no_more():
    for content in (b"", b"jumb", store(), store(superbox("empty"))):
        assert c2pa.read("x", content).state is State.PRESENT
        assert c2pa.read("x", content).statements == ()


def test_names_that_people_wrote_are_not_repeated():
    content = store(manifest("a", action("c2pa.created", "JaneQDoe"), program="Jane Q Doe ChatGPT"))
    examined = examine(jpeg_with(segments(content, 900)))

    assert "Jane" not in repr(examined.evidence)
    assert any(row.detail.startswith("OpenAI") for row in examined.evidence)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_cbor_is_read_as_the_dag_cbor_of_another_library_writes_it(value):
    assert cbor.decode(libipld.encode_dag_cbor(value)) == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("c0 74 32303133 2d30332d3231543230 3a30343a30305a", "2013-03-21T20:04:00Z"),
        ("9f 01 82 02 03 9f 04 05 ff ff", [1, [2, 3], [4, 5]]),
        ("bf 61 61 01 61 62 9f 02 03 ff ff", {"a": 1, "b": [2, 3]}),
        ("7f 65 7374726561 64 6d696e67 ff", "streaming"),
        ("5f 42 0102 43 030405 ff", b"\1\2\3\4\5"),
        ("f9 3c00", 1.0),
        ("fa 47c35000", 100000.0),
        ("f7", None),
        ("3b ffffffffffffffff", -(2**64)),
        ("d8 20 76 687474703a2f2f7777772e6578616d706c652e636f6d", "http://www.example.com"),
    ],
)
def test_the_examples_of_rfc_8949_are_read(content, value):
    assert cbor.decode(bytes.fromhex(content)) == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81" * 100_000,
        b"\xc0" * 100_000,
        b"\x9f" * 100_000,
        b"\x9f" + b"\x00" * 1_000_000 + b"\xff",
        b"\x1c",
        b"\x5f\x61a\xff",
        b"\xfc",
    ],
)
def test_cbor_that_promises_too_much_is_refused_at_once(content):
    began = time.process_time()
    with pytest.raises(cbor.Malformed):
        cbor.decode(content)

    assert time.process_time() - began < 1


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_no_bytes_make_the_reader_raise(data):
    content = store(manifest("a", action("c2pa.created", "print")))
    with contextlib.suppress(cbor.Malformed):
        cbor.decode(data)
    for broken in (data, content[:60] + data, content[:-20] + data, superbox("c2pa", data)):
        c2pa.read("x", broken)
        jumbf.superboxes(broken)
    c2pa.find_jpeg([data, data[::-1], content])
    c2pa.find_boxes(data)


def test_boxes_nested_without_end_and_boxes_without_number_cost_nothing():
    deep = b""
    for _ in range(3000):
        deep = superbox("c2pa", deep)
    many = superbox("c2pa", *(superbox("x") for _ in range(50_000)))
    began = time.process_time()
    for content in (deep, many, b"\0\0\0\x08jumb" * 200_000, b"\0\0\0\1jumb" + bytes(99)):
        c2pa.read("x", content)

    assert time.process_time() - began < 1


def test_a_really_signed_picture_is_read_without_the_library():
    data = SIGNED.read_bytes()
    found = c2pa.find_jpeg(jpeg.read_header(data).payloads(11, b"JP"))

    assert found is not None
    assert Statement(Relation.MADE, source_type="trainedAlgorithmicMedia") in (
        c2pa.read("jpeg:APP11", found).statements
    )
    rows = claims(examine(data).evidence)
    assert rows["jpeg:APP11/DigitalSourceType/trainedAlgorithmicMedia"].direction == "fake"


def test_without_the_library_a_manifest_is_present_and_not_checked(monkeypatch):
    monkeypatch.setattr(c2pa, "find_spec", lambda name: None)
    rows = claims(examine(SIGNED.read_bytes()).evidence)

    assert rows["jpeg:APP11"].detail == "present: not checked, c2pa-python is not installed"
    strength = rows["jpeg:APP11/DigitalSourceType/trainedAlgorithmicMedia"].strength
    assert 0.8 < strength < 0.9


def claims(rows: tuple[Evidence, ...]) -> dict[str, Evidence]:
    return {row.origin: row for row in rows if row.kind == "c2pa"}


@dataclass(frozen=True)
class Signer:
    """A certificate chain of our own, its key, and the root that others may trust."""

    chain: bytes
    key: bytes
    root: str
    chain_with_responder: Callable[[str], bytes]


@pytest.fixture(scope="module")
def signer() -> Signer:
    pytest.importorskip("c2pa", reason="needs c2pa-python, which is an extra")
    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root_id = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip

    def named(name: str) -> Any:
        parts = {x509.OID_COMMON_NAME: name, x509.OID_ORGANIZATION_NAME: "Test"}
        return x509.Name([x509.NameAttribute(k, v) for k, v in parts.items()])

    def certificate(name: str, key: Any, authority: bool, *extensions: Any) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=90))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    **usage,
                ),
                True,
            )
        )
        for extension in extensions:
            builder = builder.add_extension(extension, False)
        pem: bytes = builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return pem

    root = certificate("root", keys[0], True, root_id)

    def chain(*more: Any) -> bytes:
        leaf_id = x509.SubjectKeyIdentifier.from_public_key(keys[1].public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id)
        purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        return certificate("leaf", keys[1], False, leaf_id, issuer, purpose, *more) + root

    def chain_with_responder(url: str) -> bytes:
        place = x509.UniformResourceIdentifier(url)
        told = x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, place)
        return chain(x509.AuthorityInformationAccess([told]))

    secret = keys[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Signer(chain(), secret, root.decode(), chain_with_responder)


Sign = Callable[..., bytes]


@pytest.fixture(scope="module")
def sign(signer: Signer) -> Sign:
    """Signs a picture: (bytes, format, source type, a server to name) to bytes."""
    import c2pa as library

    def signed(data: bytes, format: str, source_type: str, place: str = "") -> bytes:
        chain = signer.chain_with_responder(place) if place else signer.chain
        info = library.C2paSignerInfo(library.C2paSigningAlg.ES256, chain, signer.key, None)
        made = {**action("c2pa.created", source_type), "softwareAgent": {"name": "GPT-4o"}}
        definition = {
            "claim_generator_info": [{"name": "A tool of Jane Q Doe", "version": "1"}],
            "title": "Jane Q Doe",
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
        }
        out = io.BytesIO()
        context = library.Context.from_dict({"verify": {"verify_after_sign": False}})
        with (
            library.Builder(json.dumps(definition), context) as builder,
            library.Signer.from_info(info) as key,
        ):
            if place:
                builder.set_remote_url(place)
            builder.sign(key, f"image/{format.lower()}", io.BytesIO(data), out)
        return out.getvalue()

    return signed


@pytest.mark.parametrize("format", WHERE)
def test_a_signature_that_holds_is_valid_only_with_a_trusted_signer(format, sign, signer):
    data = sign(picture(format), format, "trainedAlgorithmicMedia")
    origin = f"{WHERE[format]}/DigitalSourceType/trainedAlgorithmicMedia"

    untrusted, trusted = examine(data), examine(data, anchors=signer.root)

    assert claims(untrusted.evidence)[WHERE[format]].detail.startswith("untrusted: unchanged")
    assert claims(trusted.evidence)[WHERE[format]].detail.startswith("valid: unchanged")
    before, after = (claims(e.evidence)[origin] for e in (untrusted, trusted))
    assert (before.direction, after.direction) == ("fake", "fake")
    assert before.strength < after.strength == 0.99
    assert "Jane" not in repr(untrusted) + repr(trusted)


@pytest.mark.parametrize("format", WHERE)
def test_one_changed_bit_of_the_picture_makes_a_manifest_invalid(format, sign, signer):
    plain = picture(format)
    data = sign(plain, format, "digitalCapture")
    tail = plain[len(plain) // 2 :][:24]
    at = data.index(tail) + 12
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    rows = claims(examine(changed, anchors=signer.root).evidence)

    assert rows[WHERE[format]].detail.startswith("invalid: changed since it was signed (assertion.")
    captured = rows[f"{WHERE[format]}/DigitalSourceType/digitalCapture"]
    assert (captured.direction, captured.strength) == ("neither", 0.0)


def test_a_signed_capture_is_strong_only_from_a_trusted_signer(sign, signer):
    data = sign(picture("JPEG"), "JPEG", "digitalCapture")
    origin = "jpeg:APP11/DigitalSourceType/digitalCapture"
    before = claims(examine(data).evidence)[origin]
    after = claims(examine(data, anchors=signer.root).evidence)[origin]

    assert (before.direction, before.strength < 0.4) == ("real", True)
    assert (after.direction, after.strength) == ("real", 0.95)


def test_a_manifest_copied_to_another_picture_is_invalid(sign):
    signed = sign(picture("JPEG"), "JPEG", "digitalCapture")
    pieces = jpeg.read_header(signed).payloads(11, b"JP")
    stolen = jpeg_with(pieces)[:-2] + picture("JPEG", (64, 64))[-40:]

    assert claims(examine(stolen).evidence)["jpeg:APP11"].detail.startswith("invalid: ")


def test_a_damaged_store_is_invalid_and_nothing_raises(sign):
    signed = sign(picture("PNG"), "PNG", "trainedAlgorithmicMedia")
    at = signed.index(b"caBX") + 40
    for length in (1, 64, 400):
        broken = signed[:at] + bytes(length) + signed[at + length :]
        assert claims(examine(broken).evidence)["png:caBX"].detail.startswith("invalid: ")


class Counted(BaseHTTPRequestHandler):
    """Answers nothing and counts who asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_checking_asks_nobody_for_manifests_or_revocation(signer, sign):
    server = HTTPServer(("127.0.0.1", 0), Counted)
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
    data = sign(picture("JPEG"), "JPEG", "digitalCapture", place)
    rows = claims(examine(data, anchors=signer.root).evidence)
    server.shutdown()
    server.server_close()

    assert place.encode() in data
    assert rows["jpeg:APP11"].detail.startswith("valid: ")
    assert rows["xmp:provenance"].detail.startswith("present elsewhere")
    assert Counted.asked == []


@given(st.binary(max_size=64), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_no_bytes_in_a_signed_file_make_the_check_raise(data, at):
    signed = SIGNED.read_bytes()
    at %= len(signed)

    examine(signed[:at] + data + signed[at + len(data) :])
