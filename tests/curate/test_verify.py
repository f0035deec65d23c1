"""Is it the same picture? Against the same said by NumPy, and on pictures whose answer is known."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate import verify, views
from curate.verify import (
    AGREES,
    COARSE_STEPS,
    DAMPING,
    DRIFT,
    FINE_STEPS,
    FLOOR,
    KEPT,
    LEAST_WEIGHT,
    TELLING,
    Judged,
    Pairs,
)


def texture(seed=0, size=(200, 150)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (12, 16), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((grey + rng.normal(0, 10, grey.shape)).clip(0, 255).astype(np.uint8))


def shown(*images):
    whole = [views.thumbnails(image)["whole"][1] for image in images]
    return np.frombuffer(b"".join(whole), np.uint8).reshape(-1, 64, 64)


def pairs(*rows):
    asked, turns, offered, windows = zip(*rows, strict=True)
    return Pairs(np.array(asked), np.array(turns), np.array(offered), np.array(windows, np.float32))


WHOLE = (0, 0, 1, 1)


def judged(one, other, window=WHOLE, turn=0):
    return verify.judge(shown(one, other), pairs((0, turn, 1, window)))


def second_opinion(one, other, window=WHOLE, turn=0):
    small = views.reduce(shown(one, other).astype(np.float32))
    with ThreadPoolExecutor(2) as pool:
        return bool(verify.likely(small, pairs((0, turn, 1, window)), pool)[0])


def cut(image, left, top, right, bottom):
    width, height = image.size
    return image.crop((left * width, top * height, right * width, bottom * height))


def covered(image):
    image = image.copy()
    image.paste(0, (40, 40, 100, 90))
    return image


def test_a_picture_scores_one_with_itself_and_little_with_another():
    assert judged(texture(1), texture(1)).score[0] > 0.97
    assert judged(texture(1), texture(2)).score[0] < 0.4


def test_signs_of_detail_hardly_differ_under_a_box_and_do_in_another_picture():
    three = shown(texture(5), covered(texture(5)), texture(7)).astype(np.float32)
    signs = verify.detail_signs(views.reduce(three))

    boxed, other = verify.signs_apart(signs, np.array([0, 0]), np.array([1, 2])).tolist()

    assert boxed < verify.SIGNS / 6
    assert other > verify.SIGNS / 3


def test_signs_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    small = np.random.default_rng(0).integers(0, 256, (50, views.REDUCED, views.REDUCED), np.uint8)
    whole, pairs_of = verify.detail_signs(small), np.arange(50)
    apart = verify.signs_apart(whole, pairs_of, pairs_of[::-1])

    monkeypatch.setattr(verify, "SIGNS_AT_ONCE", 7)

    assert (verify.detail_signs(small) == whole).all()
    assert (verify.signs_apart(whole, pairs_of, pairs_of[::-1]) == apart).all()


def test_a_misplaced_window_is_put_right():
    image = texture(4, (640, 480))

    found = judged(cut(image, 0.1, 0.1, 0.9, 0.9), image, (0.07, 0.12, 0.88, 0.93))

    assert np.allclose(found.window, [[0.1, 0.1, 0.9, 0.9]], atol=0.01)
    assert found.score[0] > 0.9


def test_what_covers_a_tenth_does_not_hide_the_copy():
    found = judged(texture(5), covered(texture(5)))

    assert found.score[0] > 0.9
    assert 0.04 < found.covered[0] < 0.3


def test_nothing_to_compare_is_no_agreement():
    flat = Image.new("L", (100, 100), 200)

    assert judged(flat, flat).score[0] == 0
    assert not second_opinion(flat, flat)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_copy_is_turned_back_as_the_hashes_say(turn):
    laid_down = Image.fromarray(views.TURNS[turn].of(shown(texture(6))[0]))

    assert (
        judged(laid_down, texture(6), turn=views.TURNS.index(inverse(views.TURNS[turn]))).score[0]
        > 0.95
    )
    assert second_opinion(laid_down, texture(6), turn=views.TURNS.index(inverse(views.TURNS[turn])))


def inverse(turn):
    """The turn that undoes `turn`: flips before the exchange of axes are other flips behind it."""
    if turn.transposed:
        return views.Turn(turn.down, turn.across, True)
    return turn


def some_pairs(seed, count):
    """Thumbnails of pictures, cut and covered ones, and pairs of them in all windows and turns."""
    rng = np.random.default_rng(seed)
    images = [texture(int(s)) for s in rng.integers(0, 1000, 4)]
    images += [cut(image, *(0.04, 0.1, 0.93, 0.97)) for image in images]
    images += [covered(image) for image in images[:4]]
    asked, offered = rng.integers(0, 12, count), rng.integers(0, 12, count)
    offered = np.where(rng.random(count) < 0.6, (asked + 4) % 12, offered)
    turns = np.where(rng.random(count) < 0.3, rng.integers(0, 8, count), 0)
    windows = views.WINDOWS[rng.integers(0, len(views.WINDOWS), count)]
    return shown(*images), Pairs(asked, turns, offered, windows)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_the_compiled_judge_says_what_numpy_says(seed):
    thumbnails, some = some_pairs(seed, 40)
    turned = [
        views.TURNS[turn].of(thumbnails[row].astype(np.float32))
        for row, turn in zip(some.asked, some.turns, strict=True)
    ]

    ours = verify.judge(thumbnails, some)
    theirs = numpy_judge(
        np.stack(turned), thumbnails[some.offered].astype(np.float32), some.windows
    )

    assert np.abs(ours.score - theirs.score).max() < 0.01
    same = np.isclose(ours.window, theirs.window, atol=0.002).all(1)
    # Which of two windows fits better can hang by a hair; their scores are equal then.
    assert same.mean() > 0.9
    assert np.abs(ours.covered - theirs.covered)[same].max() < 0.02


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 29))
def test_a_pair_is_judged_the_same_in_any_batch(seed, size, alone):
    thumbnails, some = some_pairs(seed, 30)
    small = views.reduce(thumbnails.astype(np.float32))
    one, first = slice(alone, alone + 1), slice(0, size)

    whole, single, part = (verify.judge(thumbnails, some[k]) for k in (slice(None), one, first))
    with ThreadPoolExecutor(2) as pool:
        likely = verify.likely(small, some, pool)
        assert verify.likely(small, some[one], pool).tolist() == likely[one].tolist()

    assert single.score.tolist() == whole.score[one].tolist()
    assert part.window.tolist() == whole.window[first].tolist()


def test_the_second_opinion_tells_copies_from_others():
    image = texture(1, (640, 480))

    assert second_opinion(texture(1), texture(1).resize((100, 75)))
    assert second_opinion(texture(1), covered(texture(1)))
    assert second_opinion(cut(image, 0.1, 0.1, 0.9, 0.9), image, (0.07, 0.12, 0.88, 0.93))
    assert sum(second_opinion(texture(1), texture(seed)) for seed in range(2, 40)) == 0


def test_a_small_soft_copy_needs_a_lower_score():
    thumbnails = shown(texture(1), texture(1).resize((100, 75)), texture(2))
    found = pairs((0, 0, 1, WHOLE), (0, 0, 2, WHOLE))
    scored = Judged(np.array([0.7, 0.7]), found.windows, np.zeros(2))

    assert verify.same(thumbnails, found, scored).tolist() == [True, False]
    assert verify.bits_apart(thumbnails, found)[0] < 20


# The judge in NumPy, all pairs at once: what the compiled one is held to.

EDGE, BLOCKS, LOCAL = 64, 8, 2


def numpy_judge(asked, offered, windows):
    """How well each picture of `asked` is what `offered` shows in its window."""
    given, given_covered = _compare(asked, offered, windows)
    soft_asked, soft_offered = _soften(asked), _soften(offered)
    refined = _refine(_halve(soft_asked), _halve(soft_offered), windows, COARSE_STEPS)
    refined = _refine(soft_asked, soft_offered, refined, FINE_STEPS)
    found, found_covered = _compare(asked, offered, refined)
    near = (np.abs(refined - windows) < DRIFT).all(1)
    better = near & (found > given)
    return Judged(
        np.where(better, found, given),
        np.where(better[:, None], refined, windows),
        np.where(better, found_covered, given_covered),
    )


def _lay(offered, windows):
    """What is in each window, as large as the picture itself; and which pixels lie in the picture."""
    across, in_width = _interpolation(windows[:, 0], windows[:, 2], offered.shape[2])
    down, in_height = _interpolation(windows[:, 1], windows[:, 3], offered.shape[1])
    laid = (down @ offered @ across.transpose(0, 2, 1)).astype(np.float32)
    return laid, in_height[:, :, None] & in_width[:, None, :]


def _interpolation(start, end, size):
    """(N, size, size) linear interpolation between pixel centres, and which targets are inside."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    places = (start[:, None] + (end - start)[:, None] * centres) * size - np.float32(0.5)
    inside = (places > -1) & (places < size)
    apart = places.clip(0, size - 1)[:, :, None] - np.arange(size, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(apart)).astype(np.float32), inside


def _refine(asked, offered, windows, steps):
    """The windows after some Gauss-Newton steps on their four edges, gain and offset."""
    size = asked.shape[1]
    for _ in range(steps):
        laid, inside = _lay(offered, windows)
        slopes = _slopes(laid)
        weighted = slopes * _trust(asked - laid, inside)[:, None]
        normal = (weighted @ slopes.transpose(0, 2, 1)).astype(np.float64) + np.diag(DAMPING)
        target = (weighted @ (asked - 128).reshape(len(asked), -1, 1)).astype(np.float64)
        moves = np.linalg.solve(normal, target)[:, :4, 0].clip(-3, 3) / size
        width, height = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
        scale = np.stack([width, height, width, height], axis=1)
        windows = (windows + moves * scale).astype(np.float32)
    return windows


def _slopes(laid):
    """(N, 6, pixels) change of brightness by edge (left, top, right, bottom), by gain, by offset."""
    size = laid.shape[1]
    ramp = ((np.arange(size) + 0.5) / size).astype(np.float32)
    across = np.gradient(laid, axis=2)
    down = np.gradient(laid, axis=1)
    by_edge = (across * (1 - ramp), down * (1 - ramp)[:, None], across * ramp, down * ramp[:, None])
    stacked = np.stack([*by_edge, laid - 128, np.ones_like(laid)], axis=1)
    return stacked.reshape(len(laid), 6, -1)


def _trust(apart, inside):
    """(N, pixels) Cauchy weights: what differs much is something laid over, not misplaced."""
    flat = apart.reshape(len(apart), -1)
    centred = flat - np.median(flat, axis=1, keepdims=True)
    usual = np.median(np.abs(centred), axis=1, keepdims=True) + 2
    trust = inside.reshape(len(apart), -1) / (1 + (centred / (2 * usual)) ** 2)
    return trust.astype(np.float32)


def _compare(asked, offered, windows):
    """(N,) score, and the share of the weight of blocks that do not agree at all."""
    laid, inside = _lay(offered, windows)
    a, b = _blocks(asked - _local_mean(asked)), _blocks(laid - _local_mean(laid))
    power_a, power_b = (a * a).mean(2), (b * b).mean(2)
    agreement = (a * b).mean(2) / np.sqrt((power_a + FLOOR) * (power_b + FLOOR))
    power = np.maximum(power_a, power_b)
    in_picture = _blocks(inside.astype(np.float32)).mean(2) > 0.5
    weight = in_picture * power / (power + TELLING)
    total = weight.sum(1)
    covered = (weight * (agreement < AGREES)).sum(1) / np.maximum(total, 1e-6)
    score = _best_share(agreement, weight).clip(0, 1)
    return np.where(total >= LEAST_WEIGHT, score, 0.0), covered


def _best_share(agreement, weight):
    """(N,) weighted mean of the best blocks that together have KEPT of the weight."""
    order = np.argsort(-agreement, axis=1, kind="stable")
    agreement = np.take_along_axis(agreement, order, 1).astype(np.float64)
    weight = np.take_along_axis(weight, order, 1).astype(np.float64)
    before = np.cumsum(weight, axis=1) - weight
    used = np.minimum(weight, KEPT * weight.sum(1, keepdims=True) - before).clip(0)
    return (used * agreement).sum(1) / np.maximum(used.sum(1), 1e-6)


def _blocks(shown):
    """(N, 64, pixels of a block)."""
    count, size, _ = shown.shape
    edge = size // BLOCKS
    cut = shown.reshape(count, BLOCKS, edge, BLOCKS, edge).transpose(0, 1, 3, 2, 4)
    return cut.reshape(count, BLOCKS * BLOCKS, edge * edge)


def _band(size, reach):
    """(size, size) matrix that takes the mean of each pixel and its neighbours, edges repeated."""
    band = np.zeros((size, size), np.float32)
    for offset in range(-reach, reach + 1):
        band[np.arange(size), (np.arange(size) + offset).clip(0, size - 1)] += 1
    return band / np.float32(2 * reach + 1)


_MEAN = _band(EDGE, LOCAL)
_SOFT = (0.25 * np.eye(EDGE) + 0.75 * _band(EDGE, 1)).astype(np.float32)
"""Weights 1, 2, 1: alignment is steadier without the finest detail."""


def _local_mean(shown):
    return np.asarray(_MEAN @ shown @ _MEAN.T)


def _soften(shown):
    return np.asarray(_SOFT @ shown @ _SOFT.T)


def _halve(shown):
    count, size, _ = shown.shape
    return np.asarray(shown.reshape(count, size // 2, 2, size // 2, 2).mean((2, 4)))
