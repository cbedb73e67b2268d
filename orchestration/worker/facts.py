"""Facts that may not be known: each is read behind one guard, and where it cannot be told the reason is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestration.plan.secrets import redacted

MOST_REASON, MOST_TEXT = 200, 16384  # characters


class Unknown(Exception):  # noqa: N818 - it is no error
    """A fact that cannot be told; the text is the reason."""


class Facts:
    """What was found, and for what was not: the reason, under the field's path."""

    def __init__(self) -> None:
        self.unknown: dict[str, str] = {}

    def get(self, field: str, read: Callable[[], Any]) -> Any:
        """What `read` returns, as JSON can hold it; None and a reason where it raises or finds nothing."""
        try:
            if (value := read()) is None:
                raise Unknown("the system does not say")
            return plain(value) if isinstance(value, str) else value
        except Unknown as reason:
            self.unknown[field] = _short(str(reason))
        except OSError as error:
            self.unknown[field] = _short(error.strerror or type(error).__name__)
        except Exception as error:  # whatever it is, the run goes on
            self.unknown[field] = _short(f"{type(error).__name__}: {error}")
        return None

    def table(self, name: str, readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        return {field: self.get(f"{name}.{field}", read) for field, read in readers.items()}


def plain(text: str) -> str:
    """A text from outside as UTF-8 can hold it, without escape sequences, control characters and secrets."""
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    return redacted(text.strip())[:MOST_TEXT]


def _short(reason: str) -> str:
    return " ".join(plain(reason).split())[:MOST_REASON]
