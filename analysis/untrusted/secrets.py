"""Find what must not be published: names that hold secrets, and texts that look like one.

plan.json, run.json, the script and the logs of a record are meant to be read by everybody. A key is recognised by the form
that its maker gave it, or by the name that it is assigned to. A key with neither is not found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

# words that make a name a secret's wherever they are in it; endings that do; words before TOKEN that make it a token of a
# text; and the ending of the name of a file that holds a secret, which is the way to hand one over
_ANYWHERE = re.compile(
    r"(?:^|_)(?:API_?KEYS?|ACCESS_?KEYS?|PRIVATE_?KEYS?|ENCRYPTION_?KEY|SIGNING_?KEY|MASTER_?KEY|ACCOUNT_?KEY"
    r"|AUTH_?TOKEN|ACCESS_?TOKEN|BEARER|SECRETS?|PASSPHRASE|CREDENTIALS?|\w{0,10}PASSW(?:OR)?D)(?:_|$)"
)
_AT_THE_END = re.compile(
    r"(?:^|_)(?:TOKEN|AUTH|(?:DEPLOY|SSH|SERVICE)_KEY|(?<=_)PWD|(?:DB|USER|ADMIN|SMTP)_PASS)(?:_\d+)?$"
)
_OF_A_TEXT = re.compile(
    r"(?:^|_)(?:PER|PAD|EOS|BOS|EOT|EOD|UNK|MASK|SEP|CLS|NEXT|LAST|FIRST|PREV|MULTI|SINGLE|SPECIAL|STOP|START|END|SINK|DOC"
    r"|BY|NUM|MAX|MIN)_TOKEN(?:_\d+)?$"
)
_A_FILE = re.compile(r"_(?:PATH|FILE|DIR)$")
SHORTEST = 16  # characters of a key that a service makes
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

NAMED = "value of a secret name"
# a name and its value, in code, TOML, JSON, YAML or a shell: quoted in any way, or right after `NAME=` or `NAME: `; with
# letters and digits, unlike a word or an identifier
_ASSIGNED = (
    r"""(?<![\w-])(?:--)?([A-Za-z][\w-]{2,60})(?:\\{0,3}["'`\]]){0,3}(?:\s{0,9}(?:=>|[=:,])\s{0,9}[\[({]?|\s)[bBfFrRuU$]{0,2}\\{0,3}(?:["'`\u201c\u2018]{1,3}|&quot;|&#34;|&#39;)"""
    r"""((?=[^"'`\d\\&]{0,99}\d)(?=[^"'`A-Za-z\\&]{0,99}[A-Za-z])[\w/+=.~!@#$%^*:?-]{6,})(?=\\|["'`\u201d\u2019]|&(?:quot|#3[49]);)""",
    r"(?<![\w-])(?:--)?([A-Za-z][\w-]{2,60})(?:=|:[ \t]{1,9})((?=[A-Za-z/+-]{0,99}\d)(?=[\d/+-]{0,99}[A-Za-z])[A-Za-z0-9/+-]{16,}+={0,2})(?![\w.(\[])",
    r"(?<![\w-])--([A-Za-z][\w-]{2,60})[ \t]{1,9}((?=[A-Za-z/+-]{0,99}\d)(?=[\d/+-]{0,99}[A-Za-z])[A-Za-z0-9/+-]{16,}+={0,2})(?![\w.(\[])",
)  # fmt: skip
_FORMS = (
        # group 1 is the secret. No two starts of a pattern can read the same text for more than a bounded length, and
        # what is repeated without a bound cannot be split in two ways: the time is linear, whatever the text
        ("private key", r"(-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]++|-(?!----))*+(?:-----END [A-Z0-9 ]{1,60}-----)?)"),
        ("password in a URL", r"""://(?![^\s/:@"'<>]*+:(?:[{$<*]|%[({s]|(?i:guest|pass(?:word|wd)?)@))([^\s/:@"'<>]*+:(?!\d{1,5}@)[^\s/"'<>,?|]+)@"""),
        ("AWS access key id", r"(?<![A-Za-z0-9])((?:AKIA|ASIA)[A-Z0-9]{16})(?![A-Za-z0-9])"),
        ("AWS secret access key", r"""(?i:aws_?secret_?(?:access_?)?key)["'\]]{0,3}\s{0,9}[=:,]\s{0,9}["']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"""),
        ("Hugging Face token", r"(?<![A-Za-z0-9_])((?:hf_|api_org_)[A-Za-z0-9]{30,})"),
        ("GitHub token", r"(?<![A-Za-z0-9_])(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
        ("GitLab token", r"(?<![\w-])(glpat-[A-Za-z0-9_-]{20,})"),
        ("sk- API key", r"(?<![\w-])(sk-(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{20,})"),
        ("Slack token", r"(?<![\w-])(xox[abeoprs]-[A-Za-z0-9-]{10,})"),
        ("Google API key", r"(?<![\w-])(AIza[A-Za-z0-9_-]{35})(?![\w-])"),
        ("JSON Web Token", r"(?<![\w-])(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
        ("bearer token", r"(?<!\w)(?i:bearer)\s{1,9}((?=[A-Za-z._~+/-]{0,99}\d)[A-Za-z0-9._~+/-]{20,}=*)"),
        ("W&B API key", r"""(?i:wandb)[^\n"']{0,40}(?i:key|login|api)[^\n"']{0,20}["']?(?<![0-9a-f])([0-9a-f]{40})(?![0-9a-f])"""),
        ("AWS session token", r"(?<![A-Za-z0-9/+])(IQoJ[A-Za-z0-9/+=]{60,})"),
        ("API key of another maker", r"(?<![\w-])((?:rpa|npm|r8|sk_live|rk_live|wandb_v1)_[A-Za-z0-9_]{20,}|pypi-[A-Za-z0-9_-]{30,})"),
)  # fmt: skip
_HINT = re.compile(  # what every form and name has; a text without it needs no look at each
    r"key|token|secret|passw|pwd|_pass|auth|cred|bearer|://|hf_|api_org|akia|asia|gh[pousr]_|github|glpat|sk-|xox|aiza|eyj|wandb|iqoj"
    r"|rpa_|npm_|r8_|[sr]k_live|pypi-",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patterns:
    """How secrets look: by their form, with their kind, and by the name that they are assigned to."""

    forms: tuple[tuple[str, re.Pattern[str]], ...]
    assigned: tuple[re.Pattern[str], ...]


@cache
def _patterns() -> _Patterns:
    """Compile the patterns, which takes longer than most commands need them."""
    return _Patterns(
        forms=tuple((kind, re.compile(form)) for kind, form in _FORMS), assigned=tuple(map(re.compile, _ASSIGNED))
    )


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
    if not _HINT.search(text):
        return []
    known = _patterns()
    spans = sorted((match.start(1), kind) for kind, form in known.forms for match in form.finditer(text))
    taken = {start for start, _ in spans}
    named = (match for form in known.assigned for match in form.finditer(text) if secret_name(match[1], match[2]))
    spans = sorted([*spans, *((match.start(2), NAMED) for match in named if match.start(2) not in taken)])
    lines: list[Secret] = []
    line, read = 1, 0
    for start, kind in spans:
        line, read = line + text.count("\n", read, start), start
        lines.append(Secret(line, kind))
    return lines


def redacted(text: str) -> str:
    """Return the text with `[secret: KIND]` in place of everything that looks like a secret.

    Redact before cutting to a length: half a key has no recognisable form.
    """
    if not _HINT.search(text):
        return text
    known = _patterns()
    for kind, form in known.forms:
        text = form.sub(partial(_without, kind), text)
    for form in known.assigned:
        text = form.sub(lambda match: _without(NAMED, match, 2) if secret_name(match[1], match[2]) else match[0], text)
    return text


def redacted_value(name: str, value: str) -> str:
    """Return the value of a name in the same way."""
    return f"[secret: {NAMED}]" if secret_name(name, value) else redacted(value)


def _without(kind: str, match: re.Match[str], group: int = 1) -> str:
    start, end = match.start(group) - match.start(), match.end(group) - match.start()
    return f"{match[0][:start]}[secret: {kind}]{match[0][end:]}"
