"""Read a record folder: what was run, by which rules, against what, and what its author claims. Run nothing of it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analysis.checks.plan import own_rules
from analysis.evidence.compared import values_of
from analysis.evidence.options import Options
from analysis.reading.result import Result
from analysis.record.track import track_of
from analysis.rules.ruleset import load
from analysis.sweepdir.code import LARGEST_SCRIPT
from analysis.sweepdir.layout import ARMS, CONTROL
from analysis.sweepdir.plan import Plan, plan_beside
from analysis.untrusted.files import FileError, leads_out, read_bounded
from analysis.untrusted.refusal import EvidenceError, SeedproofError
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict

MOST = 10_000  # GPUs or CPUs of a run
ARTIFACT = ".int8.ptz"  # the end of the name that our trainer gives to an artifact


class CannotRerunError(SeedproofError):
    """A record that cannot be rerun, as one sentence that says what is missing and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the author's runs say. sd: None where they show no spread. run_s: the mean training time; None if unknown.

    gate: the word of `check`. error_codes: of its findings.
    """

    metric: str
    values: tuple[float, ...]
    sd: float | None
    run_s: float | None
    gate: str
    error_codes: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A record folder as it can be rerun. envs: each arm's recipe, the candidate's first. rules: a name or a file.

    plan: None where there is none in the folder. artifact: the one that the folder ships, if any. notes: what the record does not say, and what is done instead.
    """

    folder: Path
    script: Path
    plan: Plan | None
    envs: Mapping[str, Mapping[str, str]]
    gpus: int
    cpus: int
    accelerator_type: str | None
    rules: str
    sota: float | None
    claim: Claim
    artifact: Path | None
    notes: tuple[str, ...]


def read_recorded(folder: Path, rules: str | None, sota: float | None) -> Recorded:
    """Read a record; `rules` and `sota` are the organiser's. Raises SeedproofError where it cannot be rerun."""
    plan = plan_beside(folder)
    rules = rules or _rules(folder, plan)
    number = sota if sota is not None or plan is None else plan.sota
    control = folder / CONTROL if number is None and (folder / CONTROL).is_dir() else None
    verdict = judge((folder,), Options(rules=rules, sota=number, control=control))
    shipped = [path for path in sorted(folder.iterdir()) if path.is_file() and not _is_link(path, folder)]
    artifacts = [path for path in shipped if path.name.endswith(ARTIFACT)]
    scripts = [path for path in shipped if path.suffix == ".py"]
    notes: tuple[str, ...] = ()
    if plan is None:
        script, ranks, notes = _only(scripts), _ranks(verdict.runs), ("recipe not recorded: the script's defaults",)
        gpus, envs = (ranks if verdict.runs[0].run.gpu else 0), {ARMS[0]: dict[str, str]()}
        cpus, accelerator = ranks, None
    else:
        if (
            plan.gpus_per_run is None
            or plan.cpus_per_run is None
            or not _possible(plan.gpus_per_run, plan.cpus_per_run)
        ):
            raise CannotRerunError("its plan does not say how many GPUs and CPUs a run takes.")
        script, gpus, cpus = _planned(scripts, plan), plan.gpus_per_run, plan.cpus_per_run
        kept = plan.arms if sota is None else plan.arms[:1]  # the organiser's number needs no control
        envs = {arm: {name: str(value) for name, value in plan.envs[arm].items()} for arm in kept}
        accelerator = plan.accelerator_type
    return Recorded(
        folder=folder,
        script=script,
        plan=plan,
        envs=envs,
        gpus=gpus,
        cpus=cpus,
        accelerator_type=accelerator,
        rules=rules,
        sota=number,
        claim=_claim(verdict, rules),
        artifact=artifacts[0] if len(artifacts) == 1 else None,
        notes=notes,
    )


def _possible(gpus: int, cpus: int) -> bool:
    return 0 <= gpus < MOST and 0 < cpus < MOST


def _rules(folder: Path, plan: Plan | None) -> str:
    """Return the rules of the record: those of its plan if they are shipped, as they are."""
    if plan is None:
        return track_of((folder,), asks_for_a_test=True).rules
    if changed := own_rules(plan, ()):
        raise CannotRerunError(f"its plan brings {changed}. Name the rules with --rules.")
    return plan.rules().name


def _is_link(path: Path, folder: Path) -> bool:
    return path.is_symlink() or leads_out(path, os.path.realpath(folder))


def _only(scripts: Sequence[Path]) -> Path:
    if len(scripts) == 1:
        return scripts[0]
    names = ", ".join(path.name for path in scripts[:5]) or "none"
    raise CannotRerunError(
        f"it has no plan.json, so its script must be the only *.py at its top; it has: {names}. Remove the others."
    )


def _planned(scripts: Sequence[Path], plan: Plan) -> Path:
    for path in scripts:
        with suppress(FileError):
            if hashlib.sha256(read_bounded(path, LARGEST_SCRIPT)).hexdigest() == plan.script.sha256:
                return path
    raise CannotRerunError(
        f"no script in it has the SHA-256 of its plan ({(plan.script.sha256 or 'unknown')[:12]}): put it back."
    )


def _ranks(runs: Sequence[Result]) -> int:
    sizes = {run.run.world_size for run in runs}
    if len(sizes) == 1 and (size := sizes.pop()) is not None:
        return size
    raise CannotRerunError(
        "it has no plan.json, and its logs do not say one number of ranks (world_size). Ask the author for the plan."
    )


def _claim(verdict: Verdict, rules: str) -> Claim:
    """Return what the runs that count claim. Raises EvidenceError where there are none."""
    if not verdict.runs:
        raise EvidenceError(f"its own runs claim nothing: {verdict.reason}")
    values = values_of(load(rules), verdict.runs)
    times = [run.run.train_time_ms for run in verdict.runs if run.run.train_time_ms]
    return Claim(
        metric=verdict.metric,
        values=tuple(values),
        sd=verdict.sd or None,
        run_s=math.fsum(times) / len(times) / 1000 if len(times) == len(values) else None,
        gate=verdict.gate,
        error_codes=tuple(sorted({str(one.code) for one in verdict.findings if one.severity == "error"})),
    )
