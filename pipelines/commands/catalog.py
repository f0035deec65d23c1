"""Verbs on what the catalog knows: forget, why, sql."""

from typing import Annotated

import typer

from pipelines.commands.options import Json, WorkspaceDir, opened
from pipelines.commands.telling import show

Several = list[str] | None
Posts = Annotated[
    Several, typer.Option("--post", metavar="PLATFORM/ID", help="A post; can be repeated.")
]
Authors = Annotated[
    Several,
    typer.Option(
        "--author", metavar="KEY", help="An author, now and later; or PLATFORM/AUTHOR_ID."
    ),
]
AuthorsOf = Annotated[
    Several, typer.Option("--author-of", metavar="PLATFORM/ID", help="The author of a post.")
]
Digests = Annotated[
    Several, typer.Option("--digest", metavar="SHA256", help="A picture, whoever posted it.")
]


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    for verb in (forget, why, sql):
        app.command()(verb)


def forget(
    context: typer.Context,
    post: Posts = None,
    author: Authors = None,
    author_of: AuthorsOf = None,
    digest: Digests = None,
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
