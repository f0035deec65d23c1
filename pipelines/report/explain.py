"""The page and the contact sheet of `wildrf explain`: maps, the patches that say most, the JPEG grid."""

import base64
import io
import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.output import printable
from pipelines.report import page, plots
from pipelines.report.contact_sheet import data_uri
from pipelines.report.sections import some_of

CONTEXT_PX = 33
"""Side of the surroundings of a patch that are shown, at the least."""

CUT_PX = 132
"""Side at which they are shown, each pixel a square."""

ACROSS = 6
"""Patches in a row of the sheet."""

LINE_PX = 13

SHOWN = 24
"""Pictures on the page; maps/ has all of them."""

SHOWN_PX = 900
"""Longest side of a map on the page; maps/ has larger ones."""


def cut_patch(picture: Image.Image, box: list[float]) -> Image.Image:
    """The patch at `box` with its surroundings, enlarged without smoothing, the patch outlined."""
    side = max(CONTEXT_PX, round(2 * (box[2] - box[0])), round(2 * (box[3] - box[1])))
    left = round((box[0] + box[2] - side) / 2)
    top = round((box[1] + box[3] - side) / 2)
    cut = picture.crop((left, top, left + side, top + side))  # black beyond the edge
    shown = cut.resize((CUT_PX, CUT_PX), Image.Resampling.NEAREST)
    zoom = CUT_PX / side
    outline = [(v - o) * zoom for v, o in zip(box, (left, top, left, top), strict=True)]
    ImageDraw.Draw(shown).rectangle(outline, outline=(255, 255, 255), width=2)
    return shown


def save_sheet(
    patches: dict[str, list[dict[str, Any]]], cuts: dict[tuple[str, str, int, int], Any], out: Path
) -> None:
    """The contact sheet as PNG: the most fake patches above, the most real below, each with its words."""
    rows = {kind: -(-len(chosen) // ACROSS) for kind, chosen in patches.items()}
    cell_w, cell_h = CUT_PX + 8, CUT_PX + 4 * LINE_PX
    height = sum(2 * LINE_PX + count * cell_h for count in rows.values())
    sheet = Image.new("RGB", (ACROSS * cell_w + 8, height + 8), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    top = 4
    for kind, chosen in patches.items():
        draw.text((8, top), f"most {kind}: patch logit, place, picture", "black", font)
        top += 2 * LINE_PX
        for n, patch in enumerate(chosen):
            x, y = 8 + n % ACROSS * cell_w, top + n // ACROSS * cell_h
            sheet.paste(cuts[kind, patch["name"], patch["x"], patch["y"]], (x, y))
            for k, line in enumerate(words(patch)):
                draw.text((x, y + CUT_PX + 2 + k * LINE_PX), line[:23], "black", font)
        top += rows[kind] * cell_h
    sheet.save(out)


def words(patch: dict[str, Any]) -> tuple[str, str, str]:
    """Logit, place in the picture, and which picture."""
    left, top = patch["box"][:2]
    name = printable(Path(patch["source"]).name)
    return f"{patch['logit']:+.2f}", f"x {left:g}, y {top:g} px", name


def write_explain_page(result: dict[str, Any], out: Path) -> Path:
    """Write index.html beside the pictures; some of them, spread over all, are inlined."""
    from train.explain import OWN_SIDE_PX

    images = [
        {
            **row,
            "map": _inline(out / "maps" / f"{row['name']}.png", lossless=False),
            "zoomed": _inline(out / "grid" / f"{row['name']}.png", lossless=True),
            "strongest": words(row["most_fake"][0]),
        }
        for row in some_of(result["images"], SHOWN)
    ]
    html = page.render(
        "explain.html",
        title="Where the detector sees fake",
        simulated=result.get("simulated", False),
        result=result,
        images=images,
        n_more=len(result["images"]) - len(images),
        sheet=_inline(out / "patches.png", lossless=True),
        smoothness=_smoothness(images),
        map_px=OWN_SIDE_PX,
        ramp=_ramp(),
        phases=_phases(result),
    )
    return page.write(out / "index.html", html)


def _smoothness(images: list[dict[str, Any]]) -> Any:
    """The correlation of each picture as a plot; None where fewer than two have one."""
    found = [
        plots.Dot(Path(row["path"]).name, row["smoothness"], row["smoothness"], row["smoothness"])
        for row in images
        if row["smoothness"] is not None
    ]
    if len(found) < 2:
        return None
    label = "rank correlation of patch logit with smoothness, per picture"
    return page.markup(plots.intervals(found, label=label, reference=0))


def _ramp() -> str:
    """The colours of the maps as CSS, from real to fake, as they look on white."""
    from train.explain import FAKE_RGB, MAX_ALPHA, REAL_RGB

    real, fake = (
        "rgb({} {} {})".format(*(round(255 + MAX_ALPHA * (c - 255)) for c in rgb))
        for rgb in (REAL_RGB, FAKE_RGB)
    )
    return f"linear-gradient(90deg, {real}, white, {fake})"


def _phases(result: dict[str, Any]) -> list[list[dict[str, Any] | None]] | None:
    """{n, value, low, high} of logits less their picture's mean by place in the JPEG block, [y][x].

    Over pictures at their own size; None where a block has one place. A thin picture has no patch at some
    places; where none has one, there is nothing.
    """
    from train.patches import mean_with_interval

    maps = [(row["phase"], row["mean_of_map"]) for row in result["images"] if row["at_own_size"]]
    if not maps or len(maps[0][0]) < 2:
        return None
    places = range(len(maps[0][0]))
    return [
        [
            mean_with_interval(
                [logits[y][x] - mean for logits, mean in maps if logits[y][x] is not None],
                within=(-math.inf, math.inf),
            )
            for x in places
        ]
        for y in places
    ]


def _inline(file: Path, *, lossless: bool) -> str:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if not lossless:
        image.thumbnail((SHOWN_PX, SHOWN_PX))
        return data_uri(image)
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
