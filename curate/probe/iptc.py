"""IPTC-IIM fields in the Photoshop block (APP13) of a JPEG: only those that name a machine.

Facebook and Instagram write such a block into every picture they serve: Special Instructions that
begin with FBMD and a transmission reference (observed from 2015 on:
https://stackoverflow.com/q/31120222). It says who served the file, not that anybody edited it.

IIM: https://www.iptc.org/std/IIM/4.2/specification/IIMV4.2.pdf. Image resources: Adobe Photoshop
File Formats, https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MOST_RESOURCES = 256
MOST_FIELDS = 512
LONGEST_FIELD = 1 << 12

IIM_RESOURCE = 0x0404
INSTRUCTIONS, TRANSMISSION, CREDIT, PROGRAM = 40, 103, 110, 65
MACHINE_FIELDS = {INSTRUCTIONS, TRANSMISSION}


@dataclass(frozen=True, slots=True)
class Iptc:
    """What the block held. `only_machine_fields`: nothing in it that a person or an editor writes."""

    present: bool = False
    meta: bool = False
    only_machine_fields: bool = False
    credit: str = ""
    program: str = ""


def read(block: bytes) -> Iptc:
    """The fields of one Photoshop block, after its identifier. Never raises."""
    resources = list(_resources(block))
    fields = [f for kind, body in resources if kind == IIM_RESOURCE for f in _fields(body)]
    others = any(kind != IIM_RESOURCE for kind, _ in resources)
    first = dict(reversed(fields))
    return Iptc(
        present=bool(resources),
        meta=first.get(INSTRUCTIONS, b"").startswith(b"FBMD"),
        only_machine_fields=bool(resources) and not others and set(first) <= MACHINE_FIELDS,
        credit=first.get(CREDIT, b"").decode("utf-8", "replace"),
        program=first.get(PROGRAM, b"").decode("utf-8", "replace"),
    )


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and body of each image resource: 8BIM, number, padded name, length, padded body."""
    at = 0
    for _ in range(MOST_RESOURCES):
        if block[at : at + 4] != b"8BIM" or at + 12 > len(block):
            return
        start = at + 6 + (block[at + 6] + 2 & ~1)
        length = int.from_bytes(block[start : start + 4])
        yield int.from_bytes(block[at + 4 : at + 6]), block[start + 4 : start + 4 + length]
        at = start + 4 + length + (length & 1)


def _fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each field of record 2 (the application record)."""
    at = 0
    for _ in range(MOST_FIELDS):
        if at + 5 > len(body) or body[at] != 0x1C:
            return
        length = int.from_bytes(body[at + 3 : at + 5])
        if length & 0x8000:  # an extended length: no field that is read here needs one
            return
        if body[at + 1] == 2:
            yield body[at + 2], body[at + 5 : at + 5 + min(length, LONGEST_FIELD)]
        at += 5 + length
