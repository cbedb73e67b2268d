"""The training script printed into a log: where it is, its digest, whether it parses, what it can print.

A script is text here. It is hashed and parsed, never run, never imported.
"""

from __future__ import annotations

import ast
import hashlib
import lzma
import re
import sys
import warnings
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from analysis.untrusted.files import spend

_RULER, _SHORT_RULER = b"=" * 100, b"=" * 20  # in a log with long ones, short ones underline headings
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
_FILE_RULER = re.compile(rb"^[-=~*]{4,}[^\n]{0,200}\n(?:[^\n]{0,200}\n[-=~*]{4,}[ \t]*(?:\n|\Z))?", re.MULTILINE)
MOST_FILES = 50  # of one source
NEWLINE_BYTES = 2
MOST_PACKED = 20  # how many times shorter a program gets at most
WRAPPER_BYTES = 300  # of code that unpacks the rest
LONGEST = 2**18  # bytes; parsing takes some 600 times a script's size in memory, so a longer one is not judged
MOST_LITERALS = 10_000
RULER = 2**13  # bytes that a ruler counts as, of the budget of what is read: a log has a few of them
_UNPACKED = re.compile(rb"\b(?:exec|eval)\s*\(")


@dataclass(frozen=True, slots=True)
class Source:
    """A script printed into a log, without the newline that print adds at its end."""

    text: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @property
    def size_bytes(self) -> int:
        return len(self.text)

    @property
    def files(self) -> tuple[bytes, ...]:
        """Return the files of a source. Several stand one after the other, each but the first behind a ruler line.

        A ruler inside a text of the program is none, so a source that parses as it is is one file.
        """
        return _files(self.text)


# -- where it is -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of a log that holds no source. `after`: the source just before it."""

    start: int
    end: int
    after: Source | None


def cut(data: bytes) -> list[Stretch]:
    """Return the stretches of a log between its sources, in order.

    A source is a block of code closed by a line of `=`. In a log of several runs it follows the last lines of the run
    before, which stay in their own stretch.
    """
    stretches: list[Stretch] = []
    start, source, block_start, position = 0, None, 0, 0
    quotes = _Quotes()
    ruler = _RULER if data.startswith(_RULER) or b"\n" + _RULER in data else _SHORT_RULER
    while (position := data.find(ruler, position)) >= 0:
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        begins_a_line = position == 0 or data[position - 1] == 10
        if (
            begins_a_line
            and not data[position:end].rstrip(b" \t\r").strip(b"=")
            and not (quotes.open_at(data, position) and _goes_on(data, end, ruler))
        ):
            spend(RULER)
            first = _first_line_of_code(data, block_start, position)
            if first is not None:
                stretches.append(Stretch(start=start, end=first, after=source))
                start, source = position, Source(data[first : max(first, position - 1)])
            block_start = min(end + 1, len(data))
            quotes = _Quotes(block_start)
        position = end
    stretches.append(Stretch(start=start, end=len(data), after=source))
    return stretches


def _goes_on(data: bytes, end: int, ruler: bytes) -> bool:
    """Whether a source goes on after a ruler inside a triple quote: another ruler follows, but no header."""
    return not _HEADER.match(data, end + 1) and data.find(b"\n" + ruler, end) >= 0


@dataclass(slots=True)
class _Quotes:
    """How many triple quotes of each kind are between the start of a block and `at`, which only grows."""

    at: int = 0
    double: int = 0
    single: int = 0

    def open_at(self, data: bytes, position: int) -> bool:
        """Whether a triple quote is open at a position."""
        self.double += data.count(b'"""', self.at, position)
        self.single += data.count(b"'''", self.at, position)
        self.at = position
        return bool(self.double % 2 or self.single % 2)


def _first_line_of_code(data: bytes, start: int, end: int) -> int | None:
    """Return where the source of a block begins: at its first line of code after the last line that a run logged.

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


# -- what it says ------------------------------------------------------------------------------------------------------


def does_not_compile(source: Source, python: str | None) -> str | None:
    """Return why the source does not parse; None where it does or cannot be judged.

    An older Python cannot judge a newer one's syntax, nor a script whose log does not say which Python ran it.
    """
    if python is None or _is_newer(python):
        return None
    return next((fault for file in source.files if (fault := _parsed(file).fault) is not None), None)


def cannot_print(source: Source, *labels: str) -> bool:
    """Whether no literal of the source can make any of the labels, nor several of them in a row.

    A label may be put together at run time: f"final_{name}_exact" with name "sliding" or 3. So it may consist of whole
    literals, of the parts of templates, of names of functions and keywords, of digits and of separators. Only its two
    ends may be inside a literal. A source that unpacks code, or does not parse here, is not judged.
    """
    of_files = [_parsed(file).literals for file in source.files]
    literals = frozenset[str]().union(*(one for one in of_files if one is not None))
    if None in of_files or len(literals) > MOST_LITERALS or _UNPACKED.search(source.text):
        return False
    return not any(_can_make(literals, label.lower()) for label in labels)


def _can_make(literals: Collection[str], label: str) -> bool:
    if any(label in literal for literal in literals):
        return True
    reached = {k for literal in literals for k in range(2, len(label)) if literal.endswith(label[:k])} | {0}
    for position in range(len(label)):
        if position not in reached:
            continue
        rest = label[position:]
        if position and any(literal.startswith(rest) for literal in literals):
            return True
        if rest[0].isdigit() or rest[0] in "_- ./":
            reached.add(position + 1)
        reached |= {position + len(literal) for literal in literals if rest.startswith(literal)}
    return len(label) in reached


def has_size(source: Source, size: int) -> bool:
    """Return whether a printed code size is that of the source, of one of its files, of all of them, or packed."""
    if abs(source.size_bytes - size) <= NEWLINE_BYTES or _is_packed_size(source.text, size):
        return True
    files = source.files
    if len(files) == 1:
        return False
    is_of_one = any(len(file.strip()) <= size <= len(file) + NEWLINE_BYTES for file in files)
    return is_of_one or sum(len(file.strip()) for file in files) <= size <= source.size_bytes


def _is_packed_size(text: bytes, size: int) -> bool:
    """Return whether a size is what a script may have once it is compressed, as bytes or as text that unpacks itself.

    No packer in use does much better than lzma. The fastest one, in base64 and with a few lines around it, is the worst.
    """
    if not len(text) / MOST_PACKED <= size <= len(text) / 2 or len(text) > LONGEST:
        return False
    return 0.8 * _packed(text, "lzma") <= size <= 1.4 * _packed(text, "zlib") + WRAPPER_BYTES


@lru_cache(maxsize=64)
def _packed(text: bytes, codec: str) -> int:
    return len(lzma.compress(text) if codec == "lzma" else zlib.compress(text, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """Why a script does not parse, and the texts in it that a label may be made of. None: not judged."""

    fault: str | None = None
    literals: frozenset[str] | None = None


@lru_cache(maxsize=8)
def _files(text: bytes) -> tuple[bytes, ...]:
    if len(text) > LONGEST or _parsed(text).fault is None:
        return (text,)
    files = tuple(part for part in _FILE_RULER.split(text, MOST_FILES) if part.strip())
    return files if len(files) > 1 else (text,)


@lru_cache(maxsize=64)
def _parsed(text: bytes) -> _Parsed:
    if len(text) > LONGEST:
        return _Parsed()
    try:
        code = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _Parsed()  # in another codec; some of Python's take seconds for one script
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a foreign script's escapes
            tree = ast.parse(code)
    except (RecursionError, MemoryError):
        return _Parsed()
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return _Parsed(fault=f"{getattr(error, 'msg', error)}" + (f" (its line {line})" if line else ""))
    literals = set(_literals(tree))
    return _Parsed(literals=frozenset(literals) if len(literals) <= MOST_LITERALS else None)


def same_code(one: Source, other: Source) -> bool:
    """Return whether two programs differ in comments, blanks and texts at most: such a change makes no other experiment."""
    return one.text == other.text or (_skeleton(one.text) is not None and _skeleton(one.text) == _skeleton(other.text))


@lru_cache(maxsize=64)
def _skeleton(text: bytes) -> bytes | None:
    """Return a digest of a script without comments and texts; None where it is too long or does not parse."""
    if len(text) > LONGEST or _parsed(text).fault is not None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.decode("utf-8-sig"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                node.value = ""
        return hashlib.sha256(ast.dump(tree).encode("utf-8", "replace")).digest()
    except (RecursionError, MemoryError, SyntaxError, ValueError):
        return None


def _literals(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a script that a label may be made of, in lower case."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            value = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield from (part.lower() for part in _TEMPLATE.split(value) if len(part) > 1)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name.lower()
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg.lower()


def _is_newer(python: str) -> bool:
    numbers = [int(number) for number in re.findall(r"\d{1,4}", python)[:2]]
    return numbers > list(sys.version_info[:2])
