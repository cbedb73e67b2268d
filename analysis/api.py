"""What the commands do, as functions: `import seedproof` offers them. They raise ValueErrors, never click's.

seedproof.judge("records/mine", sota=1.2244)
seedproof.judge({1337: 1.2014, 1338: 1.1994, 1339: 1.2032}, control="records/theirs")
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from analysis.evidence import audit as audits
from analysis.evidence.options import Options
from analysis.evidence.question import PlanOptions, question
from analysis.logs import LARGE, found_in, result_of
from analysis.reading.importers.typed import CONTROL, EVIDENCE, Given, given
from analysis.report.notebook.lists import Audit, Board, Plan, Runs
from analysis.report.notebook.verdict import Verdict
from analysis.rules.ruleset import USUAL, load
from analysis.stats.power import designs
from analysis.sweepdir.plan import BOUNDARIES, MOST_LOOKS, DesignKind
from analysis.untrusted.escape import beginning, printable
from analysis.untrusted.files import MOST_WORK, FileError, Listing, one_budget, printable_path
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError, missing_extra, nearest, nearest_path
from analysis.verdict.answer import UNUSABLE
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.judge import judge as judge_paths

Name = str | os.PathLike[str]
P = ParamSpec("P")
T = TypeVar("T")
if TYPE_CHECKING:
    import pandas as pd

    Evidence = Name | Sequence[Name] | Iterable[float] | Mapping[int, float] | pd.DataFrame
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)( (?=[^a-z\s(]))?")


def in_python(said: str) -> str:
    """Return a message in terms of arguments instead of options: sota=X for --sota X."""
    return _OPTION.sub(lambda found: found[1].replace("-", "_") + ("=" if found[2] else ""), said)


def _speaks_python(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function's errors name its arguments, and the extra that a package lacks."""

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except ModuleNotFoundError as error:
            raise missing_extra(error) from None
        except SeedproofError as error:
            error.args = (printable(in_python(str(error))),)
            raise

    return called


@_speaks_python
def judge(
    evidence: Evidence,
    *,
    sota: float | None = None,
    control: Evidence | None = None,
    rules: Name | None = None,
    margin: float | None = None,
    unit: str | None = None,
    alpha: float | None = None,
    metric: str | None = None,
    at_step: int | None = None,
    waive: str | Sequence[str] = (),
    design: str | None = None,
    history: Name | None = None,
    verify: Name | None = None,
    registry: str | None = None,
    require_plan: bool = False,
) -> Verdict:
    """Judge a claim as `seedproof check` does. Evidence that cannot be used is a Verdict too, with the gate `unusable`.

    evidence, control: a path or several, a list of values, a dict of values by seed, or a DataFrame with a column seed and
    the metric. The other arguments are the options of the command. Raises ValueError for a wrong argument.
    """
    asked = {
        "sota": sota, "rules": rules, "margin": margin, "unit": unit, "alpha": alpha, "metric": metric, "at_step": at_step,
        "waive": waive, "design": design, "history": history, "verify": verify, "registry": registry,
        "require_plan": require_plan,
    }  # fmt: skip
    ours, theirs = _source(evidence, "evidence", EVIDENCE), _source(control, "control", CONTROL)
    verdict = judge_paths(ours.paths, _options(ours, theirs, asked))
    if verdict.verdict is UNUSABLE:
        verdict = replace(verdict, reason=in_python(verdict.reason))
    return Verdict.of(verdict)


@_speaks_python
def audit(path: Name | Sequence[Name], *, rules: Name | None = None) -> Audit:
    """Find what does not fit in a record folder, a sweep or some logs, as `seedproof audit` does."""
    paths = _paths(path, "path")
    if len(paths) > 1 and any(one.is_dir() for one in paths):
        raise UsageError("path is several folders; audit one at a time.")
    return Audit.of(audits.audit(paths, _checked("rules", rules)))


@_speaks_python
def read_logs(path: Name | Sequence[Name]) -> Runs:
    """Return every run that the logs tell of, as `seedproof logs` does. Raises ValueError where a log cannot be read."""
    listing = Listing()
    with one_budget(LARGE * MOST_WORK):
        try:
            runs = Runs(result_of(one) for folder in _paths(path, "path") for one in found_in(folder, listing))
        except FileError as error:
            raise EvidenceError(f"{path} {error}.") from None
    if listing.left_aside:
        first = listing.left_aside[0]
        raise EvidenceError(f"{printable_path(first.path)} {first.why}.")
    if not runs:
        raise EvidenceError(f"No training log in {path}: no step and no final metric was found.")
    return runs


@_speaks_python
def board(directory: Name, *, rules: Name = USUAL) -> Board:
    """Test every record folder below a folder against the record that stood before it, as `seedproof board` does."""
    ruleset, folder = load(_checked("rules", rules) or USUAL), _path(directory, "directory")
    if not folder.is_dir():
        raise UsageError(f"directory: {printable_path(folder)} is a file; name the folder.")
    rows = leaderboard(folder, ruleset)
    if not rows:
        raise EvidenceError(f"No record folder below {directory}: none holds a submission.json or a training log.")
    return Board(rules=ruleset, rows=rows)


@_speaks_python
def plan(
    *,
    gain: float,
    sd: float | None = None,
    pilot: Name | None = None,
    history: Name | None = None,
    rules: Name = USUAL,
    alpha: float | None = None,
    power: float = 0.9,
    max_seeds: int = 10,
    control: bool = False,
    control_seeds: int | None = None,
    share: float | None = None,
    boundary: str = BOUNDARIES[0],
    gpus: int | None = None,
    minutes: float | None = None,
    price: float | None = None,
) -> Plan:
    """Return what each design costs and how likely it passes, as `seedproof plan` does. Give one of sd, pilot, history.

    control: whether the SOTA is rerun. control_seeds: how many runs of it exist. share: what a pair has in common.
    """
    given = {
        "gain": gain, "sd": sd, "pilot": pilot, "history": history, "rules": rules or USUAL, "alpha": alpha, "power": power,
        "max_seeds": max_seeds, "control": control, "control_seeds": control_seeds, "share": share, "boundary": boundary,
        "gpus": gpus, "minutes": minutes, "price": price,
    }  # fmt: skip
    asked = question(PlanOptions(**{name: _checked(name, value) for name, value in given.items()}))
    return Plan(question=asked, designs=designs(asked))


# -- arguments -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where runs come from: paths, or values and then a name for them in place of a path."""

    paths: tuple[Path, ...] = ()
    values: tuple[Given, ...] = ()


def _options(ours: _Source, theirs: _Source, asked: Mapping[str, Any]) -> Options:
    """Return the options of a verdict, each checked as the command's options are."""
    if len(theirs.paths) > 1:
        raise UsageError(f"control is {len(theirs.paths)} paths; name one log, folder, sweep or frame.")
    checked: dict[str, Any] = {name: _checked(name, value) for name, value in asked.items()}
    control = next(iter(theirs.paths), None)
    return Options(**checked, control=control, control_values=theirs.values, values=ours.values)


def _source(evidence: Any, name: str, at: str) -> _Source:
    """Return the paths that were named, or the runs that were given."""
    if evidence is None and name == "control":
        return _Source()
    many = [*evidence] if isinstance(evidence, (list, tuple)) else [evidence]
    if many and all(isinstance(one, (str, os.PathLike)) for one in many):
        return _Source(paths=_paths(evidence, name))
    return _Source(paths=(Path(at),), values=given(evidence, at))


def _paths(named: Any, name: str) -> tuple[Path, ...]:
    many = named if isinstance(named, (list, tuple)) else [named]
    if not many:
        raise UsageError(f"{name} is empty; name a path.")
    return tuple(_path(one, name) for one in many)


def _path(named: Any, name: str) -> Path:
    """Return a path that exists. Raises UsageError with the nearest one."""
    path = Path(_text(named, name, "a path")).expanduser()
    if not path.exists():
        raise UsageError(f"{name}: {printable_path(path)} does not exist.{nearest_path(path)}")
    return path


def _text(value: Any, name: str, what: str = "text") -> str:
    """Return text, or a path as text; neither is empty: a path of no letters would be the working directory."""
    said = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(said, str) or not said:
        got = f"is a {type(value).__name__}" if not isinstance(said, str) else "is empty"
        raise UsageError(f"{name} {got}; it must be {what}.")
    return said


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} is {beginning(value)}; it must be a number.") from None


def _whole(least: int, most: int = 2**63) -> Callable[[Any, str], int]:
    """Return a check for a whole number in these bounds."""

    def check(value: Any, name: str) -> int:
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
            bounds = f"of {least} or more" if most == 2**63 else f"from {least} to {most}"
            raise UsageError(f"{name} is {beginning(value)}; it must be a whole number {bounds}.")
        return int(value)

    return check


def _yes_or_no(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {beginning(value)}; it must be True or False.")
    return value


def _one_of(*allowed: str) -> Callable[[Any, str], str]:
    """Return a check for one of these words."""

    def check(value: Any, name: str) -> str:
        if value not in allowed:
            hint = nearest(str(value), allowed) if isinstance(value, str) else ""
            raise UsageError(f"{name} is {beginning(value)}; allowed: {', '.join(allowed)}.{hint}")
        return str(value)

    return check


def _words(value: Any, name: str) -> tuple[str, ...]:
    many = [value] if isinstance(value, str) else value
    if not isinstance(many, Iterable):
        raise UsageError(f"{name} is {beginning(value)}; it must be a name or several.")
    return tuple(_text(one, name) for one in many)


def _as_is(value: Any, name: str) -> Any:
    return value


def _checked(name: str, value: Any) -> Any:
    """Return the value of an argument as the option of this name has it; None where it was not given."""
    return None if value is None and name not in _NEVER_NONE else _CHECKS.get(name, _as_is)(value, name)


_NEVER_NONE = ("gain", "power", "max_seeds", "control", "boundary", "waive")
_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("sota", "margin", "alpha", "gain", "sd", "power", "share", "minutes", "price"), _number),
    **dict.fromkeys(("history", "verify", "pilot"), _path),
    **dict.fromkeys(("rules", "metric", "registry"), _text),
    "at_step": _whole(1),
    "max_seeds": _whole(2, MOST_LOOKS),
    "control": _yes_or_no,
    "control_seeds": _whole(0, 1000),
    "gpus": _whole(1),
    "unit": _one_of("bpb", "nats"),
    "design": _one_of(*DesignKind),
    "boundary": _one_of(*BOUNDARIES),
    "waive": _words,
}
