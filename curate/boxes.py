"""Where, inside a picture, another picture is shown: within a border, under a caption, on a screen.

Social media show pictures on plain paper. A row or column is plain when nine tenths of it have one
grey level; what is left after plain ones are cut away is looked for in three ways, because each
fails where another does not:

* `trimmed`: between the first and the last row and column that is not plain (a border);
* `box`: the longest run of rows, then of columns, that are not plain (a caption, lines of text);
* `page`, `sheet`: the longest run of rows that are in part not the colour of the page (a picture
  that has plain rows of its own, among text).

Pure; works on a reduced picture. Boxes are shares of the sides, so that they hold at any size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""(H, W) grey levels."""

Flags = NDArray[np.bool_]

SAMPLES = 9
"""Pixels of a row whose median is its paper, if it has any."""

NEAR_PAPER = 5
"""Grey levels around the paper that JPEG noise makes of it."""

PLAIN_SHARE = 0.9
"""How much of a plain row is paper: the rest may be the handle of a scroll bar, a margin's edge."""

COVERED_SHARE = 0.2
"""How much of a row of a picture, at least, is not the colour of the page."""

OFF_PAGE = 8
"""Grey levels from the page within which a pixel counts as page: dark pages are near dark pictures."""

LEAST_SIDE, LEAST_AREA, LONGEST_SHAPE = 16, 0.1, 5.0
"""Pixels, share of the whole, long by short side: what is smaller is an icon, what is longer a bar."""

SAME = 0.01
"""Boxes whose sides differ by less than this share are one."""

ROUNDS = 3
"""Rows are looked at again once columns are cut, and so on; nothing changes later than this."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, as shares of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def like(self, other: "Box") -> bool:
        """Whether no side of the two differs noticeably."""
        mine, others = _sides(self), _sides(other)
        return all(abs(a - b) <= SAME for a, b in zip(mine, others, strict=True))

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The box in pixels of a picture of that size."""
        return self.left * width, self.top * height, self.right * width, self.bottom * height


WHOLE = Box(0.0, 0.0, 1.0, 1.0)

Span = tuple[int, int]
Area = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def find_boxes(grey: Grey) -> dict[str, Box]:
    """The pictures inside `grey`, by the way they were found; most pictures have none."""
    columns = np.ascontiguousarray(grey.T)
    plain_rows, papers = _plain(grey)
    plain_columns, _ = _plain(columns)
    if not plain_rows.any() and not plain_columns.any():
        return {}
    found: dict[str, Box] = {}
    for name, area in _candidates(grey, columns, plain_rows, plain_columns, papers):
        if area is not None and _is_picture(area, grey.shape):
            box = _box(area, grey.shape)
            if not any(box.like(other) for other in (WHOLE, *found.values())):
                found[name] = box
    return found


def _candidates(
    grey: Grey, columns: Grey, plain_rows: Flags, plain_columns: Flags, papers: Grey
) -> Iterator[tuple[str, Area | None]]:
    rows, across = _extent(~plain_rows), _extent(~plain_columns)
    yield "trimmed", None if rows is None or across is None else _area(across, rows)
    yield "box", _busiest(grey, columns, _longest(~plain_rows))
    for name, page in _pages(plain_rows, papers).items():
        yield name, _covered(~_within_levels(grey, np.uint8(page), OFF_PAGE))


def _pages(plain_rows: Flags, papers: Grey) -> dict[str, int]:
    """What may be the colour of the page.

    The paper of most runs of plain rows, of which there are many between lines of text and few in a
    picture; and, where that is another, the paper at the top.
    """
    starts = papers[plain_rows & ~np.concatenate([[False], plain_rows[:-1]])]
    if not len(starts):
        return {}
    most = int(np.bincount(starts, minlength=256).argmax())
    top = int(starts[0])
    return {"page": most} if abs(most - top) <= OFF_PAGE else {"page": most, "sheet": top}


def _plain(lines: Grey) -> tuple[Flags, Grey]:
    """Which rows are plain, and the paper of each: the median of a few of its pixels."""
    width = lines.shape[1]
    places = (np.arange(SAMPLES) * width + width // 2) // SAMPLES
    papers = np.sort(lines[:, places], axis=1)[:, SAMPLES // 2]
    paper = _within_levels(lines, papers[:, None], NEAR_PAPER)
    return _share(paper) >= PLAIN_SHARE, papers


def _within_levels(grey: Grey, middle: Grey | np.uint8, levels: int) -> Flags:
    """Which pixels are at most `levels` from `middle`."""
    step = np.uint8(levels)
    lowest = np.maximum(middle, step) - step
    highest = np.minimum(middle, np.uint8(255) - step) + step
    # Unsigned differences wrap around, so that one comparison tests both ends of the range.
    flags: Flags = (grey - lowest) <= highest - lowest
    return flags


def _share(flags: Flags) -> NDArray[np.float64]:
    """The share of each row that is set; counting packed bits is several times faster than a mean."""
    counts: NDArray[np.float64] = np.bitwise_count(np.packbits(flags, axis=1)).sum(1)
    return counts / flags.shape[1]


def _busiest(grey: Grey, columns: Grey, rows: Span | None) -> Area | None:
    """The longest run of rows that are not plain, then of columns within it, until both stay."""
    area: Area | None = None
    across: Span | None = (0, grey.shape[1])
    for _ in range(ROUNDS):
        if rows is None or across is None:
            return None
        run = _longest(~_plain(columns[across[0] : across[1], rows[0] : rows[1]])[0])
        across = None if run is None else (across[0] + run[0], across[0] + run[1])
        if across is None or _area(across, rows) == area:
            break
        area = _area(across, rows)
        run = _longest(~_plain(grey[rows[0] : rows[1], across[0] : across[1]])[0])
        rows = None if run is None else (rows[0] + run[0], rows[0] + run[1])
    return area


def _covered(covered: Flags) -> Area | None:
    """The longest run of rows partly covered, and the columns and rows partly covered within."""
    rows = _longest(_share(covered) >= COVERED_SHARE)
    across: Span | None = (0, covered.shape[1])
    for _ in range(ROUNDS):
        if rows is None or across is None:
            return None
        inside = np.ascontiguousarray(covered[rows[0] : rows[1], across[0] : across[1]].T)
        across = _within(across, _extent(_share(inside) >= COVERED_SHARE))
        if across is None:
            return None
        inside = covered[rows[0] : rows[1], across[0] : across[1]]
        rows = _within(rows, _extent(_share(inside) >= COVERED_SHARE))
    return None if rows is None or across is None else _area(across, rows)


def _within(span: Span, part: Span | None) -> Span | None:
    return None if part is None else (span[0] + part[0], span[0] + part[1])


def _extent(busy: Flags) -> Span | None:
    """From the first to behind the last that is set."""
    places = np.flatnonzero(busy)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else None


def _longest(busy: Flags) -> Span | None:
    """The longest run that is set, the first of equals."""
    edges = np.flatnonzero(np.diff(busy.astype(np.int8), prepend=0, append=0))
    if not len(edges):
        return None
    starts, ends = edges[0::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return int(starts[longest]), int(ends[longest])


def _area(across: Span, rows: Span) -> Area:
    return across[0], rows[0], across[1], rows[1]


def _is_picture(area: Area, shape: tuple[int, ...]) -> bool:
    width, height = area[2] - area[0], area[3] - area[1]
    large = width * height >= LEAST_AREA * shape[0] * shape[1]
    long = max(width, height) > LONGEST_SHAPE * min(width, height)
    return large and not long and min(width, height) >= LEAST_SIDE


def _box(area: Area, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = area
    height, width = shape
    return Box(left / width, top / height, right / width, bottom / height)


def _sides(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom
