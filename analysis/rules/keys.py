"""The keys of a ruleset: what each may hold, and what is wrong with a value that it may not."""

from __future__ import annotations

import re
from typing import Any

from analysis.rules.data import fault_of
from analysis.rules.findings import OFF, SEVERITIES, Code
from analysis.rules.metrics import CONVERTIBLE, HIGHER, LOWER, UNITS
from analysis.untrusted.escape import beginning

T_TEST, WELCH, POOLED, BOTH, PAIRED = "one-sample t", "welch", "pooled", "both", "paired by node"
Z_TEST, COMPARISON, NO_TEST = "known-sigma z", "comparison", "none"
T_TESTS = (T_TEST, WELCH, POOLED, BOTH, PAIRED)  # their spread is estimated from the runs
AGAINST_RUNS = (WELCH, POOLED, BOTH, PAIRED)
LOOKING = (T_TEST, BOTH, PAIRED)  # the boundaries of a sequential design are those of a t-test on a mean
MEAN, MEDIAN, TRIMMED_MEAN, EACH_RUN = "mean", "median", "trimmed mean", "each run"
LABELLED, LAST_VALIDATION = "labelled line", "last validation"
TARGET, STANDING = "target", "standing"
LAST, EARLIEST = "last", "earliest"
METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")
WORDS = re.compile(r"[\w%][\w %/.-]{0,79}", re.ASCII)  # what views print of a ruleset
ALLOWED: dict[str, tuple[Any, ...]] = {
    "version": (1, 2),
    "direction": (LOWER, HIGHER),
    "test": (*T_TESTS, Z_TEST, COMPARISON, NO_TEST),
    "statistic": (MEAN, MEDIAN, TRIMMED_MEAN, EACH_RUN),
    "against": (TARGET, STANDING),
    "final": (LABELLED, LAST_VALIDATION),
    "seeds": ("required", "unprinted"),
    "submission": ("required", "none"),
}
OF_VERSION_1 = ("unit", "margin", "alpha")  # which version 1 needs and version 2 does not


def fault_of_value(key: str, kind: str, value: Any) -> str | None:
    """Return what is wrong with one value, as what is allowed; None when nothing is. kind: the field's type."""
    if key in ALLOWED:
        fits = not isinstance(value, bool) and value in ALLOWED[key]
        return None if fits else f"allowed: {', '.join(map(repr, ALLOWED[key]))}"
    if key in ("name", "waives", "unit"):
        fits = isinstance(value, str) and WORDS.fullmatch(value) is not None
        return None if fits else "it must be at most 80 letters, digits, blanks and signs of _.%/-"
    if key in ("metric", "rank_by"):
        fits = isinstance(value, str) and METRIC_NAME.fullmatch(value) is not None
        return None if fits else "it must be a metric's name: lower-case letters, digits and underscores"
    if key == "at_step":
        fits = value in (LAST, EARLIEST) or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
        return None if fits else f"allowed: {LAST!r}, {EARLIEST!r} or a step, a whole number above 0"
    if key == "alpha":
        return None if is_number(value) and 0 < value < 0.5 else "it must be a number between 0 and 0.5"
    if key == "margin":
        return None if is_number(value) else "it must be a finite number"
    if key == "target":
        return None if is_number(value) else "it must be a finite number"
    return _fault_of_type(key, kind, value)


def _fault_of_type(key: str, kind: str, value: Any) -> str | None:
    if kind == "float":
        return None if is_number(value) and value > 0 else "it must be a finite number above 0"
    if kind == "int":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and value > 0 else "it must be a whole number above 0"
    if kind == "str":
        return None if isinstance(value, str) and value else "it must be a text, not empty"
    if not isinstance(value, dict):
        return "it must be a table"
    if key == "data":
        return fault_of(value)
    if key == "findings":
        return _fault_of_findings(value)
    fits = all(is_number(number) and number > 0 for number in value.values())
    return None if fits else "it must give a number above 0 for each tokenizer"


def _fault_of_findings(table: dict[str, Any]) -> str | None:
    for code, severity in table.items():
        if code not in set(Code):
            return f"there is no finding {beginning(code)}; allowed: {', '.join(Code)}"
        if severity not in (*SEVERITIES, OFF):
            return f"{code} is {beginning(severity)}; allowed: {', '.join((*SEVERITIES, OFF))}"
    return None


def fault_between(given: dict[str, Any]) -> str | None:
    """Return what is wrong with the keys of one test together, each of them being right alone; None when nothing is."""
    test, statistic = given["test"], given.get("statistic", MEAN)
    if test == Z_TEST and "sigma" not in given:
        return f"the test {Z_TEST!r} needs sigma, the known spread between seeds"
    for key in ("sigma", "scaled_gain", "step_value"):
        if key in given and test != Z_TEST:
            return f"{key} belongs to the test {Z_TEST!r}; test is {test!r}"
    if statistic != MEAN and test != COMPARISON:
        return f"statistic {statistic!r} belongs to the test {COMPARISON!r}; test is {test!r}, which tests the mean"
    if "alpha" not in given and test not in (COMPARISON, NO_TEST):
        return f"the key 'alpha' is missing; the test {test!r} needs it"
    if given.get("against") == TARGET and "target" not in given:
        return f"against is {TARGET!r}, and there is no target"
    if given.get("against") == TARGET and test in AGAINST_RUNS:
        return f"the test {test!r} compares with runs; against is {TARGET!r}"
    if given.get("at_step", LAST) != LAST and given.get("final", LABELLED) == LABELLED:
        return f"at_step is {given['at_step']!r}, and final is {LABELLED!r}; it needs {LAST_VALIDATION!r}"
    own = UNITS.get(given["metric"])
    if "unit" in given and own and given["unit"] != own and not {given["unit"], own} <= set(CONVERTIBLE):
        allowed = ", ".join(map(repr, CONVERTIBLE)) if own in CONVERTIBLE else repr(own)
        return f"unit is {beginning(given['unit'])}; allowed for {given['metric']}: {allowed}"
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
