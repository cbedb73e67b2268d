"""The plan of a sweep: everything that is decided before the first run, frozen with its SHA-256.

It holds no time of day, so that the same plan has the same digest and the same derived seeds: starting again does not buy
other seeds.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.evidence.options import Options, out_of_range
from analysis.rules.keys import BOTH, PAIRED, T_TEST, TARGET
from analysis.rules.ruleset import Ruleset, as_table, load
from analysis.sweepdir.code import LARGEST_SCRIPT, described, digests_of
from analysis.sweepdir.layout import CANDIDATE, CONTROL, EVENTS, LOCK, MODULES, PLAN, SCRIPT, SMOKE
from analysis.sweepdir.plan import (
    BOUNDARIES,
    DesignKind,
    Plan,
    SeedsAre,
    derive_seeds,
    design_fault,
    plan_digest,
)
from analysis.untrusted.refusal import nearest_path
from analysis.untrusted.secrets import secret_value
from orchestration.disk.files import write_code, write_json
from orchestration.plan.asked import Asked, PlanError, parse_env, parse_seeds, read_recipe, refuse_secrets
from orchestration.plan.imports import local_modules

FIXED, SEQUENTIAL = DesignKind


def make_plan(asked: Asked) -> Plan:
    """Return the plan as it will be written. Raises PlanError, RulesError."""
    rules = _rules(asked)
    usual = str(asked.max_seeds or (10 if asked.design == SEQUENTIAL else 3))
    seeds = parse_seeds(usual if asked.seeds is None else asked.seeds)
    design = make_design(asked, len(seeds) if isinstance(seeds, list) else seeds, rules)
    table: dict[str, Any] = {
        "version": 1,
        "script": _script(asked.script),
        "arms": _arms(asked),
        "ruleset": as_table(rules),
        "sota": asked.sota,
        **({"accelerator_type": asked.accelerator_type} if asked.accelerator_type else {}),
        **({"nonce": asked.nonce} if asked.nonce else {}),
        "gpus_per_run": asked.gpus_per_run,
        "cpus_per_run": asked.cpus_per_run or max(asked.gpus_per_run, 1),
        "max_attempts": asked.max_attempts,
        "design": design,
        "seeds": seeds,
        "seeds_are": SeedsAre.GIVEN if isinstance(seeds, list) else SeedsAre.DERIVED,
    }
    if kind := secret_value(json.dumps([table["ruleset"], asked.accelerator_type])):
        raise PlanError(
            f"The rules hold what looks like a secret ({kind}): they go into plan.json, which is meant to be published. "
            f"Take it out of the file that --rules names."
        )
    if isinstance(seeds, int):
        table["seeds"] = derive_seeds(table, seeds)
    return Plan.of(table | {"sha256": plan_digest(table)}, PLAN)


def _rules(asked: Asked) -> Ruleset:
    """Return the rules with what the options change; check the options that depend on them."""
    changed = Options(margin=asked.margin, unit=asked.unit, alpha=asked.alpha).of_the_rules
    rules = replace(load(asked.rules), **changed)
    sequential = asked.design == SEQUENTIAL
    if not rules.has_test:
        raise PlanError(f"--rules {asked.rules} has no test, and a sweep ends in one. Name rules that have.")
    if fault := out_of_range(asked.sota, asked.margin, rules.alpha):
        raise PlanError(fault)
    if asked.sota is None and asked.control is None and rules.target is None:
        raise PlanError("What is to be beaten? Give --sota X, or the recipe to beat as --control FILE.")
    if sequential and not rules.may_look:
        raise PlanError(f"--design sequential needs a t-test of the mean; --rules {asked.rules} has {rules.test!r}.")
    if asked.max_seeds is not None and (asked.seeds is not None or not sequential):
        raise PlanError("--max-seeds belongs to --design sequential, and --seeds says how many already.")
    if asked.boundary is not None and not sequential:
        raise PlanError("--boundary belongs to --design sequential; a fixed sweep is tested once.")
    if asked.accelerator_type is not None and not asked.gpus_per_run:
        raise PlanError("--accelerator-type belongs to --gpus-per-run; a run on CPUs has no accelerator.")
    return rules


def make_design(asked: Asked, seeds: int, rules: Ruleset) -> dict[str, Any]:
    """Return when the runs are tested, once at the end or after each from the first look on, and whether in pairs."""
    if asked.unpaired:
        _check_unpaired(asked, rules)
    paired = {"paired": True} if may_pair(asked, rules) and not asked.unpaired else {}
    if asked.design == FIXED:
        return {"name": FIXED} | paired
    first = max(3, rules.minimum_runs)
    if seeds < first:
        raise PlanError(f"--design sequential looks first at {first} seeds; {seeds} are planned. Plan more seeds.")
    looks = list(range(first, seeds + 1))
    design = {"name": SEQUENTIAL, "looks": looks, "boundary": asked.boundary or BOUNDARIES[0]} | paired
    if fault := design_fault(design, seeds):
        raise PlanError(fault)
    return design


def may_pair(asked: Asked, rules: Ruleset) -> bool:
    """Return whether the two runs of a seed are a pair unless --unpaired says otherwise."""
    return _must_beat_control(asked, rules) and rules.test in (T_TEST, BOTH, PAIRED)


def _must_beat_control(asked: Asked, rules: Ruleset) -> bool:
    return asked.control is not None and rules.against != TARGET


def _check_unpaired(asked: Asked, rules: Ruleset) -> None:
    if not _must_beat_control(asked, rules):
        raise PlanError("--unpaired applies only where the runs of a --control must be beaten. Leave it out.")
    if rules.test == PAIRED:
        raise PlanError(f"--unpaired: the test of --rules {asked.rules} is {PAIRED!r}, which needs pairs.")


def _script(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PlanError(f"--script {path} is not a file.{nearest_path(path)}")
    return {"path": str(path.resolve()), **described(_code(path))}


def _code(path: Path) -> dict[str, bytes]:
    """Read a script and what it imports from its own folder, by their paths in a sweep directory."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PlanError(f"--script {path} cannot be read: {error.strerror}.") from None
    if len(source) > LARGEST_SCRIPT:
        raise PlanError(f"--script {path} has {len(source)} bytes; at most {LARGEST_SCRIPT} are kept with the plan.")
    refuse_secrets(source.decode("utf-8", "replace"), path, "the script is")
    modules = local_modules(path.resolve(), source)
    return {SCRIPT: source} | {f"{MODULES}/{name}": content for name, content in modules.items()}


def _arms(asked: Asked) -> dict[str, Any]:
    env = parse_env(asked.pairs)
    recipes = {CANDIDATE: asked.recipe} | ({} if asked.control is None else {CONTROL: asked.control})
    arms = {
        arm: {"recipe": str(path) if path else None, "env": (read_recipe(path) if path else {}) | env}
        for arm, path in recipes.items()
    }
    if CONTROL in arms and arms[CONTROL]["env"] == arms[CANDIDATE]["env"]:
        raise PlanError(
            f"--recipe {asked.recipe} and --control {asked.control} set the same variables: nothing to compare."
        )
    return arms


def notes(plan: Plan) -> list[str]:
    """Return what the author of a plan should know before paying for it."""
    found, rules, seeds = [], plan.rules(), len(plan.seeds)
    if seeds < (needed := max(2, rules.minimum_runs)):
        found.append(f"seeds planned: {seeds}; a claim by {rules.name} needs {needed}.")
    if plan.script.files:
        found.append(
            f"{plan.script.path} imports {', '.join(file.name for file in plan.script.files)} from its folder. They are frozen "
            f"with it, but no record can be made of several files."
        )
    return found


def freeze(plan: Plan, output: Path) -> None:
    """Write the plan and its code into a new sweep directory. Raises PlanError where there already is one."""
    if (output / PLAN).exists():
        raise PlanError(f"{output} already holds a sweep: choose another --output, or look at it with `sweep status`.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        refused = (output / LOCK).exists()  # a sweep that was refused before its first run
        ours = {SCRIPT, MODULES, EVENTS, LOCK, SMOKE} if refused else set()
        if there := sorted(name for name in os.listdir(output) if not name.startswith(".") and name not in ours):
            raise PlanError(
                f"{output} already exists and holds {there[0]}: choose an --output that does not exist yet."
            )
        code = _code(Path(plan.script.path or ""))
        if digests_of(code) != plan.script.digests:
            raise PlanError(f"{plan.script.path} or what it imports was changed just now: start again.")
        write_json(output / PLAN, plan.table, new=True)
        shutil.rmtree(output / MODULES, ignore_errors=True)
        write_code(output, code)
    except FileExistsError:
        raise PlanError(f"{output} was taken by another sweep just now: choose another --output.") from None
    except OSError as error:
        raise PlanError(f"--output {output} cannot be written: {error.strerror}.") from None
