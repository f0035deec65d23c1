"""The verb `stress`: choose tests, run them, write the page, tell the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.work import Progress
from pipelines.detect import checkpoint_of
from pipelines.output import table
from schemas.errors import InputError

if TYPE_CHECKING:
    from train.stress import StressTest


@dataclass(frozen=True, slots=True)
class Asked:
    """One command line. No `tests` means all that can run; `out` None means the run folder's own."""

    checkpoint: Path
    directory: Path
    tests: tuple[str, ...] = ()
    against: tuple[Path, ...] = ()
    out: Path | None = None
    max_images: int | None = None
    seed: int = 0
    device: str = "auto"


def run(asked: Asked, progress: Progress) -> dict[str, Any]:
    """What the tests found; stress.json, stress.parquet and stress.html are left where `out` says.

    Raises:
        InputError: if a test is not known, or a path cannot be used.
    """
    from pipelines.report.stress import write_stress_page
    from train.stress.run import Options, stress

    tests = choose(asked.tests, compares=bool(asked.against))
    checkpoint = checkpoint_of(asked.checkpoint)
    out = asked.out or default_place(checkpoint)
    started = False

    def advance(done: int, of: int) -> None:
        nonlocal started
        if not started:
            progress.start("stress", of)
            started = True
        progress.advance(1)

    result = stress(
        checkpoint, asked.directory, tests,
        against=[checkpoint_of(path) for path in asked.against],
        out=out,
        options=Options(max_images=asked.max_images, seed=asked.seed, device=asked.device),
        on_image=advance,
    )  # fmt: skip
    page = None if out is None else str(write_stress_page(result, out / "stress.html"))
    return {**result, "out": None if out is None else str(out), "report": page}


def choose(names: Sequence[str], *, compares: bool) -> "list[StressTest]":
    """The named tests in the order of the table; without names, all but those that lack a rival.

    Raises:
        InputError: if a name is not in the table.
    """
    from train.stress import TESTS

    unknown = [name for name in names if name not in TESTS]
    if unknown:
        raise InputError(
            f"--test {unknown[0]!r} is not known; expected one of {', '.join(TESTS)}; name one of these"
        )
    if names:
        return [test for name, test in TESTS.items() if name in names]
    return [test for test in TESTS.values() if compares or "rivals" not in test.needs]


def default_place(checkpoint: Path, name: str = "stress") -> Path | None:
    """The folder `name` of the run that `checkpoint` is from; None for a file of no run."""
    folder = checkpoint.parent
    return folder / name if (folder / "config.json").is_file() else None


def lines(result: dict[str, Any]) -> list[str]:
    """The verdict, a table per test, and where it was left."""
    sample = result["data"]["sample"]
    splits = ", ".join(_split(name, count) for name, count in sample["splits"].items())
    told = [f"{sample['images']} of {sample['of']} images ({splits}; {sample['rule']})"]
    told += [f"skipped {s['path']}: {s['reason']}" for s in result["data"]["skipped"][:10]]
    for name, found in result["tests"].items():
        told += ["", f"{name}: {found['title']} ({found['source']})"]
        told += LINES.get(found["figure"], _rows)(found)
    where = result["report"] or "nowhere; name a folder with --out"
    return [*told, "", f"report: {where}"]


def _split(name: str, count: int) -> str:
    return f"{count} in no split" if name == "none" else f"{count} of {name}"


def _rows(found: dict[str, Any]) -> list[str]:
    rows = [
        [row["name"], str(row["n"]), *(_interval(row[key]) for key in ("acc", "ap", "auc"))]
        for row in found["rows"]
    ]
    header = ["", "n", "ACC", "AP", "AUC"]
    return table(*_with_means(rows, header, found["rows"], "auc", "AUC"))


def _with_means(
    cells: list[list[str]], header: list[str], rows: list[dict[str, Any]], key: str, name: str
) -> tuple[list[list[str]], list[str]]:
    """A table with the unweighted mean over platforms in a last column, where there are several."""
    if len(rows[0]["platforms"]) < 2:
        return cells, header
    means = [_interval(row["mean"][key]) for row in rows]
    longer = [[*line, mean] for line, mean in zip(cells, means, strict=True)]
    return longer, [*header, f"{name}, mean of {len(rows[0]['platforms'])} platforms"]


def _counterfactual_lines(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            factor["name"],
            str(factor["rows"][0]["n"]),
            *(_interval(row["auc"]) for row in factor["rows"]),
            factor["verdict"],
        ]
        for factor in found["factors"]
    ]
    header = ["factor", "n", "AUC own", "all as fakes", "all as reals", "exchanged", ""]
    return [found["verdict"], *table(rows, header)]


def _flip_lines(found: dict[str, Any]) -> list[str]:
    keys = ("flip_rate", "flip_rate_real", "flip_rate_fake")
    rows = [
        [row["name"], str(row["n"]), *(_interval(row[key]) for key in keys)]
        for row in found["rows"]
    ]
    header = ["verdicts that flip", "n", "all", "reals", "fakes"]
    rows, header = _with_means(rows, header, found["rows"], "flip_rate", "all")
    together = ["any of these", str(found["any"]["n"]), _interval(found["any"])]
    return table([*rows, together + [""] * (len(header) - len(together))], header)


def _grid_lines(found: dict[str, Any]) -> list[str]:
    phase = ", ".join(f"{p['share']:.2f} of {label}s" for label, p in found["phase"].items())
    return [
        f"n = {found['n']}: logits spread by {_interval(found['spread'])} over the offsets, "
        f"verdicts flip for {_interval(found['flip_rate'])} of the images",
        f"the offset alone explains {phase}' variance ({found['phase_seen']})",
        f"AUC {_interval(found['worst']['auc'])} at the worst offset ({found['worst']['name']}), "
        f"{_interval(found['best']['auc'])} at the best ({found['best']['name']})",
    ]


def _cost_lines(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            row["name"], f"{row['macs'] / 1e9:.4f} G", f"{row['parameters']:,}",
            f"{1000 * row['seconds']['value']:.1f} ms ({1000 * row['seconds']['p05']:.1f} to "
            f"{1000 * row['seconds']['p95']:.1f}; n = {row['seconds']['n']})",
        ]
        for row in found["rows"]
    ]  # fmt: skip
    return table(rows, ["", "MACs", "parameters", "one core: median (5th to 95th percentile)"])


def _words(found: dict[str, Any]) -> list[str]:
    return [f"{found['words']} (n = {found['n']})"]


LINES = {
    "counterfactuals": _counterfactual_lines,
    "flips": _flip_lines,
    "grid": _grid_lines,
    "none": _cost_lines,
    "words": _words,
}
"""How the outcome of a test is told, by its `figure`; others have rows of metrics."""


def _interval(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
