"""Which seeds an embedded program sets, where they are constants. The program is text here; it is never run."""

from __future__ import annotations

import re

from analysis.reading.source import LONGEST

_CALL = re.compile(
    rb"(?<![\w.])(?:torch\.(?:cuda\.)?|random\.|(?:np|numpy)\.random\.|[A-Za-z]\w{0,20}\.)?"
    rb"(manual_seed(?:_all)?|seed|set_seed|seed_everything)\(([^()\n]{1,80})(\)?)"
)
_GENERATOR = re.compile(
    rb"\b\w{0,20}gen(?:erator)?\w{0,20}\.manual_seed|\bg\.manual_seed|\brng\w{0,20}\.", re.IGNORECASE
)
_WORD = re.compile(rb"[A-Za-z_][\w.]*|\d+")
MOST_CALLS = 50


def constant_seeds(program: bytes) -> tuple[int, ...] | None:
    """Return the constants that a program seeds its generators with; None where it sets none, or one that can vary.

    A name counts as the one number it is assigned. A rank is no seed: every run has the same ranks.
    """
    found: list[int] = []
    if len(program) > LONGEST:
        return None
    for call in list(_CALL.finditer(program))[:MOST_CALLS]:
        line_start = program.rfind(b"\n", 0, call.start()) + 1
        if program[line_start : call.start()].lstrip().startswith((b"#", b"def ")) or _GENERATOR.match(call[0]):
            continue
        if not call[3]:
            return None
        for word in _WORD.findall(call[2]):
            if b"rank" in word.lower() or (word == b"seed" and call[2].startswith(b"seed=")):
                continue
            value = int(word) if word.isdigit() else _assigned(program, word)
            if value is None:
                return None
            found.append(value)
    return tuple(dict.fromkeys(found)) or None


def _assigned(program: bytes, name: bytes) -> int | None:
    """Return the number that a name always has in a program; None where it is assigned anything else or never."""
    last = re.escape(name.rsplit(b".", 1)[-1])
    pattern = rb"(?<!\w)" + last + rb"[ \t]{0,9}(?::[^=\n,()]{0,40})?=(?!=)[ \t]{0,9}([^\n,)]{1,200})"
    values = {value.split(b"#")[0].strip() for value in re.findall(pattern, program)}
    value = values.pop() if len(values) == 1 else b""
    return int(value) if value.isdigit() and len(value) < 19 else None
