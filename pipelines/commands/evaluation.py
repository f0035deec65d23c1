"""Verbs that judge a detector, or let it judge: evaluate, calibrate, compare, matrix, predict."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Checkpoint, Device, Folder, Images, Json
from pipelines.commands.telling import show, show_rows, working

Places = Annotated[
    list[Path],
    typer.Argument(
        metavar="[CKPT] DIR", help="A checkpoint or run (not with --scores), and the images."
    ),
]
Scores = Annotated[
    Path | None,
    typer.Option("--scores", metavar="FILE", help="Another detector's: Parquet or CSV."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Where scores.parquet and report.html go; default: nowhere."
    ),
]
Reencoded = Annotated[
    bool,
    typer.Option("--reencoded", help="Score again with every image in one format; twice the time."),
]
Leaks = Annotated[
    str,
    typer.Option("--leaks", metavar="bytes|full|none", help="How to look for images learnt from."),
]
TrainedOn = Annotated[
    Path | None,
    typer.Option("--trained-on", metavar="DIR", help="What it learnt from, if not recorded."),
]
LeakWorkers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Processes of --leaks full; default: per core."),
]
Draws = Annotated[int, typer.Option("--draws", min=100, metavar="N", help="Bootstrap draws.")]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of the draws.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders or score files.")]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (evaluate, calibrate, compare, matrix, predict):
        app.command()(verb)


def evaluate(
    places: Places,
    scores: Scores = None,
    out: Out = None,
    reencoded: Reencoded = False,
    leaks: Leaks = "bytes",
    trained_on: TrainedOn = None,
    draws: Draws = 1000,
    seed: DrawSeed = 0,
    workers: LeakWorkers = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure a detector per platform, with intervals.

    Example: wildrf evaluate runs/v1 releases/v1 --out runs/v1/evaluation
    """
    from pipelines import detect
    from pipelines import evaluation as verb
    from pipelines.engines import open_engine

    root = verb.one_folder(places, scores)
    verb.refuse_with_scores(scores, reencoded=reencoded, device=device)
    looking = verb.looking_for(leaks, trained_on)
    with open_engine("local", workers=workers) as engine, working() as progress:
        if scores is not None:
            result = verb.evaluate_table(
                scores, root, out, looking=looking, draws=draws, seed=seed, engine=engine,
                progress=progress,
            )  # fmt: skip
        else:
            result = verb.evaluate_folder(
                detect.checkpoint_of(places[0]), root, out, device, looking=looking,
                reencoded=reencoded, draws=draws, seed=seed, engine=engine, progress=progress,
            )  # fmt: skip
    show(result, verb.evaluate_lines(result), as_json)


def calibrate(
    checkpoint: Checkpoint,
    directory: Folder,
    rates: Annotated[
        list[float] | None,
        typer.Option(
            "--fpr", min=0.0001, max=0.5, metavar="R", help="A false positive rate to promise."
        ),
    ] = None,
    undecided: Annotated[
        float | None,
        typer.Option(
            "--undecided",
            min=0.0001,
            max=0.5,
            metavar="R",
            help="Leave undecided what would err more often than R on either class.",
        ),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Learn a temperature and thresholds from validation images.

    They are left beside the checkpoint, and `wildrf evaluate` uses them.

    Example: wildrf calibrate runs/v1 releases/v1 --fpr 0.01 --undecided 0.05
    """
    from pipelines import detect
    from pipelines import evaluation as verb

    with working() as progress:
        result = verb.calibrate_folder(
            detect.checkpoint_of(checkpoint),
            directory,
            device,
            rates or [0.01, 0.05],
            progress,
            undecided=undecided,
        )
    show(result, verb.calibrate_lines(result), as_json)


def compare(runs: Runs, draws: Draws = 1000, seed: DrawSeed = 0, as_json: Json = False) -> None:
    """Compare detectors on the same images, each with the first.

    Example: wildrf compare runs/v1 runs/v2
    """
    from pipelines import evaluation as verb

    result = verb.compare_runs(runs, draws=draws, seed=seed)
    show(result, verb.compare_lines(result), as_json)


def matrix(
    runs: Runs,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="A page of it; default: none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how each run does on platforms it was not trained on.

    Example: wildrf matrix runs/reddit runs/x
    """
    from pipelines import evaluation as verb

    result = verb.matrix_of(runs, report)
    show(result, verb.matrix_lines(result), as_json)


def predict(
    checkpoint: Checkpoint, paths: Images, device: Device = None, as_json: Json = False
) -> None:
    """Score images; near 1 is fake, near 0 is real.

    With --json, a line each: path, logit, score. A calibrated checkpoint (see wildrf calibrate) adds a
    probability that holds as a frequency, and a verdict.

    Example: wildrf predict runs/v1 photo.jpg --json
    """
    from pipelines import detect

    rows = detect.predict_paths(detect.checkpoint_of(checkpoint), paths, device)
    show_rows(rows, detect.predict_line, as_json)
