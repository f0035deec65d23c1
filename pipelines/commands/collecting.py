"""Verbs that bring posts and their media in: collectors, collect, capture, fetch."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Json, WorkspaceDir, opened
from pipelines.commands.telling import INTERRUPTED, show, working
from pipelines.output import Output

Words = list[str] | None
Subreddits = Annotated[
    Words, typer.Option("--subreddit", metavar="NAME", help="Reddit; several are joined.")
]
Listing = Annotated[
    str | None,
    typer.Option("--listing", metavar="NAME", help="Reddit: new (default), hot, top, search."),
]
Period = Annotated[
    str | None,
    typer.Option("--period", metavar="SPAN", help="Reddit top, search: day ... all (default)."),
]
Query = Annotated[
    str | None, typer.Option("--query", metavar="WORDS", help="Reddit, Bluesky: a search.")
]
Tags = Annotated[
    Words, typer.Option("--tag", metavar="TAG", help="Mastodon, Bluesky; several are joined.")
]
Authors = Annotated[
    Words, typer.Option("--author", metavar="HANDLE", help="Bluesky: posts of an account.")
]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Mastodon; Bluesky: of your account."),
]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, help="Records in the capture file.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Nothing older: 2026-01-31.")
]
Into = Annotated[
    Path | None,
    typer.Option("--into", metavar="FILE", help="Go on with this capture of the same."),
]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (collectors, collect, capture, fetch):
        app.command()(verb)


def collectors(as_json: Json = False) -> None:
    """List the platforms and formats that can be collected.

    Example: wildrf collectors --json
    """
    from pipelines import gather

    result = gather.collectors()
    show(result, gather.collectors_lines(result), as_json)


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


def capture(
    context: typer.Context,
    platform: Annotated[
        str, typer.Argument(metavar="PLATFORM", help="reddit, mastodon or bluesky.")
    ],
    subreddit: Subreddits = None,
    listing: Listing = None,
    period: Period = None,
    query: Query = None,
    tag: Tags = None,
    author: Authors = None,
    server: Server = None,
    limit: Limit = 1000,
    since: Since = None,
    into: Into = None,
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
