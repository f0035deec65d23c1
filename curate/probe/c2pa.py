"""Content credentials (C2PA): where a file carries a manifest store, what it states, whether it holds.

What a manifest states is read here without any other library, from the boxes themselves. Whether
the statement holds (the bytes are those that were signed, and by whom) is asked of c2pa-python where
that is installed, with every access to the network switched off. A signer is believed only if their
certificate leads to one of the trust anchors given: anyone can make a certificate with any name in
it, so names in certificates are not repeated. Files without a store cost nothing.

Specification: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
(11 manifests, 18 assertions, A embedding, 15 validation).
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import Any

from curate.probe import cbor, jumbf
from curate.probe.jumbf import Superbox

LARGEST_STORE = 64 << 20
"""Bytes of a store that are read; real ones are a few megabytes at most, mostly thumbnails."""

MOST_STATEMENTS = 64
MOST_MANIFESTS = 64

ISOBMFF_ID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
STORE = b"jumdc2pa"
"""How the description of a manifest store begins."""

UPDATE = b"c2um"
"""How the type of a manifest begins that changes no pixel."""

TIFF_TAG = 0xCD41

SOURCE_TYPE = re.compile(r"(?:.*/)?([A-Za-z]{3,48})")
CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class State(StrEnum):
    """What is known of a manifest store. A file without one has no state."""

    PRESENT = "present"
    VALID = "valid"
    UNTRUSTED = "untrusted"
    INVALID = "invalid"


class Relation(StrEnum):
    """What a statement is about: how this picture was made or changed, or what went into it."""

    MADE = "made"
    CHANGED = "changed"
    PARENT = "parent"
    COMPONENT = "component"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing a manifest states: a digital source type, or the name of a program."""

    relation: Relation
    source_type: str | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A manifest store: where it was, what is known of it and why, and what it states."""

    where: str
    state: State = State.PRESENT
    why: str = ""
    statements: tuple[Statement, ...] = ()


def read(where: str, store: bytes) -> Credentials:
    """What a manifest store states, unchecked. Never raises."""
    if len(store) > LARGEST_STORE:
        return Credentials(where, why="too large to read")
    root = next((box for box in jumbf.superboxes(store) if box.label == "c2pa"), None)
    manifests = {} if root is None else {box.label: box for box in root.children}
    if root is None or not manifests:
        return Credentials(where, why="no manifest in it can be read")
    active = root.children[-1]
    signed = active.child("c2pa.signature") is not None
    why = "" if signed else "nothing in it is signed"
    found = _Reading(manifests)
    found.follow(active, Relation.MADE, Relation.CHANGED)
    return Credentials(where, why=why, statements=tuple(dict.fromkeys(found.statements)))


@dataclass(slots=True)
class _Reading:
    """Manifests by label, which of them were read already, and what they stated."""

    manifests: Mapping[str, Superbox]
    met: set[str] = field(default_factory=set)
    statements: list[Statement] = field(default_factory=list)

    def follow(self, manifest: Superbox, made: Relation, changed: Relation) -> None:
        """Read one manifest, then those of what went into it."""
        if manifest.label in self.met or len(self.met) >= MOST_MANIFESTS:
            return
        self.met.add(manifest.label)
        same_picture = manifest.kind[:4] == UPDATE
        for statement in _claimed(manifest, made):
            self._add(statement)
        for label, assertion in _assertions(manifest):
            if label.startswith("c2pa.actions"):
                for statement in _acted(assertion, made, changed):
                    self._add(statement)
            elif label.startswith("c2pa.ingredient"):
                self._enter(assertion, made if same_picture else None, changed)

    def _enter(
        self, ingredient: Mapping[Any, Any], same: Relation | None, changed: Relation
    ) -> None:
        """The manifest of an ingredient; `same` where it is of this very picture."""
        target = self.manifests.get(_target(ingredient))
        relation = RELATIONSHIPS.get(str(ingredient.get("relationship")))
        if target is None or relation is None:
            return
        if same is not None and relation is Relation.PARENT:
            self.follow(target, same, changed)
        else:
            farther = max(relation, changed, key=DISTANCE.index)
            self.follow(target, farther, farther)

    def _add(self, statement: Statement) -> None:
        if len(self.statements) < MOST_STATEMENTS:
            self.statements.append(statement)


RELATIONSHIPS = {
    "parentOf": Relation.PARENT,
    "componentOf": Relation.COMPONENT,
    "inputTo": Relation.INPUT,
}
DISTANCE = tuple(Relation)
"""From the picture itself to what only helped to make it."""


def _claimed(manifest: Superbox, made: Relation) -> Iterator[Statement]:
    """The program that wrote the claim."""
    claim = _mapping(manifest.child("c2pa.claim.v2", "c2pa.claim"))
    names = [claim.get("claim_generator"), *_names(claim.get("claim_generator_info"))]
    yield from (Statement(made, program=name) for name in names if isinstance(name, str))


def _acted(assertion: Mapping[Any, Any], made: Relation, changed: Relation) -> Iterator[Statement]:
    """Source types and programs of the actions of one assertion."""
    actions = assertion.get("actions")
    for action in actions if isinstance(actions, list) else []:
        if not isinstance(action, dict):
            continue
        relation = made if action.get("action") == "c2pa.created" else changed
        name = action.get("digitalSourceType")
        fits = SOURCE_TYPE.fullmatch(name[:256]) if isinstance(name, str) else None
        if fits:
            yield Statement(relation, source_type=fits[1])
        agents = (a for a in _names(action.get("softwareAgent")) if isinstance(a, str))
        yield from (Statement(relation, program=agent) for agent in agents)
    for agent in _names(assertion.get("softwareAgents")):
        if isinstance(agent, str):
            yield Statement(changed, program=agent)


def _names(value: Any) -> list[Any]:
    """Names of programs: a text, a map with a name, or a list of such maps."""
    listed = value if isinstance(value, list) else [value]
    return [item.get("name") if isinstance(item, dict) else item for item in listed[:16]]


def _assertions(manifest: Superbox) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    store = manifest.child("c2pa.assertions")
    for box in store.children if store else ():
        if box.label.startswith(("c2pa.actions", "c2pa.ingredient")):
            yield box.label, _mapping(box)


def _mapping(box: Superbox | None) -> Mapping[Any, Any]:
    """The CBOR map in a superbox; empty where there is none."""
    content = None if box is None else box.content(b"cbor")
    try:
        value = cbor.decode(content) if content else None
    except cbor.Malformed:
        return {}
    return value if isinstance(value, dict) else {}


def _target(ingredient: Mapping[Any, Any]) -> str:
    """The label of the manifest that an ingredient points to."""
    link = ingredient.get("activeManifest") or ingredient.get("c2pa_manifest")
    url = link.get("url") if isinstance(link, dict) else None
    path = url.partition("/c2pa/")[2] if isinstance(url, str) else ""
    return path.split("/")[0]


def find_jpeg(segments: list[bytes]) -> bytes | None:
    """The manifest store among the APP11 segments of a JPEG (after their identifier JP)."""
    joined = jumbf.joined_segments(segments) if segments else ()
    return next((box for box in joined if STORE in box[:32]), None)


def find_boxes(data: bytes) -> bytes | None:
    """The manifest store among the outermost boxes of an AVIF or HEIF file."""
    for kind, start, end in jumbf.boxes(data):
        if kind == b"uuid" and data[start : start + 16] == ISOBMFF_ID:
            purpose, _, rest = data[start + 20 : end].partition(b"\0")
            return rest[8:] if purpose == b"manifest" else rest
    return None


def check(found: Credentials, data: bytes, *, anchors: str = "") -> Credentials:
    """The same credentials with their state, as c2pa-python judges the file. Never raises.

    Args:
        found: what `read` found in the file.
        data: the whole file.
        anchors: certificates in PEM, one after the other, whose holders' signatures are believed.
    """
    if find_spec("c2pa") is None:
        why = "not checked" if not found.why else f"not checked, {found.why}"
        return _with(found, State.PRESENT, f"{why}, c2pa-python is not installed")
    import c2pa  # an extra: native, and needed for signed files alone

    try:
        context = c2pa.Context.from_dict(_settings(anchors))
        with c2pa.Reader(None, io.BytesIO(data), context=context) as reader:
            return _judged(found, reader.get_validation_state(), reader.get_validation_results())
    except c2pa.C2paError as error:
        if isinstance(error, c2pa.C2paError.NotSupported):
            return _with(found, State.PRESENT, "not checked: c2pa-python does not read this format")
        return _with(found, State.INVALID, "the manifest store is damaged")


def _settings(anchors: str) -> dict[str, Any]:
    """Settings of the checker: no network, and no other trust than was given."""
    settings: dict[str, Any] = {
        "verify": {
            "verify_after_reading": True,
            "verify_trust": True,
            "ocsp_fetch": False,
            "remote_manifest_fetch": False,
        },
        "core": {"allowed_network_hosts": []},
    }
    return {**settings, "trust": {"trust_anchors": anchors}} if anchors.strip() else settings


UNTRUSTED_CODE = "signingCredential.untrusted"
REASONS = {
    State.VALID: "unchanged since it was signed, by a signer on the trust list",
    State.UNTRUSTED: "unchanged since it was signed, but the signer is not on the trust list",
}


def _judged(found: Credentials, verdict: str | None, results: Any) -> Credentials:
    state = {"Trusted": State.VALID, "Valid": State.UNTRUSTED}.get(verdict or "", State.INVALID)
    return _with(found, state, REASONS.get(state) or _failures(results))


def _failures(results: Any) -> str:
    """The first failure codes of the specification's list (15.2.3), without their free text."""
    active = results.get("activeManifest") if isinstance(results, dict) else None
    failures = active.get("failure", []) if isinstance(active, dict) else []
    codes = [f.get("code", "") for f in failures if isinstance(f, dict)]
    told = [c for c in codes if isinstance(c, str) and CODE.fullmatch(c) and c != UNTRUSTED_CODE]
    changed = any(code.endswith(".mismatch") for code in told)
    said = "changed since it was signed" if changed else "does not hold"
    return f"{said} ({', '.join(dict.fromkeys(told[:2]))})" if told else said


def _with(found: Credentials, state: State, why: str) -> Credentials:
    return Credentials(found.where, state, why, found.statements)
