"""What a submission folder says of itself: README.md and submission.json. Every number is taken from the logs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from math import fsum
from pathlib import Path, PurePosixPath
from statistics import stdev
from typing import Any

from analysis.reading.result import Result
from analysis.report.findings import finding_items
from analysis.report.statements import assumptions, facts
from analysis.report.text import WORDS, markdown_table, readings_table
from analysis.rules.findings import ERROR, Finding
from analysis.rules.ruleset import Ruleset, from_plan, known, load
from analysis.sweepdir.layout import CANDIDATE, CONTROL, PLAN, SEQUENTIAL, TRAIN_LOG
from analysis.untrusted import escape
from analysis.verdict.verdict import SUPPORTED, Verdict
from orchestration.submission.finished import SCRIPT

README, CLAIM, RULES = "README.md", "submission.json", "rules.toml"
COLUMNS = ("seed", "val_loss", "val_bpb", "steps", "train time", "artifact", "log")
DECIMALS = 8  # of a mean: as many as the logs print of a value
_PATH = re.compile(r"(?<![\w.])~?/[^\s:;,'\"()\[\]]+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


@dataclass(frozen=True, slots=True)
class Submission:
    """A claim with its evidence. runs, control: those that count, with the logs' names in the folder.

    aside: a sentence for each attempt that does not count. hosts: names of machines, which are not published.
    made_on: a line for each kind of machine and data. files: the names of the files beside README and JSON. check: the command that checks the folder, called from the
    folder above.
    """

    name: str
    author: str
    github_id: str | None
    blurb: str | None
    date: str
    non_record: bool
    plan: dict[str, Any]
    verdict: Verdict
    runs: list[Result]
    control: list[Result]
    aside: list[str]
    hosts: set[str]
    made_on: list[str]
    code_bytes: int
    files: list[str]
    check: str


def as_json(one: Submission) -> str:
    """submission.json: the keys that public submissions use. What the logs do not print is left out.

    So are the values seed by seed where the logs print no seed: a reader could not tell whose they are.
    """
    table = {
        "author": one.author,
        "github_id": one.github_id,
        "name": one.name,
        "blurb": one.blurb,
        "date": one.date,
        "non_record": one.non_record or None,
        "val_loss": _mean(one.runs, "val_loss"),
        "val_bpb": _mean(one.runs, "val_bpb"),
        "val_loss_std": _sd(one.runs, "val_loss"),
        "val_bpb_std": _sd(one.runs, "val_bpb"),
        "bytes_total": max((run.run.artifact_bytes for run in one.runs if run.run.artifact_bytes is not None), default=None),
        "bytes_code": one.code_bytes,
        "seeds": [run.seed for run in one.runs],
        "seed_results": {str(run.seed): _known(_of_seed(run)) for run in one.runs} if PLAN in one.files else None,
    }
    return json.dumps(_known(table), indent=2, allow_nan=False) + "\n"


def _of_seed(run: Result) -> dict[str, Any]:
    return {
        "val_loss": run.val_loss,
        "val_bpb": run.val_bpb,
        "steps": run.run.last_step,
        "train_time_ms": run.run.train_time_ms,
        "artifact_bytes": run.run.artifact_bytes,
        "log": run.log,
    }


def _known(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _values(runs: list[Result], what: str) -> list[float]:
    """The runs' values; empty where one has none."""
    found = [value for run in runs if (value := run.value(what)) is not None]
    return found if len(found) == len(runs) else []


def _mean(runs: list[Result], what: str) -> float | None:
    values = _values(runs, what)
    return round(fsum(values) / len(values), DECIMALS) if values else None


def _sd(runs: list[Result], what: str) -> float | None:
    values = _values(runs, what)
    return round(stdev(values), DECIMALS) if len(values) > 1 else None


# -- README.md ---------------------------------------------------------------------------------------------------------


def readme(one: Submission, findings: list[Finding]) -> str:
    """README.md; `findings` are those that the folder's own check leaves standing."""
    verdict, arms = one.verdict, one.plan["arms"]
    kind = "This is a non-record submission, and its claim is" if one.non_record else "This claim is"
    github = f" (GitHub: {escape.markdown(one.github_id)})" if one.github_id else ""
    refused = any(finding.severity == ERROR for finding in findings)
    fails = "" if verdict.verdict == SUPPORTED else " It leaves with exit code 1, for the claim is not supported."
    fails = " It leaves with exit code 1, for what it finds." if refused else fails
    but = ", but a check refuses the folder for what is listed below" if refused else ""
    lines = [
        f"# {escape.markdown(one.name)}", "",
        f"{kind} **{WORDS[verdict.verdict].lower()}**{but}: {escape.markdown(verdict.reason)}", "",
        f"By {escape.markdown(one.author)}{github}, {one.date}.", "",
        *([escape.markdown(one.blurb), ""] if one.blurb else []),
        "## Runs", "", *_table(one.runs), "",
        "## Significance", "", *markdown_table(("", f"rules {escape.markdown(verdict.rules)}"), facts(verdict)), "",
        *(f"- Assumes: {sentence}" for sentence in assumptions(verdict)), "",
        *(["Read in other ways:", "", *readings_table(verdict), ""] if verdict.also else []),
        *(["## Control", "", *_table(one.control), ""] if one.control else []),
        "## What does not count", "",
        *([f"- {escape.markdown(public(line, one.hosts))}" for line in one.aside] or ["Nothing: every run had its result at the first attempt."]), "",
        "## Check it", "",
        f"From the folder that holds this one, with seedproof installed.{fails}", "", _code(one.check), "",
        *(["It finds:", "", *finding_items(findings), ""] if findings else []),
        "## How the runs were made", "", *([] if verdict.plan is None else [f"The {escape.markdown(verdict.plan.sentence())}.", ""]),
        *_recipe("Each seed was run by itself", one, arms[CANDIDATE]),
        *(_recipe("The control", one, arms[CONTROL]) if one.control else []),
        *_machine(one.runs), *(["Made on:", "", *(f"- {escape.markdown(where)}" for where in one.made_on), ""] if one.made_on else []),
        "## Files", "", *_files(one),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(runs: list[Result]) -> list[str]:
    """The runs with their exact numbers, and mean and sd below."""

    def cell(value: object, unit: str = "") -> str:
        return "-" if value is None else f"{value}{unit}"

    rows = [
        (cell(run.seed), cell(run.val_loss), cell(run.val_bpb), cell(run.run.last_step),
         "-" if run.run.train_time_ms is None else f"{run.run.train_time_ms:.12g} ms",
         cell(run.run.artifact_bytes, " bytes"), f"`{run.log}`, line {run.line}")
        for run in runs
    ]  # fmt: skip
    for name, of in (("mean", _mean), ("sd", _sd)):
        loss, bpb = (cell(format(v, f".{DECIMALS}f") if v else v) for v in (of(runs, "val_loss"), of(runs, "val_bpb")))
        rows.append((name, loss, bpb, "", "", "", ""))
    return markdown_table(COLUMNS, rows)


def _recipe(what: str, one: Submission, arm: dict[str, Any]) -> list[str]:
    """The command of one run, with the variables that the recipe sets."""
    ranks = one.plan.get("gpus_per_run") or one.plan.get("cpus_per_run") or 1
    recipe = {name: str(value) for name, value in arm.get("env", {}).items()}
    shown = {name: PurePosixPath(value).name if value.startswith("/") else value for name, value in recipe.items()}
    variables = [f"{name}={shlex.quote(value)}" for name, value in shown.items()]
    command = ["SEED=N", *variables, f"torchrun --standalone --nproc_per_node={ranks} {SCRIPT}"]
    shortened = ", of absolute paths with the last part alone" if shown != recipe else ""
    return [f"{what}{shortened}:", "", *(_code(f"{part} \\") for part in command[:-1]), _code(command[-1]), ""]


def _machine(runs: list[Result]) -> list[str]:
    """What the logs say of the machine, where they say anything."""
    named = {"ranks": "world_size", "GPU": "gpu", "PyTorch": "torch", "Python": "python"}
    found = {name: sorted({str(there) for run in runs if (there := getattr(run.run, key))}) for name, key in named.items()}
    said = [f"{name} {', '.join(values)}" for name, values in found.items() if values]
    return [f"The logs say: {escape.markdown('; '.join(said))}.", ""] if said else []


def _files(one: Submission) -> list[str]:
    """What each file of the folder is."""
    known_as = {
        SCRIPT: f"the program that made the logs, SHA-256 {one.plan['script']['sha256']}",
        TRAIN_LOG: f"the whole output of seed {one.runs[0].seed}",
        PLAN: "what was frozen before the first run: script, recipes, rules, seeds and looks, with its SHA-256",
        RULES: "the rules of the claim; they are not a shipped ruleset, so read them",
    }
    what = {README: "this file", CLAIM: "the claim, for programs"}
    what |= {name: known_as.get(name, "the whole output of that seed") for name in one.files}
    return [f"- `{name}`: {text}" for name, text in what.items()]


def _code(line: str) -> str:
    """A line of an indented block of code, which nothing within it can close."""
    return f"    {escape.printable(line)}"


def public(text: str, hosts: Iterable[str]) -> str:
    """A text without what tells of its author's machines: of absolute paths the last part is kept, names and addresses
    of hosts are replaced."""
    for host in hosts:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
    text = _ADDRESS.sub("HOST", text)
    return _PATH.sub(lambda match: PurePosixPath(match[0]).name, text)


# -- the reviewer's command --------------------------------------------------------------------------------------------


def check_options(folder: Path, plan: dict[str, Any], files: Collection[str]) -> dict[str, Any]:
    """The options of `check` that ask of the folder what the sweep asked; `files` are the names of what is in it."""
    planned, control = PLAN in files, any(name.startswith(f"{CONTROL}/") for name in files)
    sequential = plan.get("design", {}).get("name") == SEQUENTIAL
    return {
        "sota": plan.get("sota"),
        "control": folder / CONTROL if control else None,
        **(rules_options(from_plan(plan)) or {"rules": str(folder / RULES)}),
        "design": SEQUENTIAL if sequential and not planned else None,
        "require_plan": planned,
    }


def check_command(folder: Path, plan: dict[str, Any], files: Collection[str]) -> str:
    words = ["python", "-m", "analysis.significance", "check", str(folder)]
    for name, value in check_options(folder, plan, files).items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def rules_options(rules: Ruleset) -> dict[str, Any] | None:
    """The options of `check` that name these rules; None where only a file can."""
    if rules.name not in known():
        return None
    shipped = load(rules.name)
    changed = {
        key.name: value for key in fields(rules) if (value := getattr(rules, key.name)) != getattr(shipped, key.name)
    }
    if changed.keys() - {"margin", "unit", "alpha"} or ("alpha" in changed and rules.scaled_gain is not None):
        return None
    return {"rules": rules.name, **changed}


def as_toml(rules: Ruleset) -> str:
    """A ruleset as the file that it can be read from again."""
    own = {
        key.name: value
        for key in fields(rules)
        if key.name != "name" and (value := getattr(rules, key.name)) is not None
    }
    tables = {name: table for name, table in own.items() if isinstance(table, dict)}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in own.items() if name not in tables]
    for name, table in tables.items():
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {json.dumps(value)}" for key, value in table.items())
        lines += ["", f"[{name}]", *pairs] if table else []
    return "\n".join(lines) + "\n"
