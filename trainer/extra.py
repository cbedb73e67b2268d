"""Refuse in one sentence what this Python lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

PACKAGES = ("torch", "sentencepiece", "huggingface_hub")


def sentence(package: str) -> str:
    if package in PACKAGES:
        return f"This needs {package}, which is not installed: pip install 'seedproof[trainer]'."
    return "The trainer runs on Linux and macOS, not on Windows: use WSL."


@contextmanager
def installed() -> Iterator[None]:
    """Refuse where something inside imports a package of the extra `trainer` that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in (*PACKAGES, "fcntl", "resource"):
            raise
        raise click.UsageError(sentence(package)) from None
