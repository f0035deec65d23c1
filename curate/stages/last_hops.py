"""Last hops: for every image, which platform served it by how the file is built, as evidence.

The counts it rests on are those of the whole catalog, so all rows are written anew whenever an image
or a posting came or went; the same catalog always gives the same rows. Groups are not asked: they are
made later, and are not needed to keep an image from supporting itself.
"""

import time
from collections.abc import Iterator

import duckdb

from curate.catalog import insert, select
from curate.last_hop import LAST_HOP, Guess, Served, guess_all
from curate.stages import Identity, record_run
from curate.workspace import Workspace
from schemas.labels import Direction
from schemas.records import Evidence, Image

FACTS = (
    "digest", "made_by", "bytes", "format", "width", "height", "mode", "alpha", "icc", "orientation",
    "camera_make", "camera_model", "software", "jpeg_family", "jpeg_dqt_hash", "jpeg_progressive",
    "jpeg_subsampling", "jpeg_huffman", "jpeg_restart", "jpeg_markers", "pixels",
)  # fmt: skip
"""Columns of an image that its structure is told by."""

ROWS = f"""
    SELECT DISTINCT s.platform, s.platform || '/' || s.post_id AS post, {", ".join("i." + c for c in FACTS)}
    FROM image i JOIN stored s USING (digest) WHERE i.error IS NULL ORDER BY i.digest, post
"""  # noqa: S608 - the columns are those named above

STATE = """
    SELECT (SELECT coalesce(bit_xor(hash(digest, made_by)), 0) FROM image)::VARCHAR || '/' ||
           (SELECT coalesce(bit_xor(hash(digest, platform, post_id)), 0) FROM
               (SELECT DISTINCT digest, platform, post_id FROM stored))::VARCHAR AS state
"""
"""A digest of which images and postings there are."""


def guess_last_hops(workspace: Workspace) -> dict[str, int]:
    """Write the last hop of every image; counts of images and of guesses, none if nothing changed."""
    began = time.monotonic()
    with workspace.catalog.reading() as db:
        state = select(db, STATE).to_pylist()[0]["state"]
        identity = Identity(LAST_HOP, {}, state)
        if _is_current(db, identity):
            return {}
        rows = list(_served(db))
    found = {row.image.digest: _evidence(row.image.digest, guess) for row, guess in guess_all(rows)}
    counts = {"images": len(found), "guessed": sum(e.strength > 0 for e in found.values())}
    with workspace.catalog.writing() as db:
        db.execute("DELETE FROM evidence WHERE kind = 'last-hop'")
        insert(db, "evidence", found.values())
        record_run(db, identity, counts, time.monotonic() - began)
    return counts


def _is_current(db: duckdb.DuckDBPyConnection, identity: Identity) -> bool:
    newest = select(
        db,
        "SELECT run_id FROM run WHERE stage = $stage ORDER BY finished_at DESC LIMIT 1",
        stage=identity.stage,
    ).to_pylist()
    return bool(newest) and newest[0]["run_id"] == identity.run_id


def _served(db: duckdb.DuckDBPyConnection) -> Iterator[Served]:
    for batch in select(db, ROWS).to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            platform, post = row.pop("platform"), row.pop("post")
            yield Served(Image(**row), platform, post)


def _evidence(digest: str, guess: Guess) -> Evidence:
    """One guess as a row; `strength` is the platform's share among files built alike, 0 without a guess."""
    share = guess.counts[0][1] / guess.support if guess.platform else 0.0
    return Evidence(
        digest, "last-hop", "structure", Direction.NEITHER, round(share, 3), guess.detail, LAST_HOP
    )
