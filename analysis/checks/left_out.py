"""Find the runs that a claim leaves out. A mean must rest on every run that was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.checks.among.alike import differing_settings, shared_settings
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.record.groups import alike
from analysis.record.selection import LeftOut, Selection, Why
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.sweepdir.layout import CONTROL

OWN_CONTROL = f"{CONTROL}/"  # the control runs of a record of ours
COULD_COUNT = (Why.NOT_NAMED, Why.OTHER_RUN_OF_LOG, Why.SAME_SEED, Why.DEEPER, Why.NOT_A_LOG)
MOST_NAMED = 6
MOST_KINDS = 4  # configurations of claimed runs that others are compared with; more than one is an error anyway


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
        if result.log.startswith(OWN_CONTROL):
            continue
        labelled = result.metric is not None and result.label == label
        if one.why in COULD_COUNT and _is_kin(result.run, claimed, same_program=True):
            if labelled:
                complete.append(result)
            elif _program(result.run) is not None and any(_program(run) == _program(result.run) for run in claimed):
                unfinished.append(result)
        elif one.why is Why.NO_RESULT and _ended_early(result.run, claimed):
            unfinished.append(result)
    return Kin(complete=tuple(complete), unfinished=tuple(unfinished))


def _ended_early(run: Run, claimed: Sequence[Run]) -> bool:
    """Return whether a run without a result belongs to the claim: by what it prints, or by its name if it prints nothing."""
    if run.curve:
        return _is_kin(run, claimed, same_program=False)
    return not run.metrics and run.log.suffix == ".log" and alike(run.log) in {alike(one.log) for one in claimed}


def _is_kin(run: Run, claimed: Sequence[Run], *, same_program: bool) -> bool:
    return any(
        not differing_settings(run, one)
        and _agree(run.total_steps, one.total_steps)
        and _agree(run.code_bytes, one.code_bytes)
        and (not same_program or _agree(_program(run), _program(one)))
        for one in claimed
    )


def _kinds(claimed: Sequence[Run]) -> list[Run]:
    """Return one claimed run for each program and configuration, for the first few of them."""
    kinds = {(shared_settings(run), run.total_steps, run.code_bytes, _program(run)): run for run in claimed}
    return list(kinds.values())[:MOST_KINDS]


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _program(run: Run) -> bytes | None:
    return run.source.text if run.source is not None else None


def check_left_out(selection: Selection) -> Raised:
    """Check that the claim leaves out no run of its program and configuration. The verdict shows what they would change."""
    claimed = selection.claimed
    said = (*selection.incomplete, *(unread.path for unread in selection.unread))
    unsaid = [one for one in selection.left_out if one.result.run.log not in said]
    kin = kin_of([one.run for one in claimed], claimed[0].metric.label if claimed else None, unsaid)
    if not kin.all:
        return
    first = kin.all[0]
    named = [f"{run.log} ({run.metric.val_bpb or run.metric.val_loss:.6g})" for run in kin.complete if run.metric]
    named += [f"{run.log} (no result)" for run in kin.unfinished]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    yield Found(
        code=Code.RUNS_LEFT_OUT,
        at=Place(first.log, first.line or first.run.line),
        found=f"runs of the claimed program and configuration that are not counted, {len(named)} in all: "
        f"{', '.join(named[:MOST_NAMED])}{more}",
        expected="every run that was made",
        do="Count them, or say how they differ from the claimed runs.",
    )


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
