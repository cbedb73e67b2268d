"""The reviewer's command: the `check` that asks of the folder what the sweep asked."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from analysis.evidence.options import Options
from analysis.rules.ruleset import Ruleset, as_table, known, load
from analysis.sweepdir.layout import CONTROL, PLAN
from analysis.sweepdir.plan import DesignKind, Plan
from analysis.untrusted.invoked import command

RULES = "rules.toml"
SHOWN = ("sota", "control", "rules", "margin", "unit", "alpha", "design")


def check_options(folder: Path, plan: Plan, files: Collection[str]) -> Options:
    """Return the options of `check` for the folder; `files` are the names of what is in it."""
    planned, control = PLAN in files, any(name.startswith(f"{CONTROL}/") for name in files)
    return replace(
        rules_options(plan.rules()) or Options(rules=str(folder / RULES)),
        sota=plan.sota,
        control=folder / CONTROL if control else None,
        design=DesignKind.SEQUENTIAL if plan.design.sequential and not planned else None,
        require_plan=planned,
    )


def check_command(folder: Path, plan: Plan, files: Collection[str]) -> str:
    """Return the command line of that check, in the form that this user types."""
    words, options = ["check", str(folder)], check_options(folder, plan, files)
    for name in SHOWN:
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    return command("analysis.significance", *words, *(["--require-plan"] if options.require_plan else []))


def rules_options(rules: Ruleset) -> Options | None:
    """Return the options of `check` that name these rules; None where only a file can."""
    if rules.name not in known():
        return None
    shipped = load(rules.name)
    changed = {
        key.name: value for key in fields(rules) if (value := getattr(rules, key.name)) != getattr(shipped, key.name)
    }
    if changed.keys() - {"margin", "unit", "alpha"} or ("alpha" in changed and rules.scaled_gain is not None):
        return None
    return Options(rules=rules.name, **changed)


def as_toml(rules: Ruleset) -> str:
    """Return a ruleset as a file that can be read again."""
    own = {key: value for key, value in _set(as_table(rules)).items() if key != "name"}
    return "\n".join(_table(own)) + "\n"


def _set(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that are set: TOML has no null."""
    given = {key: value for key, value in table.items() if value is not None}
    return given | ({"criteria": [_set(one) for one in given["criteria"]]} if given.get("criteria") else {})


def _table(table: Mapping[str, Any], name: str = "") -> list[str]:
    """Return the lines of a TOML table: its own values, then the tables in it and the lists of tables."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping) or _are_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key not in inner]
    for key, value in inner.items():
        full = f"{name}{_key(key)}"
        if isinstance(value, list):
            lines += [line for one in value for line in ("", f"[[{full}]]", *_table(one, f"{full}."))]
        elif value:
            lines += ["", f"[{full}]", *_table(value, f"{full}.")]
    return lines


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
