"""From record folders to frozen plans with fresh seeds, one sweep directory each. What was planned before is kept."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.rules.keys import PAIRED
from analysis.rules.ruleset import load
from analysis.sweepdir.layout import ARMS, CANDIDATE, CONTROL, has_plan
from analysis.sweepdir.plan import DesignKind, Plan, read_sweep_plan
from analysis.untrusted.files import leads_out, read_small
from analysis.untrusted.refusal import SeedproofError, UsageError
from orchestration.disk.files import write_whole
from orchestration.plan.asked import Asked as SweepAsked
from orchestration.plan.asked import parse_env
from orchestration.plan.freeze import freeze, make_plan, may_pair
from orchestration.verification.recorded import CannotRerunError, Recorded, read_recorded
from orchestration.worker.order import Sandbox

NONCE, SWEEPS, RECIPES = "nonce", "sweeps", "recipes"
LONGEST_NONCE = 2**12  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `verify`; None was not given. pairs: the KEY=VALUE of --env. budget: in hours, see docs/verify.md."""

    records: Sequence[Path]
    output: Path
    rules: str | None = None
    sota: float | None = None
    pairs: tuple[str, ...] = ()
    nonce: str | None = None
    budget: float | None = None
    max_seeds: int = 5
    sandbox: Sandbox = Sandbox.AUTO
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record in the queue. fault: why it cannot be rerun; else recorded, plan and directory are known."""

    name: str
    folder: Path
    fault: str | None = None
    recorded: Recorded | None = None
    plan: Plan | None = None
    directory: Path | None = None

    @property
    def paths(self) -> Mapping[str, str]:
        """Return the paths that its recipe names, by variable."""
        envs = self.plan.envs.values() if self.plan is not None else ()
        return {name: value for env in envs for name, value in env.items() if name.endswith("_PATH") and value}


def entries(asked: Asked, nonce: str) -> list[Entry]:
    """Plan every record; one that cannot be planned is an entry with a fault. Raises UsageError for a doubled name."""
    names = [folder.resolve().name for folder in asked.records]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"Two records are called {double}: their results would go to one folder. Rename one.")
    parse_env(asked.pairs)  # a mistake there is the command's, not a record's
    return [_entry(name, folder, asked, nonce) for name, folder in zip(names, asked.records, strict=True)]


def _entry(name: str, folder: Path, asked: Asked, nonce: str) -> Entry:
    try:
        recorded = read_recorded(folder, asked.rules, asked.sota)
        plan = make_plan(_as_sweep(name, recorded, asked, nonce))
        if recorded.plan is not None and recorded.plan.script.digests != plan.script.digests:
            raise CannotRerunError("the modules next to its script are not those of its plan: put them back.")
        _refuse_links(recorded, plan)
        directory = asked.output / SWEEPS / name
        if has_plan(directory):
            _refuse_other(read_sweep_plan(directory), plan, directory)
        else:
            freeze(plan, directory)
    except UsageOfDirError:
        raise
    except SeedproofError as error:
        return Entry(name=name, folder=folder, fault=str(error))
    except (ValueError, TypeError, OverflowError) as error:  # of a plan.json that nobody could have meant
        return Entry(name=name, folder=folder, fault=f"its files hold what cannot be used: {error}")
    return Entry(name=name, folder=folder, recorded=recorded, plan=plan, directory=directory)


def _refuse_links(recorded: Recorded, plan: Plan) -> None:
    """Raise CannotRerunError for a module that is a link to somewhere else: its content would be shown to the script."""
    beside = recorded.script.parent
    for file in plan.script.files:
        if leads_out(beside / file.name, os.path.realpath(beside)):
            raise CannotRerunError(f"{file.name} is a link that leads out of the record: put the file in its place.")


class UsageOfDirError(UsageError):
    """A command that does not fit what its --output already holds."""


def _refuse_other(there: Plan, asked: Plan, directory: Path) -> None:
    if there.sha256 != asked.sha256:
        raise UsageOfDirError(
            f"{directory} was planned from another state of the record, or with other options than these. Give the same "
            f"command again, or another --output."
        )


def _as_sweep(name: str, recorded: Recorded, asked: Asked, nonce: str) -> SweepAsked:
    """Return what `sweep run` would be asked for. The recipes are written down as files, to be read and kept."""
    own = parse_env(asked.pairs)
    recipes = {arm: asked.output / RECIPES / name / f"{arm}.toml" for arm in ARMS if arm in recorded.envs}
    for arm, path in recipes.items():
        env = dict(recorded.envs[arm])
        for variable in [key for key, value in env.items() if key.endswith("_PATH") and value and key not in own]:
            raise CannotRerunError(  # even one that is here: the script would see what its author chose of this machine
                f"the record's {variable} is {env[variable]}, a path of its author's: give --env {variable}=..."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "[env]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in env.items()))
    rules = load(recorded.rules)
    sweep = SweepAsked(
        script=recorded.script,
        recipe=recipes[CANDIDATE],
        control=recipes.get(CONTROL),
        seeds=str(asked.max_seeds),
        design=DesignKind.SEQUENTIAL if rules.may_look else DesignKind.FIXED,
        sota=recorded.sota,
        rules=recorded.rules,
        pairs=asked.pairs,
        gpus_per_run=recorded.gpus,
        cpus_per_run=recorded.cpus,
        accelerator_type=recorded.accelerator_type,
        nonce=nonce,
    )
    paired = recorded.plan is not None and recorded.plan.design.paired  # as the author planned it
    return replace(sweep, unpaired=not paired and rules.test != PAIRED and may_pair(sweep, rules))


def nonce_of(output: Path, given: str | None) -> str:
    """Return the nonce of an --output: the one kept there, else the given or a random one, which is then kept."""
    path = output / NONCE
    if path.is_file():
        kept = read_small(path, LONGEST_NONCE).decode("utf-8", "replace").strip()
        if given not in (None, kept):
            raise UsageError(f"--nonce {given!r}: {output} was begun with the nonce {kept!r}. Choose another --output.")
        return kept
    nonce = (given if given is not None else secrets.token_hex(8)).strip()
    if not nonce or not nonce.isprintable():
        raise UsageError(f"--nonce {nonce!r}: give a printable text that nobody could know before.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        if there := next((name for name in sorted(os.listdir(output)) if not name.startswith(".")), None):
            raise UsageError(f"--output {output} holds {there}, and was not made by this command. Choose another.")
        write_whole(path, nonce + "\n")
    except OSError as error:
        raise UsageError(f"--output {output} cannot be written: {error.strerror}.") from None
    return nonce
