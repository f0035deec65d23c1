import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from curate.simulated import WorldSpec, build_world
from pipelines.cli import NO_TORCH, NOT_YET, app
from pipelines.commands.telling import SIMULATED

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "duckdb", "pyarrow", "numpy", "PIL", "sklearn", "requests", "label_studio_sdk")
POLICY = """
name = "tiny"
simulated = true
exports = ["world/exports/reddit/*", "world/exports/x/*"]
[platforms.reddit]
role = "train"
[platforms.x]
role = "held-out"
[fetch.mirrors]
{mirrors}
[labeling]
imports = ["world/annotations.json"]
image_base_url = "http://127.0.0.1:9/media"
[split]
test_fraction = 0.25
val_fraction = 0.35
[gates]
shortcut_auc = 0.97
[train]
detector = "tiny-ladeda"
size = 64
crop = 56
batch = 8
epochs = 1
device = "cpu"
"""
ALL_VERBS = dict(typer.main.get_command(app).commands)
VERBS = {name: verb for name, verb in ALL_VERBS.items() if not verb.hidden and name != "label"}
VERBS |= {f"label {name}": verb for name, verb in ALL_VERBS["label"].commands.items()}


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_of_itself(wildrf, verb):
    answer = wildrf(*verb.split(), "-h")

    assert answer.code == 0
    assert re.search(rf"Example: .*wildrf {verb}\b", answer.out)
    assert "--json" in answer.out


@pytest.mark.parametrize("words", [["-h"], ["label", "-h"]])
def test_the_list_of_verbs_cuts_no_sentence(wildrf, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    assert "..." not in wildrf(*words).out.replace("ARGS]...", "")


@pytest.mark.parametrize("words", [[], ["label"]])
def test_no_verb_shows_the_help_on_stderr_and_is_a_usage_error(wildrf, words):
    answer = wildrf(*words)

    assert (answer.code, answer.out) == (2, "")
    assert "Commands:" in answer.err


def test_the_version_is_said_alone(wildrf):
    answer = wildrf("--version")

    assert answer.code == 0
    assert re.fullmatch(r"wildrf \d+\.\d+\.\d+\n", answer.out)


def test_help_comes_in_under_half_a_second():
    def seconds():
        """Of the processor's, which do not tell what else the machine does; nothing is waited for."""
        began = processor_time()
        subprocess.run(
            [sys.executable, "-c", "from pipelines.cli import main; main(['--help'])"],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        return processor_time() - began

    def processor_time():
        of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return of_children.ru_utime + of_children.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom pipelines.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stderr == "[]\n"


DETECTOR_VERBS = {
    "train": "{set} --out {new}",
    "distill": "{ckpt} --data {set} --out {new}",
    "import-ckpt": "{ckpt} --out {new}",
    "evaluate": "{ckpt} {set}",
    "calibrate": "{ckpt} {set}",
    "compare": "{ckpt} {ckpt}2",
    "matrix": "{ckpt}",
    "predict": "{ckpt} {set}",
    "stress": "{ckpt} {set}",
    "explain": "{ckpt} {set} --out {new}",
    "export-onnx": "{ckpt} --out {new}",
    "parity": "{ckpt} {set}",
    "cases": "{ckpt} {set}",
}
"""Verbs that need the extra `train`, with arguments that get as far as that."""

WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Absent())
from pipelines.cli import main
for line in sys.stdin:
    try:
        main(line.split())
    except SystemExit as end:
        print(end.code, flush=True)
"""


def test_without_torch_each_verb_that_needs_it_says_what_to_install(tmp_path):
    for name in ("ckpt", "ckpt2"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "set/0_real").mkdir(parents=True)
    (tmp_path / "set/0_real/a.jpg").write_bytes(b"")
    places = {"ckpt": tmp_path / "ckpt", "set": tmp_path / "set", "new": tmp_path / "new"}
    lines = [f"{verb} {words.format(**places)}\n" for verb, words in DETECTOR_VERBS.items()]

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=ROOT, input="".join(lines), capture_output=True, text=True,
    )  # fmt: skip

    told = done.stderr.splitlines()
    assert told == [f"error: {NO_TORCH}"] * len(lines)
    assert done.stdout.split() == ["2"] * len(lines)
    row = re.search(r"^\| `train` \| .* \|$", (ROOT / "README.md").read_text(), re.MULTILINE)[0]
    assert {*DETECTOR_VERBS, "run", "demo"} == {*re.findall(r"`([\w-]+)`", row)}


@pytest.mark.parametrize("verb", NOT_YET)
def test_a_verb_that_is_still_to_come_says_so_and_is_not_listed(wildrf, verb):
    answer = wildrf(verb, "v1", "--as", "v2", "--json")

    assert (answer.code, answer.out) == (2, "")
    assert f"`wildrf {verb}` is not yet here" in answer.err
    assert not re.search(rf"^ +{verb}\b", wildrf("-h").out, re.MULTILINE)


# The JSON of every verb, on a simulated world that goes through all stages


@pytest.fixture(scope="session")
def grown(wildrf, tmp_path_factory):
    """A workspace grown from a simulated world, and what each verb answered on the way."""
    root = tmp_path_factory.mktemp("grown") / "set"
    told = {"init": wildrf("init", root, "--json")}
    (root / "secret.key").write_text("5" * 64)  # which authors are on which side is a matter of it
    spec = WorldSpec(images=80, min_side=96, max_side=128, reddit_share=0.7)
    world = build_world(root / "world", spec)
    mirrors = "\n".join(f'"{h.name}" = "world/media/{h.name}"' for h in world.media.iterdir())
    mirrors = mirrors.replace("world/media", str(world.media))
    (root / "wildrf.toml").write_text(POLICY.format(mirrors=mirrors))

    def do(verb, *arguments, name=None):
        told[name or verb] = wildrf(*verb.split(), *arguments, "--workspace", root, "--json")

    do("collect", *world.exports)
    do("collect", world.exports[0], name="collect one")
    do("fetch")
    do("probe", "--workers", 1)
    do("dedupe", "--workers", 1)
    do("label export", root / "tasks.json")
    do("label import", world.annotations)
    do("label status")
    do("split", "v1")
    do("check", "--release", "v1")
    do("audit", "--release", "v1", name="audit early")
    do("release", "v1")
    do("audit", "--release", "v1")
    do("sql", "SELECT digest, path FROM release_item WHERE split IS NOT NULL ORDER BY path")
    do("why", json.loads(told["sql"].out)[0]["digest"][:20])
    do("run", "--dry-run")
    do("doctor")
    do("forget", "--author", "reddit/nobody", "--dry-run")
    told["collectors"] = wildrf("collectors", "--json")
    release, run = root / "releases" / "v1", root / "runs" / "t"
    cheap = ["--epochs", 1, "--device", "cpu"]
    told["train"] = wildrf("train", release, "--out", run, "--workspace", root, "--json")
    told["distill"] = wildrf("distill", run, "--out", root / "runs" / "d", *cheap, "--json")
    for name, judged in (("evaluate small", root / "runs" / "d"), ("evaluate", run)):
        out = ["--out", judged / "evaluation", "--device", "cpu", "--draws", 100]
        told[name] = wildrf("evaluate", judged, release, *out, "--json")
    told["compare"] = wildrf("compare", run, root / "runs" / "d", "--json")
    told["matrix"] = wildrf("matrix", run, root / "runs" / "d", "--json")
    told["predict"] = wildrf("predict", run, release / "val", "--device", "cpu", "--json")
    few = ["--test", "jpeg-fakes", "--max-images", 12, "--device", "cpu"]
    told["stress"] = wildrf("stress", run, release, *few, "--json")
    maps = ["--out", root / "maps", "--max-images", 2, "--device", "cpu"]
    told["explain"] = wildrf("explain", run, release / "val", *maps, "--json")
    small, exported = root / "runs" / "d", root / "d.onnx"
    weights = torch.load(small / "checkpoint.pt", weights_only=True)["weights"]
    torch.save(weights, root / "bare.pth")
    imported = ["import-ckpt", root / "bare.pth", "--out", root / "bare.pt", "--json"]
    told["import-ckpt"] = wildrf(*imported)
    told["export-onnx"] = wildrf("export-onnx", small, "--out", exported, "--json")
    told["parity"] = wildrf("parity", small, exported, release / "val", "--json")
    known = next((release / "val").rglob("*.jpg"))
    (root / "cases.csv").write_text(f"path,expected\n{known},fake\n")
    told["cases"] = wildrf("cases", small, root / "cases.csv", "--json")
    told["probe folder"] = wildrf("probe", release / "val", "--workers", 1, "--json")
    copies = root / "copies.html"
    told["dedupe folder"] = wildrf("dedupe", release, "--report", copies, "--workers", 1, "--json")
    told["check folder"] = wildrf("check", release, "--workers", 1, "--json")
    page = root / "folder.html"
    told["audit folder"] = wildrf("audit", release, "--report", page, "--workers", 1, "--json")
    return root, told


CONTRACT = {
    "init": {"workspace"},
    "doctor": {"checks"},
    "collect": {"platform", "format", "posts", "media", "skipped", "complete"},
    "collect one": {"platform", "format", "posts", "media", "skipped", "complete"},
    "fetch": {"ok", "failed", "bytes"},
    "probe": {"images"},
    "dedupe": {"images", "matches", "groups"},
    "dedupe folder": {"images", "matches", "groups"},
    "label export": {"tasks", "annotations"},
    "label import": {"tasks", "annotations"},
    "label status": {"tasks", "annotations"},
    "split": {"release", "counts", "dropped"},
    "check": {"clean", "leaks", "counts"},
    "check folder": {"clean", "leaks", "counts", "ignored", "broken"},
    "audit": {"verdict", "probe", "features", "floors", "by_split", "report"},
    "audit folder": {"verdict", "probe", "features", "floors", "by_split", "report", "ignored"},
    "release": {"path", "images", "root_hash"},
    "why": {"digest", "image", "posts", "evidence", "annotations", "matches", "releases", "scores"},
    "forget": {"ok", "posts", "media", "images", "files", "tombstones", "releases"},
    "train": {"checkpoint", "val", "epochs", "seconds"},
    "distill": {"checkpoint", "val", "epochs", "seconds"},
    "evaluate": {"platforms", "mean", "groups", "slices", "matched", "leaks", "report"},
    "compare": {"images", "runs", "comparisons"},
    "matrix": {"platforms", "rows"},
    "stress": {"checkpoint", "preprocessing", "data", "parameters", "versions", "tests", "report"},
    "explain": {"checkpoint", "images", "patches", "smoothness", "limit", "versions", "report"},
    "import-ckpt": {"checkpoint", "sha256", "detector", "preprocessing"},
    "export-onnx": {"path"},
    "parity": {"same", "tolerance", "largest", "rows", "skipped"},
    "cases": {"n", "right", "cases", "table"},
    "run": {"stages"},
}
"""The minimum keys, from the contract of the commands."""


@pytest.mark.parametrize("verb", CONTRACT)
def test_json_is_one_document_with_the_promised_keys(grown, verb):
    answer = grown[1][verb]

    assert answer.code in (
        (0, 1) if verb.split()[0] in ("audit", "doctor", "check", "cases") else (0,)
    ), answer.err
    assert CONTRACT[verb] <= set(json.loads(answer.out))


@pytest.mark.parametrize("verb", CONTRACT)
def test_stderr_is_for_people_and_never_holds_the_document(grown, verb):
    assert "{" not in grown[1][verb].err
    assert "Traceback" not in grown[1][verb].err


SHOWING = (
    "check", "check folder", "audit", "audit folder", "dedupe", "dedupe folder", "train", "distill",
    "evaluate", "compare", "matrix", "stress", "explain",
)  # fmt: skip
"""Verbs whose numbers could be taken for those of real images."""


@pytest.mark.parametrize("verb", SHOWING)
def test_what_is_measured_on_simulated_images_says_so_and_so_does_its_page(grown, verb):
    result = json.loads(grown[1][verb].out)

    assert result["simulated"] is True
    if result.get("report"):
        assert "Simulated data." in Path(result["report"]).read_text(encoding="utf-8")


def test_a_release_and_a_run_that_are_taken_elsewhere_still_say_that_they_are_simulated(
    grown, wildrf, tmp_path
):
    release = shutil.copytree(grown[0] / "releases/v1", tmp_path / "somewhere")
    run = shutil.copytree(grown[0] / "runs/d", tmp_path / "some-run")
    page = tmp_path / "matrix.html"

    checked = wildrf("check", release, "--workers", 1)
    shown = wildrf("matrix", run, "--report", page)

    for answer in (checked, shown):
        assert SIMULATED in answer.err.splitlines()
    assert "Simulated data." in page.read_text()
    assert "Simulated data." in (release / "README.md").read_text()


def test_every_answer_of_the_contract_has_a_test(grown):
    untested = set(VERBS) - set(grown[1]) - {
        "demo", "capture", "label push", "label pull",
        "calibrate",  # it takes more val images than this world has: see test_evaluation
    }  # fmt: skip

    assert not untested  # the first four need a server, or minutes


def test_parts_of_the_answers_are_as_promised(grown):
    said = {verb: json.loads(grown[1][verb].out) for verb in CONTRACT}

    assert all({"name", "ok", "detail"} <= set(check) for check in said["doctor"]["checks"])
    assert {"auc", "low", "high"} <= set(said["audit"]["probe"])
    assert all({"name", "auc", "low", "high"} <= set(f) for f in said["audit"]["features"])
    assert all({"a", "b", "kind", "distance"} <= set(m) for m in said["dedupe"]["matches"])
    assert all(
        set(c) <= {"0_real", "1_fake"} for s in said["split"]["counts"].values() for c in s.values()
    )
    for platform in said["evaluate"]["platforms"].values():
        assert {"n", "acc", "ap", "auc", "tpr_at_fpr", "ci"} <= set(platform)
    assert said["collect one"]["platform"] == "reddit"
    assert said["collect"]["platform"] == ["reddit", "x"]


def test_collectors_is_a_list_of_platforms(grown):
    rows = json.loads(grown[1]["collectors"].out)

    assert {"reddit", "x"} <= {row["name"] for row in rows}
    assert all({"name", "formats", "example"} <= set(row) for row in rows)


def test_probe_of_a_path_is_json_lines_without_a_workspace(grown):
    rows = [json.loads(line) for line in grown[1]["probe folder"].out.splitlines()]

    assert len(rows) > 2
    for row in rows:
        assert {
            "path", "sha256", "format", "width", "height", "bytes", "jpeg", "provenance", "error",
        } <= set(row)  # fmt: skip
        assert row["jpeg"] is None or {
            "family", "quality_luma", "quality_chroma", "exact", "quality", "subsampling",
            "progressive", "dqt_hash",
        } <= set(row["jpeg"])  # fmt: skip


def test_predict_is_json_lines(grown):
    rows = [json.loads(line) for line in grown[1]["predict"].out.splitlines()]

    assert len(rows) > 2
    assert all({"path", "logit", "score"} <= set(row) for row in rows)


def test_sql_gives_rows(grown):
    rows = json.loads(grown[1]["sql"].out)

    assert rows
    assert all(set(row) == {"digest", "path"} for row in rows)


# What people read


def test_without_json_stdout_stays_empty(grown, wildrf):
    root, _ = grown
    verbs = (["label", "status"], ["doctor"], ["check", "--release", "v1"], ["dedupe"])
    answers = [wildrf(*verb, "--workspace", root) for verb in verbs]

    assert {a.out for a in answers} == {""}
    assert all(a.err for a in answers)


def test_the_workspace_may_stand_before_or_after_the_verb_or_above_the_current_folder(
    grown, wildrf, monkeypatch
):
    root, _ = grown
    inside = root / "world"
    monkeypatch.chdir(inside)

    before = wildrf("--workspace", root, "label", "status", "--json")
    after = wildrf("label", "status", "--workspace", root, "--json")
    around = wildrf("label", "status", "--json")

    assert before == after == around
    assert before.code == 0


def test_why_tells_one_fact_a_line_with_short_digests(grown, wildrf):
    root, told = grown
    digest = json.loads(told["sql"].out)[0]["digest"]

    said = wildrf("why", digest[:20], "--workspace", root).err.splitlines()

    assert said[0] == f"image {digest}"
    assert not [
        line for line in said[1:] if re.search(r"[0-9a-f]{32}", line) and "http" not in line
    ]
    assert max(len(line) for line in said) < 200
    assert {"posts", "label"} <= {line.split()[0].rstrip(":") for line in said}


def test_a_release_is_judged_by_its_own_policy_and_an_option_wins(grown, wildrf):
    root, told = grown
    audit = ["audit", "--release", "v1", "--workspace", root, "--json"]

    assert json.loads(told["audit"].out)["gate"] == 0.97
    assert json.loads(wildrf(*audit, "--gate", "0.7").out)["gate"] == 0.7
    assert json.loads(told["audit folder"].out)["gate"] == 0.6


def test_the_page_of_a_release_goes_into_the_workspace_and_none_is_claimed_before_it_is_written(
    grown,
):
    root, told = grown

    assert json.loads(told["audit early"].out)["report"] is None
    assert json.loads(told["audit"].out)["report"] == str(root / "audit-v1.html")
    assert (root / "audit-v1.html").is_file()
    assert json.loads(told["audit folder"].out)["report"] == str(root / "folder.html")


def test_a_gate_that_says_no_ends_with_1_after_the_whole_answer(grown, wildrf):
    root, _ = grown

    answer = wildrf("audit", "--release", "v1", "--gate", "0.5", "--workspace", root, "--json")

    assert answer.code == (0 if json.loads(answer.out)["verdict"] == "clean" else 1)


def leaking(root):
    """A set with one picture on both sides, a text file, and an image outside the label folders."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for place in ("train/0_real", "train/1_fake", "test/x/0_real", "test/x/1_fake", "loose"):
        (root / place).mkdir(parents=True)
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(root / place / "a.png")
    (root / "test/x/0_real/b.png").write_bytes((root / "train/0_real/a.png").read_bytes())
    (root / "test/x/0_real/cut.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "notes.txt").write_text("hello")
    return root


def test_check_finds_a_leak_and_says_what_it_passed_over(wildrf, tmp_path):
    root = leaking(tmp_path / "set")

    told = wildrf("check", root, "--workers", 1)
    answer = wildrf("check", root, "--workers", 1, "--json")

    assert told.code == answer.code == 1
    found = json.loads(answer.out)
    assert (found["clean"], found["ignored"], found["unplaced"]) == (False, {".txt": 1}, 1)
    assert found["broken"] == 1
    assert "1 files that are no images were ignored: 1 .txt" in told.err
    assert "1 images lie under no label's folder" in told.err


def test_a_leak_that_stops_a_run_is_in_its_document(wildrf, tmp_path, monkeypatch):
    from curate.work import Serial, Silent
    from pipelines import judge, whole_run

    wildrf("init", tmp_path / "mine")
    place = leaking(tmp_path / "set")
    found = judge.survey_folder(place, Serial(), Silent())
    stages = (
        whole_run.Stage("check", "looks", lambda _: judge.check(found, distance_bits=8)),
        whole_run.Stage("release", "writes", lambda _: pytest.fail("a leak stops the run")),
    )
    monkeypatch.setattr(whole_run, "STAGES", stages)

    answer = wildrf("run", "--workspace", tmp_path / "mine", "--json")

    assert answer.code == 1
    result = json.loads(answer.out)
    assert [(s["name"], s["clean"]) for s in result["stages"]] == [("check", False)]
    assert result["stopped"].startswith("the splits leak; expected no leak")
    assert result["stopped"] in answer.err.splitlines()
    assert result["passes"] is False


def test_a_reader_that_has_enough_is_no_error(grown):
    root, _ = grown
    command = f"{sys.executable} -c 'from pipelines.cli import main; main()' probe {root} --json"
    done = subprocess.run(
        ["bash", "-c", f"{command} --workers 1 | head -n 1; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_error(closed):
    command = f"{sys.executable} -c 'from pipelines.cli import main; main()' collectors --json"
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], cwd=ROOT, capture_output=True)

    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_names_with_newlines_and_bytes_that_are_no_text_survive(wildrf, tmp_path):
    names = [b"new\nline.jpg", b"\xff.jpg", "ünï.jpg".encode(), b"-v.jpg", b"\x1b[31m.jpg"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"\xff\xd8\xff")

    answer = wildrf("probe", tmp_path, "--json")
    told = wildrf("probe", tmp_path)

    paths = {os.fsencode(json.loads(line)["path"]) for line in answer.out.splitlines()}
    assert paths == {os.fsencode(tmp_path) + b"/" + name for name in names}
    answer.out.encode("utf-8")
    assert len(told.err.splitlines()) == len(names)
    assert "\x1b" not in told.err


def test_a_picture_posted_by_two_authors_is_released_as_the_posting_of_its_own_side(grown, wildrf):
    root, told = grown
    question = (
        "SELECT r.digest, r.split, o.author FROM release_item r "
        "JOIN post o ON o.platform = r.platform AND o.post_id = r.post_id WHERE r.split <> 'test'"
    )
    rows = json.loads(wildrf("sql", question, "--workspace", root, "--json").out)
    sides = {}
    for row in rows:
        sides.setdefault(row["author"], set()).add(row["split"])

    assert len(rows) > 10
    assert all(len(found) == 1 for found in sides.values())
    assert not [k for k in json.loads(told["check"].out)["leaks"] if k["kind"] == "author"]
    assert not [k for k in json.loads(told["check folder"].out)["leaks"] if k["kind"] == "author"]
