"""The command line: one function per verb, each of which parses, calls one function and shows the result.

Human text goes to stderr; with ``--json``, stdout gets one JSON document (or JSON lines) and nothing else.
Exit codes: 0 fine, 1 a gate said no, 2 bad input or usage. Nothing heavy is imported before a verb runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands import deploy, evaluation
from pipelines.commands import explain as explain_verb
from pipelines.commands import stress as stress_verb
from pipelines.output import Output

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="wildrf",
    help="Grow, audit and release real-versus-AI image sets, and train LaDeDa on them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
label = typer.Typer(
    no_args_is_help=True,
    help="Have people decide: Label Studio round trip, or plain files.",
    context_settings=HELP,
)
app.add_typer(label, name="label")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
WorkspaceDir = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="The workspace; default: the nearest wildrf.toml upwards.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Processes; default: one per core.")
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="local|dask", help="Where images are processed.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder with 0_real and 1_fake leaves.")
]


def say_version(asked: bool) -> None:
    """The version, and nothing else."""
    if asked:
        from importlib.metadata import version as installed

        typer.echo(f"wildrf {installed('wildrf')}")
        raise typer.Exit


@app.callback()
def everything(
    context: typer.Context,
    workspace: WorkspaceDir = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that stand before the verb."""
    context.obj = workspace


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Make a workspace with a commented wildrf.toml.

    Example: wildrf init my-set
    """
    from pipelines import grow

    result = grow.init(directory)
    show(result, grow.init_lines(result), as_json)


@app.command()
def doctor(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Check this machine, the services and the workspace.

    Example: wildrf doctor --workspace my-set
    """
    import os

    from pipelines import doctor as verb
    from schemas.errors import InputError, PolicyError

    found, trouble = None, None
    try:
        found = opened(context, workspace)
    except PolicyError as error:
        trouble = str(error)
    except InputError:
        if workspace or context.obj:
            raise
    result = verb.examine(found, dict(os.environ), trouble)
    show(result, verb.lines(result), as_json, passes=result["ok"])


@app.command()
def collectors(as_json: Json = False) -> None:
    """List the platforms and formats that can be collected.

    Example: wildrf collectors --json
    """
    from pipelines import gather

    result = gather.collectors()
    show(result, gather.collectors_lines(result), as_json)


@app.command()
def collect(
    context: typer.Context,
    exports: Annotated[
        list[Path], typer.Argument(metavar="EXPORT...", help="Files, folders or archives.")
    ],
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="P", help="If it cannot be guessed.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="These are the parts of one export.")
    ] = False,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Read platform exports: posts and the images they carry.

    Example: wildrf collect RS_2026-01.zst twitter-2026-01-15.zip
    """
    from pipelines import gather

    with working() as progress:
        result = gather.collect(
            opened(context, workspace), exports, platform, progress, in_parts=parts
        )
    show(result, gather.collect_lines(result), as_json)


Words = list[str] | None


@app.command()
def capture(
    context: typer.Context,
    platform: Annotated[
        str, typer.Argument(metavar="PLATFORM", help="reddit, mastodon or bluesky.")
    ],
    subreddit: Annotated[
        Words, typer.Option("--subreddit", metavar="NAME", help="Reddit; several are joined.")
    ] = None,
    listing: Annotated[
        str | None,
        typer.Option("--listing", metavar="NAME", help="Reddit: new (default), hot, top, search."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option("--period", metavar="SPAN", help="Reddit top, search: day ... all (default)."),
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="WORDS", help="Reddit, Bluesky: a search.")
    ] = None,
    tag: Annotated[
        Words, typer.Option("--tag", metavar="TAG", help="Mastodon, Bluesky; several are joined.")
    ] = None,
    author: Annotated[
        Words, typer.Option("--author", metavar="HANDLE", help="Bluesky: posts of an account.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Mastodon; Bluesky: of your account."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Records in the capture file.")
    ] = 1000,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Nothing older: 2026-01-31.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FILE", help="Go on with this capture of the same."),
    ] = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Ask a platform's own API and collect what it answers.

    The answers are kept as they came, in captures/: an export like any other.
        Credentials come from the environment: REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET (or praw.ini);
    MASTODON_ACCESS_TOKEN if the server wants one; BLUESKY_IDENTIFIER and BLUESKY_APP_PASSWORD for searches.

    Example: wildrf capture mastodon --server mastodon.social --tag AIart
    """
    import os

    from pipelines import capture as verb

    told = Output(as_json)
    asked = verb.to_asked(
        platform, subreddits=subreddit, listing=listing, period=period, query=query, tags=tag,
        authors=author, server=server, limit=limit, since=since,
    )  # fmt: skip
    with working() as progress:
        found = opened(context, workspace)
        result = verb.run(found, platform, asked, into, os.environ, told.say, progress)
    show(result, verb.lines(result), as_json, passes=not result["failed"])
    if result["interrupted"]:
        raise SystemExit(INTERRUPTED)  # not by an exit of typer's: the lines say how to go on


@app.command()
def fetch(context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False) -> None:
    """Bring media into the store, byte for byte.

    Example: wildrf fetch
    """
    from curate.branches import started, worth_starting

    with started(worth_starting()) as ready:  # they load while this process does
        from pipelines import grow

        with working() as progress:
            result = grow.fetch(opened(context, workspace), progress, ready)
    show(result, grow.fetch_lines(result), as_json)


@app.command()
def probe(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Images or folders.")
    ] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Read file facts, of the workspace or of any path.

    Of paths, they come as JSON lines with --json.

    Example: wildrf probe photos/ --json
    """
    from pipelines import examine
    from pipelines.engines import open_engine

    with open_engine(engine, workers=workers, scheduler=scheduler) as images:
        if paths:
            show_rows(examine.probe_paths(paths, images), examine.probe_line, as_json)
            return
        with working() as progress:
            result = examine.probe_workspace(opened(context, workspace), images, progress)
    show(result, examine.probe_lines(result), as_json)


Pair = Annotated[
    tuple[str, str] | None,
    typer.Option("--same", metavar="A B", help="Remember: these two images are one picture."),
]
OtherPair = Annotated[
    tuple[str, str] | None,
    typer.Option("--not-same", metavar="A B", help="Remember: these two images are not."),
]


@app.command()
def dedupe(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Any folder of images.")
    ] = None,
    distance: Annotated[
        int, typer.Option("--distance", min=0, max=16, help="Bits, on a folder.")
    ] = 8,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="DIR|TABLE", help="A benchmark, or a table of its hashes."
        ),
    ] = None,
    same: Pair = None,
    not_same: OtherPair = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Where the page goes; default: dedupe.html."),
    ] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Find copies of a picture, in the workspace or a folder.

    Exit code 1 if --against was given and one of its images is here.

    Example: wildrf dedupe photos/ --against benchmark/manifest.parquet
    """
    from pipelines import dedupe as verb
    from pipelines.engines import open_engine
    from pipelines.judge import need_writable

    words = verb.words_of(directory, same, not_same)
    found: Any = opened(context, workspace) if directory is None else None
    page = report or (found.root if found else Path()) / "dedupe.html"
    need_writable(page)
    with open_engine(engine, workers=workers, scheduler=scheduler) as images, working() as progress:
        if directory is not None:
            outcome = verb.dedupe_folder(
                directory, images, progress, distance_bits=distance, against=against
            )
        else:
            outcome = verb.dedupe_workspace(found, images, progress, against=against, words=words)
    result = verb.write_page(outcome, page)
    show(result, verb.lines(result), as_json, passes=verb.passes(result))


@app.command()
def split(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The release to assign.")],
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Assign groups to train, val and test.

    Groups stay whole; the protocol is the policy's.

    Example: wildrf split v1
    """
    from pipelines import grow

    result = grow.split(opened(context, workspace), name)
    show(result, grow.split_lines(result), as_json)


Release = Annotated[
    str | None,
    typer.Option("--release", metavar="NAME", help="A release of the workspace, instead of DIR."),
]
OptionalFolder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A folder with 0_real and 1_fake leaves.")
]


@app.command()
def check(
    context: typer.Context,
    directory: OptionalFolder = None,
    release: Release = None,
    distance: Annotated[int | None, typer.Option("--distance", min=0, max=16, help="Bits.")] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Look for leaks across splits.

    Exit code 1 if there is one.

    Example: wildrf check path/to/WildRF
    """
    from pipelines import judge

    found = surveyed(context, directory, release, workspace, (engine, workers, scheduler))
    bits = found.policy.split.check_distance_bits if distance is None else distance
    result = {**judge.check(found, bits), "ignored": found.ignored}
    show(result, judge.check_lines(result), as_json, passes=result["clean"])


@app.command()
def audit(
    context: typer.Context,
    directory: OptionalFolder = None,
    release: Release = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Where the page goes; default: audit.html."),
    ] = None,
    gate: Annotated[
        float | None,
        typer.Option("--gate", min=0.5, max=1, help="Highest AUC that passes; default: 0.60."),
    ] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Measure shortcuts: do file facts tell real from fake?

    Exit code 1 if they do.

    Example: wildrf audit path/to/WildRF
    """
    from pipelines import judge

    if report is None:
        inside = opened(context, workspace).root if release else Path()
        report = inside / (f"audit-{release}.html" if release else "audit.html")
    judge.need_writable(report)
    found = surveyed(context, directory, release, workspace, (engine, workers, scheduler))
    allowed = found.policy.gates.shortcut_auc if gate is None else gate
    result = judge.audit_survey(found, gate=allowed, report=report)
    result["ignored"] = found.ignored
    show(result, judge.audit_lines(result), as_json, passes=result["passes"])


@app.command()
def release(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A release made by `wildrf split`.")],
    form: Annotated[
        str, typer.Option("--format", metavar="wildrf", help="Layout on disk.")
    ] = "wildrf",
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Write a release: folders, original bytes, manifest.

    Example: wildrf release v1
    """
    from pipelines import grow

    with working() as progress:
        result = grow.release(opened(context, workspace), name, form, progress)
    show(result, grow.release_lines(result), as_json)


Several = list[str] | None


@app.command()
def forget(
    context: typer.Context,
    post: Annotated[
        Several, typer.Option("--post", metavar="PLATFORM/ID", help="A post; can be repeated.")
    ] = None,
    author: Annotated[
        Several,
        typer.Option(
            "--author", metavar="KEY", help="An author, now and later; or PLATFORM/AUTHOR_ID."
        ),
    ] = None,
    author_of: Annotated[
        Several, typer.Option("--author-of", metavar="PLATFORM/ID", help="The author of a post.")
    ] = None,
    digest: Annotated[
        Several, typer.Option("--digest", metavar="SHA256", help="A picture, whoever posted it.")
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="WORDS", help="Kept; name nobody.")
    ] = "asked for",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    rewrite: Annotated[
        bool, typer.Option("--rewrite-releases", help="Write releases again, without it.")
    ] = False,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Take posts, authors or pictures out for good.

    Rows, bytes and every trace in the catalog go, and no later collection brings them back. What a
    person has to see to is told. With nothing named, what was begun is finished.

    Example: wildrf forget --post reddit/1abcde --dry-run
    """
    import os

    from pipelines import forget as verb

    result = verb.run(
        opened(context, workspace), os.environ, posts=post or (), authors=author or (),
        authors_of=author_of or (), digests=digest or (), reason=reason, dry_run=dry_run,
        rewrite=rewrite,
    )  # fmt: skip
    show(result, verb.lines(result), as_json)


@app.command()
def why(
    context: typer.Context,
    digest: Annotated[
        str,
        typer.Argument(
            metavar="DIGEST", help="The image's SHA-256, or how it begins; or PLATFORM/POST_ID."
        ),
    ],
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Tell everything known about one image.

    Example: wildrf why 3f9a12
    """
    from pipelines import why as verb

    result = verb.explain(opened(context, workspace), digest)
    show(result, verb.lines(result), as_json)


@app.command()
def sql(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(metavar="SQL", help="Any SELECT on the catalog.")],
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Ask the catalog, read-only.

    Example: wildrf sql "SELECT platform, count(*) FROM post GROUP BY platform"
    """
    from pipelines import query

    result = query.ask(opened(context, workspace), statement)
    show(result, query.lines(result), as_json)


@label.command("push")
def label_push(
    context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Show images that have no task yet to annotators.

    Pushing twice changes nothing.

    Example: LABEL_STUDIO_API_KEY=... wildrf label push
    """
    import os

    from pipelines import label as verb

    with working() as progress:
        result = verb.push(opened(context, workspace), os.environ, progress)
    show(result, verb.lines(result), as_json)


@label.command("pull")
def label_pull(
    context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Take in every vote from Label Studio, once each.

    Example: LABEL_STUDIO_API_KEY=... wildrf label pull
    """
    import os

    from pipelines import label as verb

    result = verb.pull(opened(context, workspace), os.environ)
    show(result, verb.lines(result), as_json)


File = Annotated[Path, typer.Argument(metavar="FILE")]


@label.command("import")
def label_import(
    context: typer.Context, file: File, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Take in the votes of a Label Studio JSON export.

    Example: wildrf label import project-1.json
    """
    from pipelines import label as verb

    result = verb.import_file(opened(context, workspace), file)
    show(result, verb.lines(result), as_json)


@label.command("export")
def label_export(
    context: typer.Context, file: File, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Write a task file for any Label Studio, without a server.

    Example: wildrf label export tasks.json
    """
    from pipelines import label as verb

    result = verb.export_file(opened(context, workspace), file)
    show(result, verb.lines(result), as_json)


@label.command("status")
def label_status(
    context: typer.Context, workspace: WorkspaceDir = None, as_json: Json = False
) -> None:
    """Say how far labelling is.

    Example: wildrf label status
    """
    from pipelines import label as verb

    result = verb.status(opened(context, workspace))
    show(result, verb.lines(result), as_json)


Out = Annotated[
    Path, typer.Option("--out", metavar="RUN", help="The run's folder; an interrupted run goes on.")
]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A checkpoint file or a run folder.")
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="At most so many epochs.")
]
Size = Annotated[
    int | None, typer.Option("--size", metavar="PX", help="Side images are resized to.")
]
Crop = Annotated[int | None, typer.Option("--crop", metavar="PX", help="Side of training crops.")]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="Images per step.")]
Rate = Annotated[
    float | None, typer.Option("--learning-rate", metavar="R", help="Adam's, at the start.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of everything random.")]
Minutes = Annotated[float | None, typer.Option("--max-minutes", metavar="M", help="Time budget.")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")
]
Cases = Annotated[
    Path | None,
    typer.Option(
        "--cases", metavar="DIR", help="Known images to look at again in the end; default: cases/."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A field of the recipe, as in wildrf.toml."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keeps decoded pixels, and a teacher's logits, there for later runs.",
    ),
]


@app.command()
def train(
    context: typer.Context,
    directory: Folder,
    out: Out,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="NAME",
            help="ladeda5, ladeda9, ladeda17, ladeda33 or tiny-ladeda.",
        ),
    ] = None,
    epochs: Epochs = None,
    size: Size = None,
    crop: Crop = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    seed: Seed = None,
    max_minutes: Minutes = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="paper|quick", help="Default: quick with --max-minutes, else paper."
        ),
    ] = None,
    settings: Settings = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="DIR[=W]", help="Mix in another set, with its weight."),
    ] = None,
    cache: Cache = None,
    device: Device = None,
    cases: Cases = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Train a detector on a folder in WildRF layout.

    The recipe is the paper's, or the workspace's with --workspace; with --max-minutes it is one that comes
    further in an hour or less. Any field of it can be set: --set augment.jpeg=0.5 --set pooling=top10.

    Example: wildrf train releases/v1 --out runs/v1 --max-minutes 20
    """
    from pipelines import cases as known
    from pipelines import detect

    table = known.table_for(cases, workspace or context.obj)
    told = Output(as_json)
    asked = {
        "detector": detector, "epochs": epochs, "size": size, "crop": crop, "batch": batch,
        "learning_rate": learning_rate, "seed": seed, "max_minutes": max_minutes, "device": device,
    }  # fmt: skip
    named = bool(workspace or context.obj)
    base = detect.base_recipe(recipe, recipe_of(context, workspace), named, max_minutes)
    with working() as progress:
        result = detect.train_run(
            [directory, *(also or [])], out, detect.recipe_with(base, settings or [], **asked),
            lambda report: told.say(detect.say_epoch(report)), progress, cache,
        )  # fmt: skip
    more = known.after_training(result, table)
    show(result, detect.train_lines(result) + more, as_json)


@app.command()
def distill(
    context: typer.Context,
    teacher: Annotated[
        Path, typer.Argument(metavar="RUN", help="The teacher: a run folder or checkpoint.")
    ],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Images to learn from; default: the teacher's."),
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", metavar="NAME", help="The student.")
    ] = "tiny-ladeda",
    epochs: Epochs = None,
    seed: Seed = None,
    max_minutes: Minutes = None,
    settings: Settings = None,
    cache: Cache = None,
    device: Device = None,
    cases: Cases = None,
    as_json: Json = False,
) -> None:
    """Teach a small detector what a large one sees.

    Example: wildrf distill runs/v1 --out runs/v1-tiny
    """
    from pipelines import cases as known
    from pipelines import detect

    table = known.table_for(cases, None)
    told = Output(as_json)
    with working() as progress:
        result = detect.distill_run(
            teacher, out, data, lambda report: told.say(detect.say_epoch(report)),
            progress=progress, cache=cache, settings=settings or [],
            detector=detector, epochs=epochs, seed=seed, max_minutes=max_minutes, device=device,
        )  # fmt: skip
    more = known.after_training(result, table)
    show(result, detect.train_lines(result) + more, as_json)


evaluation.add_to(app)


@app.command()
def predict(
    checkpoint: Checkpoint,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images or folders.")],
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Score images; near 1 is fake, near 0 is real.

    With --json, a line each: path, logit, score. A calibrated checkpoint (see wildrf calibrate) adds a
    probability that holds as a frequency, and a verdict.

    Example: wildrf predict runs/v1 photo.jpg --json
    """
    from pipelines import detect

    rows = detect.predict_paths(detect.checkpoint_of(checkpoint), paths, device)
    show_rows(rows, detect.predict_line, as_json)


@app.command()
def run(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    workers: Workers = None,
    engine: EngineName = "local",
    scheduler: Scheduler = None,
    workspace: WorkspaceDir = None,
    as_json: Json = False,
) -> None:
    """Do every stage of the policy, each only what is missing.

    Example: wildrf run --workspace my-set
    """
    from pipelines import whole_run
    from pipelines.engines import open_engine

    told = Output(as_json)
    with open_engine(engine, workers=workers, scheduler=scheduler) as images, working() as progress:
        state = whole_run.Context(opened(context, workspace), images, progress, told.say)
        if dry_run:
            result = whole_run.plan(state, whole_run.STAGES)
            show(
                result,
                [f"{s['name']}: {s['does']}; {s['left']}" for s in result["stages"]],
                as_json,
            )
            return
        result = whole_run.run_stages(state, whole_run.STAGES)
    show(result, [], as_json, passes=state.results["audit"]["passes"])


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the demo lives.")
    ] = Path("demo"),
    images: Annotated[
        int, typer.Option("--images", min=40, help="Distinct pictures in the world.")
    ] = 480,
    seed: Annotated[int, typer.Option("--seed", help="Of the whole world.")] = 0,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Run everything on a small simulated world.

    What was found is compared with what was planted, in report.html.

    Example: wildrf demo demo
    """
    from pipelines import demo as verb
    from pipelines.engines import open_engine

    told = Output(as_json)
    with open_engine("local", workers=workers) as pool, working() as progress:
        result = verb.run(
            directory,
            images=images,
            seed=seed,
            engine=pool,
            progress=progress,
            say=told.say,
        )
    show(result, verb.lines(result), as_json, passes=result["agrees"])


stress_verb.add_to(app)
explain_verb.add_to(app)
deploy.add_to(app)

NOT_YET = (
    "equalize", "verify", "diff", "monitor",
)  # fmt: skip
"""Verbs of the contract that are still to come: they say so, and are not listed."""


def _not_yet(name: str) -> None:
    @app.command(
        name,
        hidden=True,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def later() -> None:
        from schemas.errors import InputError

        raise InputError(f"`wildrf {name}` is not yet here; `wildrf -h` lists what is")


for _name in NOT_YET:
    _not_yet(_name)


def opened(context: typer.Context, workspace: Path | None) -> Any:
    """The workspace that was named, before or after the verb, or the nearest one upwards."""
    from curate.workspace import find_workspace, open_workspace

    named = workspace or context.obj
    return open_workspace(named) if named else find_workspace(Path.cwd())


def working() -> Any:
    """Progress on stderr."""
    from pipelines.progress import open_progress

    return open_progress()


def recipe_of(context: typer.Context, workspace: Path | None) -> Any:
    """The training recipe: of the workspace that was named, else the paper's."""
    from schemas.policy import TrainPolicy

    named = workspace or context.obj
    return opened(context, workspace).policy.train if named else TrainPolicy()


def surveyed(
    context: typer.Context,
    directory: Path | None,
    release: str | None,
    workspace: Path | None,
    engine: tuple[str, int | None, str | None],
) -> Any:
    """The images to judge, from a folder or a release: a `judge.Survey`."""
    from pipelines import judge
    from pipelines.engines import open_engine
    from schemas.errors import InputError

    if (directory is None) == (release is None):
        raise InputError("name one of DIR and --release NAME; a folder needs no workspace")
    if release is not None:
        return judge.survey_catalog(opened(context, workspace), release)
    assert directory is not None
    name, workers, scheduler = engine
    with open_engine(name, workers=workers, scheduler=scheduler) as images, working() as progress:
        return judge.survey_folder(directory, images, progress)


def show(result: Any, lines: list[str], as_json: bool, *, passes: bool = True) -> None:
    """One result: JSON on stdout or lines on stderr; exit code 1 where a gate said no."""
    output = Output(as_json)
    output.result(result)
    if not as_json:
        output.say(*lines)
    if not passes:
        raise typer.Exit(1)


def show_rows(rows: Any, line: Any, as_json: bool) -> None:
    """Many results: JSON lines on stdout, or a line each on stderr."""
    output = Output(as_json)
    for row in rows:
        if as_json:
            output.row(row)
        else:
            output.say(line(row))


GARBAGE = 20_000
"""Objects made before garbage is looked for: modules make many that stay, and each look goes over those."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever goes wrong is one line on stderr and an exit code."""
    import gc
    import os
    import warnings

    gc.set_threshold(GARBAGE)
    telling = bool(os.environ.get("WILDRF_TRACEBACK"))
    _open_streams()
    with warnings.catch_warnings():
        if not telling:
            warnings.simplefilter("ignore")  # meant for developers of what we are built on
        try:
            code = _run(arguments)
        except Exception as error:
            if telling:
                raise
            code = _fail(
                f"internal: {type(error).__name__}: {error}; this is a bug, "
                "set WILDRF_TRACEBACK=1 to see where",
                2,
            )
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """The exit code of one command line. Errors that are nobody's mistake in the code are told here."""
    from schemas.errors import WildrfError

    try:
        code = app(arguments, prog_name="wildrf", standalone_mode=False)
        sys.stdout.flush()
    except WildrfError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _misused(error)
    except (BrokenPipeError, SystemExit) as error:
        return _reader_gone(error)
    except MemoryError:
        return _fail("out of memory; use fewer --workers or a smaller batch", 2)
    except OSError as error:
        return _fail(_system(error), 2)
    except Exception as error:
        if not _by_ctrl_c(error):
            raise
        code = INTERRUPTED
    if code == INTERRUPTED:
        return _fail("interrupted; what is done is kept, run the same command to go on", code)
    return code if isinstance(code, int) else 0


INTERRUPTED = 130
"""What a command ended by Ctrl-C exits with."""


def _by_ctrl_c(error: Exception) -> bool:
    """Whether this is how DuckDB tells of a Ctrl-C that came while it worked."""
    return type(error).__name__ == "InterruptException" or str(error) == "Query interrupted"


def _open_streams() -> None:
    """Output that was closed by the caller is thrown away; the rest is UTF-8 whatever the locale."""
    import os

    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)


def _reader_gone(error: BaseException) -> int:
    """Whoever read our output has enough (`| head`): fine. Any other exit is passed on."""
    import os

    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        raise error
    # What is still in the buffer would be written, and fail, as the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _system(error: OSError) -> str:
    """What the operating system refused."""
    import errno

    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}no space left on the disk; free some and run again"
    return f"{where}{error.strerror or error}; mend that and run again"


def _fail(message: str, code: int) -> int:
    from pipelines.output import printable

    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    return code


def _misused(error: Any) -> int:
    """A usage error and where to read on; no verb at all shows the help."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)  # noqa: T201 - help where help is due, not an error
        return 2
    verb = context.command_path if context is not None else "wildrf"
    return _fail(f"{message.rstrip('.')}. Try `{verb} -h`.", 2)
