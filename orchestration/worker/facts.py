"""Facts that may be unknown: each is read behind one guard, which keeps the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from analysis.untrusted.secrets import redacted

MOST_REASON, MOST_TEXT = 200, 16384  # characters


class Unknown(Exception):  # noqa: N818 - it is not an error
    """A fact that is not known; the text is the reason."""


class Facts:
    """Read facts; `unknown` holds the reasons for those not found, by the field's path."""

    def __init__(self) -> None:
        self.unknown: dict[str, str] = {}

    def get(self, field: str, read: Callable[[], Any]) -> Any:
        """Return what `read` returns, as JSON can hold it. If it raises or finds nothing, return None and keep the reason."""
        try:
            if (value := read()) is None:
                raise Unknown("the system does not say")
            return plain(value) if isinstance(value, str) else value
        except Unknown as reason:
            self.unknown[field] = _short(str(reason))
        except OSError as error:
            self.unknown[field] = _short(error.strerror or type(error).__name__)
        except Exception as error:  # whatever it is, the run continues
            self.unknown[field] = _short(f"{type(error).__name__}: {error}")
        return None

    def table(self, name: str, readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        return {field: self.get(f"{name}.{field}", read) for field, read in readers.items()}


def plain(text: str) -> str:
    """Return a text from outside as UTF-8 can hold it, without escape sequences, control characters and secrets."""
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    return redacted(text.strip())[:MOST_TEXT]


def _short(reason: str) -> str:
    return " ".join(plain(reason).split())[:MOST_REASON]
