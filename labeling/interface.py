"""The page an annotator sees, as data: `interface.xml`, a Label Studio labeling configuration.

https://labelstud.io/tags/ describes the tags. The page shows the picture and nothing else of its
story: the only variable is the image, so that no hashtag, author, file name or model score can
anchor an answer. The verdicts are exactly `schemas.labels.Choice`.
"""

from importlib import resources
from typing import Final
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

VERDICT: Final = "verdict"
REASONS: Final = "reasons"
CONFIDENCE: Final = "confidence"
IMAGE: Final = "image"

CONFIG: Final = resources.files("labeling").joinpath("interface.xml").read_text("utf-8")
"""The labeling configuration, ready for a project."""

INSTRUCTION: Final = (
    "Say what the picture is, not what it shows. Look at it pixel by pixel (Shift+2) before you "
    "decide. "
    "Real: a camera made it. Fake: a generator made all of it. Edited: a photo with parts changed. "
    "Not a photo: drawing, render, screenshot, meme. Unsure: you looked and cannot tell. "
    "Skip what you would rather not judge."
)
"""What the annotator reads before the first picture."""


def choices(name: str) -> tuple[str, ...]:
    """The values that the control `name` offers, in the order shown."""
    control = _control(name)
    return tuple(choice.attrib["value"] for choice in control.iter("Choice"))


def max_rating(name: str = CONFIDENCE) -> int:
    """How many stars the rating `name` has."""
    return int(_control(name).attrib["maxRating"])


def variables() -> frozenset[str]:
    """The task variables that the page shows."""
    tree: Element = fromstring(CONFIG)
    values = (tag.attrib.get("value", "") for tag in tree.iter())
    return frozenset(value[1:] for value in values if value.startswith("$"))


def same_config(a: str, b: str) -> bool:
    """Whether two configurations are the same but for white space and the order of attributes."""
    return _shape(fromstring(a)) == _shape(fromstring(b))


def _control(name: str) -> Element:
    tree: Element = fromstring(CONFIG)
    return next(tag for tag in tree.iter() if tag.attrib.get("name") == name)


def _shape(tag: Element) -> tuple[object, ...]:
    text = " ".join((tag.text or "").split())
    return (tag.tag, sorted(tag.attrib.items()), text, [_shape(child) for child in tag])
