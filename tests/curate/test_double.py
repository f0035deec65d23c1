"""A JPEG that was one before, told from its coefficients."""

import io

import numpy as np
import pytest
from PIL import Image

from curate.probe import double, examine

QUANTISED_TWICE, ONCE = (6, 4), (4, 4)


def laplacian(steps: tuple[int, int]) -> np.ndarray:
    """Coefficients as a photograph has them, quantised with the first step, then with the second."""
    rng = np.random.default_rng(2)
    values = rng.laplace(0, 12, (60, 60, 8, 8))
    return np.round(np.round(values / steps[0]) * steps[0] / steps[1]).astype(int)


def test_coefficients_quantised_twice_are_rough_and_once_are_smooth():
    assert double.of_coefficients(laplacian(ONCE)) < 0.2
    assert double.of_coefficients(laplacian(QUANTISED_TWICE)) > 0.5
    assert double.of_coefficients(laplacian((12, 4))) > 1


def test_too_few_coefficients_say_nothing():
    assert double.of_coefficients(np.zeros((60, 60, 8, 8), dtype=int)) is None
    assert double.of_coefficients(np.ones((2, 2, 8, 8), dtype=int)) is None


def encoded(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def test_a_file_compressed_coarser_before_is_told_where_jpeglib_is_installed(shared):
    pytest.importorskip("jpeglib", reason="needs jpeglib: pip install 'wildrf[forensics]'")
    told = {"once": [], "twice": []}
    for path in sorted((shared / "data" / "faces-clean").rglob("*.jpg"))[:40]:
        with Image.open(path) as opened:
            picture = opened.convert("RGB").crop((3, 5, 256, 256))
        told["once"].append(examine(encoded(picture, 90)).image.jpeg_double)
        with Image.open(io.BytesIO(encoded(picture, 60))) as again:
            told["twice"].append(examine(encoded(again.convert("RGB"), 90)).image.jpeg_double)
    once, twice = ([v for v in told[k] if v is not None] for k in ("once", "twice"))

    assert len(once) > 10
    assert len(twice) > 10
    assert np.median(twice) > 1 > np.percentile(once, 95)


def test_where_jpeglib_is_absent_the_fact_is_missing_and_nothing_else(monkeypatch):
    monkeypatch.setattr(double, "_library", lambda: None)
    image = examine(encoded(Image.new("RGB", (64, 64), "red"), 80)).image

    assert image.jpeg_double is None
    assert image.error is None
