"""Say which checks the logs allow. A check that lacks its facts was not made and is listed, because unknown is not clean.

A check that raised findings was made. A cap that no log speaks of is also an error (`cap-unknown`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from analysis.checks.among.alike import prints_settings
from analysis.checks.among.curves import BEGINNING, WARM
from analysis.checks.caps import CAPS, Cap
from analysis.reading.result import Result
from analysis.reading.run import Origin
from analysis.record.fit import headlines
from analysis.record.folder import Record
from analysis.record.selection import Claimed, with_training
from analysis.rules.keys import LABELLED
from analysis.rules.ruleset import Ruleset

FIRST_STEPS = 60  # logged steps that show whether a log prints losses and times


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """A check that could not be made, and why: a clause without a full stop."""

    check: str
    why: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The number of checks that the rules ask for, and the checks that could not be made."""

    asked: int = 0
    not_made: tuple[NotChecked, ...] = ()

    def __add__(self, other: Checked) -> Checked:
        return Checked(self.asked + other.asked, self.not_made + other.not_made)


NONE = Checked()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """A check's name, what a log must print for it, and whether a run's log does."""

    name: str
    needs: str
    told: Callable[[Claimed], bool]


def checked(claimed: Sequence[Claimed], rules: Ruleset, record: Record | None = None) -> Checked:
    """Return which checks of the claimed runs could be made. record: their folder, None for a sweep."""
    if not claimed:
        return Checked()
    checks = [*_of_each(rules), *(_of_all(rules) if len(claimed) > 1 and rules.has_test else ())]
    not_made = [NotChecked(check=check.name, why=why) for check in checks if (why := _lacking(check, claimed))]
    of_the_folder = [] if record is None or record.base is None else list(_of_the_folder(record, rules))
    not_made += [one for one in of_the_folder if one.why]
    return Checked(len(checks) + len(of_the_folder), tuple(not_made))


def _lacking(check: _Check, claimed: Sequence[Claimed]) -> str | None:
    silent = list(dict.fromkeys(one.log for one in claimed if not check.told(one)))
    if len(silent) == len({one.log for one in claimed}):
        if all(one.run.origin is Origin.TYPED for one in claimed):
            return "only numbers were given"
        return f"no log prints {check.needs}" if len(silent) > 1 else f"{silent[0]} does not print {check.needs}"
    more = f" and {len(silent) - 1} more do" if len(silent) > 1 else " does"
    return f"{silent[0]}{more} not print {check.needs}" if silent else None


def _of_each(rules: Ruleset) -> Iterator[_Check]:
    """Yield the checks that the rules ask for on every run."""
    yield from (_cap(cap) for cap in CAPS if getattr(rules, cap.key) is not None)
    if rules.eval_time_s is not None:
        yield _fact("the cap on the evaluation time", "an evaluation time", "eval_time_ms")
    if rules.gpu is not None:
        yield _fact("the kind of GPU", "its GPU", "gpu")
    if rules.seeds == "required":
        yield _fact("different seeds", "its seed", "seed")
    if "val_tokens" in rules.data:
        yield _fact("the whole validation set", "how many tokens it validated on", "val_tokens")
    if "train_shards" in rules.data:
        yield _fact("the training data", "its training shards", "train_shards")
    if rules.bpb_per_nat:
        yield _Check(
            name="the bytes per token",
            needs="a tokenizer that the rules know",
            told=lambda one: (one.run.tokenizer or one.training.tokenizer) in rules.bpb_per_nat,
        )
    if rules.final == LABELLED:
        yield _Check(
            name="the final metric against the training",
            needs="a validation in training",
            told=lambda one: one.training.validation is not None,
        )


def _of_all(rules: Ruleset) -> Iterator[_Check]:
    """Yield the checks that compare the runs."""
    yield _Check(
        name="one program for all runs",
        needs="its source or the size of its code",
        told=lambda one: one.training.source is not None or with_training(one).code_bytes is not None,
    )
    yield _Check(
        name="one configuration for all runs",
        needs="its settings",
        told=lambda one: prints_settings(one.run) or prints_settings(one.training),
    )
    yield _fact("one version of torch", "its version of torch", "torch")
    steps = f"training losses at steps {BEGINNING[0]} to {BEGINNING[-1]}"
    needs = steps if rules.seeds == "required" else "training losses"
    yield _Check(name="copies by their losses", needs=needs, told=lambda one: _prints_losses(one, rules))
    yield _Check(name="copies by their clock", needs="the time of its steps", told=_prints_times)


def _cap(cap: Cap) -> _Check:
    def told(one: Claimed) -> bool:
        return cap.used(with_training(one)) is not None

    return _Check(name=f"the cap on the {cap.word}", needs=f"the {cap.word}", told=told)


def _fact(name: str, needs: str, fact: str) -> _Check:
    def told(one: Claimed) -> bool:
        return getattr(one.run, fact) is not None or getattr(one.training, fact) is not None

    return _Check(name=name, needs=needs, told=told)


def _prints_losses(one: Claimed, rules: Ruleset) -> bool:
    steps = islice(one.training.read_steps(), FIRST_STEPS)
    if rules.seeds != "required":
        return any(step.train_loss is not None or step.val_loss is not None for step in steps)
    return sum(step.step in BEGINNING and step.train_loss is not None for step in steps) > 1


def _prints_times(one: Claimed) -> bool:
    steps = islice(one.training.read_steps(), FIRST_STEPS)
    return any(step.step > WARM and step.train_time_ms is not None for step in steps)


def _of_the_folder(record: Record, rules: Ruleset) -> Iterator[NotChecked]:
    """Yield the checks of the files next to the logs. `why` is empty if a check could be made."""
    if rules.submission == "required" or not rules.has_test:
        has_claim = bool(headlines(record.claim))
        yield NotChecked(check="the claimed number", why="" if has_claim else "no JSON that claims one")
    if rules.submission == "required":
        scripts = any(path.suffix == ".py" for path in record.listing.files)
        yield NotChecked(check="the shipped program", why="" if scripts else "no script (*.py) in the folder")


# -- candidate and control -------------------------------------------------------------------------------------------


def checked_control(runs: Sequence[Result], control: Sequence[Result]) -> Checked:
    """Return which checks between a candidate and its control could be made."""
    facts = {
        "val_tokens": "validation tokens of candidate and control",
        "torch": "torch of candidate and control",
        "gpu": "GPU of candidate and control",
    }
    not_made = []
    for fact, check in facts.items():
        silent = [name for name, arm in (("candidate", runs), ("control", control)) if not _tells(arm, fact)]
        if silent:
            not_made.append(
                NotChecked(
                    check=check, why="neither prints it" if len(silent) > 1 else f"the {silent[0]} does not print it"
                )
            )
    return Checked(len(facts), tuple(not_made))


def _tells(arm: Sequence[Result], fact: str) -> bool:
    return any(getattr(one.run, fact) is not None for one in arm)
