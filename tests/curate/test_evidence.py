"""Evidence in the catalog: what speaks for both labels is found, and trust can be given later."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from curate.migrations import STEPS, tell_conflicts
from curate.stages.probing import images_to_probe, probe_store
from curate.workspace import Workspace, create_workspace, open_workspace
from pipelines.why import explain, lines
from schemas.errors import InputError
from schemas.records import Evidence, Fetch

PROMPT = "a neighbour, Jane Q Doe\nSteps: 20, Sampler: Euler a, CFG scale: 7"


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return create_workspace(tmp_path / "set")


def photo(seed: int, *, camera: bool, prompt: bool) -> bytes:
    exif, info = Image.Exif(), PngInfo()
    if camera:
        exif[0x010F], exif[0x0110] = "Maker", "M1"
        exif.get_ifd(0x8769)[0x829A] = 0.01
    if prompt:
        info.add_text("parameters", PROMPT)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    picture = Image.fromarray(small).resize((64, 64))
    picture.save(out, "PNG", pnginfo=info, **({"exif": exif} if camera else {}))
    return out.getvalue()


def keep(workspace: Workspace, *contents: bytes) -> list[str]:
    digests = [workspace.store.put(content) for content in contents]
    workspace.catalog.add(
        "fetch",
        [Fetch("x", str(n), 0, 1, digest=d, failure=None) for n, d in enumerate(digests)],
    )
    return digests


def test_a_camera_and_a_prompt_in_one_file_are_a_conflict_and_others_are_none(workspace):
    both, *_ = keep(
        workspace,
        photo(1, camera=True, prompt=True),
        photo(2, camera=True, prompt=False),
        photo(3, camera=False, prompt=True),
        photo(4, camera=False, prompt=False),
    )
    probe_store(workspace)
    rows = workspace.catalog.rows("SELECT * FROM evidence_conflict")

    assert rows == [
        {
            "digest": both,
            "real": ["camera exif:Make,Model: Maker M1, with exposure"],
            "real_strength": 0.3,
            "fake": ["generator png:parameters: AUTOMATIC1111 or compatible"],
            "fake_strength": 0.95,
        }
    ]


def test_tags_conflict_too_and_what_speaks_for_neither_does_not(workspace):
    def row(kind: str, direction: str, strength: float = 0.5, digest: str = "a") -> Evidence:
        return Evidence(digest, kind, f"{kind} {direction}", direction, strength, "said", "t/0")

    workspace.catalog.add(
        "evidence",
        [
            row("tag", "fake"),
            row("camera", "real"),
            row("last-hop", "neither", 1.0),
            row("c2pa", "real", 0.0, "b"),
            row("tag", "fake", 0.5, "b"),
            row("tag", "fake", digest="c"),
            row("platform-trace", "neither", 0.0, "c"),
        ],
    )

    found = workspace.catalog.rows("SELECT digest FROM evidence_conflict")
    assert found == [{"digest": "a"}]


def test_why_tells_the_conflict_without_what_the_prompt_said(workspace):
    both, plain = keep(
        workspace,
        photo(1, camera=True, prompt=True),
        photo(2, camera=True, prompt=False),
    )
    probe_store(workspace)
    answer = explain(workspace, both)

    assert answer["conflict"] == {
        "real": ["camera exif:Make,Model: Maker M1, with exposure"],
        "fake": ["generator png:parameters: AUTOMATIC1111 or compatible"],
    }
    assert "Jane" not in json.dumps(answer, default=str)
    assert "conflict" in lines(answer)
    assert explain(workspace, plain)["conflict"] is None


def test_an_older_catalog_gets_the_view(workspace):
    with workspace.catalog.writing() as db:
        db.execute("DROP VIEW evidence_conflict")
        db.execute("DELETE FROM migration WHERE number > ?", [STEPS.index(tell_conflicts)])
    workspace.catalog.upgrade()

    assert workspace.catalog.rows("SELECT * FROM evidence_conflict") == []


def trusting(workspace: Workspace, path: str) -> Workspace:
    text = f'name = "set"\n[probe]\ntrust_anchors = "{path}"\n'
    (workspace.root / "wildrf.toml").write_text(text)
    return open_workspace(workspace.root)


def test_trust_that_is_given_later_has_signed_images_probed_again_and_no_others(workspace):
    signed = photo(1, camera=False, prompt=False)
    at = signed.index(b"IDAT") - 4
    signed = signed[:at] + b"\0\0\0\x04caBXjumb" + bytes(4) + signed[at:]
    first, second = keep(workspace, signed, photo(2, camera=False, prompt=False))
    probe_store(workspace)
    assert images_to_probe(workspace) == []

    (workspace.root / "trust.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    trusting_workspace = trusting(workspace, "trust.pem")

    assert images_to_probe(trusting_workspace) == [first]
    assert second != first
    probe_store(trusting_workspace)
    assert images_to_probe(trusting_workspace) == []


@pytest.mark.parametrize("content", [None, "", "hello", "é"])
def test_a_trust_list_without_a_certificate_is_an_error_of_one_line(workspace, content):
    keep(workspace, photo(1, camera=False, prompt=False))
    if content is not None:
        (workspace.root / "trust.pem").write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=r"found no certificate in .*trust\.pem; expected") as told:
        probe_store(trusting(workspace, "trust.pem"))
    assert "\n" not in str(told.value)
