"""The page of a shortcut audit: the verdict in plain words, its causes, and what to do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.bias import FEATURES, part_of
from curate.leakage import Leak
from curate.survey import Surveyed
from pipelines.report import contact_sheet, page, plots
from schemas.labels import Split

DRAWN = 16
"""Features in the plot at most."""
SHOWN = 12
"""Pictures of each label in the contact sheet, pairs of copies, files that do not open."""
FAMILIES: Mapping[str, str] = {
    "container": "File format",
    "size": "Width and height",
    "jpeg": "JPEG settings and structure",
    "metadata": "Metadata (ICC, EXIF, text)",
    "colour": "Colour mode and depth",
    "weight": "Bytes and bits per pixel",
}

SPLIT_ORDER: Mapping[str, int] = {split.value: n for n, split in enumerate(Split)}


def write_audit_page(
    result: Mapping[str, Any],
    surveyed: Sequence[Surveyed],
    root: Path,
    out: Path,
    *,
    leaks: Sequence[Leak] | None = None,
) -> Path:
    """Write the page of `curate.bias.audit`'s result; with `leaks`, copies across splits too."""
    placed = [item for item in surveyed if item.placement]
    html = page.render(
        "audit.html",
        title=f"Shortcut audit of {root.resolve().name}",
        name=root.resolve().name,
        simulated=result.get("simulated", False),
        result=result,
        words=verdict_words(result),
        n_images=len(placed),
        n_features=len(FEATURES),
        counts=_count_labels(placed),
        parts=_parts(placed),
        plot=plot_of(result),
        n_constant=len([f for f in result["features"] if f["constant"]]),
        causes=[_cause(result, name) for name in result["causes"]],
        families=FAMILIES,
        samples=_samples(placed, root),
        steps=next_steps(result),
        **_leak_context(leaks, root),
        **_undecodable(placed),
    )
    return page.write(out, html)


def verdict_words(result: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict for people who have never heard of AUC: a headline and a few sentences."""
    return {"headline": HEADLINES[result["verdict"]], "sentences": _sentences(result)}


HEADLINES: Mapping[str, str] = {
    "clean": "Clean: the files do not give the label away",
    "shortcut": "Shortcut: the files give the label away",
    "inconclusive": "Inconclusive: there is not enough to say",
}


def _sentences(result: Mapping[str, Any]) -> list[str]:
    probe = result["probe"]
    if probe["auc"] is None:
        return [f"The set is too small: {result['why']}."]
    said = (
        "A program that never sees a picture, only facts of the file such as its format, size "
        f"and JPEG settings, tells generated from real in {probe['auc']:.1%} of random pairs "
        f"(95% interval {probe['low']:.1%} to {probe['high']:.1%}; guessing gives 50%)."
    )
    alone = result["causes"] and probe["low"] <= result["gate"]
    more = f"One fact does better still: {result['why']}." if alone else ""
    meaning = MEANINGS[result["verdict"]].format(gate=result["gate"])
    return [said, *([more] if more else []), meaning]


MEANINGS: Mapping[str, str] = {
    "clean": "That is within the gate of {gate:.0%}. "
    "A detector trained here has to look at the pictures.",
    "shortcut": "That is beyond the gate of {gate:.0%}. A detector trained here can learn the "
    "files instead of the pictures, and a high score here may mean nothing elsewhere.",
    "inconclusive": "The gate of {gate:.0%} lies inside the interval, so this set is too small "
    "to be called clean or not. More images would decide.",
}


def next_steps(result: Mapping[str, Any]) -> list[str]:
    """What one would do now, in order."""
    if result["verdict"] == "clean":
        return [
            "Release the set with this page beside it; the numbers belong in its card.",
            "Run the audit again when images or platforms are added.",
            "Look at the pictures above for differences in content, which no file fact shows.",
        ]
    if result["verdict"] == "inconclusive":
        return [
            f"Add images: {result['why']}.",
            "Run the audit again; the interval narrows with the square root of their number.",
            "Until then, a detector's score on this set says little: report it with this page.",
        ]
    told = [FEATURES[name].title for name in result["causes"][:3]]
    causes = f" ({', '.join(told)})" if told else ""
    return [
        f"Find where the causes{causes} came in: usually one class was saved again by a script.",
        "If the original files still exist, rebuild the set from those.",
        "Otherwise match the classes on these facts, or give both the same compression history, "
        "blind to the label. Never re-encode one class alone.",
        "Audit the result. Do not quote a detector's score on the set as it is.",
    ]


def plot_of(result: Mapping[str, Any]) -> Any:
    """The joint probe and the strongest features that vary; None if nothing was measured."""
    if result["probe"]["auc"] is None:
        return None
    probe = result["probe"]
    dots = [plots.Dot("All facts together", probe["auc"], probe["low"], probe["high"])]
    varied = [f for f in result["features"] if not f["constant"]]
    dots += [plots.Dot(f["title"], f["auc"], f["low"], f["high"]) for f in varied[:DRAWN]]
    label = "AUC of the label from file facts, out of fold"
    return page.markup(plots.dot_plot(dots, gate=result["gate"], label=label))


def _cause(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A feature that passes the gate alone, with its values on either side."""
    feature = next(f for f in result["features"] if f["name"] == name)
    sides = result["distributions"][name]
    return {**feature, **{side: _side(sides[side]) for side in ("real", "fake")}}


def _side(side: Mapping[str, Any]) -> dict[str, Any]:
    values = side.get("values", [])[:4]
    return {
        "n": side["n"],
        "quantiles": [show_value(q) for q in side.get("quantiles", [])],
        "top": [{"text": show_value(value), "n": n} for value, n in values],
        "others": side["distinct"] - len(values),
    }


def show_value(value: float | str | None) -> str:
    """A feature's value for people: whole numbers without a point, nothing as "none"."""
    if value is None:
        return "none"
    if isinstance(value, float):
        whole = value.is_integer() or abs(value) >= 1000
        return f"{value:,.0f}" if whole else f"{value:.3g}"
    return value


def _count_labels(placed: Sequence[Surveyed]) -> dict[str, int]:
    counts = Counter(_label(item) for item in placed)
    return {"real": counts["real"], "fake": counts["fake"]}


def _parts(placed: Sequence[Surveyed]) -> list[dict[str, Any]]:
    """Each split and platform with its images per label: train, val, then test by name."""
    parts: dict[str, list[Surveyed]] = {}
    for item in placed:
        parts.setdefault(part_of(item), []).append(item)
    names = sorted(parts, key=lambda name: (SPLIT_ORDER.get(name.split("/")[0], -1), name))
    return [{"name": name, **_count_labels(parts[name])} for name in names]


def _samples(placed: Sequence[Surveyed], root: Path) -> dict[str, list[contact_sheet.Tile]]:
    """Pictures of each label that open, taken evenly from the order of paths."""
    found = {}
    for side in ("real", "fake"):
        paths = [i.path for i in placed if _label(i) == side and not i.image.error]
        step = max(1, len(paths) // SHOWN)
        found[side] = [contact_sheet.tile(root, path) for path in paths[::step][:SHOWN]]
    return found


def _label(item: Surveyed) -> str:
    return item.placement.label.name.lower() if item.placement else ""


def _leak_context(leaks: Sequence[Leak] | None, root: Path) -> dict[str, Any]:
    if leaks is None:
        return {"leaks": None, "leak_words": "", "leak_couples": []}
    pairs = [(leak.a, leak.b, f"{leak.kind}: {leak.evidence}") for leak in leaks[:SHOWN]]
    return {
        "leaks": leaks,
        "leak_words": _leak_words(leaks),
        "leak_couples": contact_sheet.couples(root, pairs),
    }


def _leak_words(leaks: Sequence[Leak]) -> str:
    if not leaks:
        return "No picture, group, author or post was found in two splits, none under both labels."
    counts = Counter(leak.kind for leak in leaks)
    told = ", ".join(f"{kind} {page.show_count(n)}" for kind, n in counts.items())
    shown = f" The first {SHOWN} are shown." if len(leaks) > SHOWN else ""
    return (
        f"{page.show_count(len(leaks))} found ({told}).{shown} A near pair is "
        "two pictures whose hashes are alike, the closest first: look at them, some that were not "
        "verified may be look-alikes rather than copies. A pair called by what was done to the copy "
        "(crop, mirror, caption and so on) was verified on thumbnails."
    )


def _undecodable(placed: Sequence[Surveyed]) -> dict[str, Any]:
    broken = [{"path": i.path, "why": i.image.error} for i in placed if i.image.error]
    return {"undecodable": broken[:SHOWN], "n_more_undecodable": len(broken[SHOWN:])}
