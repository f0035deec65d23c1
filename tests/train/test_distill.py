"""Distillation: the student sees what the teacher judged, and learns it."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from schemas.errors import CheckpointError, InputError
from schemas.labels import Split
from schemas.policy import AugmentPolicy
from train import training
from train.artifacts import TEACHER, Learnt, read_learnt
from train.cache import Keeping
from train.checkpoint import load_detector, pack, to_bytes
from train.config import Compute, build_detector
from train.data import find_images, load_images
from train.detectors import DETECTORS
from train.detectors.patches import pool_patches
from train.distill import (
    distill,
    distill_one_epoch,
    mixed,
    teacher_logits,
)
from train.engine import Step
from train.lessons import MIX, Kept, Live, PatchGrid, Sight, Wanted, middle_of, patches_at
from train.sampling import Place, cells_of
from train.transforms import Preprocessing, normalise, to_batch

CPU = torch.device("cpu")
PREP = Preprocessing(size=64, crop=48)


def save_teacher(path, name="ladeda9", prep=PREP, shift=0.0):
    spec = DETECTORS[name]
    model = build_detector(spec, prep, "mean", seed=0)
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64, generator=generator))
        model.fc.bias += shift
    path.write_bytes(to_bytes(pack(model.state_dict(), spec, prep, pooling="mean")))
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt")


@pytest.fixture(scope="module")
def images(picture_set, tmp_path_factory):
    items = find_images(picture_set)[-6:]
    keeping = Keeping(tmp_path_factory.mktemp("cache"))
    return load_images(picture_set, items, PREP, workers=2, keeping=keeping)


@pytest.mark.parametrize("name", ["ladeda5", "ladeda9", "ladeda17"])
def test_the_goal_of_a_patch_is_what_the_teacher_says_of_it_alone(tmp_path, images, recipe, name):
    """With NPR, which looks at no neighbour beyond its block, a patch alone is a patch in the image."""
    loaded = load_detector(save_teacher(tmp_path / "t.pt", name))
    grid = PatchGrid(loaded.spec.receptive_field, loaded.spec.stride)
    logits = teacher_logits(loaded, images, Compute(CPU), Keeping(tmp_path))
    kept = Kept(images, logits, Sight(grid), crop=48)

    for seed in range(3):
        drawn = kept.draw(Wanted([0, 3, 5], [0, 0, 0], 0), np.random.default_rng(seed))

        assert len(drawn.pixels) == 3 * -(-(grid.cells(48) ** 2) // 3)
        assert drawn.pixels.shape[1:] == (3, grid.field + 1, grid.field + 1)
        with torch.no_grad():
            seen = normalise(drawn.pixels[..., : grid.field, : grid.field], PREP, CPU)
            said = loaded.model.patch_logits(seen).flatten()
        np.testing.assert_allclose(drawn.goals, said, rtol=1e-3, atol=1e-4)


def test_the_student_sees_ten_pixels_from_where_the_teacher_saw_nine():
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    rows, columns = np.divmod(np.arange(27 * 27), 27)

    patches = patches_at(image, rows, columns, PatchGrid(9, 8))

    assert patches.shape == (729, 10, 10, 3)
    assert PatchGrid(9, 8).cells(224) == 27
    np.testing.assert_array_equal(patches[27 * 2 + 5], image[16:26, 40:50])


def on_disk(folder, **options):
    """Everything in files, however fast the teacher was."""
    return Keeping(folder, **{"memory": 0, "pays_s": 0.0, **options})


def all_of(logits):
    return np.concatenate([logits[k].ravel() for k in range(len(logits))])


def test_teacher_logits_are_a_plain_array_that_is_found_again(teacher, images, tmp_path):
    loaded = load_detector(teacher)

    first = all_of(teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path)))
    (path,) = tmp_path.glob(".*.npy")
    stamp = path.stat().st_mtime_ns
    again = all_of(teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path)))

    assert np.load(path, allow_pickle=False).shape == (6 * 7 * 7,)
    assert np.load(path, allow_pickle=False).dtype == np.float32
    assert path.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first, again)
    with torch.no_grad():
        whole = loaded.model(normalise(to_batch(images.pixels[:1]), PREP, CPU))
    assert first[:49].mean() == pytest.approx(whole.item(), abs=1e-4)


def test_zeros_that_a_power_cut_left_are_no_goals(teacher, images, tmp_path, caplog):
    loaded = load_detector(teacher)
    first = all_of(teacher_logits(loaded, images, Compute(CPU), Keeping(tmp_path)))
    teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path))
    (path,) = tmp_path.glob(".*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:300] + bytes(len(content) - 300))

    again = all_of(teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path)))

    np.testing.assert_array_equal(first, again)
    assert "made again" in caplog.text


def test_logits_that_find_no_room_are_asked_for_each_time(teacher, images, tmp_path, caplog):
    loaded = load_detector(teacher)
    bound = 32 * (128 + 4 * 4 * 49)  # of which a 32nd is for logits: of four images

    some = teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path, disk=bound))

    whole = teacher_logits(loaded, images, Compute(CPU), Keeping(tmp_path))
    assert some.stored == 4
    np.testing.assert_array_equal(all_of(some), all_of(whole))
    assert caplog.text.count("put to the teacher each time") == 1


def test_a_student_learns_what_a_network_of_its_own_kind_says_of_the_patches(images, recipe):
    grid, prep = PatchGrid(9, 8), dataclasses.replace(PREP, representation="right_diag")
    spec = DETECTORS["tiny-ladeda"]
    wiser = build_detector(spec, prep, "mean", seed=7).eval()
    with torch.no_grad():
        rows, columns = np.divmod(np.arange(49), 7)
        cut = [to_batch(patches_at(pixels, rows, columns, grid)) for pixels in images.pixels]
        said = [wiser(normalise(patches, prep, CPU)).view(7, 7) for patches in cut]
    targets = torch.stack(said).numpy()
    targets = (targets - targets.mean()) / targets.std()
    drawer = Kept(images, targets, Sight(grid), recipe.crop)
    cells = cells_of([Place(0, 0, "")] * 6, "none")
    student = build_detector(spec, prep, "mean", seed=1)
    adam = torch.optim.Adam(student.parameters(), lr=1e-2)
    step = Step(student, adam, prep, Compute(CPU), True, lambda: None)

    losses = [
        np.mean(
            [loss for loss, _ in distill_one_epoch(step, drawer, cells, Sight(grid), 0, e, 6 * e)]
        )
        for e in range(40)
    ]

    assert np.mean(losses[-5:]) < 0.5  # 1 is what a constant gets


@pytest.mark.parametrize(
    ("field", "name"), [(9, "tiny-ladeda"), (9, "ladeda5"), (17, "ladeda9"), (17, "tiny-ladeda")]
)
def test_in_a_window_a_student_sees_a_patch_as_it_will_in_the_picture(field, name):
    grid, spec = PatchGrid(field, 8), DETECTORS[name]
    rng, prep = np.random.default_rng(0), dataclasses.replace(PREP, representation="right_diag")
    pictures = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(3)]
    student = build_detector(spec, prep, "mean", seed=3).eval()
    sight = Sight.of(spec, grid, "window")
    wide = grid.cells(96)
    cell = np.arange(grid.cells(64) * wide, dtype=np.float32).reshape(-1, wide)  # says which it is
    kept = Kept(SimpleNamespace(pixels=pictures), [cell] * 3, sight, crop=48)

    drawn = kept.draw(Wanted([0, 1, 2], [0, 0, 0], 0), np.random.default_rng(1))

    with torch.no_grad():
        read = sight.read(student, normalise(drawn.pixels, prep, CPU))
        whole = student.patch_logits(normalise(to_batch(np.stack(pictures)), prep, CPU))
    assert read.shape == drawn.goals.shape == (3, 2, 2)
    apart, looks = 8 // spec.stride, (field + 1 - spec.receptive_field) // spec.stride + 1
    for k in range(3):
        for said, goal in zip(read[k].flatten(), drawn.goals[k].flatten(), strict=True):
            row, column = (int(n) * apart for n in divmod(int(goal), wide))
            inside = whole[k, row : row + looks, column : column + looks]
            assert said.item() == pytest.approx(inside.mean().item(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "top30"])
def test_the_goals_of_an_image_pool_to_what_its_teacher_scores_it_by(pooling):
    """However little of what differs within it is learnt."""
    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), "alone")
    logits = np.random.default_rng(0).normal(1, 5, (7, 7)).astype(np.float32)
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    kept = Kept(SimpleNamespace(pixels=[picture]), [logits], sight, 64, 0.25, pooling)

    goals = kept.draw(Wanted([0], [0], 0), np.random.default_rng(0)).goals

    assert len(goals) == 49
    scored = pool_patches(torch.from_numpy(logits)[None], pooling).item()
    assert pool_patches(goals[None], pooling).item() == pytest.approx(scored, rel=1e-5)


def test_a_centred_student_says_zero_where_its_teacher_is_halfway_between_the_classes(images):
    """Whether the teacher was asked before, or looks at augmented windows; and however many of each."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert middle_of(iter([1, 2, 1, 2, 3, 4]), labels) == pytest.approx((1.5 + 3.5) / 2)

    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), "window")
    logits = np.random.default_rng(0).normal(3, 1, (6, 7, 7)).astype(np.float32)
    for pooling in ("mean", "max"):
        kept = Kept(images, list(logits), sight, 48, 0.25, pooling)
        pooled = logits.mean(axis=(1, 2)) if pooling == "mean" else logits.max(axis=(1, 2))
        np.testing.assert_allclose(list(kept.says()), pooled, rtol=1e-6)
        for within in (0.25, 1.0):
            plain, centred = (
                dataclasses.replace(kept, within=within, middle=middle).draw(
                    Wanted([0, 3], [0, 0], 0), np.random.default_rng(0)
                )
                for middle in (0.0, 2.5)
            )
            np.testing.assert_allclose(centred.goals, plain.goals - 2.5, rtol=1e-5, atol=1e-6)


def test_where_the_logits_of_a_teacher_lie_changes_nothing_for_a_centred_student(
    picture_set, recipe, tmp_path
):
    centred = dataclasses.replace(recipe, epochs=1, centred=True)
    runs = [
        distill(
            save_teacher(tmp_path / f"t{shift}.pt", shift=shift), picture_set,
            tmp_path / f"{shift}-{asked.centred}", asked,
        )
        for shift, asked in ((0, centred), (7, centred), (7, dataclasses.replace(centred, centred=False)))
    ]  # fmt: skip
    here, shifted, plain = (
        pq.read_table(run.checkpoint.parent / "scores.parquet")["logit"].to_numpy() for run in runs
    )

    np.testing.assert_allclose(shifted, here, rtol=1e-2, atol=1e-3)
    assert plain.mean() > shifted.mean() + 0.1


@pytest.mark.parametrize("patches", ["alone", "window"])
def test_what_a_teacher_says_of_augmented_windows_is_what_the_first_epoch_shows(
    teacher, images, recipe, patches
):
    loaded = load_detector(teacher)
    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), patches)
    jpeg = dataclasses.replace(recipe, patches=patches, augment=AugmentPolicy(jpeg=1))
    live = Live(loaded.model, loaded.preprocessing, images, sight, jpeg, Compute(CPU))

    said = list(live.says())

    shown = live.draw(Wanted(range(6), [0] * 6, 0), np.random.default_rng(0)).goals.view(6, -1)
    np.testing.assert_allclose(said, shown.mean(dim=1), rtol=1e-5)
    lower = dataclasses.replace(live, middle=1.5).draw(Wanted(range(6), [0] * 6, 0), None).goals
    np.testing.assert_allclose(lower.view(6, -1), shown - 1.5, rtol=1e-5, atol=1e-6)


def test_of_a_teacher_without_a_store_each_image_is_asked_once_a_step(images):
    asked = []

    class Asking:
        def __getitem__(self, index):
            asked.append(index)
            return np.zeros((7, 7), dtype=np.float32)

    for patches in ("alone", "window"):
        sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), patches)
        Kept(images, Asking(), sight, 48, 0.5).draw(
            Wanted([0, 3], [0, 0], 0), np.random.default_rng(0)
        )

    assert asked == [0, 3, 0, 3]


def test_windows_come_from_all_of_a_picture_but_its_first_row_and_column(images):
    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), "window")
    cell = np.arange(49, dtype=np.float32).reshape(7, 7)
    kept = Kept(images, [cell] * 6, sight, crop=48)
    rng = np.random.default_rng(0)

    seen = {
        int(g) for _ in range(200) for g in kept.draw(Wanted([1, 2], [0, 0], 0), rng).goals.ravel()
    }

    assert seen == {7 * i + j for i in range(1, 7) for j in range(1, 7)}


@pytest.mark.parametrize("patches", ["alone", "window"])
def test_a_student_learns_a_part_of_what_differs_within_an_image(images, patches):
    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), patches)
    logits = [
        np.random.default_rng(k).normal(k + 100, 10, (7, 7)).astype(np.float32) for k in range(6)
    ]
    wanted = Wanted([0, 3, 5], [0, 0, 0], 0)

    full, part, none = (
        Kept(images, logits, sight, 48, within).draw(wanted, np.random.default_rng(2))
        for within in (1.0, 0.25, 0.0)
    )

    of_image = np.repeat([logits[k].mean() for k in wanted.chosen], full.goals.numel() // 3)
    np.testing.assert_array_equal(full.pixels, part.pixels)
    np.testing.assert_allclose(none.goals.ravel(), of_image, rtol=1e-5)
    expected = of_image + 0.25 * (full.goals.numpy().ravel() - of_image)
    np.testing.assert_allclose(part.goals.ravel(), expected, rtol=1e-6)


def test_windows_need_steps_that_meet_and_room_beside_a_patch(
    picture_set, recipe, tmp_path, teacher
):
    windows = dataclasses.replace(recipe, patches="window")
    with pytest.raises(
        InputError, match=r"train\.crop is 17; expected at least 18, two patches.*alone"
    ):
        distill(teacher, picture_set, tmp_path / "run", dataclasses.replace(windows, crop=17))
    with pytest.raises(InputError, match=r'ladeda5 moves on by 8 pixels.*by 2.*patches to "alone"'):
        Sight.of(DETECTORS["ladeda5"], PatchGrid(5, 2), "window")


def test_every_image_shares_a_step_equally_often_and_is_never_alone():
    chosen = mixed(cells_of([Place(0, 0, "")] * 40, "none"), np.random.default_rng(0))

    assert chosen.shape == (40, MIX)
    assert np.bincount(chosen.ravel(), minlength=40).tolist() == [MIX] * 40
    few = cells_of([Place(0, 0, "")] * 3, "none")
    assert mixed(few, np.random.default_rng(0)).shape == (3, 3)


@pytest.mark.parametrize(
    "asked", [{}, {"patches": "window", "within": 0.2}], ids=["paper", "quick"]
)
def test_distillation_resumes_to_the_same_student(picture_set, recipe, tmp_path, teacher, asked):
    student = dataclasses.replace(recipe, epochs=4, **asked)

    whole = distill(teacher, picture_set, tmp_path / "a", student)
    distill(teacher, picture_set, tmp_path / "b", dataclasses.replace(student, epochs=2))
    resumed = distill(teacher, picture_set, tmp_path / "b", student)

    loaded = load_detector(whole.checkpoint)
    assert loaded.spec.name == "tiny-ladeda"
    assert loaded.preprocessing.representation == "right_diag"
    assert len(loaded.meta["teacher"]) == 64
    assert whole.val["n"] == 12
    assert whole.checkpoint.read_bytes() == resumed.checkpoint.read_bytes()


def test_the_student_is_the_detector_of_the_recipe(picture_set, recipe, tmp_path, teacher):
    asked = dataclasses.replace(recipe, detector="ladeda5", epochs=1)

    result = distill(teacher, picture_set, tmp_path, asked)

    assert load_detector(result.checkpoint).spec.name == "ladeda5"


@pytest.mark.parametrize("name", ["ladeda17", "ladeda33"])
def test_a_student_that_sees_more_than_it_is_shown_is_refused(
    picture_set, recipe, tmp_path, teacher, name
):
    asked = dataclasses.replace(recipe, detector=name)

    with pytest.raises(InputError, match=rf"{name} sees \d+ pixels; expected at most 10.*10 x 10"):
        distill(teacher, picture_set, tmp_path, asked)


def test_minutes_that_end_in_the_first_epoch_include_its_validation(
    picture_set, recipe, tmp_path, teacher, monkeypatch
):
    """A clock that a validation moves by 10 s and a look at it by 1 s."""
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    score = training.score_images

    def slow(*arguments):
        now[0] += 10.0
        return score(*arguments)

    monkeypatch.setattr(training, "score_images", slow)
    timed = dataclasses.replace(recipe, max_minutes=0.5, epochs=1000)

    result = distill(teacher, picture_set, tmp_path, timed, clock=clock)

    assert result.stopped == "max_minutes 0.5 reached"
    assert result.epochs == 1
    assert 20 < result.seconds <= 32


def test_a_teacher_of_other_pixels_is_refused(picture_set, recipe, tmp_path):
    other = save_teacher(tmp_path / "t.pt", prep=Preprocessing(size=128, crop=64))

    with pytest.raises(InputError, match=r"trained with size 128, the recipe has 64.*train\.size"):
        distill(other, picture_set, tmp_path / "run", recipe)


def test_a_missing_teacher_and_a_crop_too_small_are_refused(picture_set, recipe, tmp_path, teacher):
    with pytest.raises(CheckpointError, match="cannot be read"):
        distill(tmp_path / "no.pt", picture_set, tmp_path / "run", recipe)
    with pytest.raises(InputError, match=r"train\.crop is 9"):
        distill(teacher, picture_set, tmp_path / "run", dataclasses.replace(recipe, crop=9))


def bytes_of(drawn):
    return drawn.pixels.numpy().tobytes(), drawn.goals.numpy().tobytes()


def test_augmented_windows_get_what_the_teacher_says_of_them(teacher, images, recipe):
    loaded = load_detector(teacher)
    augmented = dataclasses.replace(recipe, augment=AugmentPolicy(jpeg=1.0, noise=1.0))
    grid = PatchGrid(9, 8)
    live = Live(loaded.model, loaded.preprocessing, images, Sight(grid), augmented, Compute(CPU))

    drawn = live.draw(Wanted([0, 3, 5], [0, 0, 1], epoch=2), np.random.default_rng(0))
    again = live.draw(Wanted([0, 3, 5], [0, 0, 1], epoch=2), np.random.default_rng(9))

    assert bytes_of(drawn) == bytes_of(again)
    assert drawn.done.count("jpeg") == drawn.done.count("noise") == 3
    alone = bytes_of(live.draw(Wanted([3], [0], epoch=2), np.random.default_rng(0)))
    assert len(drawn.pixels) == len(drawn.goals) == 3 * 2**2  # about the 5 x 5 of one window
    assert alone != bytes_of(drawn)
    even = dataclasses.replace(live, recipe=dataclasses.replace(augmented, augment=AugmentPolicy()))
    plain = even.draw(Wanted([0, 3, 5], [0, 0, 1], epoch=2), np.random.default_rng(0))
    with torch.no_grad():  # a window's patches lie at even places of it, so they can stand alone
        said = loaded.model.patch_logits(normalise(plain.pixels[..., :9, :9], PREP, CPU))
    np.testing.assert_allclose(plain.goals, said.flatten(), rtol=1e-3, atol=1e-4)


def test_augmented_windows_are_judged_inside_their_border(images, recipe, tmp_path):
    """By a teacher that looks over borders: what lies beyond that of the window changes no goal."""
    diagonal = dataclasses.replace(PREP, representation="right_diag")
    loaded = load_detector(save_teacher(tmp_path / "t.pt", prep=diagonal))
    sight = Sight.of(DETECTORS["tiny-ladeda"], PatchGrid(9, 8), "window")
    plain = dataclasses.replace(recipe, patches="window", augment=AugmentPolicy())
    live = Live(loaded.model, loaded.preprocessing, images, sight, plain, Compute(CPU))
    wanted = Wanted([0, 3, 5], [0, 0, 1], epoch=2)

    drawn = live.draw(wanted, np.random.default_rng(0))
    part = dataclasses.replace(live, recipe=dataclasses.replace(plain, within=0.5))
    half = part.draw(wanted, np.random.default_rng(0))

    whole = np.stack([window.pixels for window in live._windows(wanted, 26)])
    noise = np.random.default_rng(1).integers(0, 256, (3, 34, 34, 3), dtype=np.uint8)
    noise[:, 8:, 8:] = whole
    with torch.no_grad():
        said = loaded.model.patch_logits(normalise(to_batch(noise), diagonal, CPU))
        bordered = loaded.model.patch_logits(normalise(to_batch(whole), diagonal, CPU))
    np.testing.assert_array_equal(drawn.pixels, to_batch(np.ascontiguousarray(whole[:, 6:, 6:])))
    np.testing.assert_allclose(drawn.goals, said[:, 2:, 2:], rtol=1e-3, atol=1e-4)
    assert not np.allclose(said[:, 1, 1:], bordered[:, 0, :], rtol=1e-3, atol=1e-4)
    mean = drawn.goals.mean(dim=(1, 2), keepdim=True)
    np.testing.assert_allclose(half.goals, mean + 0.5 * (drawn.goals - mean), rtol=1e-4, atol=1e-6)


def test_distillation_with_augmentation_and_averages_resumes_to_the_same_student(
    picture_set, recipe, tmp_path, teacher
):
    student = dataclasses.replace(
        recipe, epochs=3, average=0.9, balance="class", augment=AugmentPolicy(jpeg=0.5, webp=0.5)
    )

    whole = distill(teacher, picture_set, tmp_path / "a", student)
    distill(teacher, picture_set, tmp_path / "b", dataclasses.replace(student, epochs=1))
    resumed = distill(teacher, picture_set, tmp_path / "b", student)
    plain = distill(
        teacher, picture_set, tmp_path / "c", dataclasses.replace(student, augment=AugmentPolicy())
    )

    assert whole.checkpoint.read_bytes() == resumed.checkpoint.read_bytes()
    assert whole.checkpoint.read_bytes() != plain.checkpoint.read_bytes()
    assert not list((tmp_path / "a").glob(".*.teacher.*"))  # nothing that would not be used
    curve = (tmp_path / "a/curve.csv").read_text().splitlines()
    jpeg = curve[0].split(",").index("windows_jpeg")
    assert all(int(line.split(",")[jpeg]) > 50 for line in curve[1:])


def test_students_that_share_a_cache_hear_their_teacher_once(
    picture_set, recipe, tmp_path, teacher
):
    one = dataclasses.replace(recipe, epochs=1)
    distill(teacher, picture_set, tmp_path / "a", one, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob(".*.teacher.npy")
    written = kept.stat().st_mtime_ns

    alone = distill(teacher, picture_set, tmp_path / "b", one)
    shared = distill(teacher, picture_set, tmp_path / "c", one, cache=tmp_path / "cache")

    assert kept.stat().st_mtime_ns == written
    assert not list((tmp_path / "c").glob(".*.teacher.*"))
    assert shared.checkpoint.read_bytes() == alone.checkpoint.read_bytes()


def test_pictures_of_any_size_are_distilled(tmp_path, recipe, odd_set):
    whole = Preprocessing(size=64, crop=48, fit="whole")
    taught = save_teacher(tmp_path / "t.pt", prep=whole)
    loaded = load_detector(taught)
    items = [i for i in find_images(odd_set) if i.split is Split.TRAIN]
    images = load_images(odd_set, items, whole, workers=2, keeping=Keeping(tmp_path))

    logits = teacher_logits(loaded, images, Compute(CPU), Keeping(tmp_path))
    result = distill(
        taught, odd_set, tmp_path / "run", dataclasses.replace(recipe, fit="whole", epochs=1)
    )

    assert {logits[k].shape for k in range(16)} == {(9, 7), (8, 11), (7, 7)}
    for k in (0, 1):
        with torch.no_grad():
            seen = normalise(to_batch(images.pixels[k][None]), whole, CPU)
            said = loaded.model.patch_logits(seen)[0]
        np.testing.assert_allclose(logits[k], said, rtol=1e-3, atol=1e-4)
    assert result.val["n"] == 6


def test_a_disk_that_is_full_costs_speed_and_not_goals(
    teacher, images, tmp_path, caplog, full_disk
):
    loaded = load_detector(teacher)
    with full_disk(600):
        full = teacher_logits(loaded, images, Compute(CPU), on_disk(tmp_path / "c"))

    whole = teacher_logits(loaded, images, Compute(CPU), Keeping(tmp_path))
    assert full.stored == 2
    np.testing.assert_array_equal(all_of(full), all_of(whole))
    assert "no room on the disk" in caplog.text


def test_what_the_teacher_said_is_removed_when_the_run_is_over(
    picture_set, recipe, tmp_path, teacher, monkeypatch
):
    monkeypatch.setattr(
        "train.distill.keeping_in", lambda out, cache, recipe: on_disk(out)
    )  # as if it had taken long
    timed = dataclasses.replace(recipe, epochs=1)
    seen = []

    distill(
        teacher, picture_set, tmp_path, timed,
        on_epoch=lambda _: seen.extend(tmp_path.glob(".*.teacher.npy")),
    )  # fmt: skip

    assert len(seen) == 1
    assert not list(tmp_path.glob(".*"))


def as_json(result):
    return json.loads(json.dumps(result.to_dict()))


def test_a_finished_student_that_is_repeated_hears_and_decodes_nothing(
    picture_set, recipe, tmp_path, teacher, monkeypatch
):
    one = dataclasses.replace(recipe, epochs=1)
    first = distill(teacher, picture_set, tmp_path / "a", one)
    monkeypatch.setattr("train.distill.load_train_val", None)

    again = distill(teacher, picture_set, tmp_path / "a", one)

    assert as_json(again) == as_json(first)


def test_a_run_folder_of_another_teacher_is_refused(picture_set, recipe, tmp_path, teacher):
    one = dataclasses.replace(recipe, epochs=1)
    distill(teacher, picture_set, tmp_path / "a", one)
    other = save_teacher(tmp_path / "other.pt", "ladeda5")

    with pytest.raises(InputError, match=r"holds another run.*another teacher"):
        distill(other, picture_set, tmp_path / "a", one)


SHARING = """
import sys, time
from dataclasses import replace
from pathlib import Path
import torch
from schemas.policy import TrainPolicy
from train import distill
torch.set_num_threads(1)
heard = distill.patch_map
def slow(*arguments):
    time.sleep(0.05)
    return heard(*arguments)
distill.patch_map = slow
teacher, root, out, cache, go = map(Path, sys.argv[1:])
recipe = TrainPolicy(detector="tiny-ladeda", size=64, crop=48, batch=8, epochs=1, workers=2,
                     learning_rate=1e-2, device="cpu", precision="float32")
(out.parent / f"{out.name} is ready").touch()
while not go.exists():
    time.sleep(0.01)
distill.distill(teacher, root, out, recipe, cache=cache)
"""


def test_two_students_at_once_with_one_cache_are_those_of_one_alone(
    picture_set, recipe, tmp_path, teacher
):
    root = Path(__file__).resolve().parents[2]
    go, cache = tmp_path / "go", tmp_path / "cache"
    places = [str(p) for p in (teacher, picture_set)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING, *places, str(tmp_path / out), str(cache), str(go)],
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for out in "ab"
    ]
    while not all((tmp_path / f"{out} is ready").exists() for out in "ab"):
        assert all(process.poll() is None for process in running)
        time.sleep(0.05)
    go.touch()
    assert [process.wait() for process in running] == [0, 0]

    alone = distill(teacher, picture_set, tmp_path / "alone", dataclasses.replace(recipe, epochs=1))

    for out in "ab":
        assert (tmp_path / out / "checkpoint.pt").read_bytes() == alone.checkpoint.read_bytes()
    left = sorted(path.suffix for path in cache.iterdir())
    assert left == [".json"] * 3 + [".npy"] * 3  # train, val and the teacher; nothing half written


def test_a_student_records_what_its_teacher_learnt_from_or_that_nobody_knows(
    picture_set, recipe, tmp_path, teacher
):
    taught, short = tmp_path / "taught", dataclasses.replace(recipe, epochs=1)
    taught.mkdir()
    (taught / "checkpoint.pt").write_bytes(teacher.read_bytes())
    record = {"data": {"root": str(tmp_path / "elsewhere")}}
    (taught / "config.json").write_text(json.dumps(record))

    known = distill(taught / "checkpoint.pt", picture_set, tmp_path / "a", short).checkpoint
    blind = distill(teacher, picture_set, tmp_path / "b", short).checkpoint

    own = picture_set.resolve()
    assert read_learnt(known) == Learnt((own, tmp_path / "elsewhere"))
    assert read_learnt(blind) == Learnt((own,), (TEACHER,))
    assert known.read_bytes() == blind.read_bytes()
