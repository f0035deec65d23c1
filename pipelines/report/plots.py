"""Plots as inline SVG: same values, same bytes.

Text takes the page's own colour, so a plot reads in light and dark and in print. Colours are Okabe
and Ito's (https://jfly.uni-koeln.de/color/), told apart by the colour-blind; real is always blue,
fake always vermilion.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.output import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]

REAL, FAKE, GATE, GREEN, PURPLE, ORANGE = (
    "#0072B2",
    "#D55E00",
    "#CC3311",
    "#009E73",
    "#CC79A7",
    "#E69F00",
)
CYCLE = (REAL, FAKE, GREEN, PURPLE, ORANGE, "#56B4E9")
PAGE = {REAL: "real", FAKE: "fake", GATE: "bad"}
"""Drawn in the page's own shade of the colour, which is lighter in the dark."""
INK = "#010203"
"""Drawn as the page's text colour: replaced by `currentColor` in the SVG."""
WIDTH = 7.6
"""Inches; the page scales it."""
HALF = 4.3
"""Inches of a plot with another beside it."""
STYLE: Any = {
    "svg.hashsalt": "wildrf",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": False,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of a dot plot: a value with its interval."""

    name: str
    value: float
    low: float
    high: float


def dot_plot(dots: Sequence[Dot], *, gate: float | None = None, label: str = "AUC") -> str:
    """Values with their intervals, one per row, from the top; 0.5 and the gate are marked."""

    def draw(axes: "Axes") -> None:
        for row, dot in enumerate(reversed(dots)):
            over = gate is not None and dot.low > gate
            color = FAKE if over else REAL
            axes.plot([dot.low, dot.high], [row, row], color=color, linewidth=2, alpha=0.55)
            axes.plot([dot.value], [row], "o" if not over else "D", color=color, markersize=6)
        axes.set_yticks(range(len(dots)), [_short(dot.name) for dot in reversed(dots)])
        axes.set_ylim(-0.7, len(dots) - 0.3)
        axes.set_xlim(min(0.38, *(dot.low - 0.02 for dot in dots)), 1.03)
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.text(0.5, len(dots) - 0.25, "chance", ha="center", va="bottom", fontsize=9)
        if gate is not None:
            axes.axvline(gate, color=GATE, linewidth=1.2)
            axes.text(gate + 0.004, len(dots) - 0.25, f"gate {gate:.2f}", va="bottom", fontsize=9)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)

    return _draw(draw, height=0.9 + 0.29 * len(dots), alt=f"{label} of {len(dots)} rows")


def curves(
    series: Mapping[str, Sequence[float | None]],
    *,
    x_label: str,
    y_label: str,
    start: int = 1,
    width: float = WIDTH,
    ceiling: float | None = None,
) -> str:
    """Curves over steps or epochs, one per name; missing steps are None or NaN.

    The values start at 0 and end at `ceiling`, if there is one. A single curve needs no legend.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for n, (name, values) in enumerate(series.items()):
            steps = range(start, start + len(values))
            axes.plot(
                steps,
                np.array(values, float),
                label=_short(name),
                color=CYCLE[n % len(CYCLE)],
                linestyle=("-", "--", ":")[n % 3],
                marker="o",
                markersize=3,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_ylim(0, ceiling)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(series) > 1:
            axes.legend()

    return _draw(draw, height=3.2, width=width, alt=f"{y_label} over {x_label}")


def intervals(dots: Sequence[Dot], *, label: str, reference: float | None = None) -> str:
    """Values with their intervals, one per row, from the top; `reference` is marked by a line."""

    def draw(axes: "Axes") -> None:
        for row, dot in enumerate(reversed(dots)):
            axes.plot([dot.low, dot.high], [row, row], color=REAL, linewidth=2, alpha=0.55)
            axes.plot([dot.value], [row], "o", color=REAL, markersize=6)
        axes.set_yticks(range(len(dots)), [_short(dot.name) for dot in reversed(dots)])
        axes.set_ylim(-0.7, len(dots) - 0.3)
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)

    return _draw(draw, height=0.8 + 0.29 * len(dots), alt=f"{label} of {len(dots)} rows")


def bands(
    x: Sequence[float], series: Mapping[str, Sequence[Dot]], *, x_label: str, y_label: str
) -> str:
    """Curves of shares over `x`, the first value at the left, each in the band of its intervals.

    The values reach from 0.45, or below what is lowest, to 1, so that little looks like little.
    """

    def draw(axes: "Axes") -> None:
        for n, (name, dots) in enumerate(series.items()):
            color = CYCLE[n % len(CYCLE)]
            low, high = [dot.low for dot in dots], [dot.high for dot in dots]
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
            axes.plot(
                x, [dot.value for dot in dots], label=_short(name), color=color,
                linestyle=("-", "--", ":")[n % 3], marker="o", markersize=3,
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        lowest = min(dot.low for dots in series.values() for dot in dots)
        axes.set_ylim(min(0.45, lowest - 0.02), 1.02)
        if x[0] > x[-1]:
            axes.invert_xaxis()
        if len(series) > 1:
            axes.legend()

    return _draw(draw, height=3.2, alt=f"{y_label} over {x_label}")


def grid_map(values: ArrayLike, limit: float, *, label: str) -> str:
    """A small square of cells, blue below 0 and vermilion above, full at `limit`; `label` has units."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("real-fake", [REAL, "#FFFFFF", FAKE])

    def draw(axes: "Axes") -> None:
        shown = axes.imshow(np.asarray(values, float), cmap=shades, vmin=-limit, vmax=limit)
        axes.set_xlabel("columns cut off")
        axes.set_ylabel("rows cut off")
        bar = axes.figure.colorbar(shown, ax=axes, label=label)
        bar.outline.set_edgecolor(INK)

    return _draw(draw, height=3.4, width=HALF, alt=label)


def rocs(curves: Mapping[str, tuple[Floats, Floats]]) -> str:
    """One ROC curve per name, of false and true positive rates."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        drawn = [_line(axes, n, *curve) for n, curve in enumerate(curves.values())]
        axes.set_xlabel("reals called fake")
        axes.set_ylabel("fakes called fake")
        axes.set_aspect("equal")
        # lines are named here: matplotlib hides those whose own label begins with "_"
        axes.legend(drawn, list(map(_short, curves)), loc="lower right", fontsize=9)

    return _draw(draw, height=4.2, width=HALF, alt="ROC curves")


DEVIATES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
"""Rates marked on the axes of a DET plot."""


def det(curves: Mapping[str, tuple[Floats, Floats]]) -> str:
    """Error rates of both classes against each other on normal deviate axes, one curve per name.

    What is a corner in a ROC curve is stretched here (Martin et al. 1997): scores that are normal in
    both classes give a straight line, and a better detector lies lower left. Rates of 0 and 1 lie at
    infinity and are not drawn.
    """
    from scipy.special import ndtri

    def draw(axes: "Axes") -> None:
        for n, (false, true) in enumerate(curves.values()):
            inside = (false > 0) & (false < 1) & (true > 0) & (true < 1)
            _line(axes, n, ndtri(false[inside]), ndtri(1 - true[inside]))
        ticks = [float(ndtri(rate)) for rate in DEVIATES]
        labels = [f"{rate:.1%}".replace(".0%", "%") for rate in DEVIATES]
        axes.set_xticks(ticks, labels, fontsize=8, rotation=45)
        axes.set_yticks(ticks, labels, fontsize=8)
        axes.set_xlim(ticks[0], ticks[-1])
        axes.set_ylim(ticks[0], ticks[-1])
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        axes.set_xlabel("reals called fake")
        axes.set_ylabel("fakes called real")
        axes.set_aspect("equal")

    return _draw(draw, height=4.2, width=HALF, alt="DET curves")


def _line(axes: "Axes", n: int, x: Floats, y: Floats) -> "Line2D":
    style = ("-", "--", ":")[n % 3]
    (drawn,) = axes.plot(x, y, color=CYCLE[n % len(CYCLE)], linestyle=style, linewidth=1.8)
    return drawn


def reliability(bins: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Share of fakes observed against P(fake) predicted, one series per name.

    The more images a bin holds the larger its dot; the legend says how many the largest one holds.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        for n, (name, rows) in enumerate(bins.items()):
            most = max(row["n"] for row in rows)
            x, y = [row["predicted"] for row in rows], [row["observed"] for row in rows]
            sizes = [8 + 90 * row["n"] / most for row in rows]
            color = CYCLE[n % len(CYCLE)]
            axes.plot(x, y, color=color, linewidth=1.2, alpha=0.7)
            label = f"{name} (largest: n = {most:.0f})"
            axes.scatter(x, y, s=sizes, color=color, marker="os"[n % 2], alpha=0.8, label=label)
        axes.set_xlabel("predicted P(fake)")
        axes.set_ylabel("observed share of fakes")
        axes.set_aspect("equal")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), markerscale=0.6, fontsize=9)

    return _draw(draw, height=4.2, width=HALF, alt="reliability diagram")


def histogram(
    real: Sequence[float], fake: Sequence[float], *, label: str = "score", width: float = WIDTH
) -> str:
    """How the scores of reals and of fakes fall, each as shares of its own number."""
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(real), np.asarray(fake)]), bins=30)

    def draw(axes: "Axes") -> None:
        for values, color, name, hatch in ((real, REAL, "real", ""), (fake, FAKE, "fake", "///")):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axes.hist(
                    values,
                    edges.tolist(),
                    weights=weights,
                    color=color,
                    alpha=0.5,
                    hatch=hatch,
                    edgecolor=color,
                    label=f"{name} (n = {len(values)})",
                )
        axes.set_xlabel(label)
        axes.set_ylabel("share of images")
        axes.legend()

    return _draw(draw, height=3.0, width=width, alt=f"histogram of {label}")


def _short(name: str) -> str:
    shown = printable(name)  # names of files come from strangers
    return shown if len(shown) <= 34 else f"{shown[:33]}…"


def _draw(draw: Any, *, height: float, alt: str, width: float = WIDTH) -> str:
    """The SVG of what `draw` puts on the axes it is given."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        return _inline(_svg_of(figure), alt)


def _svg_of(figure: "Figure") -> str:
    written = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return written.getvalue()


def _inline(svg: str, alt: str) -> str:
    """The SVG element alone, as wide as its place, its ink the colour of the page's text."""
    element = svg[svg.index("<svg") :]
    start, rest = element.split(">", 1)
    start = re.sub(r' (width|height)="[^"]*"', "", start)
    element = f'{start} width="100%" role="img" aria-label={quoteattr(alt)}>{rest}'
    for color, name in PAGE.items():
        element = element.replace(color.lower(), f"var(--{name}, {color.lower()})")
    return element.replace(INK, "currentColor")
