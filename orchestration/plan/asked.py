"""What `sweep run` is asked for: its options, recipes and seeds, each checked by itself."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.sweepdir.plan import MAX_ATTEMPTS, MOST_SEEDS, DesignKind
from analysis.untrusted.refusal import SeedproofError, nearest, nearest_path
from analysis.untrusted.secrets import redacted, secret_lines, secret_name, secret_value

SHIPPED = Path(__file__).parents[2] / "trainer" / "recipes"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PlanError(SeedproofError):
    """A sweep that cannot be planned, as one sentence that names the option or file."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `sweep run` that decide what is computed and claimed, by their names; None was not given.

    pairs: the KEY=VALUE of --env. nonce: a text that the derived seeds depend on, of whoever reruns a record.
    """

    script: Path
    recipe: Path | None = None
    control: Path | None = None
    seeds: str | None = None
    design: str = DesignKind.FIXED
    max_seeds: int | None = None
    boundary: str | None = None
    unpaired: bool = False
    sota: float | None = None
    rules: str = "parameter-golf"
    margin: float | None = None
    unit: str | None = None
    alpha: float | None = None
    pairs: tuple[str, ...] = ()
    gpus_per_run: int = 0
    cpus_per_run: int | None = None
    accelerator_type: str | None = None
    max_attempts: int = MAX_ATTEMPTS
    nonce: str | None = None


def read_recipe(named: Path) -> dict[str, str]:
    """Return the [env] table of a recipe as environment variables; relative *_PATH values are resolved from here.

    A recipe is a file, or the name of a shipped one.
    """
    path = SHIPPED / f"{named}.toml" if str(named) in shipped_recipes() and not named.exists() else named
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        near = nearest_path(path) if path.is_dir() else nearest(str(path), shipped_recipes()) or nearest_path(path)
        raise PlanError(f"{path} cannot be read: {error.strerror}.{near}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}.") from None
    if set(table) != {"env"} or not isinstance(table["env"], dict):
        raise PlanError(f"{path} must hold one table, [env]; got {', '.join(table) or 'nothing'}.")
    env = {name: _text(name, value, str(path)) for name, value in table["env"].items()}
    refuse_secrets(text, path, "a recipe is")
    return env


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that came with the trainer."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml") if "[env]" in path.read_text(encoding="utf-8"))


def parse_env(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=VALUE options as environment variables."""
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise PlanError(f"--env {redacted(pair)!r} is not of the form KEY=VALUE.")
        env[name] = _text(name, value, "--env")
    return env


def _text(name: str, value: Any, where: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise PlanError(f"{where}: {redacted(name)!r} is not a name of an environment variable.")
    kind = secret_value(f"{name}={value}")
    if kind or secret_name(name, str(value)):
        looks = f" to what looks like a secret ({kind})" if kind else ""
        raise PlanError(
            f"{where} sets {redacted(name)}{looks}: values go into plan.json and run.json, which are meant to be published. "
            f"Let the script read secrets from a file."
        )
    if name == "SEED":
        raise PlanError(f"{where} sets SEED; seeds belong to --seeds.")
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, (str, int, float)):
        raise PlanError(f"{where}: {name} must be a text or a number.")
    return str(Path(str(value)).absolute()) if name.endswith("_PATH") and value else str(value)


def refuse_secrets(text: str, where: Path, published: str) -> None:
    """Raise PlanError at the first thing that looks like a secret, with its line and kind but not its value."""
    for line, kind in secret_lines(text):
        raise PlanError(
            f"{where}:{line} holds what looks like a secret ({kind}): {published} published with the record. Take it out, "
            f"revoke it if it was ever shared, and let the script read secrets from a file."
        )


def parse_seeds(text: str) -> list[int] | int:
    """Return the seeds of `1337,1338`, or how many to derive for a single number."""
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
