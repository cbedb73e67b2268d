"""Rulesets: a leaderboard's acceptance rule as data.

A ruleset is a TOML file. Those in `analysis/rules/rulesets/` are found by name, any other by its path. What a ruleset
does not set is not checked: a missing cap raises no finding.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from analysis.rules.data import fault_of
from analysis.rules.findings import OFF, SEVERITIES, Code
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import FileError, read_small
from analysis.untrusted.refusal import SeedproofError, nearest, nearest_path

FOLDER = Path(__file__).with_name("rulesets")
USUAL = "parameter-golf"  # where neither an option nor a plan names others
METRIC_UNITS = {"val_bpb": "bpb", "val_loss": "nats"}
T_TEST, Z_TEST, NO_TEST = "one-sample t", "known-sigma z", "none"
LABELLED, LAST_VALIDATION = "labelled line", "last validation"
LARGEST_FILE = 2**14  # bytes; the time of reading TOML can grow with their square
ALLOWED: dict[str, tuple[Any, ...]] = {
    "version": (1,),
    "metric": tuple(METRIC_UNITS),
    "unit": tuple(METRIC_UNITS.values()),
    "test": (T_TEST, Z_TEST, NO_TEST),
    "final": (LABELLED, LAST_VALIDATION),
    "seeds": ("required", "unprinted"),
    "submission": ("required", "none"),
}


class RulesError(SeedproofError):
    """A ruleset that does not exist or lacks what it must hold: one sentence with file, key and what is allowed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What a claim must show. `margin` is in `unit`: bpb (bits per byte) or nats (per token).

    test: `none` is for submissions that claim no record.
    target: what the mean must beat, where the leaderboard fixes it (else the SOTA is given with each claim).
    sigma, scaled_gain: known-sigma z only; it passes when (target - margin - mean) * sqrt(n) >= scaled_gain or, without
    one, at p < alpha.
    final: what a run's result is, a labelled final line or its last validation.
    seeds: whether logs must print one. submission: whether a folder must hold a submission JSON, README and script.
    bpb_per_nat: val_bpb / val_loss by the tokenizer's file name. data: what may be trained and validated on
    (analysis.rules.data). findings: severities that differ from the usual ones.
    """

    name: str
    version: int
    metric: str
    margin: float
    unit: str
    test: str
    alpha: float
    target: float | None = None
    sigma: float | None = None
    scaled_gain: float | None = None
    final: str = LABELLED
    seeds: str = "required"
    minimum_runs: int = 2
    submission: str = "none"
    artifact_bytes: int | None = None
    train_time_s: float | None = None
    eval_time_s: float | None = None
    world_size: int | None = None
    gpu: str | None = None
    bpb_per_nat: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)

    @property
    def is_t_test(self) -> bool:
        """Whether the spread between seeds is estimated from the runs; else it is known."""
        return self.test == T_TEST

    @property
    def has_test(self) -> bool:
        """Whether a claim is tested at all; else the evidence must fit it, and that is all."""
        return self.test != NO_TEST

    @property
    def result_line(self) -> str:
        """Return what a log must print to have a result, in words."""
        labelled = self.final == LABELLED
        return 'a line such as "LABEL val_loss:2.0286 val_bpb:1.2014"' if labelled else "a validation at the last step"

    @property
    def caps(self) -> dict[str, float]:
        """Return what one run may use, where it is capped: artifact_bytes, train_time_s."""
        given = {"artifact_bytes": self.artifact_bytes, "train_time_s": self.train_time_s}
        return {name: value for name, value in given.items() if value is not None}


def known() -> list[str]:
    """Return the names of the shipped rulesets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_file: str) -> Ruleset:
    """Read a ruleset by name (`parameter-golf`) or from a TOML file. Raises RulesError."""
    path = FOLDER / f"{name_or_file}.toml" if name_or_file in known() else Path(name_or_file)
    try:
        table = tomllib.loads(read_small(path, LARGEST_FILE).decode("utf-8"))
    except FileError as error:
        hint = f" It {error}." if os.path.lexists(path) and not path.is_dir() else ""
        raise RulesError(
            f"{name_or_file!r} is neither a ruleset ({', '.join(known())}) nor a TOML file that can be read."
            f"{hint or nearest(name_or_file, known()) or nearest_path(path)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise RulesError(f"{path} is not TOML: {error}.") from None
    return from_table(path.stem, table, str(path))


def from_table(name: str, table: dict[str, Any], path: str) -> Ruleset:
    """Return a ruleset of these keys, checked; `path` is the file that has them. Raises RulesError."""
    keys = {key.name: key for key in fields(Ruleset) if key.name != "name"}
    needed = [key for key, one in keys.items() if one.default is MISSING and one.default_factory is MISSING]
    given = {key: value for key, value in table.items() if value is not None}  # a plan's JSON says null for "not set"
    for key in table:
        if key not in keys:
            raise RulesError(f"{path}: unknown key {beginning(key)}; a ruleset has {', '.join(keys)}.")
    for key in needed:
        if key not in given:
            raise RulesError(f"{path}: the key {key!r} is missing; a ruleset needs {', '.join(needed)}.")
    for key, value in given.items():
        if fault := _fault(key, str(keys[key].type).split(" |")[0], value):
            raise RulesError(f"{path}: {key} is {beginning(value)}; {fault}.")
    if given["test"] == Z_TEST and "sigma" not in given:
        raise RulesError(f"{path}: the test {Z_TEST!r} needs sigma, the known spread between seeds.")
    for key in ("sigma", "scaled_gain"):
        if key in given and given["test"] != Z_TEST:
            raise RulesError(f"{path}: {key} belongs to the test {Z_TEST!r}; test is {given['test']!r}.")
    return Ruleset(name=name, **given)


def _fault(key: str, kind: str, value: Any) -> str | None:
    """Return what is wrong with one value, as what is allowed; None when nothing is."""
    if key in ALLOWED:
        if isinstance(value, bool) or value not in ALLOWED[key]:
            return f"allowed: {', '.join(map(repr, ALLOWED[key]))}"
    elif key == "alpha":
        return None if _is_number(value) and 0 < value < 0.5 else "it must be a number between 0 and 0.5"
    elif key == "margin":
        return None if _is_number(value) and value >= 0 else "it must be a finite number, 0 or more"
    elif kind == "float":
        return None if _is_number(value) and value > 0 else "it must be a finite number above 0"
    elif kind == "int":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and value > 0 else "it must be a whole number above 0"
    elif kind == "str":
        return None if isinstance(value, str) and value else "it must be a text, not empty"
    elif not isinstance(value, dict):
        return "it must be a table"
    elif key == "data":
        return fault_of(value)
    elif key == "findings":
        for code, severity in value.items():
            if code not in set(Code):
                return f"there is no finding {beginning(code)}; allowed: {', '.join(Code)}"
            if severity not in (*SEVERITIES, OFF):
                return f"{code} is {beginning(severity)}; allowed: {', '.join((*SEVERITIES, OFF))}"
    elif not all(_is_number(number) and number > 0 for number in value.values()):
        return "it must give a number above 0 for each tokenizer"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
