"""The stages that grow a set, each one function from a workspace to counts.

A stage selects the rows it has no answer for, works through them in batches and commits each batch in one
transaction. Killed at any point and run again, it goes on where it was, and the catalog ends as if it had
never been killed. Stages do not print; they report to a `Progress`. May import: all of `curate`, and schemas;
nothing else in `curate` imports them.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import duckdb

from curate.catalog import insert
from schemas.records import Run


def digest_of(*parts: Any) -> str:
    """A digest of anything JSON can say, 32 hex digits; equal parts give equal digests."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a stage's outcome depends on: its version, its parameters and what it reads.

    `run_id` is the digest of the three, so the same work has the same id whenever it is done.
    """

    stage: str
    parameters: dict[str, Any]
    inputs: str

    @property
    def run_id(self) -> str:
        """The id of this work."""
        return digest_of(self.stage, self.parameters, self.inputs)


def record_run(
    db: duckdb.DuckDBPyConnection, identity: Identity, counts: dict[str, Any], seconds: float
) -> None:
    """Note that a stage is done; the newest note of a stage says which version is current."""
    row = Run(
        run_id=identity.run_id,
        stage=identity.stage,
        parameters=json.dumps(identity.parameters, sort_keys=True),
        inputs=identity.inputs,
        code_version=version("wildrf"),
        counts=json.dumps(counts, sort_keys=True),
        seconds=seconds,
        finished_at=datetime.now(UTC),
    )
    insert(db, "run", [row], replace=True)
