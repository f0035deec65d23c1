import hashlib
import io
import json
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from curate.simulated import World, WorldSpec, build_world, serve_media
from curate.simulated.annotations import choose
from curate.simulated.plan import plan_world, snowflake
from curate.simulated.spec import Annotator
from pipelines.engines import LocalPool
from schemas.errors import InputError
from schemas.labels import Choice, Label

SMALL = WorldSpec(seed=7, images=24, min_side=160, max_side=240)
NEAR_BITS = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("simulated"), SMALL)


def copies_of(world: World) -> list[dict]:
    return [c for p in world.truth["pictures"].values() for c in p["copies"]]


def image_at(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def tree_digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_spec_gives_the_same_bytes_whatever_the_number_of_processes(world, tmp_path):
    with LocalPool(2) as pool:
        again = build_world(tmp_path / "again", SMALL, engine=pool)

    assert tree_digests(again.root) == tree_digests(world.root)


def test_another_seed_gives_other_pictures(world):
    other = plan_world(WorldSpec(seed=8, images=24, min_side=160, max_side=240))
    mine = plan_world(SMALL)

    assert {c.name for c in other.copies}.isdisjoint({c.name for c in mine.copies})


def test_progress_hears_of_every_picture(tmp_path):
    heard = []
    spec = WorldSpec(images=16, min_side=96, max_side=128)

    build_world(tmp_path, spec, on_progress=lambda done, total: heard.append((done, total)))

    assert heard == [(k, 16) for k in range(1, 17)]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")

    with pytest.raises(InputError, match="not empty"):
        build_world(tmp_path, SMALL)


@pytest.mark.parametrize("wrong", [{"images": 3}, {"format_bias": 1.5}, {"min_side": 600}])
def test_a_spec_out_of_range_is_refused_in_one_line(wrong):
    with pytest.raises(InputError, match="expected") as caught:
        WorldSpec(**wrong)

    assert "\n" not in str(caught.value)


def test_the_truth_on_disk_is_the_truth_returned(world):
    assert json.loads(world.truth_path.read_bytes()) == world.truth
    assert world.truth["simulated"] is True


def test_every_digest_of_the_truth_is_that_of_the_served_bytes(world):
    for copy in copies_of(world):
        content = (world.media / copy["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == copy["sha256"]
        assert Image.open(io.BytesIO(content)).size == (copy["width"], copy["height"])


def test_half_of_the_pictures_are_fake_on_each_platform(world):
    counts = Counter((p["platform"], p["truth"]) for p in world.truth["pictures"].values())

    assert counts == dict.fromkeys([(p, t) for p in ("reddit", "x") for t in ("real", "fake")], 6)


def test_every_planted_kind_is_there(world):
    kinds = {copy["kind"] for copy in copies_of(world)}
    broken = {item["kind"] for item in world.truth["broken"]}

    assert kinds == {
        "original", "repost", "same-bytes", "crop", "big-crop", "caption", "screenshot", "mirror",
    }  # fmt: skip
    assert broken == {"dead", "placeholder", "html", "truncated", "empty", "bomb"}
    assert {post["trap"] for post in world.truth["posts"]} >= {
        "old-dump", "preview-only", "remote-only", "renamed", "long", "both-exports",
    }  # fmt: skip
    assert world.truth["mislabelled"]


def test_phash_finds_the_near_pairs_and_not_the_hard_ones(world):
    hashes = {
        c["sha256"]: imagehash.phash(image_at(world.media / c["path"])) for c in copies_of(world)
    }
    distances = {"same-bytes": [], "near": [], "hard": []}
    for pair in world.truth["pairs"]:
        distances[pair["findable"]].append(hashes[pair["a"]] - hashes[pair["b"]])

    assert max(distances["same-bytes"]) == 0
    assert max(distances["near"]) <= NEAR_BITS < min(distances["hard"])


def test_different_pictures_differ_by_phash(world):
    originals = [p["copies"][0]["path"] for p in world.truth["pictures"].values()]
    hashes = [imagehash.phash(image_at(world.media / path)) for path in originals]
    distances = [a - b for i, a in enumerate(hashes) for b in hashes[:i]]

    assert np.mean(np.array(distances) > NEAR_BITS) > 0.99


def test_a_repost_is_on_the_other_platform_and_of_other_bytes(world):
    for picture in world.truth["pictures"].values():
        original = picture["copies"][0]
        for copy in picture["copies"]:
            if copy["kind"] == "repost":
                assert copy["platform"] != original["platform"]
                assert copy["sha256"] != original["sha256"]


def test_jpegs_come_as_their_platform_encodes_them(world):
    for copy in copies_of(world):
        image = image_at(world.media / copy["path"])
        assert image.format == "JPEG"
        assert bool(image.info.get("progressive")) == (copy["platform"] == "x")
        assert "exif" not in image.info
        assert "icc_profile" not in image.info
        if copy["platform"] == "x" and copy["kind"] == "original":
            assert max(image.size) <= round(0.88 * SMALL.max_side)


def test_a_full_format_bias_marks_every_fake_and_no_real(tmp_path):
    spec = WorldSpec(images=16, min_side=96, max_side=128, format_bias=1)
    biased = build_world(tmp_path, spec)

    for picture in biased.truth["pictures"].values():
        for copy in picture["copies"]:
            image = image_at(biased.media / copy["path"])
            assert ("icc_profile" in image.info) == (picture["truth"] == "fake")


def test_hosts_answer_404_302_and_html_as_the_truth_says(world):
    broken = {item["kind"]: item for item in world.truth["broken"]}
    good = copies_of(world)[0]
    with serve_media(world.root) as base:
        with urllib.request.urlopen(f"{base}/{good['path']}?s=signed") as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == good["sha256"]
            assert answer.headers["Content-Type"] == "image/jpeg"
        with urllib.request.urlopen(f"{base}/{broken['html']['path']}") as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
        with urllib.request.urlopen(f"{base}/{broken['placeholder']['path']}") as answer:
            assert answer.url.endswith("/i.imgur.com/removed.png")
            assert hashlib.sha256(answer.read()).hexdigest() == broken["placeholder"]["sha256"]
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            urllib.request.urlopen(f"{base}/i.redd.it/gone.jpg")
        caught.value.close()


def test_the_server_reads_nothing_outside_the_media_folder(world):
    with serve_media(world.root) as base:
        for path in ("/../truth.json", "/%2e%2e/truth.json", "/i.redd.it/../../truth.json"):
            with pytest.raises(urllib.error.HTTPError, match="404") as caught:
                urllib.request.urlopen(base + path)
            caught.value.close()


def test_broken_media_are_broken_in_the_way_they_say(world):
    content = {
        item["kind"]: (world.media / item["path"]).read_bytes() if item["path"] else None
        for item in world.truth["broken"]
    }

    assert content["dead"] is None
    assert content["empty"] == b""
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(content["truncated"])).load()
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(content["bomb"]))
    placeholders = [i for i in world.truth["broken"] if i["kind"] == "placeholder"]
    assert len(placeholders) >= 2
    assert len({i["sha256"] for i in placeholders}) == 1


def test_annotations_are_a_label_studio_export_of_every_decodable_image(world):
    tasks = json.loads(world.annotations.read_bytes())
    shown = {c["sha256"] for c in copies_of(world)}
    shown |= {i["sha256"] for i in world.truth["broken"] if i["kind"] == "placeholder"}
    made = [a for task in tasks for a in task["annotations"]]

    assert {task["data"]["sha256"] for task in tasks} == shown
    assert all(len(task["annotations"]) == 3 for task in tasks)
    assert len({a["unique_id"] for a in made}) == len(made)
    assert any(a["was_cancelled"] and not a["result"] for a in made)
    choices = {r["value"]["choices"][0] for a in made for r in a["result"]}
    assert choices <= {choice.value for choice in Choice}


def test_annotators_err_as_often_as_stated():
    who = Annotator(1, error_rate=0.15, unsure_rate=0.05, skip_rate=0.02)
    draws = (np.arange(10_000) + 0.5) / 10_000
    counts = Counter(choose(draw, Label.REAL, who) for draw in draws)

    assert counts == {Choice.REAL: 7800, Choice.FAKE: 1500, Choice.UNSURE: 500, None: 200}


def test_one_author_has_real_and_generated_pictures_on_each_platform(world):
    for who in world.truth["both_sides_authors"]:
        posts = [p for p in world.truth["posts"] if p["author"] == who["author"] and p["truth"]]
        assert {p["truth"] for p in posts} == {"real", "fake"}


def test_snowflakes_hold_the_time_they_were_made():
    for post in plan_world(SMALL).posts:
        if post.platform == "x":
            assert int(post.post_id) >> 22 == snowflake(post.created_at) >> 22
            assert int(post.post_id) > 2**53
