"""Can the label be told from file facts alone? Then a detector can learn that, not the picture.

A classifier is shown nothing of the image but what `FEATURES` reads from its row: format, size,
JPEG tables, metadata. If it beats chance under cross-validation, the set has a shortcut, as
GenImage has (Grommelt et al. 2024, arXiv 2403.17608) and most video sets do (arXiv 2606.31004). The
same is asked of each feature alone, which names the cause, and between platforms within one label,
which says how much of a detector's score may be recognising the source.

Every area under the ROC curve (AUC) is of out-of-fold scores; copies of one picture are never on
both sides of a fold; the intervals are Newcombe's (Statistics in Medicine 2006, 25:559-573, method
5), which, unlike DeLong's, do not shrink to a point at an AUC of 1. 0.5 is chance. Deterministic
for a seed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.leakage import find_near
from curate.survey import Surveyed
from schemas.errors import InputError
from schemas.labels import Label

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Value = float | str | None

FOLDS = 5
MIN_IMAGES = 20
"""Below this many decodable images nothing is concluded."""
MIN_PER_CLASS = 10
"""Nor below this many groups of either label: two per fold."""
MIN_PER_SOURCE = 25
"""Images of one label that a platform needs to be compared with another."""
MAX_PAIRS = 10
"""Pairs of platforms compared per label, the largest first."""
SHUFFLES = 5
"""Times the labels are dealt out at random to see what the probe finds in nothing."""
SMOOTHING = 2.0
"""Images of prior that a value's share of fakes is pulled towards."""
BINS = 24
"""A number with more distinct values than this is cut at quantiles, to be read like a category."""
NAMED = 60
"""Values of a category told apart by the joint probe, the most frequent first."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Feature:
    """One file fact: how it is called for people, what kind of fact it is, and how it is read.

    A number is a float; anything else is text; None is kept as a value of its own.
    """

    title: str
    family: str
    read: Callable[[Surveyed], Value]


def _number(name: str) -> Callable[[Surveyed], Value]:
    def read(item: Surveyed) -> Value:
        value = getattr(item.image, name)
        return None if value is None else float(value)

    return read


def _text(name: str) -> Callable[[Surveyed], Value]:
    def read(item: Surveyed) -> Value:
        value = getattr(item.image, name)
        return None if value is None else str(value)

    return read


def _yes_no(name: str) -> Callable[[Surveyed], Value]:
    def read(item: Surveyed) -> Value:
        value = getattr(item.image, name)
        return None if value is None else ("yes" if value else "no")

    return read


def _present(name: str) -> Callable[[Surveyed], Value]:
    return lambda item: "present" if getattr(item.image, name) else "absent"


def _area(item: Surveyed) -> float | None:
    image = item.image
    return float(image.width * image.height) if image.width and image.height else None


def _aspect(item: Surveyed) -> Value:
    image = item.image
    return round(image.width / image.height, 3) if image.width and image.height else None


def _bits_per_pixel(item: Surveyed) -> Value:
    area = _area(item)
    return round(8 * item.image.bytes / area, 4) if area else None


def _trailing(item: Surveyed) -> Value:
    trailing = item.image.trailing_bytes
    return None if trailing is None else ("yes" if trailing else "no")


def _grid(item: Surveyed) -> Value:
    """Where the blocks of an earlier JPEG begin; its strength depends on what is shown."""
    image = item.image
    return None if image.grid is None else f"{image.grid_x}, {image.grid_y}"


def _png_text(item: Surveyed) -> Value:
    return ", ".join(item.image.png_text_keys) or None


def _platform_trace(item: Surveyed) -> Value:
    """Where platforms left their mark: a set whose fakes all went through one has a shortcut."""
    found = {e.origin: e.detail for e in item.evidence if e.kind == "platform-trace"}
    return ", ".join(found[origin] for origin in sorted(found)) or None


FEATURES: Mapping[str, Feature] = {
    "format": Feature("File format", "container", _text("format")),
    "width": Feature("Width in pixels", "size", _number("width")),
    "height": Feature("Height in pixels", "size", _number("height")),
    "pixels": Feature("Number of pixels", "size", _area),
    "aspect": Feature("Width to height", "size", _aspect),
    "jpeg_quality_luma": Feature("JPEG quality, luma", "jpeg", _number("jpeg_quality_luma")),
    "jpeg_quality_chroma": Feature("JPEG quality, chroma", "jpeg", _number("jpeg_quality_chroma")),
    "jpeg_quality": Feature("Nearest IJG quality", "jpeg", _number("jpeg_quality")),
    "jpeg_family": Feature("JPEG encoder family", "jpeg", _text("jpeg_family")),
    "jpeg_subsampling": Feature("Chroma subsampling", "jpeg", _text("jpeg_subsampling")),
    "jpeg_progressive": Feature("Progressive JPEG", "jpeg", _yes_no("jpeg_progressive")),
    "jpeg_huffman": Feature("Huffman tables", "jpeg", _text("jpeg_huffman")),
    "jpeg_restart": Feature("Restart interval", "jpeg", _number("jpeg_restart")),
    "jpeg_exact": Feature("Tables known exactly", "jpeg", _yes_no("jpeg_exact")),
    "jpeg_residual": Feature("Misfit of the tables", "jpeg", _number("jpeg_residual")),
    "jpeg_scale_luma": Feature("Scale of Annex K, luma", "jpeg", _number("jpeg_scale_luma")),
    "jpeg_scale_chroma": Feature("Scale of Annex K, chroma", "jpeg", _number("jpeg_scale_chroma")),
    "compression": Feature("Coding in the container", "container", _text("compression")),
    "lossless": Feature("Lossless coding", "container", _yes_no("lossless")),
    "webp_quantiser": Feature("WebP quantiser", "container", _number("webp_quantiser")),
    "animated": Feature("Animated", "container", _yes_no("animated")),
    "truncated": Feature("File cut short", "container", _yes_no("truncated")),
    "trailing": Feature("Bytes behind the picture", "container", _trailing),
    "grid": Feature("Block grid of an earlier JPEG", "history", _grid),
    "icc": Feature("ICC colour profile", "metadata", _text("icc")),
    "orientation": Feature("EXIF orientation", "metadata", _text("orientation")),
    "camera_make": Feature("Camera make", "metadata", _text("camera_make")),
    "camera_model": Feature("Camera model", "metadata", _text("camera_model")),
    "camera": Feature("Camera named at all", "metadata", _present("camera_model")),
    "software": Feature("Software", "metadata", _text("software")),
    "thumbnail": Feature("EXIF thumbnail", "metadata", _yes_no("thumbnail")),
    "thumbnail_dqt_hash": Feature(
        "Tables of the thumbnail", "metadata", _text("thumbnail_dqt_hash")
    ),
    "platform_trace": Feature("Trace of a platform", "metadata", _platform_trace),
    "png_text": Feature("PNG text keys", "metadata", _png_text),
    "mode": Feature("Colour mode", "colour", _text("mode")),
    "bit_depth": Feature("Bits per sample", "colour", _number("bit_depth")),
    "alpha": Feature("Transparency", "colour", _yes_no("alpha")),
    "frames": Feature("Frames", "colour", _number("frames")),
    "bytes": Feature("File size in bytes", "weight", _number("bytes")),
    "bits_per_pixel": Feature("Bits per pixel", "weight", _bits_per_pixel),
    "jpeg_dqt_hash": Feature("JPEG quantisation tables", "jpeg", _text("jpeg_dqt_hash")),
    "jpeg_markers": Feature("JPEG marker order", "jpeg", _text("jpeg_markers")),
}
"""Every file fact of the audit. What pixels show (blur, noise, information, enlargement) is left out:
a probe that reads it is a detector, and what it finds no shortcut. Coefficient histograms
(`jpeg_double`) are left out as they are there only with an extra. Of equally strong causes, the one
that stands first comes first."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An AUC, its 95 % interval, and how many images of either kind it is of."""

    auc: float
    low: float
    high: float
    n: int
    n_real: int
    n_fake: int


def audit(
    items: Iterable[Surveyed], *, gate: float, distance_bits: int = 8, seed: int = 0
) -> dict[str, Any]:
    """The shortcut audit of a set, as the report and `wildrf audit --json` show it.

    The verdict is "shortcut" when the interval of the joint probe, or of one feature, is all above
    `gate`; "clean" when that of the probe is at or under it; otherwise "inconclusive": the set is
    too small to say.

    Args:
        items: images without a placement are left out, undecodable ones counted.
        gate: the AUC, 0.5 to 1, that file facts may reach.
        distance_bits: pHash distance of near-duplicates, which are kept in one fold.
        seed: of the folds, the probe and the shuffled labels.

    Raises:
        InputError: if only one label is there.
    """
    placed = [item for item in items if item.placement]
    decoded = sorted((i for i in placed if not i.image.error), key=lambda item: item.path)
    _need_both_labels(placed)
    table = Table.of(decoded, distance_bits=distance_bits)
    few = _too_few(table)
    measured = _nothing(table) if few else _measure(table, decoded, gate=gate, seed=seed)
    verdict = "inconclusive" if few else judge(measured["probe"], measured["causes"], gate)
    return {
        "verdict": verdict,
        "passes": verdict == "clean",
        "why": few or _why(verdict, measured, gate),
        "gate": gate,
        **measured,
        "n_undecodable": len(placed) - len(decoded),
        "undecodable": _count_labels(item for item in placed if item.image.error),
        "marks": _count_marks(placed),
    }


def judge(probe: Mapping[str, Any], causes: Sequence[str], gate: float) -> str:
    """The verdict on the joint probe's interval and the features that pass the gate alone."""
    if causes or probe["low"] > gate:
        return "shortcut"
    return "clean" if probe["high"] <= gate else "inconclusive"


@dataclass(frozen=True, slots=True)
class Table:
    """The file facts of N images as arrays, one row per image in the order of their paths.

    `codes` is (N, F): which of its values each feature takes, 0 for None; `numbers` is (N, F):
    numeric features with NaN for None, categories as their code; `categorical` is (F,).
    """

    names: tuple[str, ...]
    codes: Ints
    numbers: Floats
    categorical: NDArray[np.bool_]
    labels: Ints
    groups: Ints

    @classmethod
    def of(cls, items: Sequence[Surveyed], *, distance_bits: int) -> "Table":
        """The table of labelled, decodable images."""
        values = [[f.read(item) for item in items] for f in FEATURES.values()]
        categorical = [any(isinstance(v, str) for v in column) for column in values]
        codes = [encode(column) for column in values]
        numbers = [
            _most_frequent(code).astype(float) if is_text else _floats(column)
            for column, code, is_text in zip(values, codes, categorical, strict=True)
        ]
        labels = [int(item.placement.label) for item in items if item.placement]
        return cls(
            tuple(FEATURES),
            np.array(codes, np.int64).reshape(len(FEATURES), -1).T,
            np.array(numbers, np.float64).reshape(len(FEATURES), -1).T,
            np.array(categorical, np.bool_),
            np.array(labels, np.int64),
            find_groups(items, distance_bits=distance_bits),
        )

    def rows(self, which: NDArray[np.bool_], labels: Ints) -> "Table":
        """Some of the rows, under other labels."""
        return Table(
            self.names,
            self.codes[which],
            self.numbers[which],
            self.categorical,
            labels[which],
            self.groups[which],
        )

    def without(self, families: Sequence[str]) -> "Table":
        """All rows without the features of some families."""
        keep = np.array([FEATURES[name].family not in families for name in self.names])
        return Table(
            tuple(name for name in self.names if FEATURES[name].family not in families),
            self.codes[:, keep],
            self.numbers[:, keep],
            self.categorical[keep],
            self.labels,
            self.groups,
        )


def encode(column: Sequence[Value]) -> Ints:
    """Each value as a small number, (N,): 0 for None, then by order, many-valued numbers binned."""
    known = sorted(
        {value for value in column if value is not None}, key=lambda v: (str(type(v)), v)
    )
    if len(known) > BINS and not any(isinstance(value, str) for value in known):
        numbers = _floats(column)
        inner = np.nanquantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])
        binned = np.searchsorted(np.unique(inner), numbers, side="right") + 1
        return np.where(np.isnan(numbers), 0, binned).astype(np.int64)
    code = {value: n for n, value in enumerate(known, start=1)}
    return np.array([0 if value is None else code[value] for value in column], np.int64)


def _floats(column: Sequence[Value]) -> Floats:
    return np.array([np.nan if value is None else float(value) for value in column], np.float64)


def _most_frequent(codes: Ints) -> Ints:
    """Codes by frequency, all beyond the first `NAMED` alike: trees take few categories."""
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.minimum(rank[inverse], NAMED)


def find_groups(items: Sequence[Surveyed], *, distance_bits: int) -> Ints:
    """Which images must share a fold, (N,): same bytes or pixels, near-duplicates, known groups."""
    at = {item.path: n for n, item in enumerate(items)}
    edges = [(at[p.a.path], at[p.b.path]) for p in find_near(items, distance_bits=distance_bits)]
    first: dict[tuple[str, str], int] = {}
    for n, item in enumerate(items):
        told = {"bytes": item.image.digest, "pixels": item.image.pixels, "group": item.group}
        edges += [(first.setdefault((k, v), n), n) for k, v in told.items() if v]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (len(items), len(items)))
    components: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return components


def assign_folds(labels: Ints, groups: Ints, *, seed: int) -> Ints:
    """A fold 0 to 4 for each image, (N,): whole groups, the labels spread evenly, shuffled by seed.

    Groups are dealt out within their label (mixed ones apart), the largest first, each to the fold
    that has fewest of that label so far.
    """
    _, group = np.unique(groups, return_inverse=True)
    fakes = np.bincount(group, weights=labels)
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    held = np.zeros((2, FOLDS))
    fold = np.empty(len(sizes), np.int64)
    for g in order:
        kind = int(2 * fakes[g] >= sizes[g])
        fold[g] = int(np.argmin(held[kind]))
        held[:, fold[g]] += (sizes[g] - fakes[g], fakes[g])
    return fold[group]


def score_jointly(table: Table, *, seed: int) -> Floats:
    """Out-of-fold scores of boosted trees on all features, (N,): log odds above the prior's."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    folds = assign_folds(table.labels, table.groups, seed=seed)
    scores = np.zeros(len(table.labels))
    varies = np.ptp(table.codes, axis=0) > 0
    if not varies.any() or len(np.unique(table.labels)) < 2:
        return scores
    for fold, train, test in _each_fold(folds):
        model = HistGradientBoostingClassifier(
            max_iter=50,
            max_leaf_nodes=8,
            min_samples_leaf=int(np.clip(train.sum() // 60, 5, 40)),
            l2_regularization=1.0,
            early_stopping=False,
            categorical_features=table.categorical[varies],
            random_state=seed + fold,
        )
        share = table.labels[train].mean()
        with threadpool_limits(1, "openmp"):  # on a busy machine threads wait for each other
            model.fit(table.numbers[train][:, varies], table.labels[train])
            raw = model.decision_function(table.numbers[test][:, varies])
        scores[test] = np.round(raw - np.log(share / (1 - share)), 9)
    return scores


def score_alone(codes: Ints, labels: Ints, folds: Ints) -> Floats:
    """Out-of-fold scores of one feature, (N,): how far its value lifts the share of fakes.

    The share is that among the images of the same value in the other folds, less that among all of
    them; 0 for a value never seen there, so that rare values prove nothing.
    """
    scores = np.zeros(len(labels))
    for _, train, test in _each_fold(folds):
        size = int(codes.max()) + 1
        seen = np.bincount(codes[train], minlength=size)
        fakes = np.bincount(codes[train], weights=labels[train], minlength=size)
        prior = labels[train].mean()
        lift = (fakes + SMOOTHING * prior) / (seen + SMOOTHING) - prior
        scores[test] = np.round(lift, 9)[codes[test]]
    return scores


def _each_fold(folds: Ints) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in range(FOLDS):
        yield fold, folds != fold, folds == fold


def auc(labels: Ints, scores: Floats) -> float:
    """Area under the ROC curve: how often a fake scores above a real, ties half."""
    n_fake = int(labels.sum())
    n_real = len(labels) - n_fake
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[labels == 1].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def newcombe(value: float, n_real: int, n_fake: int) -> tuple[float, float]:
    """The 95 % interval of an AUC `value` measured on so many images of either label."""
    from scipy.optimize import brentq

    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    mean = (n_real + n_fake) / 2

    def variance(theta: float) -> float:
        inner = 2 * mean - 1 - (3 * mean - 3) / ((2 - theta) * (1 + theta))
        return theta * (1 - theta) * inner / (n_real * n_fake)

    def gap(theta: float) -> float:
        return float(abs(value - theta) - z * variance(theta) ** 0.5)

    edge = 1e-12  # the gap is 0 at a value of exactly 0 or 1: the root sought is the other one
    low = 0.0 if value <= edge else brentq(gap, 0.0, min(value, 1 - edge))
    high = 1.0 if value >= 1 - edge else brentq(gap, max(value, edge), 1.0)
    return float(low), float(high)


def measure(labels: Ints, scores: Floats) -> Interval:
    """The AUC of scores with its interval; both labels must be there."""
    n_fake = int(labels.sum())
    n_real = len(labels) - n_fake
    value = auc(labels, scores)
    low, high = newcombe(value, n_real, n_fake)
    return Interval(_tidy(value), _tidy(low), _tidy(high), len(labels), n_real, n_fake)


def _tidy(value: float) -> float:
    return round(value, 6)


def _measure(table: Table, items: Sequence[Surveyed], *, gate: float, seed: int) -> dict[str, Any]:
    """Everything that is measured on a set large enough."""
    scores = score_jointly(table, seed=seed)
    features = measure_features(table, seed=seed)
    causes = [feature["name"] for feature in features if feature["low"] > gate]
    return {
        "probe": asdict(measure(table.labels, scores)),
        "features": features,
        "causes": causes,
        "distributions": {name: distribution(name, items) for name in causes},
        "without_family": _without_families(table, causes, seed=seed),
        "floors": _floors(table, items, seed=seed),
        "by_split": _by_part(table, items, scores),
    }


def _nothing(table: Table) -> dict[str, Any]:
    """What `_measure` would hold, of a set too small to measure."""
    n_fake = int(table.labels.sum())
    counts = {"n": len(table.labels), "n_real": len(table.labels) - n_fake, "n_fake": n_fake}
    floors: dict[str, Any] = {"shuffled_labels": None, "real_vs_real": [], "fake_vs_fake": []}
    return {
        "probe": {"auc": None, "low": None, "high": None, **counts},
        "features": [],
        "causes": [],
        "distributions": {},
        "without_family": [],
        "floors": floors,
        "by_split": {},
    }


def measure_features(table: Table, *, seed: int) -> list[dict[str, Any]]:
    """Each feature alone, the strongest first; equals in the order of `FEATURES`."""
    folds = assign_folds(table.labels, table.groups, seed=seed)
    found = []
    for column, name in enumerate(table.names):
        codes = table.codes[:, column]
        told = {"name": name, "title": FEATURES[name].title, "family": FEATURES[name].family}
        measured = asdict(measure(table.labels, score_alone(codes, table.labels, folds)))
        found.append({**told, **measured, "constant": bool((codes == codes[0]).all())})
    return sorted(found, key=lambda feature: -feature["auc"])


def _without_families(table: Table, causes: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """What the joint probe still finds once one family of causes is taken away."""
    families = tuple(dict.fromkeys(FEATURES[name].family for name in causes))
    hidden: dict[str, tuple[str, ...]] = {family: (family,) for family in families}
    if len(families) > 1:
        hidden["all of these"] = families
    return [
        {"family": name, **asdict(measure(table.labels, score_jointly(rest, seed=seed)))}
        for name, rest in ((name, table.without(gone)) for name, gone in hidden.items())
    ]


def _floors(table: Table, items: Sequence[Surveyed], *, seed: int) -> dict[str, Any]:
    """What the probe finds where there is nothing to find, and between platforms of one label."""
    sources = np.array([item.placement.platform if item.placement else "" for item in items])
    return {
        "shuffled_labels": _shuffled(table, seed=seed),
        "real_vs_real": _between_sources(table, sources, Label.REAL, seed=seed),
        "fake_vs_fake": _between_sources(table, sources, Label.FAKE, seed=seed),
    }


def _shuffled(table: Table, *, seed: int) -> dict[str, Any]:
    """The joint probe on labels dealt out at random: mean, smallest and largest AUC of several."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(SHUFFLES):
        labels = draw.permutation(table.labels)
        blind = table.rows(np.ones(len(labels), np.bool_), labels)
        found.append(auc(labels, score_jointly(blind, seed=seed)))
    told = [_tidy(value) for value in (sum(found) / SHUFFLES, min(found), max(found))]
    return {"auc": told[0], "low": told[1], "high": told[2], "n": len(table.labels)}


def _between_sources(
    table: Table, sources: NDArray[np.str_], label: Label, *, seed: int
) -> list[dict[str, Any]]:
    """Can file facts tell two platforms apart within one label? The strongest pair first."""
    of_label = table.labels == label
    sizes = Counter(sources[of_label].tolist())
    large = [s for s, n in sorted(sizes.items(), key=_largest_first) if s and n >= MIN_PER_SOURCE]
    found = []
    for a, b in sorted(combinations(large, 2), key=lambda p: -min(sizes[p[0]], sizes[p[1]]))[
        :MAX_PAIRS
    ]:
        which = of_label & np.isin(sources, (a, b))
        pair = table.rows(which, (sources == b).astype(np.int64))
        if _too_few(pair):
            continue
        told = measure(pair.labels, score_jointly(pair, seed=seed))
        found.append(
            {
                "a": a,
                "b": b,
                "auc": told.auc,
                "low": told.low,
                "high": told.high,
                "n_a": told.n_real,
                "n_b": told.n_fake,
            }
        )
    return sorted(found, key=lambda pair: -pair["auc"])


def _largest_first(count: tuple[str, int]) -> tuple[int, str]:
    return -count[1], count[0]


def _by_part(table: Table, items: Sequence[Surveyed], scores: Floats) -> dict[str, dict[str, Any]]:
    """The joint probe's out-of-fold AUC in each split and platform that has both labels."""
    parts = np.array([part_of(item) for item in items])
    found: dict[str, dict[str, Any]] = {}
    for part in sorted(set(parts.tolist())):
        which = parts == part
        n_fake = int(table.labels[which].sum())
        if 0 < n_fake < which.sum():
            found[part] = asdict(measure(table.labels[which], scores[which]))
    return found


def part_of(item: Surveyed) -> str:
    """The split and platform of an image as one name, such as test/x."""
    if item.placement is None:
        return ""
    named = (item.placement.split or "", item.placement.platform)
    return "/".join(part for part in named if part) or "all"


def distribution(name: str, items: Sequence[Surveyed]) -> dict[str, Any]:
    """How one feature's values fall among the reals and the fakes.

    Few values are counted, `values` most frequent first; of many-valued numbers `quantiles` gives
    the quartiles.
    """
    read = FEATURES[name].read
    columns: dict[str, list[Value]] = {"real": [], "fake": []}
    for item in items:
        if item.placement:
            columns[item.placement.label.name.lower()].append(read(item))
    return {side: _describe(column) for side, column in columns.items()}


def _describe(column: Sequence[Value]) -> dict[str, Any]:
    counts = Counter(column)
    numbers = [value for value in column if isinstance(value, float)]
    described: dict[str, Any] = {"n": len(column), "distinct": len(counts)}
    if len(counts) > BINS and len(numbers) > len(column) / 2:
        quartiles = np.quantile(numbers, (0.25, 0.5, 0.75)).tolist()
        return {**described, "quantiles": [round(q, 3) for q in quartiles]}
    common = sorted(counts.items(), key=lambda count: (-count[1], str(count[0])))
    return {**described, "values": [[value, count] for value, count in common[:8]]}


def _need_both_labels(placed: Sequence[Surveyed]) -> None:
    counts = _count_labels(placed)
    if all(counts.values()):
        return
    raise InputError(
        f"found {counts['real']} real and {counts['fake']} fake images; an audit compares the two; "
        "add images under the missing label's folder (0_real or 1_fake)"
    )


def _count_labels(items: Iterable[Surveyed]) -> dict[str, int]:
    counts = Counter(item.placement.label for item in items if item.placement)
    return {"real": counts[Label.REAL], "fake": counts[Label.FAKE]}


def _count_marks(items: Iterable[Surveyed]) -> dict[str, dict[str, int]]:
    """How many images of either label carry each kind of evidence: C2PA, generator text, camera..."""
    marks: dict[str, Counter[Label]] = {}
    for item in items:
        if item.placement is None:
            continue
        for kind in {evidence.kind for evidence in item.evidence}:
            marks.setdefault(kind, Counter())[item.placement.label] += 1
    return {
        kind: {"real": n[Label.REAL], "fake": n[Label.FAKE]} for kind, n in sorted(marks.items())
    }


def _too_few(table: Table) -> str | None:
    """Why the set is too small to measure, or None."""
    n = len(table.labels)
    of_label = [len(np.unique(table.groups[table.labels == label])) for label in Label]
    if n >= MIN_IMAGES and min(of_label) >= MIN_PER_CLASS:
        return None
    return (
        f"{n} decodable images, {of_label[0]} different real, {of_label[1]} different fake ones; "
        f"at least {MIN_IMAGES}, and {MIN_PER_CLASS} of each label, are needed to measure anything"
    )


def _why(verdict: str, measured: Mapping[str, Any], gate: float) -> str:
    """The verdict in one line; where one feature says more than all together, it is the one told."""
    who, told = "file facts alone reach", measured["probe"]
    if measured["causes"] and told["low"] <= gate:
        told = measured["features"][0]
        who = f"{told['name']} alone reaches"
    said = f"{who} AUC {told['auc']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"
    return {
        "clean": f"{said}: within the gate of {gate:.2f}",
        "shortcut": f"{said}: above the gate of {gate:.2f}",
        "inconclusive": f"{said}: the gate of {gate:.2f} lies inside; more images would decide",
    }[verdict]
