"""Which encoder settings made a pair of quantisation tables.

A family is a list of settings, each with the luma and the chroma table it writes. The tables of a file
either equal those of a family at some setting, exactly, or they do not. Tables that are Annex K times one
factor each, as many cameras write, are "annex-k-scaled", exactly too, with the factors. Tables with the
shape that Apple's encoder writes are "anti-diagonal", whose settings nobody has published: no quality is
made up for them. All else is "other", with the nearest qualities on the IJG scale and the misfit as residual.
Tables of ones only are the finest setting of every family, so they are called "any" at 100.

The IJG law in integers is what libjpeg, libjpeg-turbo and Pillow compute (jcparam.c,
https://github.com/libjpeg-turbo/libjpeg-turbo/blob/main/src/jcparam.c); MozJPEG scales its own base tables
by the same law. Where the numbers come from: `curate.probe.bank`. A quality is comparable inside one family
only; `quality` is an ordinal for everything else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curate.probe import bank

Steps = NDArray[np.int64]
"""(64,) quantisation steps in natural order, or (n, 64) of them, one row for each setting."""

Table = tuple[int, ...]
"""64 quantisation steps in natural order."""

Law = Callable[[Steps], Steps]
"""Scales a base table to the tables of qualities 1 to 100."""

ANNEX_K_LUMA, ANNEX_K_CHROMA = bank.ANNEX_K


def ijg_baseline(base: Steps) -> Steps:
    """The law of jpeg_set_quality, steps held to 8 bits, as every baseline file has them."""
    return _ijg(base, 255)


def ijg_wide(base: Steps) -> Steps:
    """The same law without force_baseline: coarse settings keep 16-bit steps, as in cjpeg."""
    return _ijg(base, 32767)


def _ijg(base: Steps, largest: int) -> Steps:
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    scaled: Steps = (scale[:, None] * base + 50) // 100
    return scaled.clip(1, largest)


@dataclass(frozen=True, slots=True)
class Family:
    """One encoder family: its name, its settings, and (n, 64) tables of luma and of chroma."""

    name: str
    settings: tuple[int, ...]
    luma: Steps
    chroma: Steps


def scaled(name: str, bases: Sequence[Sequence[int]], law: Law) -> Family:
    """A family of one law on two base tables, or on one that luma and chroma share."""
    luma, chroma = (law(np.array(base)) for base in (bases[0], bases[-1]))
    return Family(name, tuple(range(1, 101)), luma, chroma)


def listed(name: str, rows: Sequence[tuple[int, Sequence[int], Sequence[int]]]) -> Family:
    """A family known by its tables alone."""
    settings, luma, chroma = zip(*rows, strict=True)
    return Family(name, settings, np.array(luma), np.array(chroma))


def jpegli(name: str) -> Family:
    """The family of jpegli: steps that shrink more slowly where the eye sees less."""
    luma, chroma = (_jpegli(np.array(base)) for base in bank.JPEGLI)
    return Family(name, tuple(range(1, 101)), luma, chroma)


def _jpegli(base: NDArray[np.float64]) -> Steps:
    q = np.arange(1, 101)[:, None]
    coarse = 53 / 3000 * q * q - 23 / 20 * q + 25
    distance = np.where(q >= 100, 0.01, np.where(q >= 30, 0.1 + 0.09 * (100 - q), coarse))
    exponent = np.array(bank.JPEGLI_EXPONENTS)
    bent = np.maximum(distance / 2, 1.5 ** (1 - exponent) * distance**exponent)
    steps = np.floor(base * np.where(distance < 1.5, distance, bent) + 0.5)
    clipped: Steps = steps.astype(np.int64).clip(1, 255)
    return clipped


@lru_cache(maxsize=1)
def families() -> tuple[Family, ...]:
    """The families known, the likeliest first. To add one: its line here, and its files in the test."""
    moz = [(f"mozjpeg-{k}", bases) for k, bases in bank.MOZJPEG.items()]
    return (
        scaled("ijg", bank.ANNEX_K, ijg_baseline),
        scaled("ijg", bank.ANNEX_K, ijg_wide),
        *(scaled(name, bases, ijg_baseline) for name, bases in moz),
        *(scaled(name, bases, ijg_wide) for name, bases in moz),
        jpegli("jpegli"),
        listed("photoshop", bank.PHOTOSHOP),
        listed("photoshop-web", bank.PHOTOSHOP_WEB),
    )


OTHER, ANY, SCALED, DIAGONAL = "other", "any", "annex-k-scaled", "anti-diagonal"


@dataclass(frozen=True, slots=True)
class Fit:
    """What tables were made with.

    `luma` and `chroma` are settings on the family's own scale: 0-12 for "photoshop", 1-100 elsewhere, the
    nearest on IJG's where the family is "other" or "annex-k-scaled", None for "anti-diagonal". `chroma` is
    None with one table. `exact`: the tables are those the family writes. `residual` is 1 - NSE of the tables
    against the IJG ones nearest, 0 if exact. `quality` is the IJG quality whose mean log step is nearest: an
    ordinal, never a setting. `scales` are percent of Annex K, luma and chroma, of "annex-k-scaled" alone.
    """

    family: str
    luma: int | None
    chroma: int | None
    exact: bool
    residual: float
    quality: int
    scales: tuple[float, ...] = ()


@lru_cache(maxsize=4096)
def fit(tables: tuple[Table, ...]) -> Fit:
    """The family and settings of one table (luma alone) or more (luma, then each chroma component's).

    Args:
        tables: each of 64 steps in natural order, luma first. With two chroma tables, both must be the
            family's, and the first one's setting is told.
    """
    quality = _ordinal(tables)
    if all(step == 1 for table in tables for step in table):
        return Fit(ANY, 100, 100 if len(tables) > 1 else None, True, 0.0, quality)
    matches = list(_matches(tables))
    if matches:
        family, luma, chroma = min(matches, key=lambda m: (m[0], m[2] not in (None, m[1])))
        return Fit(families()[family].name, luma, chroma, True, 0.0, quality)
    return _by_shape(tables, quality)


def _matches(tables: tuple[Table, ...]) -> Iterator[tuple[int, int, int | None]]:
    """Every family, by number, that writes these tables, with the settings of luma and chroma.

    Coarse tables are equal at several settings; chroma's is told as luma's wherever it may be.
    """
    for family, luma in _index()[0].get(tables[0], ()):
        chroma = [_index()[1][family].get(t, []) for t in tables[1:]]
        if not chroma:
            yield family, luma, None
        elif all(chroma):
            yield family, luma, luma if luma in chroma[0] else chroma[0][0]


def _index_of(rows: Steps, settings: Sequence[int]) -> dict[Table, list[int]]:
    found: dict[Table, list[int]] = defaultdict(list)
    for row, setting in zip(rows.tolist(), settings, strict=True):
        found[tuple(row)].append(setting)
    return found


@lru_cache(maxsize=1)
def _index() -> tuple[dict[Table, list[tuple[int, int]]], list[dict[Table, list[int]]]]:
    """Luma table to (family, setting), in order of likelihood; per family, chroma table to settings."""
    luma: dict[Table, list[tuple[int, int]]] = defaultdict(list)
    for number, family in enumerate(families()):
        for table, settings in _index_of(family.luma, family.settings).items():
            luma[table] += [(number, s) for s in settings]
    return luma, [_index_of(f.chroma, f.settings) for f in families()]


def _by_shape(tables: tuple[Table, ...], quality: int) -> Fit:
    """What is known of tables that no setting of a known family writes."""
    luma, chroma, residual = _nearest(tables)
    bases = (ANNEX_K_LUMA, *[ANNEX_K_CHROMA] * (len(tables) - 1))
    scales = [annex_k_scale(t, base) for t, base in zip(tables, bases, strict=True)]
    known = [s for s in scales if s is not None]
    if len(known) == len(tables):
        near = [_quality_of(s) for s in known[:2]]
        return Fit(
            SCALED, near[0], near[1] if chroma else None, True, 0.0, quality, tuple(known[:2])
        )
    if is_anti_diagonal(tables[0]):
        return Fit(DIAGONAL, None, None, False, residual, quality)
    return Fit(OTHER, luma, chroma, False, residual, quality)


def annex_k_scale(table: Sequence[int], base: Sequence[int]) -> float | None:
    """Percent of `base` that gives `table`, the middle of what would; None if no one factor does.

    Each step, rounded to the nearest or down or up, allows an interval of factors; where all intervals
    meet, the table is the base times a factor. Steps equal to the smallest may have been raised to it, steps
    of 255 cut to it, so they bound one side only. The DC step is left out: encoders that scale Annex K
    often set it by hand.
    """
    steps, bases = np.array(table[1:]), np.array(base[1:])
    if (steps == steps[0]).all():
        return None
    cut = (steps == 255) & (steps.max() == 255)
    for rounding in (0.5, 0.0, 1.0):
        least = np.where(steps > steps.min(), (steps - rounding) / bases, 0.0).max()
        most = np.where(cut, np.inf, (steps + 1 - rounding) / bases).min()
        # Rounded down, the upper end is not reached; up, the lower is not; halves go either way.
        tie = 1e-9 if rounding == 0.5 else -1e-9
        if least - tie < most < np.inf:
            return round(50 * float(least + most), 3)
    return None


def _quality_of(percent: float) -> int:
    """The IJG quality that scales by this."""
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


def is_anti_diagonal(table: Sequence[int]) -> bool:
    """Whether steps depend on max(row, 1) + max(column, 1) alone and grow with it, as Apple's luma does."""
    along: dict[int, set[int]] = defaultdict(set)
    for position, step in enumerate(table):
        along[max(position // 8, 1) + max(position % 8, 1)].add(step)
    steps = [min(along[k]) for k in sorted(along)]
    return (
        all(len(s) == 1 for s in along.values()) and steps == sorted(steps) and len(set(steps)) > 3
    )


def _nearest(tables: tuple[Table, ...]) -> tuple[int, int | None, float]:
    """Least squares on the IJG tables, each table by itself: qualities, and the misfit of the first two."""
    found = [np.array(t) for t in tables[:2]]
    ijg = families()[0]
    errors = [
        ((rows - t) ** 2).sum(axis=1)
        for t, rows in zip(found, (ijg.luma, ijg.chroma), strict=False)
    ]
    luma, *chroma = [int(e.argmin()) + 1 for e in errors]
    spread = sum(float(((t - t.mean()) ** 2).sum()) for t in found)
    residual = sum(float(e.min()) for e in errors) / max(spread, 1.0)
    return luma, chroma[0] if chroma else None, max(round(residual, 6), 1e-6)


def _ordinal(tables: tuple[Table, ...]) -> int:
    """The IJG quality whose mean log step, over the first two tables, is nearest."""
    ours = sum(float(np.log(np.array(t).clip(1)).mean()) for t in tables[:2])
    scale = _log_means()[: len(tables)].sum(axis=0)
    return int(np.abs(scale - ours).argmin()) + 1


@lru_cache(maxsize=1)
def _log_means() -> NDArray[np.float64]:
    """(2, 100) mean log step of the IJG tables, luma and chroma, by quality."""
    return np.stack(
        [np.log(rows).mean(axis=1) for rows in (families()[0].luma, families()[0].chroma)]
    )
