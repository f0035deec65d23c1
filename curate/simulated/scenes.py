"""Scenes that look a little like photographs, drawn from a seed.

A scene is drawn twice as large as asked on two Pillow layers: colour, and surface (how rough, how
streaked, how lit each pixel is). The layers are reduced, which is the anti-aliasing, and the surface layer
modulates fractal noise into texture. What is in the scene says nothing about whether it will be
called real or generated; only `curate.simulated.capture` knows that.

Dead leaves (Lee, Mumford, Huang, 2001, https://doi.org/10.1023/A:1011109015675): overlapping shapes
with power-law sizes have edge statistics near those of natural images. Fractal noise: amplitude 1/f^b.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator
Floats = npt.NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
Surface = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

OVERSAMPLE = 2
TILE_PX = 1024
PALETTES: tuple[tuple[Colour, ...], ...] = (
    (
        (0.36, 0.45, 0.28),
        (0.62, 0.60, 0.38),
        (0.24, 0.30, 0.20),
        (0.72, 0.66, 0.52),
        (0.45, 0.33, 0.2),
    ),
    (
        (0.75, 0.42, 0.26),
        (0.85, 0.66, 0.42),
        (0.40, 0.24, 0.18),
        (0.60, 0.52, 0.44),
        (0.30, 0.34, 0.4),
    ),
    (
        (0.25, 0.38, 0.52),
        (0.55, 0.66, 0.74),
        (0.80, 0.80, 0.76),
        (0.18, 0.24, 0.33),
        (0.66, 0.5, 0.38),
    ),
    (
        (0.70, 0.66, 0.60),
        (0.46, 0.44, 0.42),
        (0.86, 0.82, 0.74),
        (0.30, 0.29, 0.30),
        (0.58, 0.3, 0.24),
    ),
    (
        (0.80, 0.30, 0.28),
        (0.92, 0.70, 0.30),
        (0.28, 0.45, 0.42),
        (0.88, 0.82, 0.70),
        (0.24, 0.26, 0.34),
    ),
    (
        (0.58, 0.38, 0.50),
        (0.82, 0.62, 0.66),
        (0.34, 0.36, 0.50),
        (0.88, 0.80, 0.78),
        (0.40, 0.5, 0.42),
    ),
    (
        (0.20, 0.42, 0.42),
        (0.46, 0.62, 0.54),
        (0.82, 0.76, 0.58),
        (0.62, 0.40, 0.30),
        (0.16, 0.22, 0.24),
    ),
)
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((0.30, 0.50, 0.78), (0.78, 0.86, 0.92)),
    ((0.45, 0.58, 0.74), (0.92, 0.84, 0.74)),
    ((0.34, 0.32, 0.48), (0.96, 0.66, 0.44)),
    ((0.62, 0.66, 0.70), (0.82, 0.83, 0.82)),
    ((0.22, 0.30, 0.46), (0.62, 0.56, 0.60)),
    ((0.40, 0.62, 0.82), (0.70, 0.82, 0.86)),
)


NOISES: dict[str, tuple[int, float, float]] = {
    "rough": (1, 0.9, 1.0),
    "streak": (2, 1.0, 7.0),
    "cloud": (3, 1.9, 0.6),
    "grain": (4, 0.5, 1.0),
}
"""Kinds of texture: number, power and stretch of their noise tile."""


@functools.cache
def noise_tile(kind: int, power: float, stretch: float) -> Floats:
    """A periodic noise field (TILE_PX, TILE_PX): mean 0, deviation 1, amplitude 1/f^power.

    `stretch` above 1 makes it run along x, as water and wood do.
    """
    white = np.random.default_rng(kind).standard_normal((TILE_PX, TILE_PX))
    fy = np.fft.fftfreq(TILE_PX)[:, None]
    fx = np.fft.rfftfreq(TILE_PX)[None, :] * stretch
    radius = np.sqrt(fx * fx + fy * fy)
    radius[0, 0] = 1
    field = np.fft.irfft2(np.fft.rfft2(white) / radius**power, s=white.shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def noise(rng: Rng, size: tuple[int, int], kind: str) -> Floats:
    """A window (h, w) of the noise tile of `kind`, one of `NOISES`."""
    tile = noise_tile(*NOISES[kind])
    width, height = size
    x = int(rng.integers(0, TILE_PX - width + 1))
    y = int(rng.integers(0, TILE_PX - height + 1))
    window = tile[y : y + height, x : x + width]
    return window[:, ::-1] if rng.random() < 0.5 else window


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """`a` at t = 0, `b` at t = 1."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def lit(colour: Colour, gain: float) -> Colour:
    """`colour`, `gain` times as bright."""
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


class Canvas:
    """Two layers to draw on, in units of the picture: x in [0, 1] of its width, y of its height.

    A surface is (roughness, streaks, light), each 0..255; light 128 leaves the colour as it is.
    """

    def __init__(self, size: tuple[int, int], rng: Rng) -> None:
        self.size, self.rng = size, rng
        self.scale = (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE)
        self.aspect = size[0] / size[1]
        self.layers = [Image.new("RGB", self.scale), Image.new("RGB", self.scale, (8, 0, 128))]
        self._pens()
        base = PALETTES[int(rng.integers(len(PALETTES)))]
        self.palette = [_jitter(rng, colour, 0.06) for colour in base]

    def _pens(self) -> None:
        self.pens = [ImageDraw.Draw(layer) for layer in self.layers]

    def colour(self, spread: float = 0.05) -> Colour:
        """A colour near one of the palette's."""
        return _jitter(self.rng, self.palette[int(self.rng.integers(len(self.palette)))], spread)

    def polygon(self, points: Points, colour: Colour, surface: Surface = (40, 0, 128)) -> None:
        """Fill a polygon on both layers."""
        at = [(x * self.scale[0], y * self.scale[1]) for x, y in points]
        self.pens[0].polygon(at, fill=_bytes(colour))
        self.pens[1].polygon(at, fill=surface)

    def ellipse(
        self, x: float, y: float, r: float, colour: Colour,
        surface: Surface = (40, 0, 128), *, flat: float = 1.0,
    ) -> None:  # fmt: skip
        """Fill an ellipse of half-width `r` (of the width), half-height `r` * `flat`."""
        rx, ry = r * self.scale[0], r * self.scale[0] * flat
        cx, cy = x * self.scale[0], y * self.scale[1]
        box = (cx - rx, cy - ry, cx + rx, cy + ry)
        self.pens[0].ellipse(box, fill=_bytes(colour))
        self.pens[1].ellipse(box, fill=surface)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour,
        surface: Surface = (40, 0, 128),
    ) -> None:  # fmt: skip
        """Fill an upright rectangle."""
        self.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour, surface)

    def gradient(self, top: Colour, bottom: Colour, until: float = 1.0) -> None:
        """Fill from y = 0 down to `until` with a vertical gradient, the rest with `bottom`."""
        t = np.clip(np.linspace(0, 1 / until, self.scale[1]), 0, 1)[:, None]
        rows = (1 - t) * np.asarray(top) + t * np.asarray(bottom)  # (h, 3)
        column = np.clip(rows * 255, 0, 255).astype(np.uint8)[:, None]
        self.layers[0] = Image.fromarray(column).resize(self.scale, Image.Resampling.NEAREST)
        self._pens()

    def blur(self, radius: float) -> None:
        """Put what is drawn so far out of focus; `radius` is a share of the width."""
        px = radius * self.size[0]
        wide, narrow = ImageFilter.BoxBlur(px), ImageFilter.BoxBlur(px * 0.6)
        small = [layer.reduce(OVERSAMPLE).filter(wide) for layer in self.layers]
        small[0] = small[0].filter(narrow)
        self.layers = [layer.resize(self.scale, Image.Resampling.BILINEAR) for layer in small]
        self._pens()

    def clouds(self, until: float, strength: float) -> None:
        """Lay soft clouds over the sky above `until`."""
        small = (self.size[0] // 2, self.size[1] // 2)
        field = noise(self.rng, small, "cloud") + 0.25 * noise(self.rng, small, "streak")
        fade = np.clip(1.2 - np.arange(small[1]) / (small[1] * until), 0, 1)[:, None]
        mask = np.clip((field - self.rng.uniform(-0.3, 0.5)) * strength, 0, 0.9) * fade
        alpha = Image.fromarray((mask * 255).astype(np.uint8)).resize(self.scale)
        white = Image.new("RGB", self.scale, _bytes(mix((0.95, 0.94, 0.93), self.palette[3], 0.2)))
        self.layers[0] = Image.composite(white, self.layers[0], alpha)
        self._pens()

    def finish(self) -> Floats:
        """The scene as display-referred RGB, (h, w, 3) float32 in [0, 1]."""
        colour, surface = (
            np.asarray(layer.reduce(OVERSAMPLE), np.float32) / 255 for layer in self.layers
        )
        rough = (
            noise(self.rng, self.size, "rough") * 0.7 + noise(self.rng, self.size, "grain") * 0.3
        )
        light = 2 * surface[..., 2] * (1 + 0.38 * surface[..., 0] * rough)
        light *= 1 + 0.5 * surface[..., 1] * noise(self.rng, self.size, "streak")
        return self._grade(colour * (light * self._falloff())[..., None])

    def _falloff(self) -> Floats:
        """Light of the room: brighter on one side, darker in the corners."""
        angle = self.rng.uniform(0, 2 * math.pi)
        x = np.linspace(-1, 1, self.size[0], dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, self.size[1], dtype=np.float32)[:, None]
        slope = self.rng.uniform(0, 0.16) * (math.cos(angle) * x + math.sin(angle) * y)
        return np.asarray(1 + slope - self.rng.uniform(0.02, 0.12) * (x * x + y * y), np.float32)

    def _grade(self, image: Floats) -> Floats:
        """Exposure and white balance of the shot, kept from clipping hard."""
        warm = self.rng.uniform(-0.06, 0.06)
        gains = np.array([1 + warm, 1.0, 1 - warm], np.float32) * np.float32(
            self.rng.uniform(0.85, 1.15)
        )
        graded = np.maximum(image * gains, 0)
        return np.asarray(graded / (1 + np.maximum(graded - 0.8, 0)), np.float32).clip(0.004, 0.996)


def _bytes(colour: Colour) -> tuple[int, int, int]:
    return tuple(min(255, max(0, round(255 * c))) for c in colour)  # type: ignore[return-value]


def _jitter(rng: Rng, colour: Colour, spread: float) -> Colour:
    shade = rng.uniform(-spread, spread)
    r, g, b = (
        c + shade + d for c, d in zip(colour, rng.uniform(-0.5, 0.5, 3) * spread, strict=True)
    )
    return (r, g, b)


def ridge(rng: Rng, n: int, rough: float) -> Floats:
    """A skyline of `n` points in about [-1, 1]: sines with falling amplitude."""
    x = np.linspace(0, 1, n)
    waves = np.arange(1, 24)
    phase, weight = rng.uniform(0, 2 * math.pi, waves.size), rng.normal(0, 1, waves.size)
    terms = np.sin(2 * math.pi * x[:, None] * waves * 0.7 + phase) * weight / waves ** (2 - rough)
    line = terms.sum(1)
    return np.asarray(line / (np.abs(line).max() + 1e-6), np.float32)


def draw_hills(c: Canvas, rng: Rng) -> None:
    """Ridges that fade into haze, with trees on the nearest and sometimes a lake."""
    top, haze = SKIES[int(rng.integers(len(SKIES)))]
    horizon = rng.uniform(0.3, 0.6)
    c.gradient(top, haze, horizon * 1.1)
    c.clouds(horizon, rng.uniform(0.2, 0.8))
    if rng.random() < 0.4:
        c.ellipse(rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9) * horizon, 0.03, (1, 0.97, 0.88))
    layers = int(rng.integers(3, 7))
    for k in range(layers):
        _hill(c, rng, (k + 1) / layers, horizon, haze)
    if rng.random() < 0.4:
        _lake(c, rng, top, rng.uniform(0.72, 0.86))


def _hill(c: Canvas, rng: Rng, near: float, horizon: float, haze: Colour) -> None:
    base = horizon + max(0.0, near - 0.2) ** 1.5 * (0.95 - horizon)
    line = base - (0.04 + 0.16 * (1 - near) + 0.05 * rng.random()) * ridge(
        rng, 90, 0.6 * rng.random()
    )
    colour = mix(haze, lit(c.colour(), 0.75), 0.25 + 0.75 * near)
    points = [(i / 89, float(y)) for i, y in enumerate(line)]
    c.polygon([*points, (1, 1.01), (0, 1.01)], colour, (int(40 + 150 * near), 20, 128))
    if near > 0.6:
        for _ in range(int(rng.integers(20, 120))):
            i = int(rng.integers(90))
            tall = rng.uniform(0.02, 0.09) * near
            _tree(c, rng, i / 89, float(line[i]) + rng.uniform(0, 0.12), tall, lit(colour, 0.7))


def _tree(c: Canvas, rng: Rng, x: float, y: float, tall: float, colour: Colour) -> None:
    shade = _jitter(rng, colour, 0.05)
    half = tall * rng.uniform(0.16, 0.3)
    if rng.random() < 0.6:
        c.polygon(((x - half, y), (x, y - tall), (x + half, y)), shade, (200, 0, 128))
        c.polygon(((x, y), (x, y - tall), (x + half, y)), lit(shade, 0.75), (200, 0, 128))
    else:
        c.ellipse(x, y - tall * 0.5, half, shade, (220, 0, 128))
        c.ellipse(x - half * 0.3, y - tall * 0.62, half * 0.6, lit(shade, 1.3), (220, 0, 128))


def _lake(c: Canvas, rng: Rng, sky: Colour, shore: float) -> None:
    width, height = c.scale
    cut = int(shore * height)
    mirror = c.layers[0].crop((0, max(0, 2 * cut - height), width, cut))
    mirror = mirror.transpose(Image.Transpose.FLIP_TOP_BOTTOM).filter(ImageFilter.BoxBlur((2, 9)))
    tint = Image.new("RGB", mirror.size, _bytes(lit(sky, 0.7)))
    c.layers[0].paste(Image.blend(mirror, tint, rng.uniform(0.2, 0.45)), (0, cut))
    c.layers[1].paste((20, 140, 128), (0, cut, width, height))


def draw_street(c: Canvas, rng: Rng) -> None:
    """A street towards a vanishing point between two rows of houses."""
    top, haze = SKIES[int(rng.integers(len(SKIES)))]
    vx, vy = rng.uniform(0.3, 0.7), rng.uniform(0.42, 0.6)
    c.gradient(top, haze, vy)
    c.clouds(vy, rng.uniform(0.1, 0.6))
    half = rng.uniform(0.35, 0.75)
    road = mix((0.36, 0.36, 0.37), c.colour(), 0.2)
    c.polygon(((-2, 1.4), (vx, vy), (3, 1.4)), road, (120, 0, 128))

    def at(x: float, y: float, z: float) -> tuple[float, float]:
        return vx + x / z, vy + y / z * c.aspect * 0.7

    for z in (5.0 - 0.6 * k for k in range(8)):
        mark = [
            at(x, 0.5, y) for x, y in ((-0.02, z), (0.02, z), (0.02, z - 0.3), (-0.02, z - 0.3))
        ]
        c.polygon(mark, (0.82, 0.8, 0.74), (90, 0, 128))
    for side in (-half, half):
        walk = [at(side, 0.5, 9), at(side, 0.5, 0.35), at(side * 0.72, 0.5, 0.35)]
        c.polygon(walk, mix(road, (0.62, 0.6, 0.58), 0.6), (110, 0, 128))
        _row_of_houses(c, rng, side, at, haze)
    for _ in range(int(rng.integers(0, 5))):
        z = rng.uniform(0.9, 3.0)
        x, foot = at(rng.uniform(-0.9, 0.9) * half, 0.5, z)
        _figure(c, rng, x, foot, 0.3 / z)


def _row_of_houses(
    c: Canvas, rng: Rng, x: float, at: Callable[[float, float, float], tuple[float, float]],
    haze: Colour,
) -> None:  # fmt: skip
    far, light = 7.0, int(rng.integers(80, 150))
    while far > 0.4:
        near = max(0.32, far * rng.uniform(0.6, 0.8))
        height, fog = rng.uniform(0.5, 1.5), min(0.6, far / 12)
        colour = mix(c.colour(0.1), haze, fog)
        wall = [at(x, 0.5, far), at(x, 0.5, near), at(x, -height, near), at(x, -height, far)]
        c.polygon(wall, colour, (80, 10, light))
        floors, bays = int(height * rng.uniform(2.5, 4.5)) + 1, int(rng.integers(2, 5))
        pane = mix(mix((0.16, 0.18, 0.22), (0.5, 0.6, 0.7), rng.random() * 0.5), haze, fog)
        for z0, z1, y0, y1 in _bays(near, far, height, floors, bays):
            hole = [at(x, y0, z0), at(x, y0, z1), at(x, y1, z1), at(x, y1, z0)]
            c.polygon(hole, lit(pane, rng.uniform(0.7, 1.3)), (10, 0, 128))
        far = near


def _bays(
    near: float, far: float, height: float, floors: int, bays: int
) -> list[tuple[float, float, float, float]]:
    deep, tall = (far - near) / bays, (height + 0.5) / floors
    return [
        (near + deep * (b + 0.22), near + deep * (b + 0.72), 0.5 - tall * (f + 0.25), 0.5 - tall * (f + 0.8))
        for f in range(floors)
        for b in range(bays)
    ]  # fmt: skip


def draw_facade(c: Canvas, rng: Rng) -> None:
    """The front of a house, seen a little from the side."""
    wall, trim = c.colour(0.1), mix(c.colour(), (0.9, 0.88, 0.84), 0.6)
    c.box(0, 0, 1, 1, wall, (110, int(rng.integers(0, 60)), 128))
    lean, tilt = rng.uniform(-0.25, 0.25), rng.uniform(-0.12, 0.12)
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(2, 6))

    def quad(x0: float, y0: float, x1: float, y1: float) -> Points:
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        return [(x + tilt * (y - 0.5), y + lean * (x - 0.5) * (y - 0.4)) for x, y in corners]

    for j in range(rows + 1):
        c.polygon(quad(-0.2, (j - 0.04) / rows, 1.2, (j + 0.02) / rows), trim, (60, 0, 128))
    wide, tall = rng.uniform(0.38, 0.62), rng.uniform(0.45, 0.66)
    for j in range(rows):
        for i in range(-1, columns + 1):
            x0, y0 = (i + 0.5 - wide / 2) / columns, (j + 0.18) / rows
            _window(c, rng, quad, x0, y0, wide / columns, tall / rows, trim)
    if rng.random() < 0.5:
        shade = rng.uniform(0.2, 0.8)
        mask = Image.new("L", c.scale, 0)
        edge = [(shade + rng.uniform(-0.3, 0.3), 0), (1.5, 0), (1.5, 1), (shade, 1)]
        ImageDraw.Draw(mask).polygon([(x * c.scale[0], y * c.scale[1]) for x, y in edge], fill=110)
        c.layers[0].paste((16, 20, 30), (0, 0), mask.filter(ImageFilter.BoxBlur(6)))
        c._pens()


def _window(
    c: Canvas, rng: Rng, quad: Callable[[float, float, float, float], Points],
    x: float, y: float, w: float, h: float, trim: Colour,
) -> None:  # fmt: skip
    pane = mix((0.14, 0.17, 0.2), (0.55, 0.65, 0.75), rng.random() * 0.7)
    if rng.random() < 0.12:
        pane = (0.95, 0.8, 0.5)
    c.polygon(quad(x - 0.1 * w, y - 0.06 * h, x + 1.1 * w, y + 1.12 * h), trim, (50, 0, 118))
    c.polygon(quad(x, y, x + w, y + h), pane, (14, 0, 128))
    c.polygon(quad(x, y, x + w, y + 0.16 * h), lit(pane, 0.5), (10, 0, 128))
    if rng.random() < 0.5:
        blind = rng.uniform(0.2, 0.8)
        c.polygon(quad(x, y, x + w, y + blind * h), mix(trim, pane, 0.25), (30, 90, 120))
    c.polygon(quad(x + 0.47 * w, y, x + 0.53 * w, y + h), trim)
    if rng.random() < 0.3:
        for _ in range(9):
            leaf = mix((0.25, 0.42, 0.2), c.colour(), 0.25)
            at = quad(x + w * rng.random(), y + h * rng.uniform(0.9, 1.1), x, y)[0]
            c.ellipse(at[0], at[1], 0.12 * w, leaf, (180, 0, 128))


def draw_still_life(c: Canvas, rng: Rng) -> None:
    """Fruit, bottles and boxes on a table before a blurred wall."""
    wall = c.colour(0.12)
    c.gradient(lit(wall, rng.uniform(0.6, 1.1)), lit(wall, rng.uniform(0.5, 0.9)))
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, 1), rng.uniform(0, 0.6)
        c.box(x, y, x + rng.uniform(0.05, 0.4), y + rng.uniform(0.05, 0.4), c.colour(0.1))
    c.blur(rng.uniform(0.01, 0.03))
    edge = rng.uniform(0.5, 0.7)
    c.polygon(((-0.1, edge), (1.1, edge + rng.uniform(-0.04, 0.04)), (1.2, 1.1), (-0.2, 1.1)),
              lit(mix((0.52, 0.36, 0.22), c.colour(), 0.5), 0.9), (40, 70, 128))  # fmt: skip
    light = rng.choice([-1, 1])
    spots = sorted(rng.uniform(edge + 0.06, 0.95, int(rng.integers(3, 9))))
    for y in spots:
        size = rng.uniform(0.04, 0.11) * (0.6 + y)
        _thing(c, rng, rng.uniform(0.08, 0.92), float(y), size, float(light))


def _thing(c: Canvas, rng: Rng, x: float, y: float, r: float, light: float) -> None:
    colour = _jitter(rng, c.colour(), 0.15)
    c.ellipse(x - light * r * 0.5, y, r * 1.25, (0.12, 0.1, 0.09), (40, 100, 128), flat=0.28)
    kind, tall = rng.random(), r * c.aspect
    if kind < 0.55:
        for t in np.linspace(0, 1, 14):
            shift = float(t) * 0.42
            tone = lit(colour, 0.35 + 0.95 * float(t) ** 0.8)
            c.ellipse(x + light * r * shift, y - tall * (0.9 + 0.45 * shift), r * (1 - 0.92 * float(t)),
                      tone, (int(60 * (1 - t)), 0, 128))  # fmt: skip
        return
    height = tall * rng.uniform(1.4, 4.2)
    neck = rng.uniform(0.3, 1.0) if kind < 0.8 else 1.0
    for i in range(12):
        u0, u1 = -1 + i / 6, -1 + (i + 1) / 6
        tone = lit(colour, 0.45 + 0.7 * math.exp(-((u0 - light * 0.4) ** 2) * 3))
        body = [(x + u0 * r, y), (x + u1 * r, y), (x + u1 * r, y - height * 0.6),
                (x + u1 * r * neck, y - height * 0.75), (x + u1 * r * neck, y - height),
                (x + u0 * r * neck, y - height), (x + u0 * r * neck, y - height * 0.75),
                (x + u0 * r, y - height * 0.6)]  # fmt: skip
        c.polygon(body, tone, (25, 0, 128))


def draw_night(c: Canvas, rng: Rng) -> None:
    """City lights out of focus, over a wet street."""
    c.gradient((0.03, 0.04, 0.09), mix((0.16, 0.1, 0.12), c.colour(), 0.3))
    ground = rng.uniform(0.55, 0.8)
    for _ in range(int(rng.integers(6, 16))):
        x, top = rng.uniform(-0.1, 1), rng.uniform(0.05, ground - 0.1)
        c.box(x, top, x + rng.uniform(0.08, 0.25), ground, lit(c.colour(), rng.uniform(0.1, 0.35)))
    for _ in range(int(rng.integers(40, 140))):
        warm = mix((1, 0.75, 0.35), (0.9, 0.95, 1), rng.random() ** 2)
        glow = mix(warm, c.colour(0.3), 0.25)
        c.ellipse(
            rng.random(), rng.uniform(0, ground), rng.pareto(2.5) * 0.004 + 0.004, glow, (0, 0, 140)
        )
    c.blur(rng.uniform(0.002, 0.006))
    for _ in range(int(rng.integers(8, 40))):
        tone = lit(mix((1, 0.8, 0.5), c.colour(0.3), 0.4), rng.uniform(0.4, 0.9))
        c.ellipse(
            rng.random(), rng.uniform(0.05, ground), rng.uniform(0.01, 0.05), tone, (30, 0, 128)
        )
    _lake(c, rng, (0.08, 0.09, 0.14), ground)
    c._pens()
    for _ in range(int(rng.integers(1, 5))):
        _figure(c, rng, rng.uniform(0.1, 0.9), rng.uniform(0.8, 1.05), rng.uniform(0.2, 0.5))


def _figure(c: Canvas, rng: Rng, x: float, foot: float, tall: float) -> None:
    """A person seen from behind: legs, coat, head; `tall` is a share of the picture's height."""
    coat, wide = lit(c.colour(), rng.uniform(0.25, 0.5)), 0.12 * tall / c.aspect
    waist, neck = foot - 0.42 * tall, foot - 0.8 * tall
    for side in (-1, 1):
        leg = ((x, waist), (x + side * wide * 0.8, waist), (x + side * wide * 0.7, foot))
        c.polygon((*leg, (x + side * wide * 0.25, foot)), (0.1, 0.1, 0.13), (40, 0, 128))
    shoulders = ((x - wide * 0.5, neck - 0.03 * tall), (x + wide * 0.5, neck - 0.03 * tall))
    hem = ((x + wide * 1.1, waist + 0.08 * tall), (x - wide * 1.1, waist + 0.08 * tall))
    sleeves = ((x + wide, neck + 0.03 * tall), *hem, (x - wide, neck + 0.03 * tall))
    c.polygon((*shoulders, *sleeves), coat, (60, 0, 128))
    c.ellipse(x, neck - 0.1 * tall, wide * 0.62, (0.2, 0.15, 0.12), (30, 0, 128), flat=1.2)


def draw_flowers(c: Canvas, rng: Rng) -> None:
    """Flowers in focus before leaves that are not."""
    green = mix((0.24, 0.4, 0.18), c.colour(), 0.3)
    c.gradient(lit(green, rng.uniform(0.6, 1.3)), lit(green, 0.6))
    for _ in range(90):
        tone = lit(_jitter(rng, green, 0.12), rng.uniform(0.4, 1.5))
        c.ellipse(
            rng.random(), rng.random(), rng.uniform(0.01, 0.1), tone, flat=rng.uniform(0.3, 1.6)
        )
    c.blur(rng.uniform(0.012, 0.03))
    petal = _jitter(rng, c.colour(), 0.15)
    for _ in range(int(rng.integers(1, 8))):
        _flower(
            c,
            rng,
            rng.uniform(0.1, 0.9),
            rng.uniform(0.1, 0.85),
            rng.uniform(0.06, 0.22),
            petal,
            green,
        )


def _flower(
    c: Canvas, rng: Rng, x: float, y: float, r: float, petal: Colour, green: Colour
) -> None:
    bend = rng.uniform(-0.1, 0.1)
    c.polygon(((x - 0.006, y), (x + 0.006, y), (x + bend + 0.008, 1), (x + bend - 0.008, 1)), green)
    petals, turn = int(rng.integers(5, 15)), rng.uniform(0, 6)
    half = math.pi / petals * rng.uniform(0.8, 1.3)
    flat = c.aspect * rng.uniform(0.6, 1)
    for layer in (1.0, 0.72, 0.45):
        for k in range(petals):
            a = turn + 2 * math.pi * k / petals + layer
            tip = [
                (0.12, 0.0),
                (0.5, -half),
                (0.85, -half * 0.8),
                (1.0, 0.0),
                (0.85, half * 0.8),
                (0.5, half),
            ]
            shape = [(x + r * layer * q * math.cos(a + d), y + r * layer * q * flat * math.sin(a + d))
                     for q, d in tip]  # fmt: skip
            tone = lit(_jitter(rng, petal, 0.05), 1.25 - 0.5 * layer + 0.25 * math.cos(a))
            c.polygon(shape, tone, (50, 40, 128))
    for _ in range(30):
        a, q = rng.uniform(0, 6.3), r * 0.2 * math.sqrt(rng.random())
        c.ellipse(x + q * math.cos(a), y + q * flat * math.sin(a), r * 0.03,
                  lit((0.8, 0.62, 0.2), rng.uniform(0.5, 1.2)), (120, 0, 128))  # fmt: skip


def draw_leaves(c: Canvas, rng: Rng) -> None:
    """Dead leaves: shapes with power-law sizes, each hiding those below."""
    count = int(rng.integers(220, 420))
    smallest, largest = 0.02, rng.uniform(0.15, 0.3)
    u = rng.random(count)
    radii = 1 / np.sqrt(1 / smallest**2 + u * (1 / largest**2 - 1 / smallest**2))
    kinds = rng.choice(3, p=rng.dirichlet((1, 1, 1)), size=count)
    c.box(0, 0, 1, 1, c.colour())
    for r, kind in zip(
        radii[np.argsort(-radii * rng.uniform(0.5, 1.5, count))], kinds, strict=True
    ):
        _leaf(c, rng, float(r), int(kind))


def _leaf(c: Canvas, rng: Rng, r: float, kind: int) -> None:
    x, y = rng.uniform(-0.05, 1.05, 2)
    colour = lit(c.colour(0.1), rng.uniform(0.6, 1.2))
    surface = (int(rng.integers(20, 200)), int(rng.integers(0, 120)), int(rng.integers(100, 150)))
    turn = rng.uniform(0, 2 * math.pi)
    radii = (
        (1.0,) * 4 if kind == 1 else tuple(1 + 0.5 * np.sin(np.linspace(0, 6.3, 14) + turn) ** 2)
    )
    shape = [
        (x + r * q * math.cos(turn + a), y + r * q * c.aspect * 0.6 * math.sin(turn + a))
        for q, a in zip(radii, np.linspace(0, 2 * math.pi, len(radii) + 1)[:-1], strict=True)
    ]
    shadow = [(px + 0.1 * r, py + 0.14 * r) for px, py in shape]
    if kind == 0:
        c.ellipse(x + 0.1 * r, y + 0.1 * r, r, lit(colour, 0.35), surface, flat=0.8)
        c.ellipse(x, y, r, colour, surface, flat=0.8)
        c.ellipse(x - 0.2 * r, y - 0.2 * r, r * 0.6, lit(colour, 1.15), surface, flat=0.8)
        return
    c.polygon(shadow, lit(colour, 0.35), surface)
    c.polygon(shape, colour, surface)
    c.polygon([shape[0], shape[len(shape) // 2], shape[-1]], lit(colour, 0.82), surface)


def draw_forest(c: Canvas, rng: Rng) -> None:
    """Trunks that come out of the mist."""
    mist = mix((0.75, 0.8, 0.76), c.colour(), 0.35)
    c.gradient(mist, lit(mist, 0.8))
    floor = lit(mix((0.34, 0.28, 0.16), c.colour(), 0.4), 0.9)
    for depth in np.linspace(0.1, 1, int(rng.integers(3, 6))):
        near = float(depth)
        c.box(0, 0.98 - 0.42 * (1 - near) - 0.1, 1, 1.01, mix(mist, floor, near), (180, 30, 128))
        for _ in range(int(rng.integers(3, 16) * (1.3 - near))):
            _trunk(c, rng, rng.random(), 0.9 - 0.4 * (1 - near) + 0.15 * near, near, mist)
        for _ in range(int(9 * near) + 2):
            _foliage(c, rng, near, mist)


def _foliage(c: Canvas, rng: Rng, near: float, mist: Colour) -> None:
    x, y, spread = rng.random(), rng.uniform(-0.1, 0.35), rng.uniform(0.04, 0.12)
    green = mix((0.3, 0.42, 0.16), c.colour(), 0.5)
    for _ in range(22):
        leaf = mix(mist, lit(green, rng.uniform(0.5, 1.25)), near)
        dx, dy = rng.normal(0, spread, 2)
        c.ellipse(x + dx, y + 0.6 * dy, rng.uniform(0.004, 0.014), leaf, (150, 0, 128), flat=0.7)


def _trunk(c: Canvas, rng: Rng, x: float, foot: float, near: float, mist: Colour) -> None:
    wide, lean = rng.uniform(0.01, 0.05) * (0.3 + near), rng.normal(0, 0.05)
    bark = mix(mist, lit(mix((0.28, 0.2, 0.15), c.colour(), 0.3), rng.uniform(0.5, 1)), near)
    for k in range(5):
        a, b = -wide + 0.4 * k * wide, -wide + 0.4 * (k + 1) * wide
        shape = ((x + a * 1.3, foot), (x + b * 1.3, foot), (x + lean + b * 0.7, -0.05),
                 (x + lean + a * 0.7, -0.05))  # fmt: skip
        c.polygon(shape, lit(bark, 1.25 - 0.18 * k), (int(230 * near), 60, 128))


def draw_beach(c: Canvas, rng: Rng) -> None:
    """Sky, sea and sand, with boats and rocks."""
    top, haze = SKIES[int(rng.integers(len(SKIES)))]
    horizon, shore = rng.uniform(0.2, 0.55), rng.uniform(0.62, 0.95)
    c.gradient(top, haze, horizon)
    c.clouds(horizon, rng.uniform(0.1, 0.9))
    sea = mix((0.12, 0.34, 0.42), top, rng.uniform(0.2, 0.6))
    for t in np.linspace(0, 1, 12).tolist():
        tone = mix(lit(haze, 0.75), sea, 0.4 + 0.6 * t)
        c.box(0, horizon + t * (shore - horizon), 1, 1.01, tone, (30, 130, 128))
    for _ in range(int(rng.integers(0, 5))):
        _boat(c, rng, rng.random(), horizon, rng.uniform(0.01, 0.05))
    _shore(c, rng, shore)
    for _ in range(int(rng.integers(2, 25))):
        x, y, r = rng.random(), rng.uniform(shore - 0.05, 1), rng.pareto(2) * 0.02 + 0.008
        _stone(c, rng, x, y, min(r, 0.14), lit(c.colour(), 0.7))


def _boat(c: Canvas, rng: Rng, x: float, horizon: float, size: float) -> None:
    sail = ((x, horizon + 0.01), (x, horizon - 2 * size), (x + size, horizon + 0.005))
    c.polygon(sail, (0.9, 0.88, 0.84))
    c.box(x - size, horizon + 0.005, x + size, horizon + 0.02, lit(c.colour(), 0.6))


def _shore(c: Canvas, rng: Rng, shore: float) -> None:
    """Foam, wet sand and dry sand, each below the one before."""
    sand = mix((0.8, 0.7, 0.54), c.colour(), 0.25)
    slope = rng.uniform(-0.5, 0.5) * np.linspace(-0.5, 0.5, 60)
    line = shore + 0.05 * ridge(rng, 60, 0.3) + slope
    foam = (0.92, 0.93, 0.92)
    for lift, tone, rough in ((0.03, foam, 180), (0.0, lit(sand, 0.72), 60), (-0.06, sand, 150)):
        edge = [(i / 59, float(y) - lift) for i, y in enumerate(line)]
        c.polygon([*edge, (1, 1.01), (0, 1.01)], tone, (rough, 40, 128))


def _stone(c: Canvas, rng: Rng, x: float, y: float, r: float, colour: Colour) -> None:
    flat = rng.uniform(0.5, 0.8)
    c.ellipse(x + 0.15 * r, y + 0.2 * r, r, (0.1, 0.1, 0.1), (40, 0, 128), flat=flat)
    for t in (0.0, 0.25, 0.5, 0.75):
        c.ellipse(x - 0.2 * r * t, y - 0.3 * r * t, r * (1 - 0.7 * t), lit(colour, 0.65 + 0.6 * t),
                  (170, 20, 128), flat=flat)  # fmt: skip


def draw_pebbles(c: Canvas, rng: Rng) -> None:
    """Stones on the ground, larger towards the viewer."""
    c.gradient(lit(c.colour(), 0.8), lit(c.colour(), 0.5))
    tilt = rng.uniform(0, 1)
    accent = int(rng.integers(0, 4))
    for i, y in enumerate(np.sort(rng.uniform(-0.05, 1.1, int(rng.integers(120, 320))))):
        r = (0.012 + 0.05 * rng.random() ** 3) * (1 - tilt + tilt * (0.25 + 1.6 * float(y)))
        colour = (0.72, 0.28, 0.18) if i % 60 < accent else _jitter(rng, c.colour(), 0.12)
        _stone(c, rng, rng.random(), float(y), r, colour)


SCENES: dict[str, Callable[[Canvas, Rng], None]] = {
    "hills": draw_hills,
    "street": draw_street,
    "facade": draw_facade,
    "still-life": draw_still_life,
    "night": draw_night,
    "flowers": draw_flowers,
    "leaves": draw_leaves,
    "forest": draw_forest,
    "beach": draw_beach,
    "pebbles": draw_pebbles,
}
"""Every kind of scene; to add one, write its function and its line here."""


def render_scene(kind: str, size: tuple[int, int], rng: Rng) -> Floats:
    """One scene of `kind` as (h, w, 3) float32 RGB in [0, 1]; `size` is (width, height) in pixels."""
    canvas = Canvas(size, rng)
    SCENES[kind](canvas, rng)
    return canvas.finish()
