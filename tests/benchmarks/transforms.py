"""What social media do to a picture, for the benchmarks of dedupe: 1,000 pictures, 17 transforms.

The transforms are those measured by others (recompression, resizing, crops, borders, captions,
screenshots, mirrors), with the interface of a phone drawn around a screenshot: text, icons, bars.
A crop of p % takes p % off the width and off the height, half from each side.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from curate.simulated.capture import through_camera, through_decoder
from curate.simulated.scenes import SCENES, render_scene
from curate.simulated.spec import rng_for

Rng = np.random.Generator
LONGEST = 720
"""Longest side of a base picture, so that a run takes minutes."""

SOURCES: dict[str, int] = {
    "camera-photos": 1000,
    "playground": 1000,
    "x-served-ai": 1000,
    "faces-clean": 275,
}
"""Folders of real files, and how many of each are taken at most. No picture is taken twice."""

TEXT = (
    "when you finally see it nobody: me at 3 am this is fine look what I found today "
    "reposted from a friend who knew part two is coming soon wait for the end please share"
)


@dataclass(frozen=True, slots=True)
class Base:
    """One picture, before anything is done to it."""

    name: str
    simulated: bool
    image: Image.Image


def bases(data: Path, count: int, seed: int = 0) -> Iterator[Base]:
    """Real pictures as far as there are any, up to half of `count`; rendered scenes for the rest."""
    real = 0
    for folder, most in SOURCES.items():
        for path in _spread(sorted((data / folder).rglob("*.*")), most):
            picture = _opened(path)
            if picture is not None and real < count // 2:
                real += 1
                yield Base(str(path.relative_to(data)), False, picture)
    for number in range(count - real):
        yield Base(f"simulated/{number}", True, scene(seed, number))


def scene(seed: int, number: int) -> Image.Image:
    """One rendered picture, by turns through the camera and through the decoder."""
    rng = rng_for(seed, "dedupe-recall", number)
    kinds = list(SCENES)
    width, height = [(480, 360), (360, 480), (420, 420), (512, 288)][int(rng.integers(4))]
    drawn = render_scene(kinds[number % len(kinds)], (width, height), rng)
    return (through_camera if number // len(kinds) % 2 else through_decoder)(drawn, rng)


def _spread(paths: list[Path], most: int) -> list[Path]:
    return paths[:: max(1, -(-len(paths) // most))]


def _opened(path: Path) -> Image.Image | None:
    """The picture in `path` at most LONGEST wide and high; None for what is too small or no picture."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    if min(image.size) < 128:
        return None
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def encode(image: Image.Image, quality: int = 85, format: str = "JPEG") -> bytes:
    """A file of `image`."""
    out = io.BytesIO()
    image.convert("RGB").save(out, format, quality=quality)
    return out.getvalue()


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """`image` without these shares of its sides."""
    w, h = image.size
    return image.crop(
        (round(w * left), round(h * top), w - round(w * right), h - round(h * bottom))
    )


def centred(share: float) -> Callable[[Image.Image, Rng], bytes]:
    """A crop that takes `share` off both dimensions, half from each side."""
    return lambda image, _: encode(crop(image, *[share / 2] * 4))


def one_sided(share: float) -> Callable[[Image.Image, Rng], bytes]:
    """A crop of one side, which one is drawn."""

    def cut(image: Image.Image, rng: Rng) -> bytes:
        sides = [0.0] * 4
        sides[int(rng.integers(4))] = share
        return encode(crop(image, *sides))

    return cut


def corner(share: float) -> Callable[[Image.Image, Rng], bytes]:
    """A crop of two sides that meet, which corner is drawn."""

    def cut(image: Image.Image, rng: Rng) -> bytes:
        x, y = rng.integers(2, size=2)
        return encode(crop(image, share * x, share * y, share * (1 - x), share * (1 - y)))

    return cut


def free_crop(image: Image.Image, rng: Rng) -> bytes:
    """Each side loses its own share, up to 10 %."""
    return encode(crop(image, *rng.uniform(0, 0.1, 4)))


def resized(image: Image.Image, scale: float) -> Image.Image:
    """`image` at another scale."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def as_x_serves(image: Image.Image, _: Rng) -> bytes:
    """Longest side 600, quality 85, progressive."""
    out = io.BytesIO()
    smaller = resized(image, min(1.0, 600 / max(image.size)))
    smaller.save(out, "JPEG", quality=85, progressive=True)
    return out.getvalue()


def bordered(image: Image.Image, rng: Rng) -> bytes:
    """A border of 5 % of the longer side: white, black, or a colour."""
    colour = ["white", "black", "#1da1f2"][int(rng.integers(3))]
    return encode(ImageOps.expand(image, round(0.05 * max(image.size)), colour))


def captioned(image: Image.Image, rng: Rng) -> bytes:
    """15 % of the height put on top, white, with two lines of black text."""
    strip = round(0.15 * image.height)
    canvas = Image.new("RGB", (image.width, image.height + strip), "white")
    canvas.paste(image, (0, strip))
    draw = ImageDraw.Draw(canvas)
    size = max(8, round(strip * 0.32))
    for line in range(2):
        write(draw, (image.width * 0.04, strip * (0.1 + 0.42 * line)), image.width * 0.9, size, rng)
    return encode(canvas)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    width: float,
    size: int,
    rng: Rng,
    fill: str = "black",
) -> None:
    """One line of words, up to `width` long."""
    font = ImageFont.load_default(size)
    text, words = "", TEXT.split()
    while True:
        longer = f"{text} {words[int(rng.integers(len(words)))]}".strip()
        if draw.textlength(longer, font=font) > width:
            break
        text = longer
    draw.text(at, text, fill=fill, font=font)


def screenshot(image: Image.Image, rng: Rng, interface: bool = True) -> bytes:
    """A phone's screen, 540 x 1170, light or dark, the picture across it between bars and text."""
    dark = bool(rng.integers(2))
    paper, ink = ("#15202b", "#e8e8e8") if dark else ("white", "#101010")
    screen = Image.new("RGB", (540, 1170), paper)
    margin = int(rng.choice([0, 0, 16]))
    width = 540 - 2 * margin
    picture = image.resize((width, round(width * image.height / image.width)))
    if picture.height > 800:
        picture = picture.resize((round(800 * picture.width / picture.height), 800))
    left, top = (540 - picture.width) // 2, int(rng.integers(170, 260))
    screen.paste(picture, (left, top))
    if interface:
        _draw_interface(screen, top, top + picture.height, ink, dark, rng)
    return encode(screen, 90)


def _draw_interface(
    screen: Image.Image, top: int, bottom: int, ink: str, dark: bool, rng: Rng
) -> None:
    """Status bar, avatar and names above; icons, counts and comments below; a bar at the end."""
    draw = ImageDraw.Draw(screen)
    draw.text((24, 12), "09:41", fill=ink, font=ImageFont.load_default(18))
    for n in range(3):
        draw.rectangle((440 + 28 * n, 14, 458 + 28 * n, 28), fill=ink)
    draw.ellipse((16, 60, 60, 104), fill=str(rng.choice(["#d2691e", "#2e8b57", "#4169e1"])))
    write(draw, (72, 60), 300, 18, rng, ink)
    write(draw, (72, 84), 200, 14, rng, "gray")
    write(draw, (16, 118), 500, 18, rng, ink)
    write(draw, (16, 142), 430, 18, rng, ink)
    for n in range(4):
        x, y = 30 + 120 * n, bottom + 16
        if y + 26 < 1100:
            draw.ellipse((x, y, x + 24, y + 24), outline=ink, width=3)
            draw.text((x + 32, y), str(int(rng.integers(9000))), fill=ink)
    for y in range(bottom + 60, 1060, 44):
        write(draw, (16, y), float(rng.uniform(150, 500)), 17, rng, ink)
    draw.rectangle((0, 1100, 540, 1170), fill="#1c2733" if dark else "#f2f2f2")
    for n in range(5):
        draw.rectangle((40 + 105 * n, 1120, 68 + 105 * n, 1148), outline=ink, width=3)


def boxed(image: Image.Image, rng: Rng) -> bytes:
    """A solid box over 3.6 % of the area, anywhere."""
    w, h = round(image.width * 0.19), round(image.height * 0.19)
    x, y = int(rng.integers(image.width - w)), int(rng.integers(image.height - h))
    marked = image.copy()
    colour = ["black", "white", "#e0245e"][int(rng.integers(3))]
    ImageDraw.Draw(marked).rectangle((x, y, x + w, y + h), fill=colour)
    return encode(marked)


def turned(way: Image.Transpose) -> Callable[[Image.Image, Rng], bytes]:
    """Mirrored or rotated."""
    return lambda image, _: encode(image.transpose(way))


TRANSFORMS: dict[str, Callable[[Image.Image, Rng], bytes]] = {
    "JPEG 30": lambda image, _: encode(image, 30),
    "WebP 50": lambda image, _: encode(image, 50, "WEBP"),
    "as X serves": as_x_serves,
    "resize 1/4, JPEG 70": lambda image, _: encode(resized(image, 0.25), 70),
    "brightness +25 %": lambda image, _: encode(ImageEnhance.Brightness(image).enhance(1.25)),
    "centre crop 2 %": centred(0.02),
    "centre crop 5 %": centred(0.05),
    "centre crop 10 %": centred(0.10),
    "centre crop 20 %": centred(0.20),
    "bottom crop 10 %": lambda image, _: encode(crop(image, 0, 0, 0, 0.1)),
    "border 5 %": bordered,
    "caption +15 %": captioned,
    "screenshot, flat": lambda image, rng: screenshot(image, rng, interface=False),
    "screenshot, interface": screenshot,
    "box 3.6 %": boxed,
    "mirror": turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "rotate 90": turned(Image.Transpose.ROTATE_90),
    "rotate 180": turned(Image.Transpose.ROTATE_180),
    "rotate 270": turned(Image.Transpose.ROTATE_270),
    "one side 10 %": one_sided(0.10),
    "one side 20 %": one_sided(0.20),
    "corner 20 %": corner(0.20),
    "each side 0-10 %": free_crop,
}
"""By name. The last four are harder than what others report."""
