"""The templates of all pages. What others wrote is escaped in every one of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.untrusted.escape import printable

__all__ = ["Markup", "made_by", "template"]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else printable(value),
)


def template(name: str) -> jinja2.Template:
    """Return a template of the folder pages/."""
    return _TEMPLATES.get_template(name)


def made_by() -> str:
    """Return the version that makes a page, and the day."""
    known = "from a checkout"
    with suppress(PackageNotFoundError):
        known = version("seedproof")
    return f"seedproof {known}, {datetime.now(UTC):%Y-%m-%d}"
