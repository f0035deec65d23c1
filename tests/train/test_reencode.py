"""Every picture in one common format, and what the detector says of it then."""

import numpy as np
import pytest
import torch

from train.checkpoint import LoadedDetector
from train.config import build_detector, choose_compute
from train.detectors import find_detector
from train.reencode import CommonFormat, reencoded_pixels, rescore
from train.transforms import Preprocessing, normalise, to_batch


@pytest.mark.parametrize("fit", ["whole", "stretch", "native"])
def test_a_picture_of_any_size_has_the_logit_of_itself_in_the_common_format(odd_set, fit):
    spec, own = find_detector("tiny-ladeda"), Preprocessing(size=48, fit=fit)
    model = build_detector(spec, own, "mean", seed=0).eval()
    loaded = LoadedDetector(model, spec, own, "checkpoint", "0" * 64, {})
    paths, common = sorted(odd_set.rglob("*.png")), CommonFormat(48)

    found = rescore(
        loaded, paths, common, compute=choose_compute("cpu", "float32", spec), batch=4, workers=2
    )

    shapes = set()
    for path, logit in zip(paths, found, strict=True):
        pixels = reencoded_pixels(path, own, common)
        shapes.add(pixels.shape)
        with torch.inference_mode():
            fed = normalise(to_batch(np.array(pixels[None])), own, torch.device("cpu"))
            assert logit == pytest.approx(float(model(fed)), abs=1e-5)
    assert (len(shapes) > 1) == (fit == "whole")
