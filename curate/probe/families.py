"""Which encoder settings made a pair of quantisation tables.

A family is a pair of base tables and a law that scales them for a quality of 1 to 100. The tables
of a file either equal those of a family at some quality, exactly, or they do not: then the family
is "other" and the qualities are the nearest on the IJG scale, with the misfit as residual. Tables
of ones only are the finest setting of every family, so they are called "any" at 100.

The IJG law in integers is what libjpeg, libjpeg-turbo and Pillow compute (jcparam.c,
https://github.com/libjpeg-turbo/libjpeg-turbo/blob/main/src/jcparam.c); base tables: ITU-T T.81
Annex K. Quality is comparable inside one family only; `quality` is an ordinal for everything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
"""(64,) quantisation steps in natural order, or (100, 64) of them, row q-1 for quality q."""

Law = Callable[[Steps], Steps]
"""Scales a base table to the tables of qualities 1 to 100."""

# fmt: off
ANNEX_K_LUMA = (
    16,  11,  10,  16,  24,  40,  51,  61,
    12,  12,  14,  19,  26,  58,  60,  55,
    14,  13,  16,  24,  40,  57,  69,  56,
    14,  17,  22,  29,  51,  87,  80,  62,
    18,  22,  37,  56,  68, 109, 103,  77,
    24,  35,  55,  64,  81, 104, 113,  92,
    49,  64,  78,  87, 103, 121, 120, 101,
    72,  92,  95,  98, 112, 100, 103,  99,
)
ANNEX_K_CHROMA = (
    17,  18,  24,  47,  99,  99,  99,  99,
    18,  21,  26,  66,  99,  99,  99,  99,
    24,  26,  56,  99,  99,  99,  99,  99,
    47,  66,  99,  99,  99,  99,  99,  99,
    99,  99,  99,  99,  99,  99,  99,  99,
    99,  99,  99,  99,  99,  99,  99,  99,
    99,  99,  99,  99,  99,  99,  99,  99,
    99,  99,  99,  99,  99,  99,  99,  99,
)
# fmt: on


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
    """One encoder family: its name, base tables in natural order, and law of scaling."""

    name: str
    luma: Sequence[int]
    chroma: Sequence[int]
    law: Law


FAMILIES: tuple[Family, ...] = (
    Family("ijg", ANNEX_K_LUMA, ANNEX_K_CHROMA, ijg_baseline),
    Family("ijg", ANNEX_K_LUMA, ANNEX_K_CHROMA, ijg_wide),
)
"""The families known. To add one: its line here, and files of that encoder in the test."""

OTHER, ANY = "other", "any"


@dataclass(frozen=True, slots=True)
class Fit:
    """What tables were made with.

    `luma` and `chroma` are qualities 1-100 on the family's scale (on IJG's where the family is
    "other"); `chroma` is None with one table. `residual` is 1 - NSE of the tables against those
    settings, 0 if exact. `quality` is the IJG quality whose mean log step is nearest: an ordinal,
    never a setting.
    """

    family: str
    luma: int
    chroma: int | None
    exact: bool
    residual: float
    quality: int


@lru_cache(maxsize=4096)
def fit(tables: tuple[tuple[int, ...], ...]) -> Fit:
    """The family and quality of one table (luma alone) or two (luma, chroma); more are not used.

    Args:
        tables: each of 64 steps in natural order, luma first.
    """
    found = [np.array(t, dtype=np.int64) for t in tables[:2]]
    quality = _ordinal(found)
    if all((t == 1).all() for t in found):
        return Fit(ANY, 100, 100 if len(found) == 2 else None, True, 0.0, quality)
    for family, bank in zip(FAMILIES, _banks(), strict=True):
        matches = [
            np.flatnonzero((rows == t).all(axis=1)) for t, rows in zip(found, bank, strict=False)
        ]
        if all(m.size for m in matches):
            luma, chroma = _settings(matches)
            return Fit(family.name, luma, chroma, True, 0.0, quality)
    return _nearest(found, quality)


def _settings(matches: list[NDArray[np.intp]]) -> tuple[int, int | None]:
    """Qualities of luma and chroma; coarse chroma tables are equal, then luma's is the likely one."""
    luma, *chroma = [m + 1 for m in matches]
    if not chroma:
        return int(luma[0]), None
    return int(luma[0]), int(luma[0] if luma[0] in chroma[0] else chroma[0][0])


def _nearest(found: list[Steps], quality: int) -> Fit:
    """Least squares on the IJG tables, each table by itself."""
    errors = [((rows - t) ** 2).sum(axis=1) for t, rows in zip(found, _banks()[0], strict=False)]
    luma, *chroma = [int(e.argmin()) + 1 for e in errors]
    spread = sum(float(((t - t.mean()) ** 2).sum()) for t in found)
    residual = sum(float(e.min()) for e in errors) / max(spread, 1.0)
    return Fit(OTHER, luma, chroma[0] if chroma else None, False, round(residual, 6), quality)


def _ordinal(found: list[Steps]) -> int:
    """The IJG quality whose mean log step, over the tables there are, is nearest."""
    ours = sum(float(np.log(t.clip(1)).mean()) for t in found)
    scale = _log_means()[: len(found)].sum(axis=0)
    return int(np.abs(scale - ours).argmin()) + 1


@lru_cache(maxsize=1)
def _banks() -> tuple[tuple[Steps, Steps], ...]:
    """Per family, (100, 64) tables of luma and of chroma."""
    return tuple((f.law(np.array(f.luma)), f.law(np.array(f.chroma))) for f in FAMILIES)


@lru_cache(maxsize=1)
def _log_means() -> NDArray[np.float64]:
    """(2, 100) mean log step of the IJG tables, luma and chroma, by quality."""
    return np.stack([np.log(rows).mean(axis=1) for rows in _banks()[0]])
