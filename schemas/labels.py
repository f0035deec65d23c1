"""The words the field uses for what an image is and where it goes."""

from enum import IntEnum, StrEnum


class Label(IntEnum):
    """What an image is. The values are the class indices of every detector and metric here."""

    REAL = 0
    FAKE = 1

    @property
    def folder(self) -> str:
        """The leaf folder of WildRF and ForenSynths that holds this label."""
        return FOLDERS[self]


FOLDERS = {Label.REAL: "0_real", Label.FAKE: "1_fake"}


class Split(StrEnum):
    """The three parts of a set. A held-out platform is seen in `TEST` only."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Choice(StrEnum):
    """What an annotator can say of one image. The values are the choices shown in Label Studio."""

    REAL = "Real"
    FAKE = "Fake"
    EDITED = "Edited"
    NOT_A_PHOTO = "Not a photo"
    UNSURE = "Unsure"


VOTES: dict[Choice, Label] = {Choice.REAL: Label.REAL, Choice.FAKE: Label.FAKE}
"""The choices that count as a vote for a label; the others are recorded and never counted as one."""


class Direction(StrEnum):
    """What a piece of evidence speaks for."""

    REAL = "real"
    FAKE = "fake"
    NEITHER = "neither"


class Role(StrEnum):
    """What a platform is for: its images may be trained on, or are kept for testing alone."""

    TRAIN = "train"
    HELD_OUT = "held-out"


class MatchKind(StrEnum):
    """Why two images are the same picture."""

    BYTES = "same-bytes"
    PIXELS = "same-pixels"
    NEAR = "near"
    CROP = "crop"
    BORDER = "border"
    CAPTION = "caption"
    SCREENSHOT = "screenshot"
    MIRROR = "mirror"
    ROTATION = "rotation"
    OVERLAY = "overlay"
    REVIEWED = "reviewed"
    """No hash found it; a reviewer said so."""


class Word(StrEnum):
    """What a reviewer can say of two images."""

    SAME = "same"
    DIFFERENT = "different"


class Relation(StrEnum):
    """Why two images that match are in different groups all the same."""

    CHAIN = "chain"
    DERIVED = "derived"
    DIFFERENT = "different"
