"""Whatever is handed in, the answer is one line that says what to do, exit code 2, and no traceback."""

import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from curate.catalog import Catalog
from pipelines import cli

ROOT = Path(__file__).resolve().parents[2]


class RunsCode:
    """What a hostile checkpoint would hold."""

    def __reduce__(self):
        return os.system, ("touch PWNED",)


def png(width, height):
    """A black PNG of any size in few bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" * (width // 8 + 1)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of everything that can go wrong."""
    root = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    (root / "text.zip").write_text("hello")
    (root / "broken.jsonl").write_text('{"id": 1\n{broken\nno json\n')
    (root / "empty.json").touch()
    (root / "page.html").write_text("<!DOCTYPE html><html><body>Log in</body></html>")
    (root / "blob.pt").write_bytes(rng.bytes(5000))
    (root / "empty.pt").touch()
    (root / "code.pt").write_bytes(pickle.dumps(RunsCode()))
    (root / "empty").mkdir()
    (root / "plain").mkdir()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(root / "plain/a.png")
    (root / "link.toml").symlink_to("link.toml")
    return root


@pytest.fixture(scope="module")
def workspace(wildrf, tmp_path_factory):
    """An empty workspace, never changed."""
    root = tmp_path_factory.mktemp("workspace") / "set"
    assert wildrf("init", root).code == 0
    return root


@pytest.fixture
def fresh(wildrf, tmp_path):
    """An empty workspace to break."""
    root = tmp_path / "set"
    assert wildrf("init", root).code == 0
    return root


def refused(answer, *words, code=2):
    """`answer` is one line with all of `words`, nothing on stdout."""
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    assert "this is a bug" not in answer.err
    for word in words:
        assert word in answer.err


NO_WORKSPACE = (
    "collect x.json", "fetch", "probe", "dedupe", "split v1", "check --release v1",
    "audit --release v1", "release v1", "why abcd", "sql x", "label push", "label pull",
    "label status", "label import x.json", "label export x.json", "run", "run --dry-run",
)  # fmt: skip


@pytest.mark.parametrize("words", NO_WORKSPACE)
def test_no_workspace_is_told_with_the_way_to_make_one(wildrf, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    refused(wildrf(*words.split(), "--json"), "no wildrf.toml", "wildrf init DIR")
    refused(
        wildrf("--workspace", "nope", *words.split()), "nope is no workspace", "wildrf init nope"
    )
    assert list(tmp_path.iterdir()) == []


WITHOUT_WORKSPACE = {
    "init {bad}/text.zip": "is a file; expected a folder",
    "init {bad}/text.zip/x": "Not a directory",
    "init {workspace}": "already is a workspace",
    "probe {bad}/nope": "does not exist; expected an image or a folder",
    "probe {bad}/empty": "holds no image",
    "probe --workers 0 {bad}/plain": "--workers is 0; expected 1 or more; leave it out for one per core",
    "probe --workers x {bad}/plain": "Invalid value for '--workers'",
    "probe --engine spark {bad}/plain": "no engine 'spark'; expected local or dask; name one of them",
    "probe -dash": "No such option: -d",
    "dedupe {bad}/nope": "does not exist; expected a folder of images",
    "dedupe {bad}/text.zip": "is a file; expected a folder of images",
    "dedupe {bad}/empty": "holds no image",
    "dedupe {bad}/plain --distance 99": "'--distance'",
    "check": "name one of DIR and --release NAME",
    "check {bad}/plain --release v1": "name one of DIR and --release NAME",
    "check {bad}/nope": "is not a folder",
    "check {bad}/text.zip": "is not a folder",
    "check {bad}/empty": "none under a label's folder; expected leaves named 0_real and 1_fake",
    "check {bad}/plain": "none under a label's folder; expected leaves named 0_real and 1_fake",
    "audit {bad}/plain --report {tmp}/a.html": "none under a label's folder",
    "audit {bad}/plain --gate 2": "'--gate'",
    "audit {bad}/plain --report {bad}": "is a folder; expected a file name",
    "audit {bad}/plain --report {bad}/text.zip/a.html": "cannot be written",
    "train {bad}/plain": "Missing option '--out'",
    "train {bad}/nope --out {tmp}/r": "is not a folder",
    "train {bad}/plain --out {tmp}/r": "holds no image under 0_real or 1_fake",
    "train {bad}/plain --out {tmp}/r --detector resnet": "expected one of ladeda5, ladeda9",
    "train {bad}/plain --out {tmp}/r --epochs 0": "is 0; expected greater than 0; give such a value",
    "train {bad}/plain --out {tmp}/r --also {bad}/plain=0": "the weight above 0; mend the weight",
    "train {bad}/plain --out {tmp}/r --recipe slow": "expected paper or quick; name one of them",
    "train {bad}/plain --out {tmp}/r --device gpu": "expected auto, cpu, mps, cuda or cuda:N",
    "train {bad}/plain --out {tmp}/r --crop 999": "train.crop is 999",
    "distill {bad}/nope --out {tmp}/r": "does not exist; expected a checkpoint file",
    "distill {bad}/blob.pt --out {tmp}/r": "--data DIR",
    "evaluate {bad}/nope {bad}/plain": "or the folder of a finished run; check the path",
    "evaluate {bad}/plain {bad}/plain": "checkpoint.pt does not exist",
    "evaluate {bad}/blob.pt {bad}/plain": "cannot be read safely",
    "evaluate {bad}/plain": "found 1 places to evaluate; expected CKPT and DIR",
    "evaluate --scores {bad}/nope.csv {bad}/empty": "holds no image under 0_real or 1_fake",
    "evaluate --scores {bad}/text.zip {bad}/nope": "is not a folder",
    "evaluate {bad}/blob.pt {bad}/plain --draws 3": "'--draws'",
    "calibrate {bad}/nope {bad}/plain": "does not exist; expected a checkpoint file",
    "calibrate {bad}/blob.pt {bad}/plain": "cannot be read safely",
    "calibrate {bad}/blob.pt {bad}/plain --fpr 2": "'--fpr'",
    "compare {bad}/nope {bad}/plain": "holds no scores.parquet",
    "compare {bad}/text.zip {bad}/text.zip": "is named twice",
    "compare {bad}/text.zip {bad}/blob.pt": "cannot be read as Parquet",
    "matrix {bad}/plain": "holds no scores.parquet",
    "predict {bad}/blob.pt {bad}/plain": "cannot be read safely",
    "predict {bad}/code.pt {bad}/plain": "cannot be read safely",
    "predict {bad}/empty.pt {bad}/plain": "is not a readable torch file",
    "predict {bad}/text.zip {bad}/plain": "text.zip",
    "predict {bad}/code.pt {bad}/nope": "expected an image or a folder of images; check the path",
    "predict {bad}/code.pt": "Missing argument 'PATH...'",
    "demo {workspace} --images 40": "holds something that is no demo",
    "demo {tmp}/d --images 1": "'--images'",
    "doctor --workspace {bad}/nope": "is no workspace",
    "fetch --workspace {bad}/text.zip": "is no workspace",
    "nope": "No such command 'nope'. Try `wildrf -h`.",
    "label nope": "No such command 'nope'. Try `wildrf label -h`.",
}


@pytest.mark.parametrize("words", WITHOUT_WORKSPACE)
def test_a_bad_argument_is_one_line(wildrf, bad, workspace, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    filled = words.format(bad=bad, workspace=workspace, tmp=tmp_path).split()

    refused(wildrf(*filled, "--json"), WITHOUT_WORKSPACE[words])
    assert not (tmp_path / "PWNED").exists()
    assert not (tmp_path / "audit.html").exists()


IN_WORKSPACE = {
    "collect": "Missing argument 'EXPORT...'",
    "collect {bad}/nope": "does not exist; give the folder or file of an export",
    "collect {bad}/empty": "holds no files",
    "collect {bad}/empty.json": "is empty; download the export again",
    "collect {bad}/text.zip": "is named .zip but holds something else",
    "collect {bad}/broken.jsonl": "`wildrf collectors`",
    "collect {bad}/page.html": "is a web page",
    "collect {bad}/blob.pt": "is of no kind we read",
    "collect {bad}/plain": "`wildrf collectors`",
    "collect {bad}/broken.jsonl --platform myspace": "myspace",
    "split ../x": "cannot name a release",
    "check --release v9": "there is no release v9",
    "audit --release v9": "there is no release v9",
    "release v9": "there is no release v9; make one with `wildrf split v9`",
    "release v9 --format tar": "expected wildrf",
    "why xyz": "at least 4 digits",
    "why abcdef": "no image begins with abcdef",
    "label push": "there is no image to label",
    "label pull": "LABEL_STUDIO_API_KEY",
    "label import {bad}/nope": "cannot be read",
    "label import {bad}/empty.json": "it is empty",
    "label import {bad}/broken.jsonl": "is not JSON",
    "label import {bad}": "cannot be read",
    "label export {bad}": "cannot be written",
    "label export {bad}/text.zip/x.json": "cannot be written",
    "run": "names no exports",
}


@pytest.mark.parametrize("words", IN_WORKSPACE)
def test_a_bad_argument_in_a_workspace_is_one_line(wildrf, bad, workspace, monkeypatch, words):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    filled = words.format(bad=bad).split()

    refused(wildrf(*filled, "--workspace", workspace, "--json"), IN_WORKSPACE[words])


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("", "the statement is empty"),
        ("SELECT nope FROM post", "nope"),
        ("DROP TABLE post", "read-only"),
        ("COPY post TO '/tmp/x.csv'", "disabled"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled"),
        ("SELECT 1 AS a, 2 AS a", "two columns are named a"),
    ],
)
def test_sql_that_cannot_be_answered_is_one_line(wildrf, workspace, statement, said):
    refused(wildrf("sql", statement, "--workspace", workspace), said)


def test_a_label_studio_that_is_not_there_is_one_line(wildrf, fresh, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    policy = fresh / "wildrf.toml"
    policy.write_text('name = "x"\n[labeling]\nurl = "http://127.0.0.1:9"\n')

    refused(wildrf("label", "pull", "--workspace", fresh), "not reachable at http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'name = "x"\nfoo = 1\n', "line 2: unknown key foo"),
        (b'name = "x"\n[fetch]\nworkers = "many"\n', "line 3: fetch.workers is 'many'"),
        (b"[broken\n", "line 1"),
        (b"", "name is missing; add it"),
        (b"\xff\xfe", "expected UTF-8 text"),
    ],
)
def test_a_broken_policy_is_named_with_its_line_by_every_verb_and_by_doctor(
    wildrf, fresh, text, said
):
    (fresh / "wildrf.toml").write_bytes(text)

    refused(wildrf("fetch", "--workspace", fresh), "wildrf.toml", said)
    refused(wildrf("label", "status", "--workspace", fresh), "wildrf.toml", said)
    doctor = wildrf("doctor", "--workspace", fresh)
    assert doctor.code == 1
    assert said in doctor.err.splitlines()[-1]


@pytest.mark.parametrize("content", [None, "", "zz", "00" * 31])
def test_a_secret_that_is_gone_or_too_short_is_never_used(wildrf, fresh, content, tmp_path):
    secret = fresh / "secret.key"
    secret.unlink()
    if content is not None:
        secret.write_text(content)
    export = tmp_path / "listing.json"
    export.write_text('{"kind": "Listing", "data": {"after": null, "children": []}}')

    refused(wildrf("collect", export, "--workspace", fresh), "secret.key is missing or damaged")
    assert "FAIL secret" in wildrf("doctor", "--workspace", fresh).err


@pytest.mark.parametrize("damage", ["gone", "empty", "noise", "cut", "folder"])
def test_a_broken_catalog_is_one_line_for_every_verb_and_a_finding_of_doctor(wildrf, fresh, damage):
    catalog = fresh / "catalog.duckdb"
    whole = catalog.read_bytes()
    catalog.unlink()
    if damage == "folder":
        catalog.mkdir()
    elif damage != "gone":
        catalog.write_bytes({"empty": b"", "noise": os.urandom(9000), "cut": whole[:20000]}[damage])

    for verb in (["fetch"], ["sql", "SELECT 1"], ["label", "status"], ["why", "abcd"]):
        refused(wildrf(*verb, "--workspace", fresh), "catalog")
    assert "FAIL catalog" in wildrf("doctor", "--workspace", fresh).err


def test_a_catalog_held_by_another_process_is_told_after_the_patience(fresh):
    holder = (
        "import duckdb, sys; d = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    )
    path = fresh / "catalog.duckdb"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Exception, match=r"in use by another process for 0\.2 s"):
            Catalog(path, patience_s=0.2).counts()
    finally:
        process.communicate(b"\n")


def test_a_catalog_that_breaks_while_it_is_used_is_told_in_our_words(fresh):
    from schemas.errors import CatalogError

    def fill_the_disk():
        with Catalog(fresh / "catalog.duckdb").writing():
            raise duckdb.IOException("Could not write file: No space left on device")

    with pytest.raises(CatalogError, match="No space left on device; free space"):
        fill_the_disk()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("verb", ["collectors --json", "--help"])
def test_an_output_that_takes_no_more_is_one_line(verb):
    command = f"{sys.executable} -c 'from pipelines.cli import main; main()' {verb} > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr == "error: no space left on the disk; free some and run again\n"


def test_broken_pictures_are_rows_with_a_reason_and_no_error(wildrf, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(20000, 20000))
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    answer = wildrf("probe", tmp_path, "--workers", 1)

    assert answer.code == 0
    said = dict(line.split(": ", 1) for line in answer.err.splitlines())
    told = {Path(path).name: why for path, why in said.items()}
    assert "bomb: 20000 x 20000 pixels" in told["bomb.png"]
    assert "cannot be read" in told["loop.jpg"]
    assert told["empty.jpg"] == "empty file"
    assert told["page.jpg"] == "not an image format we know"
    assert "None" not in answer.err


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written_is_one_line(wildrf, tmp_path):
    tmp_path.chmod(0o500)

    refused(wildrf("init", tmp_path / "set"), "Permission denied")


def test_a_damaged_record_of_a_run_is_one_line(wildrf, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{cut")

    refused(wildrf("distill", tmp_path, "--out", tmp_path / "d"), "config.json is damaged")


def test_a_bug_is_one_line_too_and_shows_its_traceback_when_asked(wildrf, monkeypatch):
    def buggy():
        raise ZeroDivisionError("half\nof nothing")

    monkeypatch.setattr("pipelines.gather.collectors", buggy)
    monkeypatch.delenv("WILDRF_TRACEBACK", raising=False)

    answer = wildrf("collectors", "--json")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "error: internal: ZeroDivisionError: half of nothing; this is a bug, "
        "set WILDRF_TRACEBACK=1 to see where\n"
    )
    monkeypatch.setenv("WILDRF_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["collectors"])


def test_ctrl_c_ends_with_130_and_says_what_is_kept(wildrf, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.gather.collectors", interrupted)

    refused(wildrf("collectors"), "interrupted; what is done is kept", code=130)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may enter any folder"
)
@pytest.mark.parametrize("verb", ["check", "dedupe", "probe", "train --out {tmp}/r"])
def test_a_folder_inside_that_may_not_be_entered_is_told_and_not_passed_over(
    wildrf, tmp_path, verb
):
    closed = tmp_path / "set" / "train" / "0_real"
    closed.mkdir(parents=True)
    closed.chmod(0)
    words = verb.format(tmp=tmp_path).split()

    try:
        refused(wildrf(words[0], tmp_path / "set", *words[1:]), "0_real cannot be read")
    finally:
        closed.chmod(0o700)
