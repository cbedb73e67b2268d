"""What a submission folder says of itself: README.md and submission.json. Every number is taken from the logs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from pathlib import PurePosixPath
from statistics import stdev
from typing import Any

from analysis.reading.result import Result, Tried
from analysis.report.grid import Table, literal_table, markdown_table, or_dash
from analysis.report.said.findings import finding_items
from analysis.report.said.headline import WORDS
from analysis.report.said.statements import assumptions, facts
from analysis.report.said.tables import remade_table, sensitivity
from analysis.rules.findings import Finding, errors
from analysis.sweepdir.layout import CANDIDATE, CONTROL, PLAN, TRAIN_LOG
from analysis.sweepdir.plan import Plan
from analysis.untrusted import escape
from analysis.verdict.answer import SUPPORTED
from analysis.verdict.verdict import Verdict
from orchestration.submission.finished import ATTEMPTS, SCRIPT, Aside, Kept
from orchestration.submission.reviewer import RULES

README, CLAIM = "README.md", "submission.json"
COLUMNS = ("seed", "val_loss", "val_bpb", "steps", "train time", "artifact", "log")
DECIMALS = 8  # of a mean: as many as the logs print of a value
PAIRED = (
    "The plan is paired: candidate and control of a seed go to one node, back to back, and take turns in going first."
)
_PATH = re.compile(r"(?<![\w.])~?/[^\s:;,'\"()\[\]]+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the author says of the submission: the options of `record`."""

    name: str
    author: str
    github_id: str | None = None
    blurb: str | None = None
    date: datetime | None = None
    non_record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A claim with its evidence. check: the command that checks the folder, called from the folder above."""

    asked: Asked
    day: str
    plan: Plan
    verdict: Verdict
    kept: Kept
    aside: Aside
    check: str


def as_json(one: Submission) -> str:
    """Return submission.json: the keys that public submissions use. What the logs do not print is left out.

    So are the values seed by seed if the logs print no seed: a reader could not tell whose they are.
    """
    asked, runs = one.asked, one.kept.runs
    table = {
        "author": asked.author,
        "github_id": asked.github_id,
        "name": asked.name,
        "blurb": asked.blurb,
        "date": one.day,
        "non_record": asked.non_record or None,
        "val_loss": _mean(runs, "val_loss"),
        "val_bpb": _mean(runs, "val_bpb"),
        "val_loss_std": _sd(runs, "val_loss"),
        "val_bpb_std": _sd(runs, "val_bpb"),
        "bytes_total": max(
            (run.run.artifact_bytes for run in runs if run.run.artifact_bytes is not None), default=None
        ),
        "bytes_code": len(one.kept.files[SCRIPT]),
        "seeds": [run.seed for run in runs],
        "attempts": [_of_attempt(one, of) for run in (*runs, *one.kept.control) for of in run.attempts],
        "seed_results": {str(run.seed): _of_seed(run) for run in runs} if PLAN in one.kept.files else None,
    }
    return json.dumps(_known(table), indent=2, allow_nan=False) + "\n"


def _of_seed(run: Result) -> dict[str, Any]:
    row = run.row()
    return _known({key: row[key] for key in ("val_loss", "val_bpb", "steps", "train_time_ms", "artifact_bytes", "log")})


def _of_attempt(one: Submission, attempt: Tried) -> dict[str, Any]:
    reason = public(attempt.reason, one.aside.hosts) if attempt.reason else None
    return _known(
        {"arm": attempt.arm, "seed": attempt.seed, **attempt.row(), "reason": reason, "host": _host(one, attempt)}
    )


def _host(one: Submission, attempt: Tried) -> str | None:
    """Return the name of an attempt's host in the folder, which tells only whether two are the same. A paired plan needs it."""
    runs = (*one.kept.runs, *one.kept.control)
    hosts = list(dict.fromkeys(of.host for run in runs for of in run.attempts))
    return f"host {hosts.index(attempt.host) + 1}" if one.plan.design.paired and attempt.host is not None else None


def _known(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _values(runs: Sequence[Result], what: str) -> list[float]:
    """Return the runs' values; none if one has none."""
    found = [value for run in runs if (value := run.value(what)) is not None]
    return found if len(found) == len(runs) else []


def _mean(runs: Sequence[Result], what: str) -> float | None:
    values = _values(runs, what)
    return round(fsum(values) / len(values), DECIMALS) if values else None


def _sd(runs: Sequence[Result], what: str) -> float | None:
    values = _values(runs, what)
    return round(stdev(values), DECIMALS) if len(values) > 1 else None


# -- README.md ---------------------------------------------------------------------------------------------------------


def readme(one: Submission, findings: Sequence[Finding]) -> str:
    """Return README.md; `findings` are those that the folder's own check leaves standing."""
    verdict, kept, envs = one.verdict, one.kept, one.plan.envs
    aside = [f"- {escape.markdown(public(line, one.aside.hosts))}" for line in one.aside.sentences]
    sections = {
        "Runs": [_table(kept.runs)],
        "Significance": [
            markdown_table(("", f"rules {escape.markdown(verdict.rules)}"), facts(verdict)),
            [f"- Assumes: {sentence}" for sentence in assumptions(verdict)],
        ],
        "Sensitivity": [literal_table(sensitivity(verdict))],
        "Control": [_table(kept.control) if kept.control else []],
        "What does not count": [
            aside or ["Nothing: every run had its result at the first attempt."],
            literal_table(_remade(one)),
        ],
        "Check it": _check(one, findings),
        "How the runs were made": [
            [f"The {escape.markdown(verdict.plan.sentence())}."] if verdict.plan is not None else [],
            [PAIRED] if one.plan.design.paired else [],
            *_recipe("Each seed was run by itself", one, envs[CANDIDATE]),
            *(_recipe("The control", one, envs[CONTROL]) if kept.control else []),
            *_machine(kept),
        ],
        "Files": [_files(one)],
    }
    blocks = _head(one, findings)
    for name, body in sections.items():
        blocks += [[f"## {name}"], *body] if any(body) else []
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _remade(one: Submission) -> Table:
    """Return the table of the remade attempts, without traces of the author's machines."""
    table = remade_table([*one.kept.runs, *one.kept.control], one.verdict.metric)
    return [{**row, "reason": public(row["reason"], one.aside.hosts)} for row in table]


def _head(one: Submission, findings: Sequence[Finding]) -> list[list[str]]:
    asked, verdict = one.asked, one.verdict
    kind = "This is a non-record submission, and its claim is" if asked.non_record else "This claim is"
    but = ", but a check refuses the folder because of the findings below" if errors(findings) else ""
    github = f" (GitHub: {escape.markdown(asked.github_id)})" if asked.github_id else ""
    return [
        [f"# {escape.markdown(asked.name)}"],
        [f"{kind} **{WORDS[verdict.verdict]}**{but}: {escape.markdown(verdict.reason)}"],
        [f"By {escape.markdown(asked.author)}{github}, {one.day}."],
        [escape.markdown(asked.blurb)] if asked.blurb else [],
    ]


def _check(one: Submission, findings: Sequence[Finding]) -> list[list[str]]:
    fails = "" if one.verdict.verdict is SUPPORTED else " It exits with code 1, because the claim is not supported."
    fails = " It exits with code 1, because of what it finds." if errors(findings) else fails
    found = [["It finds:"], finding_items(findings)] if findings else []
    return [[f"From the folder that holds this one, with seedproof installed.{fails}"], [_code(one.check)], *found]


def _table(runs: Sequence[Result]) -> list[str]:
    """Return the runs with their exact numbers, and mean and sd below."""
    rows = []
    for one in runs:
        time = or_dash(one.run.train_time_ms, "{:.12g} ms")
        values = [or_dash(value) for value in (one.seed, one.val_loss, one.val_bpb, one.run.last_step)]
        rows.append((*values, time, or_dash(one.run.artifact_bytes, "{} bytes"), f"`{one.log}`, line {one.line}"))
    for name, of in (("mean", _mean), ("sd", _sd)):
        numbers = [or_dash(of(runs, what), f"{{:.{DECIMALS}f}}") for what in ("val_loss", "val_bpb")]
        rows.append((name, *numbers, "", "", "", ""))
    return markdown_table(COLUMNS, rows)


def _recipe(what: str, one: Submission, env: Mapping[str, Any]) -> list[list[str]]:
    """Return the command of one run, with the variables that the recipe sets."""
    ranks = one.plan.gpus_per_run or one.plan.cpus_per_run or 1
    recipe = {name: str(value) for name, value in env.items()}
    shown = {name: PurePosixPath(value).name if value.startswith("/") else value for name, value in recipe.items()}
    variables = [f"{name}={shlex.quote(value)}" for name, value in shown.items()]
    command = ["SEED=N", *variables, f"torchrun --standalone --nproc_per_node={ranks} {SCRIPT}"]
    shortened = ", with absolute paths cut to their last part" if shown != recipe else ""
    return [[f"{what}{shortened}:"], [*(_code(f"{part} \\") for part in command[:-1]), _code(command[-1])]]


def _machine(kept: Kept) -> list[list[str]]:
    """Return what the logs and the manifests say of the machines."""
    named = {"ranks": "world_size", "GPU": "gpu", "PyTorch": "torch", "Python": "python"}
    found = {
        name: sorted({str(there) for run in kept.runs if (there := getattr(run.run, key))})
        for name, key in named.items()
    }
    said = [f"{name} {', '.join(values)}" for name, values in found.items() if values]
    made = [f"- {escape.markdown(line)}" for line in kept.made_lines()]
    logs = [f"The logs say: {escape.markdown('; '.join(said))}."] if said else []
    return [logs, *([["Made on:"], made] if made else [])]


def _files(one: Submission) -> list[str]:
    """Return a line for each file of the folder."""
    known_as = {
        SCRIPT: f"the program that made the logs, SHA-256 {one.plan.script.sha256}",
        TRAIN_LOG: f"the whole output of seed {one.kept.runs[0].seed}",
        PLAN: "what was frozen before the first run: script, recipes, rules, seeds and looks, with its SHA-256",
        RULES: "the rules of the claim; they are not a shipped ruleset, so read them",
    }
    what = {README: "this file", CLAIM: "the claim, for programs"}
    tried = {
        name: "the output of an attempt that ended without a result"
        for name in one.kept.files
        if name.startswith(f"{ATTEMPTS}/")
    }
    what |= {name: (known_as | tried).get(name, "the whole output of that seed") for name in one.kept.files}
    return [f"- `{name}`: {text}" for name, text in what.items()]


def _code(line: str) -> str:
    """Return a line of an indented block of code, which nothing within it can close."""
    return f"    {escape.printable(line)}"


def public(text: str, hosts: Iterable[str]) -> str:
    """Return a text without traces of its author's machines.

    Absolute paths are cut to their last part; names and addresses of hosts are replaced.
    """
    for host in hosts:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
    text = _ADDRESS.sub("HOST", text)
    return _PATH.sub(lambda match: PurePosixPath(match[0]).name, text)
