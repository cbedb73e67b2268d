"""Rulesets: a leaderboard's acceptance rule as data.

A ruleset is a TOML file. Those in `analysis/rules/rulesets/` are found by name, any other by its path. What a ruleset
does not set is not checked: a missing cap raises no finding.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from analysis.rules.keys import (
    AGAINST_RUNS,
    LABELLED,
    LAST,
    LOOKING,
    MEAN,
    NO_TEST,
    OF_VERSION_1,
    STANDING,
    T_TESTS,
    TARGET,
    fault_between,
    fault_of_value,
)
from analysis.rules.metrics import CONVERTIBLE, HIGHER, STEPS, TRAIN_TIME, unit_of, usual_direction
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import FileError, read_small
from analysis.untrusted.refusal import SeedproofError, nearest, nearest_path

FOLDER = Path(__file__).with_name("rulesets")
USUAL = "parameter-golf"  # where neither an option nor a plan names others
VERSION = 2
MOST_CRITERIA = 20
LARGEST_FILE = 2**14  # bytes; the time of reading TOML can grow with their square


class RulesError(SeedproofError):
    """A ruleset that does not exist or lacks what it must hold: one sentence with file, key and what is allowed."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTest:
    """What one test compares, with what, and when it passes.

    margin: in `unit`, how much better than what must be beaten; below 0 the runs may be so much worse (non-inferiority).
    target: a number that the leaderboard fixes. against: `target`, or `standing`, the SOTA or its own runs; without it
    the SOTA or control that is given, else the target.
    sigma, scaled_gain, step_value: known-sigma z only. It passes when (threshold - mean) * sqrt(n) >= scaled_gain or,
    without one, at p < alpha. step_value: what a step that is saved is worth against a control, in the metric's unit.
    """

    metric: str
    direction: str
    unit: str
    test: str
    margin: float = 0.0
    alpha: float = 0.01
    statistic: str = MEAN
    target: float | None = None
    against: str | None = None
    sigma: float | None = None
    scaled_gain: float | None = None
    step_value: float | None = None


OF_A_TEST = tuple(key.name for key in fields(OneTest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion(OneTest):
    """A further test that the runs must pass.

    name: what reports call it. waives: the name of a criterion that this one replaces where the reviewer says so.
    """

    name: str
    waives: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset(OneTest):
    """What a claim must show: the keys of its first test, and what runs and folder must keep to.

    test: `none` is for submissions that claim no record. criteria: what must hold besides the first test.
    at_step: which validation counts, a run's last, that at the earliest common step at which the runs pass, or that at a step.
    final: what a run's result is, a labelled final line or its last validation. rank_by: what a board sorts by.
    seeds: whether logs must print one. submission: whether a folder must hold a submission JSON, README and script.
    bpb_per_nat: val_bpb / val_loss by the tokenizer's file name. data: what may be trained and validated on
    (analysis.rules.data). findings: severities that differ from the usual ones.
    """

    name: str
    version: int
    criteria: tuple[Criterion, ...] = ()
    at_step: str | int = LAST
    rank_by: str | None = None
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
        """Whether the spread between seeds is estimated from the runs."""
        return self.test in T_TESTS

    @property
    def may_look(self) -> bool:
        """Whether a sequential design is possible."""
        return self.test in LOOKING

    @property
    def has_test(self) -> bool:
        """Whether a claim is compared with anything; else the evidence must fit it, and that is all."""
        return self.test != NO_TEST

    @property
    def asks_for_runs(self) -> bool:
        """Whether a test needs the standing record's runs: the first one, or a further criterion."""
        return self.test in AGAINST_RUNS or any(one.against == STANDING for one in self.criteria)

    @property
    def fewest_runs(self) -> int:
        """How many runs the test needs at least: an estimated spread needs two."""
        return 2 if self.is_t_test else 1

    @property
    def ranked(self) -> str:
        """What a board sorts by: a metric's name."""
        return self.rank_by or self.metric

    @property
    def sign(self) -> int:
        """Return what a value is multiplied by so that lower is better: -1 where higher is."""
        return -1 if self.direction == HIGHER else 1

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value of the metric is better than another."""
        return self.sign * value < self.sign * other

    @property
    def beyond(self) -> str:
        """Return the word for the better side of a threshold."""
        return "above" if self.direction == HIGHER else "below"

    @property
    def result_line(self) -> str:
        """Return what a log must print to have a result, in words."""
        if isinstance(self.at_step, int):
            return f"a validation at step {self.at_step}"
        if self.metric not in (*CONVERTIBLE.values(), TRAIN_TIME, STEPS):
            return f"a number named {self.metric}"
        labelled = self.final == LABELLED
        return 'a line such as "LABEL val_loss:2.0286 val_bpb:1.2014"' if labelled else "a validation at the last step"

    @property
    def caps(self) -> dict[str, float]:
        """Return what one run may use, where it is capped: artifact_bytes, train_time_s."""
        given = {"artifact_bytes": self.artifact_bytes, "train_time_s": self.train_time_s}
        return {name: value for name, value in given.items() if value is not None}

    def asking(self, criterion: Criterion) -> Ruleset:
        """Return the rules with this criterion as their only test."""
        return replace(self, criteria=(), **{name: getattr(criterion, name) for name in OF_A_TEST})

    def of_metric(self, metric: str) -> Ruleset:
        """Return the rules for another metric. A target, a margin in another unit and further criteria do not carry over."""
        unit = unit_of(metric)
        margin = self.margin if self.unit == unit else 0.0
        own = replace(self, metric=metric, direction=usual_direction(metric), unit=unit, margin=margin)
        return replace(own, target=None, against=None if self.against == TARGET else self.against, criteria=())


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


def from_table(name: str, table: Mapping[str, Any], path: str) -> Ruleset:
    """Return a ruleset of these keys, checked; `path` is the file that has them. Raises RulesError."""
    given = dict(table)
    further = given.pop("criteria", None) or ()
    version = given.get("version")
    given = _checked(Ruleset, given, path, ("version", "metric", "test", *(OF_VERSION_1 if version == 1 else ())))
    if version == 1 and (fault := _not_of_version_1(given, further)):
        raise RulesError(f"{path}: {fault}")
    if not isinstance(further, (list, tuple)) or not all(isinstance(one, Mapping) for one in further):
        raise RulesError(f"{path}: criteria is {beginning(further)}; it must be tables, each begun by [[criteria]].")
    if len(further) > MOST_CRITERIA:
        raise RulesError(f"{path}: there are {len(further)} further criteria; at most {MOST_CRITERIA} are asked.")
    rules = Ruleset(name=name, **_with_usual(given) | {"version": VERSION})  # version 1 means the same in version 2
    criteria = tuple(_criterion(one, f"{path}, criterion {i}") for i, one in enumerate(further, start=1))
    if criteria and not rules.has_test:
        raise RulesError(f"{path}: test is {NO_TEST!r}, so further criteria would not be asked. Give it a test.")
    names = [rules.metric, *(one.name for one in criteria)]
    may = [rules.metric, *(one.name for one in criteria if one.waives is None)]  # what is always asked
    for one in criteria:
        if names.count(one.name) > 1:
            raise RulesError(f"{path}: two criteria are called {one.name!r}; give each a name of its own.")
        if one.waives is not None and one.waives not in may:
            raise RulesError(f"{path}: waives is {one.waives!r}; allowed: {', '.join(map(repr, may))}.")
    return replace(rules, criteria=criteria)


def _criterion(table: Mapping[str, Any], path: str) -> Criterion:
    given = _with_usual(_checked(Criterion, dict(table), path, ("metric", "test")))
    if given["test"] == NO_TEST:
        raise RulesError(f"{path}: test is {NO_TEST!r}, which asks nothing; a criterion needs a test.")
    return Criterion(**{"name": given["metric"]} | given)


def _checked(kind: type, table: dict[str, Any], path: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """Return the keys that are set, each checked alone and with the others. Raises RulesError."""
    keys = {key.name: key for key in fields(kind) if kind is Criterion or key.name != "name"}
    given = {key: value for key, value in table.items() if value is not None}  # a plan's JSON says null for "not set"
    for key in table:
        if key not in keys:
            raise RulesError(f"{path}: unknown key {beginning(key)}; allowed: {', '.join(keys)}.")
    for key in needed:
        if key not in given:
            raise RulesError(f"{path}: the key {key!r} is missing; needed: {', '.join(needed)}.")
    for key, value in given.items():
        if fault := fault_of_value(key, str(keys[key].type).split(" |")[0], value):
            raise RulesError(f"{path}: {key} is {beginning(value)}; {fault}.")
    if fault := fault_between(given):
        raise RulesError(f"{path}: {fault}.")
    return given


def _with_usual(given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys with the metric's own unit and direction where they are not set."""
    metric = given["metric"]
    return {"unit": unit_of(metric), "direction": usual_direction(metric)} | given


def _not_of_version_1(given: Mapping[str, Any], further: Any) -> str | None:
    """Return what in a file of version 1 only version 2 knows."""
    if given["margin"] < 0:
        return f"margin is {given['margin']}; it must be a finite number, 0 or more."
    if given["metric"] not in ("val_bpb", "val_loss"):
        return (
            f"metric is {given['metric']!r}; version 1 allows 'val_bpb' and 'val_loss'. Say version = 2 for any other."
        )
    if given["test"] not in (T_TESTS[0], "known-sigma z", NO_TEST):
        return f"test is {given['test']!r}, which needs version = 2."
    new = [key for key in ("statistic", "against", "step_value", "at_step", "rank_by", "direction") if key in given]
    if further or new:
        return f"the key {'criteria' if further else new[0]!r} needs version = 2."
    return None


def as_table(rules: Ruleset) -> dict[str, Any]:
    """Return the ruleset as plain types that `from_table` reads again; keys that are not set are null."""
    table = asdict(rules)
    return table | {"criteria": list(table["criteria"])}
