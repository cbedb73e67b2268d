"""Select the runs that a submission may use; refuse sweeps that cannot become one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from analysis.evidence.options import Options
from analysis.reading.reader import read_log
from analysis.reading.result import Result, Tried
from analysis.record.metrics import metrics_of
from analysis.sweepdir.code import read_code
from analysis.sweepdir.json_files import table_of
from analysis.sweepdir.layout import CONTROL, DONE, PLAN, TRAIN_LOG, attempt_folder
from analysis.sweepdir.layout import SCRIPT as FROZEN_SCRIPT
from analysis.sweepdir.manifest import PlannedRun, RunManifest, planned_runs
from analysis.sweepdir.plan import Plan
from analysis.untrusted.invoked import command
from analysis.untrusted.refusal import SeedproofError
from analysis.untrusted.secrets import secret_lines
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, UNUSABLE
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict

ATTEMPTS = "attempts"  # the folder of the logs of attempts that ended without a result
SCRIPT = "train_gpt.py"  # in the folder, whatever its author calls it
EXIT_NOT_SUPPORTED, EXIT_UNUSABLE, EXIT_RUN_FAILED = 1, 3, 4


class RefusedError(SeedproofError):
    """A sweep that cannot become a submission; the exit code says of which kind the reason is."""

    def __init__(self, exit_code: int, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code, self.lines = exit_code, lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The verdict of a finished sweep, and the seeds that it rests on."""

    verdict: Verdict
    seeds: Sequence[int]


@dataclass(slots=True, kw_only=True)
class Kept:
    """What goes into the folder: files by name, and the runs that count, with their logs' names there.

    ended: when the last of the runs ended. made_on: the runs by their kind of machine and data.
    """

    files: dict[str, bytes]
    runs: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    ended: datetime | None = None
    made_on: dict[str, list[str]] = field(default_factory=dict)

    def made_lines(self) -> list[str]:
        """Return a line for each kind of machine and data; it names the runs if there is more than one kind."""
        known = {where: runs for where, runs in self.made_on.items() if where}
        return [where if len(self.made_on) == 1 else f"{', '.join(runs)}: {where}" for where, runs in known.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """The attempts that are not in the folder, a sentence each, and the hosts that any attempt ran on."""

    sentences: Sequence[str]
    hosts: frozenset[str]


def decided(directory: Path, plan: Plan, *, non_record: bool) -> Decided:
    """Judge a finished sweep. Raises RefusedError where it has no verdict, or one that cannot become a record."""
    verdict = judge((directory,), Options(own_sweep=True))
    seeds = due = plan.seeds  # due: those that must have a result
    if verdict.sequential is not None:
        seeds = seeds[: verdict.sequential.taken]
        if verdict.verdict is SUPPORTED:
            due = seeds
        elif verdict.verdict is CONTINUE:
            due = (*seeds, *verdict.sequential.next_seeds)
    _refuse_incomplete(directory, [run for run in planned_runs(directory, plan) if run.seed in due])
    if verdict.verdict is UNUSABLE:
        raise RefusedError(EXIT_UNUSABLE, f"{directory}: {verdict.reason}")
    assert verdict.plan is not None, "a sweep was judged, so it was compared with its plan"
    if faults := verdict.plan.faults():
        message = f"{directory} holds other runs than those of its plan: {faults}. Plan a new sweep."
        raise RefusedError(EXIT_NOT_SUPPORTED, message)
    if verdict.verdict is NOT_SUPPORTED and not non_record:
        raise RefusedError(
            EXIT_NOT_SUPPORTED,
            f"{directory}: the claim is not supported. {verdict.reason} It cannot become a record; --non-record makes a "
            f"folder that says so.",
        )
    return Decided(verdict=verdict, seeds=seeds)


def _refuse_incomplete(directory: Path, runs: Sequence[PlannedRun]) -> None:
    if failed := [run for run in runs if run.state == "failed"]:
        raise RefusedError(
            EXIT_RUN_FAILED,
            f"{directory}: {len(failed)} of the planned runs failed, the first is {failed[0].arm} seed {failed[0].seed} "
            f"({failed[0].reason}). A failed run counts against the claim: plan a new sweep.",
        )
    if missing := [f"{run.arm} seed {run.seed} ({run.state})" for run in runs if run.state != "succeeded"]:
        again = command("orchestration.sweep", "resume", str(directory))
        raise RefusedError(
            EXIT_RUN_FAILED,
            f"{directory} is not complete: there is no result of {', '.join(missing)}. Run what is missing with: {again}",
        )


def gather(directory: Path, plan: Plan, found: Decided) -> Kept:
    """Return the script, and the log of every run that counts, as they were when the runs ended.

    The first seed's log is train.log and only that, because a log under two names is a finding. The plan is included if
    every log prints its seed: without printed seeds nobody can tell whether the runs are the plan's.
    Raises RefusedError, SweepError.
    """
    if plan.script.files:
        raise RefusedError(
            EXIT_NOT_SUPPORTED,
            f"{directory}: the script imports {', '.join(file.name for file in plan.script.files)} from its own folder, but "
            f"a record's script is one file. Put them into the script, and plan a new sweep.",
        )
    script = read_code(directory, plan.script.digests)[FROZEN_SCRIPT]
    rules, kept, all_print_seeds = plan.rules(), Kept(files={SCRIPT: script}), True
    attempts = {(run.arm, run.seed): run.attempts for run in planned_runs(directory, plan)}
    for row in (row for row in (*found.verdict.runs, *found.verdict.control) if row.seed in found.seeds):
        log, tries = directory / row.log, attempts[row.arm, row.seed or 0]
        manifest, content = tries[-1], tries[-1].judged(log.read_bytes())
        _refuse_log(log, content, manifest)
        name = f"train_seed{row.seed}.log" if kept.runs else TRAIN_LOG
        if row.arm == CONTROL:
            name = f"{CONTROL}/train_seed{row.seed}.log"
        kept.files[name] = content
        kept.files |= (of_attempts := _logs_of_attempts(directory, tries))
        said = tuple(replace(one, log=name if one.counts else _of_attempt(one, of_attempts)) for one in row.attempts)
        (kept.control if row.arm == CONTROL else kept.runs).append(replace(row, log=name, attempts=said))
        kept.made_on.setdefault(made_on(manifest), []).append(f"{row.arm} seed {row.seed}")
        kept.ended = max((time for time in (kept.ended, manifest.ended) if time), default=None)
        all_print_seeds &= [run.seed for run in read_log(log, content) if metrics_of(run, rules)][-1] is not None
    if all_print_seeds:
        kept.files[PLAN] = (directory / PLAN).read_bytes()
    return kept


def _logs_of_attempts(directory: Path, tries: Sequence[RunManifest]) -> dict[str, bytes]:
    """Return the logs, by their names in the folder, of the attempts that ended without a result. Raises RefusedError."""
    found = {}
    for one in tries:
        log = attempt_folder(directory, one.arm or "", one.seed or 0, one.attempt or 0) / TRAIN_LOG
        if one.state in DONE or not log.is_file():
            continue
        content = log.read_bytes()
        _refuse_log(log, content, one)
        found[f"{ATTEMPTS}/{one.arm}-seed-{one.seed}-attempt-{one.attempt}.log"] = content
    return found


def _of_attempt(one: Tried, there: Collection[str]) -> str | None:
    name = f"{ATTEMPTS}/{one.arm}-seed-{one.seed}-attempt-{one.attempt}.log"
    return name if name in there else None


def _refuse_log(log: Path, content: bytes, manifest: RunManifest) -> None:
    """Raise RefusedError for a log that is not as it was when its run ended, or that holds a secret.

    A run without a result may have printed more after its end was recorded.
    """
    recorded, got = manifest.log_sha256, hashlib.sha256(manifest.judged(content)).hexdigest()
    if recorded != got:
        was = f"it was {recorded}" if recorded else "nothing recorded it"
        raise RefusedError(
            EXIT_NOT_SUPPORTED,
            f"{log} cannot be shown to be the run's: its SHA-256 is {got}; when the run ended {was}. Put the log back as it "
            f"was, or plan a new sweep.",
        )
    for line, kind in secret_lines(content.decode("utf-8", "replace")):
        raise RefusedError(
            EXIT_NOT_SUPPORTED,
            f"{log}:{line} holds what looks like a secret ({kind}), and logs are published as they are. Revoke it, and plan a "
            f"new sweep with a script that does not print it.",
        )


def made_on(manifest: RunManifest) -> str:
    """Return a run's machine and data as run.json says them, in a line without hosts; empty where it says nothing."""
    versions, machine, data = (manifest.part(name) for name in ("versions", "machine", "data"))
    gpus = manifest.table.get("gpus")
    gpus = gpus if isinstance(gpus, list) else []
    names = Counter(str(gpu.get("name")) for gpu in gpus if isinstance(gpu, dict))
    if not machine and not names:
        return ""
    said = [f"{number} x {name}" for name, number in sorted(names.items())]
    said = said or [f"{machine.get('cpus')} x {machine.get('cpu')}"]
    said += [f"{name} {versions[name]}" for name in ("driver", "cuda", "torch", "python") if versions.get(name)]
    if tokenizer := table_of(data.get("tokenizer")).get("sha256"):
        said.append(f"tokenizer {str(tokenizer)[:12]}")
    if shards := table_of(data.get("shards")):
        digest = hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()
        said.append(f"{shards.get('count')} data files {digest[:12]}")
    return ", ".join(said)


def not_counting(directory: Path, plan: Plan, found: Decided) -> Aside:
    """Return what does not go into the folder, to be named there."""
    said: list[str] = []
    hosts: set[str] = set()
    for run in planned_runs(directory, plan):
        if not run.attempts:
            said.append(f"{run.arm} seed {run.seed}: not run, because the verdict was in")
        for one in run.attempts:
            hosts |= {one.host} if one.host else set()
            if one is not run.attempts[-1] or run.seed not in found.seeds:
                name = f"{run.arm} seed {run.seed}, attempt {one.attempt}"
                said.append(f"{name}: {_end_of(one, found.verdict.metric)}")
    return Aside(sentences=said, hosts=frozenset(hosts))


def _end_of(manifest: RunManifest, metric: str) -> str:
    """Return how an attempt that does not count ended."""
    if manifest.state != "succeeded":
        return manifest.state + (f": {manifest.reason}" if manifest.reason else "")
    value = manifest.metric.get(metric)
    return "succeeded after the verdict was in" + (f", with a {metric} of {value}" if value is not None else "")
