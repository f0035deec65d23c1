"""Where in a picture a detector sees fake: the patch logits laid over it, red fake and blue real.

Source of the figure: https://arxiv.org/abs/2406.09398, figure 7. The map is laid where each patch
truly is (cell (i, j) is centred at stride * i + (field - 1) / 2 of the resized picture) and
stretched back to the picture's own shape. The mean of the map is the logit of the image.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from schemas.errors import InputError
from train.checkpoint import LoadedDetector
from train.config import Compute
from train.data import decode_all, quiet_decoder
from train.patches import Patch, native_map
from train.transforms import kept_side, normalise, to_batch, to_pixels, to_rgb

FAKE_RGB = (200, 30, 30)
REAL_RGB = (30, 80, 200)

MAX_ALPHA = 0.65
"""How much of the picture the strongest patch covers."""

LONG_SIDE_PX = 1024
"""Larger pictures are shown at this size."""

BAR_PX = 64
"""Width of the scale at the right."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One explained picture: patch logits (h, w), the image's logit, and the overlay."""

    patches: NDArray[np.float32]
    logit: float
    limit: float
    overlay: Image.Image

    def png(self) -> bytes:
        """The overlay as PNG."""
        buffer = io.BytesIO()
        self.overlay.save(buffer, format="PNG")
        return buffer.getvalue()


def explain(loaded: LoadedDetector, path: Path, *, limit: float | None = None) -> Explanation:
    """Explain the score of the picture at `path`.

    Args:
        loaded: from `train.checkpoint.load_detector`.
        path: an image file.
        limit: logit shown in full colour; by default the 99th percentile of this picture's own, so
            give the same one to compare pictures.

    Raises:
        InputError: if the picture does not decode.
    """
    (decoded,) = decode_all([path], loaded.preprocessing, workers=1)
    if decoded.pixels is None:
        raise InputError(f"{path} {decoded.error}; expected an image; check the file")
    with quiet_decoder(), Image.open(path) as image:
        shown = to_rgb(image, loaded.preprocessing)
    patches = patch_map(loaded, decoded.pixels)
    limit = default_limit(patches) if limit is None else limit
    overlay = render(shown, patches, loaded, limit)
    return Explanation(patches, _score(loaded, decoded.pixels), limit, overlay)


OWN_SIDE_PX = 4096
"""Maps at a picture's own size are drawn no larger than this."""

BLOCK_PX = 8
"""Side of a JPEG block."""

GRID_RGB = (255, 255, 0)


@dataclass(frozen=True, slots=True)
class View:
    """One picture and the patches of what was fed.

    Pixel (x, y) of `fed` (H, W, 3) begins at (left + scale_x * x, top + scale_y * y) of `picture`,
    which is upright RGB at its own size. `patches` (h, w) are logits.
    """

    picture: Image.Image
    fed: NDArray[np.uint8]
    patches: NDArray[np.float32]
    left: float
    top: float
    scale_x: float
    scale_y: float

    @property
    def at_own_size(self) -> bool:
        """Whether the whole picture was fed as it is."""
        return self.fed.shape[:2] == (self.picture.height, self.picture.width)

    def box(self, x: int, y: int, field: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in the picture of the patch that starts at fed pixel (x, y)."""
        left, top = self.left + self.scale_x * x, self.top + self.scale_y * y
        return left, top, left + self.scale_x * field, top + self.scale_y * field


def look(
    loaded: LoadedDetector, picture: Image.Image, *, own_size: bool, compute: Compute | None = None
) -> View:
    """The patches of `picture` (upright RGB).

    Args:
        loaded: from `train.checkpoint.load_detector`.
        picture: from `train.transforms.to_rgb`.
        own_size: feed the whole picture as it is, in tiles, instead of what the score is made of.
        compute: where to run; the CPU in float32 by default.
    """
    if own_size and min(picture.size) >= loaded.spec.receptive_field:
        patches = native_map(loaded, np.asarray(picture, dtype=np.uint8), compute)
        return view_of(loaded, picture, patches, own_size=True)
    patches = patch_map(loaded, to_pixels(picture, loaded.preprocessing), compute)
    return view_of(loaded, picture, patches, own_size=False)


def view_of(
    loaded: LoadedDetector, picture: Image.Image, patches: NDArray[np.float32], *, own_size: bool
) -> View:
    """The view whose `patches` are known already."""
    if own_size:
        return View(picture, np.asarray(picture, dtype=np.uint8), patches, 0, 0, 1, 1)
    prep, (width, height) = loaded.preprocessing, picture.size
    fed = to_pixels(picture, prep)
    if prep.fit == "stretch":
        return View(picture, fed, patches, 0, 0, width / prep.size, height / prep.size)
    side = kept_side(picture.size, prep)
    left, top = (width - side) // 2, (height - side) // 2
    return View(picture, fed, patches, left, top, side / prep.size, side / prep.size)


def overlay(view: View, loaded: LoadedDetector, limit: float) -> Image.Image:
    """The picture under its map, at its own size and shape, with the scale at its right."""
    picture = view.picture.copy()
    picture.thumbnail((OWN_SIDE_PX, OWN_SIDE_PX))
    zoom = picture.width / view.picture.width
    laid = _laid(picture, _spread_view(view, picture.size, zoom, loaded), limit)
    return _with_scale(laid, limit)


def _spread_view(
    view: View, size: tuple[int, int], zoom: float, loaded: LoadedDetector
) -> NDArray[np.float32]:
    (width, height), (rows, columns) = size, view.patches.shape
    tops, seen_y = _along(
        height, view.top * zoom, view.scale_y * zoom, view.fed.shape[0], loaded, rows
    )
    lefts, seen_x = _along(
        width, view.left * zoom, view.scale_x * zoom, view.fed.shape[1], loaded, columns
    )
    return _mix(_mix(view.patches, tops).T, lefts).T * (seen_y[:, None] & seen_x[None, :])


def _laid(picture: Image.Image, logits: NDArray[np.float32], limit: float) -> Image.Image:
    """`picture` with the map mixed into it."""
    colours, alpha = colour(logits, limit)
    base = np.asarray(picture, dtype=np.float32)
    mixed = base * (1 - alpha[..., None]) + colours * alpha[..., None]
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def grid_overlay(
    view: View,
    loaded: LoadedDetector,
    limit: float,
    patch: Patch,
    *,
    window: int = 96,
    zoom: int = 6,
) -> Image.Image:
    """The surroundings of `patch` enlarged: map, lines of the 8 x 8 JPEG grid, and the patch outlined.

    The grid is that of the picture's own pixels from its top left corner, where a JPEG begins.
    """
    width, height = view.picture.size
    box = view.box(patch.x, patch.y, loaded.spec.receptive_field)
    left = _start((box[0] + box[2] - window) / 2, width, window)
    top = _start((box[1] + box[3] - window) / 2, height, window)
    right, bottom = min(left + window, width), min(top + window, height)
    logits = _spread_view(view, view.picture.size, 1.0, loaded)[top:bottom, left:right]
    cut = _laid(view.picture.crop((left, top, right, bottom)), logits, limit)
    shown = cut.resize((cut.width * zoom, cut.height * zoom), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(shown)
    for x in range(-(-left // BLOCK_PX) * BLOCK_PX, right, BLOCK_PX):
        draw.line(((x - left) * zoom, 0, (x - left) * zoom, shown.height), GRID_RGB, 2)
    for y in range(-(-top // BLOCK_PX) * BLOCK_PX, bottom, BLOCK_PX):
        draw.line((0, (y - top) * zoom, shown.width, (y - top) * zoom), GRID_RGB, 2)
    outline = [(v - o) * zoom for v, o in zip(box, (left, top, left, top), strict=True)]
    draw.rectangle(outline, outline=(255, 255, 255), width=3)
    return _with_scale(shown, limit)


def _start(wanted: float, side: int, window: int) -> int:
    return max(0, min(round(wanted), side - window))


def score_of(loaded: LoadedDetector, picture: Image.Image) -> float:
    """The logit of `picture` (upright RGB), from what the checkpoint's preprocessing makes of it."""
    return _score(loaded, to_pixels(picture, loaded.preprocessing))


def _score(loaded: LoadedDetector, pixels: NDArray[np.uint8]) -> float:
    """The logit of preprocessed pixels (H, W, 3), pooled as the detector pools."""
    device = next(loaded.model.parameters()).device
    with torch.inference_mode():
        batch = normalise(to_batch(np.array(pixels[None])), loaded.preprocessing, device)
        return float(loaded.model.eval()(batch)[0, 0])


def patch_map(
    loaded: LoadedDetector, image: Image.Image | NDArray[np.uint8], compute: Compute | None = None
) -> NDArray[np.float32]:
    """The logit of every patch, (h, w).

    Args:
        loaded: from `train.checkpoint.load_detector`.
        image: a Pillow image, or pixels (H, W, 3) already preprocessed; they need not be square.
        compute: where to run; the CPU in float32 by default.
    """
    compute = compute or Compute(torch.device("cpu"))
    if isinstance(image, Image.Image):
        image = to_pixels(image, loaded.preprocessing)
    model = compute.place(loaded.model).eval()
    with torch.inference_mode(), compute.autocast():
        batch = normalise(to_batch(np.array(image[None])), loaded.preprocessing, compute.device)
        logits: NDArray[np.float32] = model.patch_logits(batch)[0].float().cpu().numpy()
    return logits


def default_limit(patches: NDArray[np.float32]) -> float:
    """The 99th percentile of |logit|, so that one wild patch does not pale the rest."""
    return max(float(np.quantile(np.abs(patches), 0.99)), 1e-6)


def render(
    image: Image.Image, patches: NDArray[np.float32], loaded: LoadedDetector, limit: float
) -> Image.Image:
    """`image` (upright RGB, any shape) under the map, with the scale at its right."""
    picture = image.copy()
    picture.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
    logits = spread(patches, picture.size, loaded, zoom=picture.width / image.width)
    return _with_scale(_laid(picture, logits, limit), limit)


def spread(
    patches: NDArray[np.float32],
    size: tuple[int, int],
    loaded: LoadedDetector,
    *,
    zoom: float = 1.0,
) -> NDArray[np.float32]:
    """The map at every pixel of a picture of `size` (width, height), bilinear: (height, width).

    `zoom` is the size shown over the picture's own. What the detector did not look at gets 0.
    """
    width, height = size
    side = None if loaded.preprocessing.fit == "stretch" else _kept(size, loaded, zoom)
    tops, seen_y = _positions(height, side, loaded, patches.shape[0])
    lefts, seen_x = _positions(width, side, loaded, patches.shape[1])
    spread_out = _mix(_mix(patches, tops).T, lefts).T
    return spread_out * (seen_y[:, None] & seen_x[None, :])


def _kept(size: tuple[int, int], loaded: LoadedDetector, zoom: float) -> float:
    """Side of the square that was looked at, in pixels as shown."""
    own = (round(size[0] / zoom), round(size[1] / zoom))
    return kept_side(own, loaded.preprocessing) * zoom


def _positions(
    side: int, kept: float | None, loaded: LoadedDetector, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where each of `side` pixels falls on the axis of `cells` cells, and whether it was looked at."""
    kept = side if kept is None else kept
    fed = loaded.preprocessing.size
    return _along(side, (side - kept) / 2, kept / fed, fed, loaded, cells)


def _along(
    side: int, offset: float, scale: float, fed: int, loaded: LoadedDetector, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As `_positions`, where `fed` pixels were fed that begin at `offset` and are `scale` wide each."""
    resized = (np.arange(side) + 0.5 - offset) / scale - 0.5
    centre = (loaded.spec.receptive_field - 1) / 2
    seen = (resized > -0.5) & (resized < fed - 0.5)
    return np.clip((resized - centre) / loaded.spec.stride, 0, cells - 1), seen


def _mix(values: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, len(values) - 1)
    share = (positions - low)[:, None]
    mixed: NDArray[np.float64] = values[low] * (1 - share) + values[high] * share
    return mixed.astype(np.float32)


def colour(
    logits: NDArray[np.float32], limit: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (h, w) to colours (h, w, 3) in 0..255 and opacity (h, w): red fake, blue real."""
    strength = np.clip(np.abs(logits) / limit, 0, 1)
    fake = np.asarray(FAKE_RGB, dtype=np.float32)
    real = np.asarray(REAL_RGB, dtype=np.float32)
    colours = np.where((logits > 0)[..., None], fake, real)
    return colours, (MAX_ALPHA * strength).astype(np.float32)


def _with_scale(picture: Image.Image, limit: float) -> Image.Image:
    """`picture` with a bar at its right that says what the colours mean, in logits."""
    width, height = picture.size
    size = max(10, min(height // 24, 44))
    canvas = Image.new("RGB", (width + BAR_PX * size // 10, height), "white")
    canvas.paste(picture, (0, 0))
    values = np.linspace(limit, -limit, height, dtype=np.float32)[:, None].repeat(12, axis=1)
    colours, alpha = colour(values, limit)
    bar = 255 * (1 - alpha[..., None]) + colours * alpha[..., None]
    canvas.paste(Image.fromarray(np.round(bar).astype(np.uint8)), (width + 6, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=size)
    for value, y, anchor in ((limit, 0, "lt"), (0.0, height / 2, "lm"), (-limit, height, "lb")):
        draw.text((width + 22, y), f"{value:+.3g}" if value else "0 logit", "black", font, anchor)
    return canvas
