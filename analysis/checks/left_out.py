"""Find the runs that a claim leaves out. A mean must rest on every run that was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from analysis.checks.among.alike import differing_settings, shared_settings
from analysis.reading.metric import Metric
from analysis.reading.result import EARLY, Result
from analysis.reading.run import Run
from analysis.reading.source import same_code
from analysis.record.folder import Record
from analysis.record.groups import alike
from analysis.record.selection import LeftOut, Selection, Why
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.sweepdir.layout import CANDIDATE, CONTROL, PLAN

COULD_COUNT = (Why.NOT_NAMED, Why.OTHER_RUN_OF_LOG, Why.SAME_SEED, Why.OTHER_ARM, Why.DEEPER, Why.NOT_A_LOG)
MOST_NAMED = 6
FACTS = ("total_steps", "world_size")
MOST_KINDS = 4  # configurations of claimed runs that others are compared with: more than one is an error already


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """Left-out runs that look like the claimed ones in all that logs print. unfinished: they trained but have no result."""

    complete: tuple[Result, ...]
    unfinished: tuple[Result, ...]

    @property
    def all(self) -> tuple[Result, ...]:
        return self.complete + self.unfinished


def kin_of(claimed: Sequence[Run], label: str | None, left_out: Iterable[LeftOut]) -> Kin:
    """Find the runs of the claimed program and configuration among those left out.

    label: the metric that counts. A fact that a log does not print is not a difference. A run without a result may embed a
    different program, because somebody may have respelled its last line. A run of exactly the claimed program that ends in
    another metric has no result either.
    """
    claimed = _kinds(claimed)
    complete: list[Result] = []
    unfinished: list[Result] = []
    for one in left_out if claimed else ():
        result = one.result
        if result.arm == CONTROL:
            continue
        labelled = result.metric is not None and result.label == label
        edited = one.why is Why.OTHER_RUN_OF_LOG and _program(result.run) not in (None, *map(_program, claimed))
        if edited:  # a log of several tries, of which the program of the last one counts
            continue
        if one.why in COULD_COUNT and _is_kin(result.run, claimed, same_program=True):
            if labelled:
                complete.append(result)
            elif any(is_one_program(run, result.run) for run in claimed):
                unfinished.append(result)
        elif one.why is Why.NO_RESULT and _ended_early(result.run, claimed):
            unfinished.append(result)
    return Kin(complete=tuple(complete), unfinished=tuple(unfinished))


def claimed_in_control(runs: Sequence[Result], control: Iterable[Result]) -> tuple[LeftOut, ...]:
    """Return the runs of a proposed control that are of the claimed program and settings.

    Only their folder's name makes them another arm: a claim's bad runs would be left out, and be what it must beat.
    """
    own = [run.run for run in runs if run.run.source is not None]

    def is_claimed(other: Run) -> bool:
        return any(run.source == other.source and not differing_settings(run, other) for run in own)

    return tuple(
        LeftOut(result=replace(one, arm=CANDIDATE), why=Why.OTHER_ARM) for one in control if is_claimed(one.run)
    )


def check_control_arm(name: str, claimed: Sequence[LeftOut]) -> Iterator[Found]:
    """Yield that a proposed control holds runs of the claim. Where the claim fails with them, it is an error."""
    if claimed:
        first = claimed[0].result
        yield Found(
            code=Code.RUNS_LEFT_OUT,
            at=Place(first.log, first.line or first.run.line),
            found=f"{len(claimed)} runs of the claimed program and settings in {name}, the proposed control",
            expected="another program or other settings in another arm",
            do="Count them, or name the arms with PATH and --control.",
        )


def _ended_early(run: Run, claimed: Sequence[Run]) -> bool:
    """Return whether a run without a result belongs to the claim: by what it prints, or by its name if it prints nothing."""
    if run.curve:
        usual = max((one.last_step or 0 for one in claimed), default=0)
        if run.last_step is not None and run.last_step < EARLY * usual:
            return False
        told = any(
            step.train_loss is not None or step.train_time_ms is not None for step in islice(run.read_steps(), 9)
        )
        return told and _is_kin(run, claimed, same_program=False)
    return not run.metrics and run.log.suffix == ".log" and alike(run.log) in {alike(one.log) for one in claimed}


def _is_kin(run: Run, claimed: Sequence[Run], *, same_program: bool) -> bool:
    return any(
        not differing_settings(run, one)
        and all(_agree(getattr(run, fact), getattr(one, fact)) for fact in FACTS)
        and (is_one_program(run, one) or _may_be_one_program(run, one, same_program=same_program))
        and _has_in_common(run, one)
        for one in claimed
    )


def _may_be_one_program(run: Run, one: Run, *, same_program: bool) -> bool:
    known = run.source is not None and one.source is not None
    return _agree(run.code_bytes, one.code_bytes) and not (known and same_program)


def _has_in_common(run: Run, one: Run) -> bool:
    """Return whether two runs print something in common, a label or a fact. Unknown facts show nothing."""
    labels = {metric.label for metric in run.finals} & {metric.label for metric in one.finals}
    facts = any(
        getattr(run, fact) not in (None, ()) and getattr(run, fact) == getattr(one, fact)
        for fact in (*FACTS, "code_bytes")
    )
    return bool(labels or facts or (shared_settings(run) and shared_settings(one)) or is_one_program(run, one))


def is_one_program(run: Run, one: Run) -> bool:
    """Return whether two runs embed programs that differ at most in strings and comments."""
    return run.source is not None and one.source is not None and same_code(run.source, one.source)


def _kinds(claimed: Sequence[Run]) -> list[Run]:
    """Return one claimed run for each program and configuration, for the first few of them."""
    kinds = {(shared_settings(run), run.total_steps, run.code_bytes, _program(run)): run for run in claimed}
    return list(kinds.values())[:MOST_KINDS]


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _program(run: Run) -> bytes | None:
    return run.source.text if run.source is not None else None


def check_left_out(record: Record, selection: Selection) -> Raised:
    """Check that the claim leaves out no run of its program and configuration. The verdict shows what they would change.

    In a record with a plan, the runs in the folder `control` are another arm.
    """
    claimed = selection.claimed
    has_arms = record.base is not None and record.base / PLAN in record.listing.files
    said = (*selection.incomplete, *(unread.path for unread in selection.unread))
    others = [one for one in selection.left_out if not (has_arms and one.result.log.startswith(f"{CONTROL}/"))]
    unsaid = [one for one in others if one.result.run.log not in said]
    kin = kin_of([one.run for one in claimed], claimed[0].metric.label if claimed else None, unsaid)
    if not kin.all:
        return
    first = kin.all[0]
    several = {log for log, count in Counter(run.log for run in kin.all).items() if count > 1}
    names = {id(run): f"{run.log}:{run.line or run.run.line}" if run.log in several else run.log for run in kin.all}
    named = [f"{names[id(run)]} ({run.metric.number:.6g})" for run in kin.complete if run.metric]
    named += [f"{names[id(run)]} (no result)" for run in kin.unfinished]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    yield Found(
        code=Code.RUNS_LEFT_OUT,
        at=Place(first.log, first.line or first.run.line),
        found=f"runs of the claimed program and configuration that are not counted, {len(named)} in all: "
        f"{', '.join(named[:MOST_NAMED])}{more}",
        expected="every run that was made",
        do="Count them, or say how they differ from the claimed runs.",
    )


def _shown(metric: Metric) -> str:
    value = metric.val_bpb or metric.val_loss or metric.value(metric.label)
    return f"{value:.6g}" if value is not None else "no number"


def check_unread(record: Record, selection: Selection) -> Raised:
    """Check that no file but the logs holds a run."""
    for unread in selection.unread:
        at = Place(record.shown(unread.path), unread.line)
        if unread.searched:
            expected = "every run in a log of its own (*.log, *.txt, *.out)"
            do = "Show it as a log, or say why it is not one of the claim's runs."
            yield at.has(Code.RUN_NOT_READ, unread.found, expected=expected, do=do)
        else:
            yield at.has(Code.FILE_NOT_READ, unread.found, expected="a file that can be read")
