"""Check that claimed runs differ only in their seeds: one program, configuration, environment, data set and tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from statistics import median
from typing import TypeVar

from analysis.reading.run import Run
from analysis.record.metrics import OWN
from analysis.record.selection import Claimed, with_training
from analysis.rules.data import Data
from analysis.rules.findings import ERROR, Code, Raised
from analysis.rules.keys import LAST, LAST_VALIDATION
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.secrets import redacted_value

Config = tuple[tuple[str, str], ...]  # names and values, sorted
Fact = TypeVar("Fact", bound=Hashable)

MOST_NAMED = 5  # differing hyper-parameters in one sentence
FACTS = {  # of a run, by the finding that a difference raises and the word for it
    "torch": (Code.ENVIRONMENT_DIFFERS, "torch"),
    "world_size": (Code.ENVIRONMENT_DIFFERS, "ranks"),
    "gpu": (Code.ENVIRONMENT_DIFFERS, "GPU"),
    "train_shards": (Code.DATA_DIFFERS, "training shards"),
    "val_tokens": (Code.DATA_DIFFERS, "validation tokens"),
    "dataset": (Code.DATA_DIFFERS, "data set"),
}
_OWN = re.compile(  # what may differ from run to run, is measured, or has a finding of its own
    r"(?:^|_)(?:seed|run_id|runid|run_name|name|id|uuid|rank|world_size|grad_accum_steps|nproc|gpus?|device|host|port|pid|path|dir|file"
    r"|files|logfile|wandb|max_wallclock_seconds|date|time|timestamp|main_process|is_main_process|master|distributed"
    r"|hostname|every|interval|freq|frequency|node|tag|experiment|checkpoint|ckpt|artifact|out|note|notes|job|tokens_total|shards|loader|datasets?|pattern|elapsed|mem|memory|allocated)(?:_|$)|^tokens$|(?:^|_)(?:loss|bpb)$"
)
_UNIT = re.compile(r"_(?:ms|s|gb|mb|sec|secs)$")
_MEASURED = re.compile(r"-?\d+(?:\.\d+)?(?:ms|s|m|MiB|MB|GB|GiB)")


def check_alike(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that each run has the facts that most runs have."""
    for one, usual, own in _odd(claimed, lambda one: one.training.source.text if one.training.source else None):
        found = (
            f"an embedded source of {len(own)} bytes that is not that of the other claimed runs ({len(usual)} bytes)"
        )
        yield one.at(one.training.line).has(Code.SOURCE_DIFFERS, found, expected="one program for all seeds")
    for one, size, own_size in _odd(claimed, lambda one: with_training(one).code_bytes):
        found, expected = f"a code size of {own_size} bytes", f"{size}, as in the other claimed runs"
        yield one.at(one.metric.line).has(Code.CODE_SIZE_DIFFERS, found, expected=expected)
    odd = list(_configurations(claimed))
    yield from odd or _sizes(claimed)
    if rules.final == LAST_VALIDATION and rules.at_step == LAST and rules.metric in OWN and rules.train_time_s is None:
        for one, step, own_step in _odd(claimed, _stopped_at):
            found, expected = (
                f"an end at step {own_step}, without a printed total",
                f"step {step}, as in the other claimed runs",
            )
            yield one.at(one.metric.line).has(Code.CONFIG_DIFFERS, found, expected=expected)
    for name, (code, word) in FACTS.items():
        for one, fact, own_fact in _odd(claimed, attrgetter(f"run.{name}")):
            expected = f"{fact}, as in the other claimed runs"
            yield one.at(one.run.line).has(code, f"{word}: {own_fact}", expected=expected)
    yield from _ratios(claimed, rules)


def _odd(claimed: Sequence[Claimed], fact: Callable[[Claimed], Fact | None]) -> Iterator[tuple[Claimed, Fact, Fact]]:
    """Yield each run whose fact is not the most common one, with the common one and its own. Unknown facts are skipped."""
    known = [(one, value) for one in claimed if (value := fact(one)) is not None]
    if len(known) > 1:
        usual = Counter(value for _, value in known).most_common(1)[0][0]
        yield from ((one, usual, value) for one, value in known if value != usual)


def _configurations(claimed: Sequence[Claimed]) -> Raised:
    configs = _configs(claimed)
    for one, usual, config in _odd(claimed, lambda one: configs.get(id(one.run))):
        own, theirs = dict(config), dict(usual)
        said = [
            f"{name} {_said(name, own)} instead of {_said(name, theirs)}"
            for name in own | theirs
            if own.get(name) != theirs.get(name)
        ]
        more = f" and {len(said) - MOST_NAMED} more" if len(said) > MOST_NAMED else ""
        found = f"other hyper-parameters than in the other claimed runs: {', '.join(said[:MOST_NAMED])}{more}"
        yield one.at(one.run.line).has(Code.CONFIG_DIFFERS, found, expected="one configuration for all seeds")


def _sizes(claimed: Sequence[Claimed]) -> Raised:
    """Check the planned steps and the number of parameters. They show a configuration even if no log lists its settings."""
    for name, word in (("total_steps", "planned steps"), ("model_params", "parameters")):
        for one, usual, own in _odd(claimed, attrgetter(f"training.{name}")):
            expected = f"{usual}, as in the other claimed runs"
            yield one.at(one.training.line).has(Code.CONFIG_DIFFERS, f"{own} {word}", expected=expected)


def _stopped_at(one: Claimed) -> int | None:
    """Return the last step of a run that does not say how many were planned: each run may stop where its loss is best."""
    return one.run.last_step if one.run.total_steps is None else None


def _configs(claimed: Sequence[Claimed]) -> dict[int, Config]:
    """Return for each run the hyper-parameters that all seeds must share.

    A name that a run does not print counts as a difference only if each run has a block that lists all of them.
    """
    known = [one.run for one in claimed if one.run.hyperparameters]
    whole = all(run.complete_config for run in known)
    common = set.intersection(*(set(run.hyperparameters) for run in known)) if known else set()
    return {
        id(run): tuple(
            sorted(
                (name, _without_seed(value, run.seed))
                for name, value in run.hyperparameters.items()
                if (whole or (name in common and not _UNIT.search(name))) and _shared(name, value)
            )
        )
        for run in known
    }


def _said(name: str, values: Mapping[str, str]) -> str:
    return redacted_value(name, values[name]) if name in values else "not printed"


def _without_seed(value: str, seed: int | None) -> str:
    """Return a value with # in place of the run's own seed, as in tag: sota_seed42."""
    if seed is None or re.fullmatch(r"[-+.\deE]+", value):
        return value
    found = rf"(?<!\d){seed}(?!\d)" if seed > 9 else rf"(?:(?<=seed)|(?<=seed[_-])){seed}(?!\d)"
    return re.sub(found, "#", value)


def _shared(name: str, value: str) -> bool:
    return not _OWN.search(name.lower()) and "/" not in value and "\\" not in value and not _MEASURED.fullmatch(value)


def prints_settings(run: Run) -> bool:
    """Return whether a run prints a hyper-parameter that all seeds must share."""
    return any(_shared(name, value) for name, value in run.hyperparameters.items())


def _ratios(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check val_bpb / val_loss, the tokenizer's tokens per byte / ln 2: one number for one tokenizer and validation set.

    It is an error if the tokenizer is known and the validation set is the one that its constant was measured on.
    """
    data = Data.of(rules.data)
    within = data.bpb_per_nat_within
    ratios = {id(one): ratio for one in claimed if (ratio := one.metric.ratio) is not None}
    if not ratios:
        return
    usual = median(ratios.values())
    for one in claimed:
        own, tokenizer = ratios.get(id(one)), one.run.tokenizer or one.training.tokenizer
        known = rules.bpb_per_nat.get(tokenizer) if tokenizer is not None else None
        expected = usual if known is None else known
        if own is not None and not abs(own - expected) <= within + one.metric.ratio_rounding:
            whose = "as in the other runs" if known is None else f"as {tokenizer} has it"
            found = one.at(one.metric.line).has(
                Code.BYTES_PER_TOKEN_UNEXPECTED, f"val_bpb / val_loss = {own:.6f}", expected=f"{expected:.6f} {whose}"
            )
            tokens = one.run.val_tokens or one.training.val_tokens
            measured = known is not None and tokens is not None and data.agree(tokens, data.counts_for(tokenizer)[:1])
            yield replace(found, severity=ERROR if measured else None)


# -- two runs ------------------------------------------------------------------------------------------------------------


def shared_settings(run: Run) -> frozenset[tuple[str, str]]:
    """Return the hyper-parameters that all seeds of a configuration share, with # for the run's own seed."""
    return frozenset(
        (name, _without_seed(value, run.seed))
        for name, value in run.hyperparameters.items()
        if not _UNIT.search(name) and _shared(name, value)
    )


def differing_settings(one: Run, other: Run) -> list[str]:
    """Return the hyper-parameters that two runs print with different values, by name."""
    return sorted(
        name
        for name, value in shared_settings(one)
        if name in other.hyperparameters and value != _without_seed(other.hyperparameters[name], other.seed)
    )
