"""What of a finished sweep counts for a submission, and the refusal of a sweep that none can be made of."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from analysis.reading.result import Result
from analysis.reading.reader import read_log
from analysis.record.metrics import metrics_of
from analysis.rules.ruleset import from_plan
from analysis.sweepdir.layout import (
    CONTROL,
    PLAN,
    RUN_MANIFEST,
    TRAIN_LOG,
    attempt_folders,
    planned_runs,
    read_json,
    read_script,
    time_of,
)
from analysis.untrusted.escape import printable
from analysis.verdict.judge import judge
from analysis.verdict.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, UNUSABLE, Verdict
from orchestration.plan.secrets import secret_lines

SCRIPT = "train_gpt.py"  # in the folder, whatever its author calls it
EXIT_NOT_SUPPORTED, EXIT_UNUSABLE, EXIT_RUN_FAILED = 1, 3, 4


def refuse(code: int, message: str, lines: Sequence[str] = ()) -> NoReturn:
    """End with this exit code, and on stderr the message and the lines below it; nothing is written."""
    click.echo("\n".join([f"Error: {printable(message)}", *lines]), err=True)
    raise SystemExit(code)


@dataclass(slots=True)
class Kept:
    """What of a sweep goes into the folder: files by name, and the runs that count with their logs' names there."""

    files: dict[str, bytes] = field(default_factory=dict)
    runs: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    ended: datetime | None = None  # the last of the runs
    made_on: dict[str, list[str]] = field(default_factory=dict)  # runs by the kind of machine and data

    def made_lines(self) -> list[str]:
        """What the runs were made on, a line for each kind; which runs, where it was not the same for all."""
        known = {where: runs for where, runs in self.made_on.items() if where}
        return [where if len(self.made_on) == 1 else f"{', '.join(runs)}: {where}" for where, runs in known.items()]


def decided(directory: Path, plan: dict[str, Any], non_record: bool) -> tuple[Verdict, list[int]]:
    """The verdict of a finished sweep and the seeds that count for it; refuses one that has none, or not this one."""
    verdict = judge((directory,), own_sweep=True)
    seeds = due = plan["seeds"]  # due: those that must have a result
    if verdict.sequential is not None:
        seeds = seeds[: verdict.sequential.taken]
        if verdict.verdict == SUPPORTED:
            due = seeds
        elif verdict.verdict == CONTINUE:
            due = seeds + verdict.sequential.next_seeds
    runs = [run for run in planned_runs(directory, plan) if run.seed in due]
    if failed := [run for run in runs if run.state == "failed"]:
        refuse(
            EXIT_RUN_FAILED,
            f"{directory}: {len(failed)} of the planned runs failed, the first is {failed[0].arm} seed {failed[0].seed} "
            f"({failed[0].reason}). A failed run counts against the claim: plan a new sweep.",
        )
    if missing := [f"{run.arm} seed {run.seed} ({run.state})" for run in runs if run.state != "succeeded"]:
        again = shlex.join(["python", "-m", "orchestration.sweep", "resume", str(directory)])
        refuse(
            EXIT_RUN_FAILED,
            f"{directory} is not complete: there is no result of {', '.join(missing)}. Run what is missing with: {again}",
        )
    if verdict.verdict == UNUSABLE:
        refuse(EXIT_UNUSABLE, f"{directory}: {verdict.reason}")
    assert verdict.plan is not None, "a sweep was judged, so it was compared with its plan"
    if faults := verdict.plan.faults():
        refuse(EXIT_NOT_SUPPORTED, f"{directory} holds other runs than those of its plan: {faults}. Plan a new sweep.")
    if verdict.verdict == NOT_SUPPORTED and not non_record:
        refuse(
            EXIT_NOT_SUPPORTED,
            f"{directory}: the claim is not supported. {verdict.reason} No record can be made of it; --non-record makes a "
            f"folder that says so.",
        )
    return verdict, seeds


def gather(directory: Path, plan: dict[str, Any], verdict: Verdict, seeds: list[int]) -> Kept:
    """The script, and the log of every run that counts, as they were when the runs ended. Raises SweepError.

    The first seed's log is train.log and no other name's, for a log under two names is a finding. The plan goes along
    where every log prints its seed: without them nobody can tell whether the runs are the plan's.
    """
    if beside := plan["script"].get("modules"):
        refuse(
            EXIT_NOT_SUPPORTED,
            f"{directory}: the script imports {', '.join(map(str, beside))} from its own folder, and a record's script is one file. "
            f"Put them into the script, and plan a new sweep.",
        )
    rules, kept, seeds_printed = from_plan(plan), Kept({SCRIPT: read_script(directory, plan)}), True
    for row in (row for row in [*verdict.runs, *verdict.control] if row.seed in seeds):
        log = directory / row.log
        manifest, content = read_json(log.parent / RUN_MANIFEST), log.read_bytes()
        recorded, got = _digest_of_log(manifest), hashlib.sha256(content).hexdigest()
        if recorded != got:
            says = f"says {recorded}" if recorded else "does not say what it was"
            refuse(
                EXIT_NOT_SUPPORTED,
                f"{log} cannot be shown to be the run's: its SHA-256 is {got}, and {RUN_MANIFEST} beside it {says}. "
                f"Put the log back as it was, or plan a new sweep.",
            )
        for line, kind in secret_lines(content.decode("utf-8", "replace")):
            refuse(
                EXIT_NOT_SUPPORTED,
                f"{log}:{line} holds what looks like a secret ({kind}), and logs are published as they came. Revoke it, and "
                f"plan a new sweep with a script that does not print it.",
            )
        name = f"train_seed{row.seed}.log" if kept.runs else TRAIN_LOG
        if row.arm == CONTROL:
            name = f"{CONTROL}/train_seed{row.seed}.log"
        kept.files[name] = content
        (kept.control if row.arm == CONTROL else kept.runs).append(replace(row, log=name))
        where = made_on(manifest)
        kept.made_on[where] = [*kept.made_on.get(where, []), f"{row.arm} seed {row.seed}"]
        kept.ended = max((time for time in (kept.ended, time_of(manifest, "ended")) if time), default=None)
        seeds_printed &= [run.seed for run in read_log(log, content) if metrics_of(run, rules)][-1] is not None
    if seeds_printed:
        kept.files[PLAN] = (directory / PLAN).read_bytes()
    return kept


def made_on(manifest: dict[str, Any]) -> str:
    """The machine and the data of a run as run.json says them, in a line; hosts are left out. Empty where it says nothing."""

    def table(key: str, of: Any = manifest) -> dict[str, Any]:
        found = of.get(key) if isinstance(of, dict) else None
        return found if isinstance(found, dict) else {}

    versions, machine, data = table("versions"), table("machine"), table("data")
    gpus = manifest.get("gpus")
    names = (
        Counter(str(gpu.get("name")) for gpu in gpus if isinstance(gpu, dict)) if isinstance(gpus, list) else Counter()
    )
    kind = [f"{number} x {name}" for name, number in sorted(names.items())] or [
        f"{machine.get('cpus')} x {machine.get('cpu')}"
    ]
    said = [
        *kind,
        *(f"{name} {versions[name]}" for name in ("driver", "cuda", "torch", "python") if versions.get(name)),
    ]
    if tokenizer := table("tokenizer", data).get("sha256"):
        said.append(f"tokenizer {str(tokenizer)[:12]}")
    if shards := table("shards", data):
        digest = hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()
        said.append(f"{shards.get('count')} data files {digest[:12]}")
    return ", ".join(said) if machine or names else ""


def _digest_of_log(manifest: dict[str, Any]) -> str | None:
    """What run.json says of the log's SHA-256 at the run's end; None where it says nothing."""
    try:
        return str(manifest["files"][TRAIN_LOG]["sha256"])
    except (KeyError, TypeError):
        return None


def not_counting(directory: Path, plan: dict[str, Any], seeds: list[int], metric: str) -> tuple[list[str], set[str]]:
    """A sentence for each attempt that is not in the folder, and the names of the hosts that any attempt ran on."""
    said: list[str] = []
    hosts: set[str] = set()
    for run in planned_runs(directory, plan):
        if run.folder is None:
            said.append(f"{run.arm} seed {run.seed}: not run, for the verdict was in")
        for number, folder in sorted(attempt_folders(directory, run.arm, run.seed).items()):
            path = folder / RUN_MANIFEST
            manifest: dict[str, Any] = read_json(path) if path.is_file() else {"state": "lost"}
            hosts |= {str(manifest["host"])} if manifest.get("host") else set()
            if folder == run.folder and run.seed in seeds:
                continue
            state, why = manifest.get("state", "lost"), f": {manifest['reason']}" if manifest.get("reason") else ""
            if state == "succeeded":
                value = (manifest.get("metric") or {}).get(metric)
                why = " after the verdict was in" + (f", with a {metric} of {value}" if value is not None else "")
            said.append(f"{run.arm} seed {run.seed}, attempt {number}: {state}{why}")
    return said, hosts
