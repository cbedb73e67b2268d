"""The training script as it stands in a log: where it is, its digest, whether it parses, what it can print.

A script is text here. It is hashed and parsed, never run and never imported.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import warnings
from dataclasses import dataclass, field
from functools import lru_cache

_RULER, _SHORT_RULER = b"=" * 100, b"=" * 20  # where a log has a long one, the short ones underline headings
_CODE = re.compile(rb"^(?:import|from)[ \t]+\w", re.MULTILINE)
_FIRST = re.compile(
    rb"""^(?:import\s|from\s|def\s|class\s|if\s|try:|@\w|\#|[rRbBuU]?["']|[A-Za-z_][\w.]*(?::[ ][\w\[\], .|]+)?[ ]=[ ])""",
    re.MULTILINE,
)
_LOGGED = re.compile(
    rb"^(?:(?:step[:= \t]\s*)?\d+/\d+[ \t:]|[\w+ ()-]+: \d+ bytes|[A-Za-z\d_][^\n\"'{}()=]*[ \t:]val_(?:loss|bpb)\s*[:=]\s*\d)"
    rb"[^\n]*\n",
    re.MULTILINE,
)
_LAUNCHED = re.compile(
    rb"(?:(?:[WEI]\d{4} |\*{5,}|\S*Warning:|Running: |Setting OMP|logs/|\+ |\$ |# ?torchrun|\[)[^\n]*\n+)+"
)
_HEADER = re.compile(rb"\s*(?:Running |Python |PyTorch |Hyperparameters|[WEI]\d{4} |logs/|\w+:\S|\[)")
_TEMPLATE = re.compile(r"\{[^{}]*\}|%[-+ #0-9.]*[a-zA-Z]")
LONGEST = 2**18  # bytes; parsing takes some 600 times a script's size, and a longer one is not judged
MOST_LITERALS = 10_000
_UNPACKED = re.compile(rb"\b(?:exec|eval)\s*\(")


@dataclass(frozen=True, slots=True)
class Source:
    """A script printed into a log, without the newline that print adds."""

    text: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @property
    def size_bytes(self) -> int:
        return len(self.text)


def cut(data: bytes) -> list[tuple[int, int, Source | None]]:
    """The stretches of a log between its sources: (start, end, the source that stands just before), in order.

    A source is a block of code closed by a line of `=`. In a log of several runs it follows the lines of the run
    before, which are left in their stretch.
    """
    stretches: list[tuple[int, int, Source | None]] = []
    start, before, block_start, position = 0, None, 0, 0
    quotes = _Quotes()
    ruler = _RULER if data.startswith(_RULER) or b"\n" + _RULER in data else _SHORT_RULER
    while (position := data.find(ruler, position)) >= 0:
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        closes = position == 0 or data[position - 1] == 10
        if (
            closes
            and not data[position:end].rstrip(b" \t\r").strip(b"=")
            and not (quotes.open_at(data, position) and _goes_on(data, end, ruler))
        ):
            first = _first_line_of_code(data, block_start, position)
            if first is not None:
                stretches.append((start, first, before))
                start, before = position, Source(data[first : max(first, position - 1)])
            block_start = min(end + 1, len(data))
            quotes = _Quotes(block_start)
        position = end
    stretches.append((start, len(data), before))
    return stretches


def _goes_on(data: bytes, end: int, ruler: bytes) -> bool:
    """Whether a ruler inside a triple quote lies inside a source: no header follows, but another ruler does."""
    return not _HEADER.match(data, end + 1) and data.find(b"\n" + ruler, end) >= 0


@dataclass(slots=True)
class _Quotes:
    """How many triple quotes of each kind stand between the start of a block and `at`, a line's beginning that only grows."""

    at: int = 0
    double: int = 0
    single: int = 0

    def open_at(self, data: bytes, position: int) -> bool:
        self.double += data.count(b'"""', self.at, position)
        self.single += data.count(b"'''", self.at, position)
        self.at = position
        return bool(self.double % 2 or self.single % 2)


def _first_line_of_code(data: bytes, start: int, end: int) -> int | None:
    """Where the source of a block begins: its first line of code after the last line that a run has logged.

    A log that begins with its source has at most a launcher's lines before it.
    """
    if _CODE.search(data, start, end) is None:
        return None
    logged = start if _FIRST.match(data, start, end) else None
    if logged is None:
        logged = max((match.end() for match in _LOGGED.finditer(data, start, end)), default=start)
        if _CODE.search(data, logged, end) is None:
            return None
    if logged == 0:
        launched = _LAUNCHED.match(data, 0, end)
        return launched.end() if launched else 0
    first = _FIRST.search(data, logged, end)
    return first.start() if first else None


def does_not_compile(source: Source, python: str | None) -> str | None:
    """Why the source does not parse, or None when it does or cannot be judged.

    A newer Python's syntax is not judged by an older one, nor is a script when the log does not say which Python ran it.
    """
    fault, _ = _parsed(source.text)
    return None if python is None or _is_newer(python) else fault


def cannot_print(source: Source, label: str) -> bool:
    """Whether no literal of the source can make the label, nor several of them one after the other.

    A label may be put together at run time (f"final_{name}_exact" with name "sliding" or 3), so it may be made of whole
    literals and of the parts of templates, of names of functions and keywords, of digits and of separators; only its two ends may lie inside a literal. A
    source that unpacks code, or does not parse here, is not judged.
    """
    _, literals = _parsed(source.text)
    if literals is None or _UNPACKED.search(source.text):
        return False
    label = label.lower()
    if any(label in literal for literal in literals):
        return False
    reached = {k for literal in literals for k in range(2, len(label)) if literal.endswith(label[:k])} | {0}
    for position in range(len(label)):
        if position not in reached:
            continue
        rest = label[position:]
        if position and any(literal.startswith(rest) for literal in literals):
            return False
        if rest[0].isdigit() or rest[0] in "_- ./":
            reached.add(position + 1)
        reached |= {position + len(literal) for literal in literals if rest.startswith(literal)}
    return len(label) not in reached


@lru_cache(maxsize=8)
def _parsed(text: bytes) -> tuple[str | None, frozenset[str] | None]:
    """(why a script does not parse, the texts in it that a label may be made of); (None, None) where it is not judged."""
    if len(text) > LONGEST:
        return None, None
    try:
        code = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, None  # in a codec of its own; Python's take up to seconds for a script
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign script's escapes are none of our reader's business
            tree = ast.parse(code)
    except (RecursionError, MemoryError):
        return None, None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return f"{getattr(error, 'msg', error)}" + (f" (its line {line})" if line else ""), None
    literals: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            value = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            literals |= {part.lower() for part in _TEMPLATE.split(value) if len(part) > 1}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            literals.add(node.name.lower())
        elif isinstance(node, ast.keyword) and node.arg:
            literals.add(node.arg.lower())
    return None, frozenset(literals) if len(literals) <= MOST_LITERALS else None


def _is_newer(python: str | None) -> bool:
    if python is None:
        return False
    numbers = [int(number) for number in re.findall(r"\d{1,4}", python)[:2]]
    return numbers > list(sys.version_info[:2])
