"""The plan of a sweep: everything that is decided before the first run, frozen with its SHA-256.

It holds no time of day, so that the same plan has the same digest and so the same derived seeds: starting again does
not buy other seeds.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from analysis.sweepdir.layout import (
    CANDIDATE,
    CONTROL,
    EVENTS,
    FIXED,
    LARGEST_SCRIPT,
    LOCK,
    MOST_SEEDS,
    PLAN,
    SCRIPT,
    SEQUENTIAL,
    derive_seeds,
    design_fault,
    plan_digest,
)
from analysis.untrusted.refusal import nearest_path
from orchestration.disk.files import write_json, write_whole
from orchestration.plan.secrets import redacted, secret_lines, secret_name, secret_value

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PlanError(ValueError):
    """A sweep that cannot be planned, as one sentence that names the option or file."""


def read_recipe(path: Path) -> dict[str, str]:
    """The [env] table of a recipe as environment variables; relative *_PATH values are resolved from here."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}.{nearest_path(path)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}.") from None
    if set(table) != {"env"} or not isinstance(table["env"], dict):
        raise PlanError(f"{path} must hold one table, [env]; got {', '.join(table) or 'nothing'}.")
    env = {name: _text(name, value, str(path)) for name, value in table["env"].items()}
    _refuse_secrets(text, path, "a recipe is")
    return env


def parse_env(pairs: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE options as environment variables."""
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise PlanError(f"--env {redacted(pair)!r} is not of the form KEY=VALUE.")
        env[name] = _text(name, value, "--env")
    return env


def _text(name: str, value: Any, where: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise PlanError(f"{where}: {redacted(name)!r} is no name of an environment variable.")
    kind = secret_value(f"{name}={value}")
    if kind or secret_name(name, str(value)):
        looks = f" to what looks like a secret ({kind})" if kind else ""
        raise PlanError(f"{where} sets {redacted(name)}{looks}: values go into plan.json and run.json, which are meant to be "
                        f"published. Let the script read secrets from a file.")  # fmt: skip
    if name == "SEED":
        raise PlanError(f"{where} sets SEED; seeds belong to --seeds.")
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, (str, int, float)):
        raise PlanError(f"{where}: {name} must be a text or a number.")
    return str(Path(str(value)).absolute()) if name.endswith("_PATH") and value else str(value)


def _refuse_secrets(text: str, where: Path | str, published: str) -> None:
    """Raise PlanError at the first thing that looks like a secret, by its line and kind: the value is not repeated."""
    for line, kind in secret_lines(text):
        raise PlanError(f"{where}:{line} holds what looks like a secret ({kind}): {published} published with the record. "
                        f"Take it out, revoke it if it was ever shared, and let the script read secrets from a file.")  # fmt: skip


def parse_seeds(text: str) -> list[int] | int:
    """`1337,1338` is a list of seeds; a single number is how many to derive."""
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise PlanError(f"--seeds {text!r}: give seeds as 1337,1338,1339 or a count as 3.") from None
    if not seeds or any(not 0 <= seed < 2**32 for seed in seeds):  # what numpy and torch take
        raise PlanError(f"--seeds {text[:80]!r}: give at least one seed, none of them negative or above 4294967295.")
    if "," not in text:
        if not 1 <= seeds[0] <= MOST_SEEDS:
            raise PlanError(f"--seeds {text} would derive {text} seeds; for the one seed {text} write '{text},'.")
        return seeds[0]
    if len(set(seeds)) < len(seeds):
        raise PlanError(f"--seeds {text!r} names a seed twice.")
    return seeds


def make_design(name: str, seeds: int, boundary: str, first_look: int) -> dict[str, Any]:
    """How the runs are tested: once when all are there, or after each from `first_look` on. Raises PlanError."""
    if name == FIXED:
        return {"name": FIXED}
    if seeds < first_look:
        raise PlanError(f"--design sequential looks first at {first_look} seeds; {seeds} are planned. Plan more seeds.")
    design = {"name": SEQUENTIAL, "looks": list(range(first_look, seeds + 1)), "boundary": boundary}
    if fault := design_fault(design, seeds):
        raise PlanError(fault)
    return design


def make_plan(
    script: Path,
    recipe: Path | None,
    control: Path | None,
    seeds: list[int] | int,
    env: dict[str, str],
    gpus_per_run: int,
    cpus_per_run: int,
    claim: dict[str, Any],
    design: dict[str, Any],
) -> dict[str, Any]:
    """The plan as it will be written; `claim` holds the ruleset as a table and the SOTA. Raises PlanError."""
    if not script.is_file():
        raise PlanError(f"--script {script} is no file.{nearest_path(script)}")
    try:
        source = script.read_bytes()
    except OSError as error:
        raise PlanError(f"--script {script} cannot be read: {error.strerror}.") from None
    if len(source) > LARGEST_SCRIPT:
        raise PlanError(f"--script {script} has {len(source)} bytes; at most {LARGEST_SCRIPT} are kept with the plan.")
    _refuse_secrets(source.decode("utf-8", "replace"), script, "the script is")
    if kind := secret_value(json.dumps(claim)):
        raise PlanError(f"The rules hold what looks like a secret ({kind}): they go into plan.json, which is meant to be "
                        f"published. Take it out of the file that --rules names.")  # fmt: skip
    arms = {CANDIDATE: _arm(recipe, env)}
    if control is not None:
        arms[CONTROL] = _arm(control, env)
        if arms[CONTROL]["env"] == arms[CANDIDATE]["env"]:
            raise PlanError(f"--recipe {recipe} and --control {control} set the same variables: nothing to compare.")
    plan: dict[str, Any] = {
        "version": 1,
        "script": {"path": str(script.resolve()), "sha256": hashlib.sha256(source).hexdigest(), "bytes": len(source)},
        "arms": arms,
        **claim,
        "gpus_per_run": gpus_per_run,
        "cpus_per_run": cpus_per_run,
        "design": design,
        "seeds": seeds,
        "seeds_are": "derived" if isinstance(seeds, int) else "given",
    }
    if beside := modules_beside(script.resolve(), source):
        plan["script"]["modules"] = beside
    if isinstance(seeds, int):
        plan["seeds"] = derive_seeds(plan, seeds)
    return plan | {"sha256": plan_digest(plan)}


def modules_beside(script: Path, source: bytes) -> list[str]:
    """Modules that a script imports from its own folder: they are neither frozen nor part of a record."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    tops = {name.partition(".")[0] for name in named} - set(sys.stdlib_module_names)
    return sorted(name for name in tops if (script.parent / f"{name}.py").is_file() or (script.parent / name).is_dir())


def _arm(recipe: Path | None, env: dict[str, str]) -> dict[str, Any]:
    return {"recipe": str(recipe) if recipe else None, "env": (read_recipe(recipe) if recipe else {}) | env}


def freeze(plan: dict[str, Any], output: Path) -> None:
    """Write the plan and its script into a new sweep directory. Raises PlanError when there already is one."""
    if (output / PLAN).exists():
        raise PlanError(f"{output} already holds a sweep: choose another --output, or look at it with `sweep status`.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        ours = {SCRIPT, EVENTS, LOCK}  # of a sweep that was refused before its first run
        if there := sorted(name for name in os.listdir(output) if not name.startswith(".") and name not in ours):
            raise PlanError(
                f"{output} is there already and holds {there[0]}: choose an --output that is not there yet."
            )
        script = Path(plan["script"]["path"]).read_bytes()
        if hashlib.sha256(script).hexdigest() != plan["script"]["sha256"]:
            raise PlanError(f"{plan['script']['path']} was changed just now: start again.")
        write_json(output / PLAN, plan, new=True)
        write_whole(output / SCRIPT, script)
    except FileExistsError:
        raise PlanError(f"{output} was taken by another sweep just now: choose another --output.") from None
    except OSError as error:
        raise PlanError(f"--output {output} cannot be written: {error.strerror}.") from None
