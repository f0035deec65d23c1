"""Where in a picture a detector sees fake: the patch logits laid over it, red fake and blue real.

Source of the figure: https://arxiv.org/abs/2406.09398, figure 7. The map is laid where each patch
truly is (cell (i, j) is centred at stride * i + (field - 1) / 2 of what was fed) and stretched back to
the picture's own shape. A picture of any size is looked at in tiles and drawn in strips, so that beside
its pixels and its map only a small part is in memory.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from train.checkpoint import LoadedDetector
from train.config import Compute
from train.detectors.patches import pool_patches
from train.patches import BLOCK_PX, Patch
from train.pixels import Pixels
from train.tiles import patch_map, score_images
from train.transforms import Preprocessing, kept_side, to_pixels

FAKE_RGB = (200, 30, 30)
REAL_RGB = (30, 80, 200)
GRID_RGB = (255, 255, 0)

MAX_ALPHA = 0.65
"""How much of the picture the strongest patch covers."""

BAR_PX = 64
"""Width of the scale at the right."""

OWN_SIDE_PX = 4096
"""Maps at a picture's own size are drawn no larger than this."""

STRIP_PX = 256
"""Rows that are drawn at once."""

CPU = Compute(torch.device("cpu"))

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two outside."""


@dataclass(frozen=True, slots=True)
class View:
    """One picture and the patches of what was fed.

    Pixel (x, y) of `fed` (H, W, 3) begins at (left + scale_x * x, top + scale_y * y) of `picture`,
    which is upright RGB at its own size. `patches` (h, w) are logits.
    """

    picture: Image.Image
    fed: Pixels
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
    loaded: LoadedDetector, picture: Image.Image, *, own_size: bool, compute: Compute = CPU
) -> View:
    """The patches of `picture` (upright RGB).

    Args:
        loaded: from `train.checkpoint.load_detector`.
        picture: from `train.transforms.to_rgb`.
        own_size: feed the whole picture as it is instead of what the score is made of; one smaller
            than a patch is fed as it is scored.
        compute: where to run; the CPU in float32 by default.
    """
    own_size = own_size and min(picture.size) >= loaded.spec.receptive_field
    fed, model = _fed(loaded, picture, own_size), compute.place(loaded.model)
    patches = patch_map(model, loaded.spec, fed, loaded.preprocessing, compute)
    return _placed(loaded, picture, fed, patches)


def view_of(
    loaded: LoadedDetector, picture: Image.Image, patches: NDArray[np.float32], *, own_size: bool
) -> View:
    """The view whose `patches` are known already."""
    return _placed(loaded, picture, _fed(loaded, picture, own_size), patches)


def _fed(loaded: LoadedDetector, picture: Image.Image, own_size: bool) -> Pixels:
    if own_size:
        return np.asarray(picture, dtype=np.uint8)
    return to_pixels(picture, loaded.preprocessing)


def _placed(
    loaded: LoadedDetector, picture: Image.Image, fed: Pixels, patches: NDArray[np.float32]
) -> View:
    """Where what was fed lies in the picture: all of it, or the centre square that was kept."""
    (width, height), left, top = picture.size, 0, 0
    if fed.shape[:2] != (height, width) and loaded.preprocessing.fit in ("crop", "native"):
        side = kept_side(picture.size, loaded.preprocessing)
        left, top = (width - side) // 2, (height - side) // 2
        width = height = side
    return View(picture, fed, patches, left, top, width / fed.shape[1], height / fed.shape[0])


def score_of(loaded: LoadedDetector, view: View, compute: Compute = CPU) -> float:
    """The logit of the picture, from what the checkpoint's preprocessing makes of it."""
    scored = to_pixels(view.picture, loaded.preprocessing)
    if scored.shape == view.fed.shape:  # then it is what was fed, and need not be scored again
        return float(pool_patches(torch.from_numpy(view.patches)[None], loaded.model.pooling))
    model = compute.place(loaded.model)
    (logit,) = score_images(model, loaded.spec, [scored], loaded.preprocessing, compute, 1)
    return logit


def grid_origin(image: Image.Image, preprocessing: Preprocessing) -> tuple[int, int]:
    """Where in the upright picture a block of the JPEG grid begins: x and y, below 8 pixels.

    The grid begins at the first pixel that is stored; turned upright, that pixel may lie at the right or at
    the bottom, with parts of blocks at the other ends. `image` is as it was opened and loaded.
    """
    turn = image.getexif().get(ExifTags.Base.Orientation, 1) if preprocessing.orientation else 1
    width, height = image.size if turn not in (5, 6, 7, 8) else image.size[::-1]
    x = width % BLOCK_PX if turn in (2, 3, 6, 7) else 0
    y = height % BLOCK_PX if turn in (3, 4, 7, 8) else 0
    return x, y


def overlay(view: View, loaded: LoadedDetector, limit: float) -> Image.Image:
    """The picture under its map, at its own size and shape, with the scale at its right."""
    return _with_scale(lay_map(view, loaded, limit, OWN_SIDE_PX), limit)


def lay_map(view: View, loaded: LoadedDetector, limit: float, long_side: int) -> Image.Image:
    """The picture under its map, `long_side` pixels at most; |logit| `limit` is shown in full colour."""
    view = _shrunk(view, long_side)
    width, height = view.picture.size
    laid = Image.new("RGB", (width, height))
    for top in range(0, height, STRIP_PX):
        box = (0, top, width, min(top + STRIP_PX, height))
        laid.paste(_laid(view, loaded, limit, box), box)
    return laid


def _shrunk(view: View, long_side: int) -> View:
    width, height = view.picture.size
    if max(width, height) <= long_side:
        return view
    part = long_side / max(width, height)
    size = max(1, round(width * part)), max(1, round(height * part))
    small = view.picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    across, down = size[0] / width, size[1] / height
    return replace(
        view, picture=small, left=view.left * across, top=view.top * down,
        scale_x=view.scale_x * across, scale_y=view.scale_y * down,
    )  # fmt: skip


def _laid(view: View, loaded: LoadedDetector, limit: float, box: Box) -> Image.Image:
    """The part `box` of the picture with the map mixed into it."""
    colours, alpha = colour(map_in(view, loaded, box), limit)
    base = np.asarray(view.picture.crop(box), dtype=np.float32)
    mixed = base * (1 - alpha[..., None]) + colours * alpha[..., None]
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def map_in(view: View, loaded: LoadedDetector, box: Box) -> NDArray[np.float32]:
    """The map at every pixel of the part `box` of the picture, bilinear; what was not fed gets 0."""
    (height, width), (rows, columns) = view.fed.shape[:2], view.patches.shape
    left, top, right, bottom = box
    seen_y = (np.arange(top, bottom) + 0.5 - view.top) / view.scale_y - 0.5
    seen_x = (np.arange(left, right) + 0.5 - view.left) / view.scale_x - 0.5
    mixed = _mix(view.patches, _cells_at(seen_y, loaded, rows))
    mixed = _mix(mixed.T, _cells_at(seen_x, loaded, columns)).T
    fed_y = (seen_y > -0.5) & (seen_y < height - 0.5)
    fed_x = (seen_x > -0.5) & (seen_x < width - 0.5)
    return mixed * (fed_y[:, None] & fed_x[None, :])


def _cells_at(
    fed: NDArray[np.floating[Any]], loaded: LoadedDetector, cells: int
) -> NDArray[np.float64]:
    """Where pixels `fed` fall on an axis of `cells` cells."""
    centre = (loaded.spec.receptive_field - 1) / 2
    return np.clip((fed - centre) / loaded.spec.stride, 0, cells - 1)


def _mix(values: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, len(values) - 1)
    share = (positions - low)[:, None]
    mixed: NDArray[np.float64] = values[low] * (1 - share) + values[high] * share
    return mixed.astype(np.float32)


def grid_overlay(
    view: View,
    loaded: LoadedDetector,
    limit: float,
    patch: Patch,
    *,
    origin: tuple[int, int] = (0, 0),
    window: int = 96,
    zoom: int = 6,
) -> Image.Image:
    """The surroundings of `patch` enlarged: map, lines of the 8 x 8 JPEG grid, and the patch outlined.

    `origin` is from `grid_origin`; `window` is in pixels of the picture.
    """
    width, height = view.picture.size
    box = view.box(patch.x, patch.y, loaded.spec.receptive_field)
    left = _start((box[0] + box[2] - window) / 2, width, window)
    top = _start((box[1] + box[3] - window) / 2, height, window)
    part = (left, top, min(left + window, width), min(top + window, height))
    shown = ImageOps.scale(_laid(view, loaded, limit, part), zoom, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(shown)
    for x in range((origin[0] - left) % BLOCK_PX, part[2] - left, BLOCK_PX):
        draw.line((x * zoom, 0, x * zoom, shown.height), GRID_RGB, 2)
    for y in range((origin[1] - top) % BLOCK_PX, part[3] - top, BLOCK_PX):
        draw.line((0, y * zoom, shown.width, y * zoom), GRID_RGB, 2)
    outline = [(v - o) * zoom for v, o in zip(box, (left, top, left, top), strict=True)]
    draw.rectangle(outline, outline=(255, 255, 255), width=3)
    return _with_scale(shown, limit)


def _start(wanted: float, side: int, window: int) -> int:
    return max(0, min(round(wanted), side - window))


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
