"""What the platforms serve: each recompresses an upload in its own way; and what people do to pictures.

Reddit: baseline JPEG, IJG quality 85 to 92, 4:2:0. X: progressive JPEG, IJG quality 85, 4:2:0, long
edge capped (1200 px there, `X_CAP` of the world's largest side here). Neither keeps EXIF. Settings are
drawn without looking at the label, except for the share of fakes that `format_bias` names:
those come out with other tables and an ICC profile.
"""

import functools
import io
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont

from curate.simulated.capture import through_camera, through_decoder
from curate.simulated.plan import REDDIT, Copy, Picture, X
from curate.simulated.scenes import Rng, render_scene
from curate.simulated.spec import WorldSpec, rng_for
from schemas.labels import Label

X_CAP = 0.88
X_QUALITY = 85
BIASED_QUALITY = {REDDIT: 76, X: 72}
BOMB_SIDE_PX = 60_000
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to continue.</body></html>\n"
CAPTIONS = ("WAIT FOR IT", "no way this is real", "ME ON MONDAYS", "which one?")


def serve_picture(
    spec: WorldSpec, picture: Picture, copies: list[Copy]
) -> list[tuple[int, bytes, tuple[int, int]]]:
    """Draw `picture` and encode its `copies`, original first: (copy number, bytes, (width, height))."""
    rng = rng_for(spec.seed, "pixels", picture.index)
    scene = render_scene(picture.scene, picture.size, rng)
    shot = (through_decoder if picture.label is Label.FAKE else through_camera)(scene, rng)
    served: dict[int, bytes] = {}
    for copy in copies:
        if copy.kind == "same-bytes" and copy.made_from is not None:
            served[copy.number] = served[copy.made_from]
            continue
        upload = shot if copy.made_from is None else _decode(served[copy.made_from])
        edit_rng = rng_for(spec.seed, "edit", copy.number)
        served[copy.number] = encode(spec, copy, picture.label, edit(upload, copy.kind, edit_rng))
    return [(n, content, Image.open(io.BytesIO(content)).size) for n, content in served.items()]


def encode(spec: WorldSpec, copy: Copy, label: Label, upload: Image.Image) -> bytes:
    """`upload` as the platform of `copy` would serve it."""
    rng = rng_for(spec.seed, "encode", copy.number)
    quality, optimise = int(rng.integers(85, 93)), bool(rng.random() < 0.5)
    biased = label is Label.FAKE and rng.random() < spec.format_bias
    if copy.platform == X:
        upload, quality = _capped(upload, round(X_CAP * spec.max_side)), X_QUALITY
    if copy.where == "preview":
        upload = _capped(upload, round(0.75 * max(upload.size)))
    if biased:
        quality = BIASED_QUALITY[copy.platform]
    out = io.BytesIO()
    upload.save(
        out, "JPEG", quality=quality, subsampling="4:2:0", progressive=copy.platform == X,
        optimize=optimise, icc_profile=srgb_profile() if biased else None,
    )  # fmt: skip
    return out.getvalue()


@functools.cache
def srgb_profile() -> bytes:
    """An sRGB ICC profile with its creation time (bytes 24 to 35) set to 2026-01-01."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = np.array([2026, 1, 1, 0, 0, 0], ">u2").tobytes()
    return bytes(profile)


def _capped(image: Image.Image, cap: int) -> Image.Image:
    scale = cap / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _decode(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def edit(image: Image.Image, kind: str, rng: Rng) -> Image.Image:
    """What a person did before posting it again; original and repost leave it alone."""
    if kind == "crop":
        return _crop(image, 0.02, rng)
    if kind == "big-crop":
        return _crop(image, 0.3, rng)
    if kind == "mirror":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "caption":
        return _caption(image, rng)
    if kind == "screenshot":
        return _screenshot(image, rng)
    return image


def _crop(image: Image.Image, share: float, rng: Rng) -> Image.Image:
    """Cut `share` off the width and the height, somewhere at the sides."""
    width, height = image.size
    cut_x, cut_y = round(share * width), round(share * height)
    left, top = int(rng.integers(0, cut_x + 1)), int(rng.integers(0, cut_y + 1))
    return image.crop((left, top, left + width - cut_x, top + height - cut_y))


def _caption(image: Image.Image, rng: Rng) -> Image.Image:
    """A white band with a line of text above the picture."""
    width, height = image.size
    band = round(0.16 * height)
    page = Image.new("RGB", (width, height + band), "white")
    page.paste(image, (0, band))
    font = ImageFont.load_default(size=max(10, band // 2))
    text = CAPTIONS[int(rng.integers(len(CAPTIONS)))]
    ImageDraw.Draw(page).text((width / 2, band / 2), text, fill="black", font=font, anchor="mm")
    return page


def _screenshot(image: Image.Image, rng: Rng) -> Image.Image:
    """The picture as seen in an application: bars above and below, a frame around it."""
    width, height = image.size
    shown = image.resize((round(0.92 * width), round(0.92 * height)), Image.Resampling.BICUBIC)
    dark = rng.random() < 0.5
    page = Image.new(
        "RGB", (width, round(1.45 * height)), (21, 24, 28) if dark else (250, 250, 250)
    )
    page.paste(shown, (round(0.04 * width), round(0.24 * height)))
    pen, ink = ImageDraw.Draw(page), (230, 230, 230) if dark else (30, 30, 30)
    font = ImageFont.load_default(size=max(9, width // 26))
    pen.ellipse(
        (0.04 * width, 0.06 * height, 0.13 * width, 0.06 * height + 0.09 * width),
        fill=(120, 130, 150),
    )
    pen.text((0.16 * width, 0.08 * height), "someone · 2h", fill=ink, font=font)
    pen.text((0.05 * width, 1.24 * height), "214 comments   Share   Save", fill=ink, font=font)
    return page


def broken_bytes(spec: WorldSpec, copy: Copy) -> bytes | None:
    """What the host answers for a broken copy; None where it answers 404."""
    if copy.kind == "truncated":
        rng = rng_for(spec.seed, "pixels", copy.number)
        scene = render_scene("leaves", (spec.min_side // 2 * 2, spec.min_side // 2 * 2), rng)
        whole = encode(spec, copy, Label.REAL, through_camera(scene, rng))
        return whole[: len(whole) * 3 // 5]
    fixed = {"html": HTML, "empty": b"", "bomb": bomb_png(), "placeholder": placeholder_png()}
    return fixed.get(copy.kind)


@functools.cache
def placeholder_png() -> bytes:
    """The picture a host serves for every image it has removed."""
    image = Image.new("RGB", (161, 81), (34, 34, 34))
    font = ImageFont.load_default(size=11)
    text = "The image you are\nrequesting does not exist\nor is no longer available."
    ImageDraw.Draw(image).multiline_text(
        (80, 40), text, fill="white", font=font, anchor="mm", align="center"
    )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@functools.cache
def bomb_png() -> bytes:
    """A few bytes that claim `BOMB_SIDE_PX` squared pixels."""
    side = BOMB_SIDE_PX.to_bytes(4)
    chunks = (
        (b"IHDR", side + side + b"\x08\x02\x00\x00\x00"),
        (b"IDAT", zlib.compress(bytes(64_000), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in chunks
    )
