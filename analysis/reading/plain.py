"""Restore a log as its program printed it, without what shells, loggers and launchers add to the lines.

Prefixes are learned from the log itself, because every launcher has its own. Text that comes before lines of several known
kinds is a prefix. The lines keep their numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from analysis.reading.grammar import ANSI

WINDOW = 2**14  # bytes; prefixes are learned from a window at the beginning, the middle and the end
LONGEST_PREFIX = 200
FEWEST_LINES, FEWEST_KINDS = 3, 2  # that share a prefix
NUMBERS_OF_A_TIME = 3  # a date or a clock time; a prefix with one has words that change from line to line

_OVERWRITTEN = re.compile(rb"^[^\n]*\r(?=[^\n])", re.MULTILINE)  # by a progress bar
_KNOWN = re.compile(
    rb"(?<![\w.])(?:[Ss]tep[:= \t]\s?\d+[/ \t:,|]|[Ii]ter(?:ation)?[:= \t]\s?\d+[/ \t:,|]|\d+/\d+[ \t:,|]+(?:train_|val_)?loss"
    rb"|s:\d+ t[re]l:|seed\s?[:=]\s?\d|world_size\s?[:=]|model_params\s?[:=]|warmup(?:_step)?[:=]\s?\d|train_loader:"
    rb"|val_loader:|val_bpb:enabled|stopping_early|peak memory|Serialized model|Code size|Total submission|final_\w+)"
)
_TOKEN = re.compile(
    rb"(?P<word>[A-Za-z_<][\w.<>/$-]*)|(?P<number>\d+(?![A-Za-z_]))|(?P<mixed>\d\w*)|(?P<blank>[ \t]+)|."
)
_ANY = {
    "word": rb"[\w.<>/$-]{1,80}",
    "number": rb"\d{1,20}",
    "mixed": rb"\w{1,80}",
    "blank": rb"[ \t]{1,40}",
}
_LAST_NUMBER = re.compile(rb"(val_(?:loss|bpb)[\s:=]{1,9})[-+]?\d{1,20}(?:\.(\d{0,30}))?\Z")
_VALUE = re.compile(rb"val_(?:loss|bpb)[\s:=]{1,9}[-+]?\d{1,20}\.(\d{1,30})")
ENOUGH_DECIMALS = 8  # a longer number may be printed as it is, with as many digits as it takes


def plain(data: bytes) -> bytes:
    """Return UTF-8 with bare newlines, without a byte order mark, terminal codes, prefixes or a cut-off number at the end."""
    if encoding := _wide(data):
        data = data.decode(encoding, "replace").encode("utf-8", "replace")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = _OVERWRITTEN.sub(b"", data.replace(b"\r\n", b"\n"))
    if b"\x1b" in data:
        data = ANSI.sub(b"", data)
    return _without_cut_number(_without_prefix(data))


def is_wide(data: bytes) -> bool:
    """Return whether a text is UTF-16."""
    return _wide(data) is not None


def _wide(data: bytes) -> str | None:
    """Return the UTF-16 encoding of a text, known by its mark or, after ASCII, by zero in every other byte; else None."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = data[:100:2], data[1:100:2]
    if not odd or any(even) == any(odd):
        return None
    return "utf-16-le" if any(even) else "utf-16-be"


# -- prefixes ----------------------------------------------------------------------------------------------------------


def _without_prefix(data: bytes) -> bytes:
    prefix = _learned(data)
    return data if prefix is None else prefix.sub(b"", data)


def _learned(data: bytes) -> re.Pattern[bytes] | None:
    """Return the pattern of the prefix that most lines of known kinds have; None if they have none."""
    middle = data[len(data) // 2 :][:WINDOW]
    if 3 * middle.count(b"\nstep:") > middle.count(b"\n"):
        return None
    before = [one for window in _windows(data) for one in _before_known(window)]
    prefixes = [prefix for prefix, _ in before if prefix.strip()]
    if 2 * len(prefixes) < len(before) or len(prefixes) < FEWEST_LINES:
        return None
    shapes = Counter(map(_shape, prefixes))
    shape = shapes.most_common(1)[0][0]
    pattern = _pattern([prefix for prefix in prefixes if _shape(prefix) == shape])
    kinds = Counter(kind for prefix, kind in before if pattern.match(prefix))
    is_shared = 2 * kinds.total() >= len(before) and kinds.total() >= FEWEST_LINES
    return pattern if is_shared and len(kinds) >= FEWEST_KINDS else None


def _windows(data: bytes) -> Iterator[bytes]:
    if len(data) <= 3 * WINDOW:
        yield data
    else:
        for start in (0, len(data) // 2, len(data) - WINDOW):
            yield data[start : start + WINDOW]


def _before_known(window: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the text before the first known words of each line, and the first letters of these words."""
    end_of_last = 0
    for match in _KNOWN.finditer(window):
        start = window.rfind(b"\n", 0, match.start()) + 1
        if start >= end_of_last and match.start() - start <= LONGEST_PREFIX:
            end_of_last = match.end()
            yield window[start : match.start()], match[0].lstrip(b"0123456789")[:4].lower()


def _shape(prefix: bytes) -> tuple[str, ...]:
    """Return the kinds of a prefix's tokens. A punctuation mark is its own kind."""
    return tuple(token.lastgroup or token[0].decode("latin-1") for token in _TOKEN.finditer(prefix))


def _pattern(prefixes: Sequence[bytes]) -> re.Pattern[bytes]:
    """Return a pattern for prefixes of one shape. Tokens that are the same in all are literal; the rest may vary."""
    columns = zip(*(list(_TOKEN.finditer(prefix)) for prefix in prefixes), strict=True)
    tokens = [(column[0].lastgroup, {token[0] for token in column}) for column in columns]
    has_time = sum(kind in ("number", "mixed") for kind, _ in tokens) >= NUMBERS_OF_A_TIME
    parts = []
    for kind, texts in tokens[:-1]:
        changes = len(texts) > 1 or kind in ("number", "blank") or (has_time and kind == "word")
        parts.append(_ANY[kind] if kind is not None and changes else re.escape(min(texts)))
    last = re.escape(min(tokens[-1][1], key=len))  # more blanks are the line's own
    parts.append(rb"(?:" + last + rb"|[ \t]*$)" if tokens[-1][0] == "blank" else last)
    return re.compile(rb"^" + b"".join(parts), re.MULTILINE)


# -- the end -----------------------------------------------------------------------------------------------------------


def _without_cut_number(data: bytes) -> bytes:
    """Return the log without a last number that was cut off, which shows if it has fewer decimals than a similar number.

    The similar number is the other one of a final-metric line, else the last one of the same name.
    """
    found = _LAST_NUMBER.search(data, max(0, len(data) - LONGEST_PREFIX))
    if found is None:
        return data
    line = data[data.rfind(b"\n", 0, found.start()) + 1 : found.start()]
    before = data.rfind(found[1], 0, found.start())
    like = _VALUE.search(line) or (_VALUE.match(data, before) if before >= 0 else None)
    decimals = min(len(like[1]), ENOUGH_DECIMALS) if like is not None else 0
    return data[: found.start()] if len(found[2] or b"") < decimals else data
