"""XMP packets: the few properties that say how a picture was made, and nothing a person wrote.

A packet is untrusted XML: entities and document types are refused, its size is bounded, and it is
read as a stream of events, so that no tree of it is ever built. What stood before the damage in a
broken packet counts.

XMP: ISO 16684-1 and https://github.com/adobe/XMP-Toolkit-SDK/tree/main/docs (part 3: embedding).
IPTC properties: https://www.iptc.org/std/photometadata/specification/IPTC-PhotoMetadata.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

LARGEST_PACKET = 1 << 20
"""Bytes of one packet that are read; a packet proper has 64 KiB at most, an extended one may have more."""

LONGEST_VALUE = 1 << 16
MOST_VALUES = 64

PROPERTIES: Mapping[str, str] = {
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": "source_type",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}digitalSourceType": "source_type",
    "{http://ns.adobe.com/xap/1.0/}CreatorTool": "tool",
    "{http://ns.adobe.com/photoshop/1.0/}Credit": "credit",
    "{http://purl.org/dc/elements/1.1/}description": "text",
    "{http://ns.adobe.com/exif/1.0/}UserComment": "text",
    "{http://purl.org/dc/terms/}provenance": "provenance",
}
"""Properties that are read, and what each is called here."""

CAMERA_NAMESPACES: Mapping[str, str] = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "HDR gain map (Adobe, ISO 21496)",
    "http://ns.apple.com/HDRGainMap/1.0/": "HDR gain map (Apple)",
    "http://ns.apple.com/pixeldatainfo/1.0/": "auxiliary picture (Apple)",
    "http://ns.google.com/photos/1.0/camera/": "camera application (Google)",
    "http://ns.google.com/photos/1.0/depthmap/": "depth map (Google)",
}
"""Vocabularies of what cameras add while they compute a picture."""

RESOURCE = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}resource"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SOURCE_TYPE = re.compile(
    r"(?:https?://cv\.iptc\.org/newscodes/digitalsourcetype/)?([A-Za-z]{3,48})/?"
)


@dataclass(slots=True)
class Xmp:
    """What the packets of one file say: values by property, in order, and vocabularies of cameras."""

    values: dict[str, list[str]] = field(default_factory=dict)
    camera: dict[str, None] = field(default_factory=dict)

    @property
    def source_types(self) -> list[str]:
        """The IPTC digital source types named, each once."""
        found = (
            SOURCE_TYPE.fullmatch(value.strip()) for value in self.values.get("source_type", ())
        )
        return list(dict.fromkeys(match[1] for match in found if match))

    def get(self, name: str) -> Sequence[str]:
        """The values of one property."""
        return self.values.get(name, ())


def read(packets: Sequence[bytes]) -> Xmp:
    """What the XMP packets of a file say. Never raises."""
    found = Xmp()
    for packet in packets:
        _read_packet(packet[:LARGEST_PACKET].strip(b"\0 \t\r\n"), found)
    return found


def _read_packet(packet: bytes, found: Xmp) -> None:
    if not packet:
        return
    parser = DefusedXMLParser(target=_Target(found), forbid_dtd=True)
    try:
        parser.feed(packet)
        parser.close()
    except (DefusedXmlException, ParseError, ValueError, LookupError):
        return  # refused, broken, or in an encoding that is unknown: what came before it counts


class _Target:
    """Takes the events of the parser and keeps the properties that are read."""

    def __init__(self, found: Xmp) -> None:
        self.found = found
        self.inside: str | None = None
        self.depth = 0
        self.text: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins: properties may be its attributes, or the element itself."""
        self._note(tag)
        for name, value in attributes.items():
            self._note(name)
            self._keep(PROPERTIES.get(name), value)
        if self.inside is not None:
            self.depth += 1
        elif tag in PROPERTIES:
            self.inside, self.depth, self.text = PROPERTIES[tag], 0, []
            self._keep(self.inside, attributes.get(RESOURCE, ""))

    def data(self, text: str) -> None:
        """Text inside a property."""
        if self.inside is not None:
            self.text.append(text)

    def end(self, tag: str) -> None:
        """An element ends: the property, or a list item inside it."""
        if self.inside is None:
            return
        if self.depth == 0 or tag == f"{RDF}li":
            self._keep(self.inside, "".join(self.text))
            self.text = []
        if self.depth == 0:
            self.inside = None
        else:
            self.depth -= 1

    def close(self) -> None:
        """The packet ends."""

    def _keep(self, name: str | None, value: str) -> None:
        values = self.found.values.setdefault(name, []) if name and value.strip() else None
        if values is not None and len(values) < MOST_VALUES:
            values.append(value[:LONGEST_VALUE])

    def _note(self, name: str) -> None:
        told = CAMERA_NAMESPACES.get(name[1:].partition("}")[0])
        if told:
            self.found.camera[told] = None


def extended(segments: Sequence[bytes]) -> list[bytes]:
    """The extended packets of a JPEG, whole ones only, in the order of their ids.

    Args:
        segments: bodies of APP1 segments after the identifier: 32 digits of the packet's MD5, four
            bytes of its whole length, four of where this piece begins, and the piece.
    """
    pieces: dict[bytes, list[tuple[int, bytes]]] = {}
    for segment in segments:
        if len(segment) > 40:
            at = int.from_bytes(segment[36:40])
            pieces.setdefault(segment[:32].upper(), []).append((at, segment[40:]))
    packets = {guid: b"".join(p for _, p in sorted(found)) for guid, found in pieces.items()}
    return [packets[guid] for guid in sorted(packets) if _md5(packets[guid]) == guid]


def _md5(packet: bytes) -> bytes:
    return hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
