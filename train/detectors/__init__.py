"""The detectors we can train. To add one: write its file, add its line here.

Another package adds one through the entry point group `wildrf.detectors`, whose value is a
`DetectorSpec`. Every detector maps normalised images (B, 3, H, W) to logits (B, 1), shows the logit
of each patch with `patch_logits`, and pools those to the image's logit; the generic tests hold all
to that. May import: schemas, and nothing else of `train`.
"""

from importlib.metadata import entry_points

from schemas.errors import InputError
from train.detectors import ladeda, tiny
from train.detectors.patches import DetectorSpec, PatchDetector
from train.detectors.representation import REPRESENTATIONS

__all__ = ["DETECTORS", "REPRESENTATIONS", "DetectorSpec", "PatchDetector", "find_detector"]

DETECTORS: dict[str, DetectorSpec] = {
    "ladeda5": ladeda.spec(5),
    "ladeda9": ladeda.spec(9),
    "ladeda17": ladeda.spec(17),
    "ladeda33": ladeda.spec(33),
    "tiny-ladeda": tiny.SPEC,
}


def find_detector(name: str) -> DetectorSpec:
    """The detector called `name`, ours or another package's.

    Raises:
        InputError: if there is none of that name.
    """
    if name in DETECTORS:
        return DETECTORS[name]
    for entry in entry_points(group="wildrf.detectors"):
        if entry.name == name:
            spec: DetectorSpec = entry.load()
            return spec
    raise InputError(f"detector {name!r} is not known; expected one of {', '.join(DETECTORS)}")
