"""Find what must not be published: names that hold secrets, and texts that look like one.

plan.json, run.json, the script and the logs of a record are meant to be read by everybody. A key is recognised by the form
that its maker gave it, or by the name that it is assigned to. A key with neither is not found.
"""

from __future__ import annotations

import re
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from analysis.untrusted.secret_forms import NAME_SIGNS, NAMED, patterns

# words that make a name a secret's wherever they are in it; endings that do; words before TOKEN that make it a token of a
# text; and the ending of the name of a file that holds a secret, which is the way to hand one over
_ANYWHERE = re.compile(
    r"(?:^|_)(?:API_?KEYS?|ACCESS_?KEYS?|PRIVATE_?KEYS?|ENCRYPTION_?KEY|SIGNING_?KEY|MASTER_?KEY|ACCOUNT_?KEY"
    r"|AUTH_?TOKEN|ACCESS_?TOKEN|IDENTITY_?TOKEN|BEARER|SECRETS?|PASSPHRASE|CREDENTIALS?|\w{0,10}PASSW(?:OR)?D)(?:_|$)"
)
_AT_THE_END = re.compile(
    r"(?:^|_)(?:TOKEN|AUTH|(?:DEPLOY|SSH|SERVICE|APP|STORAGE|SUBSCRIPTION|KAGGLE|WANDB)_KEY|(?<=_)PWD|(?:DB|USER|ADMIN|SMTP)_PASS)(?:_\d+)?$"
)
_OF_A_TEXT = re.compile(
    r"(?:^|_)(?:PER|PAD|EOS|BOS|EOT|EOD|UNK|MASK|SEP|CLS|NEXT|LAST|FIRST|PREV|MULTI|SINGLE|SPECIAL|STOP|START|END|SINK|DOC"
    r"|BY|NUM|MAX|MIN)_TOKEN(?:_\d+)?$"
)
_A_FILE = re.compile(r"_(?:PATH|FILE|DIR)$")
SHORTEST = 16  # characters of a key that a service makes
_APART = 12  # characters between a name and its value, and what begins it
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def secret_name(name: str, value: str | None = None) -> bool:
    """Return whether a variable of this name holds a secret: HF_TOKEN does; NUM_TOKENS, PAD_TOKEN and HF_TOKEN_PATH do not.

    A name that only ends like one, such as CLASS_TOKEN, does not when its value is shorter than any key.
    """
    words = _CAMEL.sub("_", name[:200]).upper().replace("-", "_")
    if _A_FILE.search(words):
        return False
    if _ANYWHERE.search(words):
        return True
    return bool(_AT_THE_END.search(words) and not _OF_A_TEXT.search(words)) and (
        value is None or len(value) >= SHORTEST
    )


def secret_value(text: str) -> str | None:
    """Return the kind of the first secret that a text seems to hold, or None."""
    found = secret_lines(text)
    return found[0].kind if found else None


class Secret(NamedTuple):
    """Something that looks like a secret, by its line, from 1, and its kind."""

    line: int
    kind: str


def secret_lines(text: str) -> list[Secret]:
    """Return everything in a text that looks like a secret, in order."""
    known, lowered = patterns(), text.lower()
    spans = [(*match.span(1), form.kind) for form in known.of(text, lowered) for match in form.pattern.finditer(text)]
    for start, end in _lines_with_names(text, lowered):
        for pattern in known.assigned:
            matches = pattern.finditer(text, start, end)
            spans += [(*match.span(2), NAMED) for match in matches if secret_name(match[1], match[2])]
    lines: list[Secret] = []
    line, read, last = 1, 0, 0
    for start, end, kind in sorted(spans, key=itemgetter(0)):  # of those that start alike the first in the table stays
        if start >= last:
            line, read, last = line + text.count("\n", read, start), start, end
            lines.append(Secret(line, kind))
    return lines


def _lines_with_names(text: str, lowered: str) -> list[tuple[int, int]]:
    """Return the start and end of every group of lines in which a secret's name may stand, with its value."""
    if len(lowered) != len(text):  # a letter that is two in small letters: the places differ
        return [(0, len(text))]
    found = []
    for sign in NAME_SIGNS:
        at = lowered.find(sign)
        while at >= 0:
            start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            end = text.find("\n", end + _APART) if end >= 0 else -1  # a value may stand some lines below
            found.append((start, end if end >= 0 else len(text)))
            at = lowered.find(sign, found[-1][1])
    groups: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if groups and start <= groups[-1][1]:
            groups[-1] = (groups[-1][0], max(end, groups[-1][1]))
        else:
            groups.append((start, end))
    return groups


def redacted(text: str) -> str:
    """Return the text with `[secret: KIND]` in place of everything that looks like a secret.

    Redact before cutting to a length: half a key has no recognisable form.
    """
    known, lowered = patterns(), text.lower()
    for form in known.of(text, lowered):
        text = form.pattern.sub(partial(_without, form.kind), text)
    if any(sign in lowered for sign in NAME_SIGNS):
        for pattern in known.assigned:
            text = pattern.sub(lambda at: _without(NAMED, at, 2) if secret_name(at[1], at[2]) else at[0], text)
    return text


def redacted_value(name: str, value: str) -> str:
    """Return the value of a name in the same way."""
    return f"[secret: {NAMED}]" if secret_name(name, value) else redacted(value)


def _without(kind: str, match: re.Match[str], group: int = 1) -> str:
    start, end = match.start(group) - match.start(), match.end(group) - match.start()
    return f"{match[0][:start]}[secret: {kind}]{match[0][end:]}"
