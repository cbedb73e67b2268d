"""Read the numbers in one line of a README: mean 1.1234 (std 0.0005, n=3, p=0.002)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from analysis.record.keys import is_of_others
from analysis.record.stated.said import LONGEST, Kind, Said
from analysis.rules.findings import Place

_VALUE = r"(\d{1,2}\.\d{3,12})(?!\d|\.\d|\s?[%xX\u00d7])"
_COUNT = r"(?:\d{1,3}[ -](?:seeds?|runs?)|n\s?=\s?\d{1,3})\b"
_MEAN = re.compile(
    rf"\b(?:mean|average|avg)\b((?:[^0-9|;.]{{0,20}}\b{_COUNT})?(?:(?!\bstd|\bsd\b|±)[^0-9|;.]){{0,40}}){_VALUE}",
    re.IGNORECASE,
)
_MEAN_AFTER = re.compile(rf"(?<![\d.]){_VALUE}([^0-9|;.,]{{0,20}}\(?(?:\d{{1,3}}[- ]seeds? )?mean\b)", re.IGNORECASE)
_SD = re.compile(
    r"(?:\b(?:std|sd|stdev|stddev|standard deviation|std\.? dev\.?)\b[^0-9|;]{0,12}?|±\s{0,2}|\+/-\s{0,2})(0?\.\d{2,12})(?!\d|\.\d)",
    re.IGNORECASE,
)
_N = re.compile(r"\bn\s?=\s?(\d{1,4})\b|\b(\d{1,4})[- ]seeds?\b", re.IGNORECASE)
_P = re.compile(
    r"\bp(?:[- ]?value)?\s{0,2}([=<≈~:])\s{0,2}(\d{0,2}\.\d{1,20}(?:[eE]-?\d{1,3})?|\d[eE]-\d{1,3})(?!\d|\.\d)",
    re.IGNORECASE,
)
_T = re.compile(r"\bt(?:[- ]stat(?:istic)?)?\s{0,2}[=:]\s{0,2}([-\u2212]?\d{1,4}\.\d{1,12})(?!\d|\.\d)", re.IGNORECASE)
_METRIC = re.compile(r"bpb|bits[ -]per[ -]byte|seeds?\b|val[_ /]?loss|\bstd\b|\bn\s?=", re.IGNORECASE)
_TEST = re.compile(r"t-?test|ttest|welch|signific|\bseeds?\b|\bmean\b|^\W{0,12}p\s?[=<]", re.IGNORECASE)
_COMPARES = re.compile(
    r"\b(?:beat|outperform|surpass|improv)\w{0,8}\b|\b(?:than|from|against|over the|down|instead|vs)\b|→|->|#\d",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[,;)\u2014\u2013]|\.\s|\s-\s")


def words(text: str) -> str:
    """Return a text in the form of normal keys: lower case, with an underscore between words."""
    return "_".join(re.findall(r"[a-z0-9]+", text.lower()))


def said_in_sentence(line: str, at: Place) -> Iterator[Said]:
    """Yield the mean that a line claims, and the sd, number of runs, t and p that come with it."""
    if not ("mean" in (low := line.lower()) or "average" in low or "avg" in low or "p" in low):
        return
    text = re.sub(r"[*`_]{1,3}(?=\S)|(?<=\S)[*`]{1,3}", lambda m: "_" if m[0] == "_" else "", _before_comparing(line))
    mean = _mean(text)
    if mean is not None and _METRIC.search(text):
        yield _said(Kind.MEAN, mean[0], at, metric=mean[1])
        if found := _SD.search(text):
            yield _said(Kind.SD, found[1], at, metric=mean[1])
        if found := _N.search(text):
            yield _said(Kind.RUNS, found[1] or found[2], at)
    whole = re.sub(r"[*`]", "", line)  # a t and a p are of one test, whatever it compares with
    if _TEST.search(whole):
        if (found := _T.search(whole)) and _P.search(whole):
            yield _said(Kind.T, found[1].replace("\u2212", "-"), at)
        if found := _P.search(whole):
            yield _said(Kind.P, found[2], at, most=found[1] == "<")


def _mean(text: str) -> tuple[str, str | None] | None:
    """Return the mean in a sentence as written, and its metric if the words next to it name one."""
    if found := _MEAN.search(text):
        number, around = found[2], found[1] + text[found.end() : found.end() + 12]
    elif found := _MEAN_AFTER.search(text):
        number, around = found[1], text[max(0, found.start() - 20) : found.start()] + found[2]
    else:
        return None
    metric = "val_bpb" if re.search("bpb", around, re.IGNORECASE) else None
    return number, metric or ("val_loss" if re.search("loss|nats", around, re.IGNORECASE) else None)


def _before_comparing(line: str) -> str:
    """Return the clauses of a line before the first one about other runs."""
    starts = [0, *(found.end() for found in _ENDS.finditer(line))]
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        clause = line[start:end]
        if _COMPARES.search(clause) or is_of_others(words(clause)):
            return line[:start]
    return line


def _said(kind: Kind, text: str, at: Place, **more: Any) -> Said:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = None
    return Said(kind=kind, text=text[:LONGEST], at=at, value=value, **more)
