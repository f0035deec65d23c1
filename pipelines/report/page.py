"""From a template and its values to one HTML file that needs nothing else.

Style, plots and pictures are inlined and there is no script, so a page can be mailed, archived,
printed and opened offline. Values are escaped (file names come from strangers); only `markup` is
trusted, and only plots made here pass through it.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """The page of `templates/<template>`, which needs a `title`; `simulated` adds a banner."""
    return _environment().get_template(template).render(**{"simulated": False, **context})


def write(out: Path, html: str) -> Path:
    """Write a page whole or not at all; missing folders are made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
    try:
        # a name that is no Unicode is shown with escapes, as on a terminal
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(html)
        os.chmod(partial, 0o644)  # mkstemp makes it private; a page is to be shown
        os.replace(partial, out)
    except BaseException:
        os.unlink(partial)
        raise
    return out


def markup(made_here: str) -> Markup:
    """Mark HTML or SVG made by this package as safe to inline; never for text from outside."""
    return Markup(made_here)  # noqa: S704  # callers pass plots, whose text matplotlib escapes


def show_interval(told: dict[str, Any] | None) -> str:
    """An AUC with its interval, such as ``0.531 [0.507, 0.555]``; a dash where there is none."""
    if told is None or told["auc"] is None:
        return "-"
    return f"{told['auc']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"


def show_count(number: int) -> str:
    """A count with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u2009")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(interval=show_interval, count=show_count)
    return environment
