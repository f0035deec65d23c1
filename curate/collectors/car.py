"""Repositories of the AT Protocol as they are exported: CAR files of DAG-CBOR blocks.

Format: https://atproto.com/specs/repository and https://ipld.io/specs/transport/car/carv1/. A file is
blocks in any order, each under the hash of its bytes. One block, the root, is the signed commit; it names
the author and the top of a search tree, and the tree gives every record's key and hash. What the tree
does not reach was deleted or replaced, wherever it lies in the file.

The file is read three times and never held: for its root, for the tree, and for the records. Memory is
the tree and the keys of the posts, about 350 bytes per record. Every block is checked against its hash,
every length against what a server writes, and the tree is walked without recursion.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import libipld

from curate.exports import DamagedExport, Export

MAX_BLOCK = 8 * 2**20
"""Bytes; the specification allows records of 1 MiB."""
MAX_HEADER = 64 * 2**10
MAX_KEY = 1024
"""Characters of `collection/key`; the specification allows 317 and 512."""
MAX_VARINT = 9
"""Bytes of a number, https://github.com/multiformats/unsigned-varint."""
_NODE = b"\xa2ae"  # a map of two whose first key is `e`; keys are in a fixed order
_CID = b"\x01\x71\x12\x20"  # version 1, DAG-CBOR, SHA-256, 32 bytes
_CID_SIZE = 36


class Block(NamedTuple):
    """One block: the identifier it goes by, its bytes, and whether they hash to it."""

    cid: bytes
    data: bytes
    sound: bool


@dataclass(frozen=True, slots=True)
class Repository:
    """One author's repository: where its tree begins, and the tree's nodes as they are encoded."""

    did: str
    top: bytes | None
    nodes: dict[bytes, bytes]


class Entry(NamedTuple):
    """One record of the tree, as `collection/key`; no key for a part of the tree that is not there."""

    key: str | None
    cid: bytes


def is_car(head: bytes) -> bool:
    """Whether a file that begins so is a CAR of version 1 with one root or more."""
    return b"eroots" in head[:12] and b"gversion" in head[:MAX_HEADER]


def open_repository(export: Export, name: str) -> Repository:
    """The repository in a member, its records unread.

    Raises:
        DamagedExport: its commit cannot be read. Damage after that shows as parts of the tree that are
            missing, and again when the records are read.
    """
    commit = decoded(find(export, name, _root(_Stream(export, name))) or b"")
    did = commit.get("did") if isinstance(commit, dict) else None
    if not isinstance(did, str) or not did.startswith("did:"):
        raise DamagedExport(
            f"{name} in {export.path} has no commit that names its author; export the repository again"
        )
    top = commit.get("data")
    return Repository(did, top if isinstance(top, bytes) else None, _nodes(export, name))


def entries(repository: Repository) -> Iterator[Entry]:
    """Every record the tree reaches, and every part of the tree that cannot be read; in no order."""
    pending = [repository.top] if repository.top is not None else []
    seen: set[bytes] = set()
    while pending:
        cid = pending.pop()
        if cid in seen:
            continue
        seen.add(cid)
        node = _node(repository.nodes.get(cid, b""))
        if node is None:
            yield Entry(None, cid)
            continue
        links, found = node
        pending += links
        yield from found


def blocks(export: Export, name: str) -> Iterator[Block]:
    """Every block of a member, in the order of the file.

    Raises:
        DamagedExport: the file ends early, or a length is one that no server writes.
    """
    stream = _Stream(export, name)
    _root(stream)
    while (size := stream.number()) is not None:
        if not 0 < size <= MAX_BLOCK:
            raise stream.damaged(f"a block of {size} bytes")
        section = stream.take(size)
        cid, data = section[:_CID_SIZE], section[_CID_SIZE:]
        yield Block(cid, data, cid == _CID + hashlib.sha256(data).digest())


def find(export: Export, name: str, cid: bytes) -> bytes | None:
    """The bytes of one block, if it is there and sound."""
    sound = (b.data for b in _until_damage(export, name) if b.cid == cid and b.sound)
    return next(sound, None)


def decoded(data: bytes) -> Any:
    """A block as dictionaries and lists, links as bytes; None if it is not DAG-CBOR."""
    try:
        return libipld.decode_dag_cbor(data)
    except (ValueError, RecursionError):
        return None


def text_of_cid(cid: Any) -> str | None:
    """An identifier as text, https://github.com/multiformats/cid; None if it is none."""
    if not isinstance(cid, bytes) or len(cid) != _CID_SIZE or cid[0] != 1:
        return None
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def _until_damage(export: Export, name: str) -> Iterator[Block]:
    with suppress(DamagedExport):
        yield from blocks(export, name)


def _nodes(export: Export, name: str) -> dict[bytes, bytes]:
    found = _until_damage(export, name)
    return {b.cid: b.data for b in found if b.sound and b.data.startswith(_NODE)}


def _node(data: bytes) -> tuple[list[bytes], list[Entry]] | None:
    """The subtrees and the records of a node; None if it is none."""
    node = decoded(data)
    items = node.get("e") if isinstance(node, dict) else None
    if not isinstance(items, list):
        return None
    links, found, key = [node.get("l")], [], b""
    for item in items:
        own = _key(item, key)
        if own is None:
            return None
        key = own
        links.append(item.get("t"))
        found.append(Entry(key.decode("ascii", "replace"), item["v"]))
    return [link for link in links if isinstance(link, bytes)], found


def _key(item: Any, before: bytes) -> bytes | None:
    """An entry's whole key: it shares a beginning with the key before it."""
    if not isinstance(item, dict) or not isinstance(item.get("v"), bytes):
        return None
    shared, rest = item.get("p"), item.get("k")
    if not isinstance(shared, int) or not isinstance(rest, bytes):
        return None
    sane = 0 <= shared <= len(before) and shared + len(rest) <= MAX_KEY
    return before[:shared] + rest if sane else None


def _root(stream: "_Stream") -> bytes:
    """The first root of a file's header, which it reads."""
    size = stream.number()
    if size is None or size > MAX_HEADER:
        raise stream.damaged("no header")
    header = decoded(stream.take(size))
    roots = header.get("roots") if isinstance(header, dict) else None
    version = header.get("version") if isinstance(header, dict) else None
    if version != 1 or not isinstance(roots, list) or not roots or not isinstance(roots[0], bytes):
        raise stream.damaged("a header that is not of version 1 with a root")
    return roots[0]


class _Stream:
    """Numbers and pieces of a member's bytes, taken from the front."""

    def __init__(self, export: Export, name: str) -> None:
        self._chunks = export.chunks(name)
        self._buffer = b""
        self._at = 0
        self._where = f"{name} in {export.path}"

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) - self._at < size:
            if not self._more():
                raise self.damaged("its end in the middle of a block")
        start, self._at = self._at, self._at + size
        return self._buffer[start : self._at]

    def number(self) -> int | None:
        """The next number, seven bits to a byte, lowest first; None at the end of the file."""
        if self._at == len(self._buffer) and not self._more():
            return None
        value = 0
        for place in range(MAX_VARINT):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise self.damaged("a number of more than 63 bits")

    def damaged(self, found: str) -> DamagedExport:
        """What to raise where `found` stands and no repository has it."""
        return DamagedExport(
            f"{self._where} is damaged: it has {found}; export the repository again"
        )

    def _more(self) -> bool:
        chunk = next(self._chunks, b"")
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return bool(chunk)
