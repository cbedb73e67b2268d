"""Compare claimed seeds, numbers of runs, sizes and times with the logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.reading.run import Run
from analysis.record.fit import half_a_unit, mean
from analysis.record.folder import seed_of
from analysis.record.selection import with_training
from analysis.record.stated.logs import MOST_ENDS, Logs
from analysis.record.stated.said import Holds, Kind, Of, Said, Statement

CODE_BYTES = 2  # newlines at the end of a script


def seed(said: Said, logs: Logs) -> Statement:
    """Look for a log of a seed."""
    ends = logs.ends.get(said.seed, ())
    runs = [end.run for end in ends] or [run for run in logs.record.runs if seed_of(run) == said.seed]
    if runs:
        run = runs[0]
        return Statement(
            claim=said, holds=Holds.YES, evidence=f"seed {said.seed}", log=logs.record.shown(run.log), log_line=run.line
        )
    known = bool(logs.ends) and None not in logs.ends and not (said.of_json and _counted(logs))
    return Statement(claim=said, holds=Holds.NO if known else Holds.UNKNOWN)


def _counted(logs: Logs) -> bool:
    """Return whether the JSON only numbers its runs from 0 or 1, so that its seeds are not real seeds."""
    said = set(logs.record.claim.seeds) if logs.record.claim is not None else set()
    return said in (set(range(len(said))), set(range(1, len(said) + 1))) and not said & set(logs.ends)


def number_of_runs(said: Said, logs: Logs) -> Statement:
    """Compare n with the number of claimed runs, and with the sizes of the samples that may be meant."""
    counts = [len(logs.selection.claimed), *(one.n for one in logs.samples)]
    if said.value in counts:
        return Statement(claim=said, holds=Holds.YES, evidence=f"{said.value} runs")
    holds = Holds.NO if counts[0] and said.strict else Holds.UNKNOWN
    share = float(said.value) / counts[0] if counts[0] and said.value is not None else None
    return Statement(claim=said, holds=holds, evidence=f"{counts[0]} run{'s' if counts[0] != 1 else ''}", share=share)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Printed:
    """A number that a run prints, and where."""

    value: float
    log: str
    line: int


def size(said: Said, logs: Logs) -> Statement:
    """Compare a size in bytes with every total that the claimed runs of its seed print."""
    return _compared(
        said,
        _printed(said, logs, lambda run: [run.artifact_bytes, *(total for _, total in run.totals[-MOST_ENDS:])]),
        1,
    )


def code(said: Said, logs: Logs) -> Statement:
    """Compare a code size with what the claimed runs print and with the scripts of the folder."""
    printed = _printed(said, logs, lambda run: [run.code_bytes, run.unpacked_code_bytes])
    scripts = [path for path in logs.record.listing.files if path.suffix == ".py"]
    shipped = [_Printed(value=_size(path), log=logs.record.shown(path), line=1) for path in scripts]
    found = _compared(said, [*printed, *shipped], CODE_BYTES)
    return found if printed or found.holds is Holds.YES else Statement(claim=said)


def steps(said: Said, logs: Logs) -> Statement:
    """Compare a seed's steps with those that its run took, and with those that were planned."""
    return _compared(said, _printed(said, logs, lambda run: [run.last_step, run.total_steps]), 1)


def train_time(said: Said, logs: Logs) -> Statement:
    """Compare a training time with what the claimed runs print."""
    return _compared(said, _printed(said, logs, lambda run: [run.train_time_ms]), _digit(said))


def eval_time(said: Said, logs: Logs) -> Statement:
    """Compare an evaluation time with the longest evaluation of the claimed runs. A longer claim is unknown: it may add several."""
    found = _compared(said, _printed(said, logs, lambda run: [run.eval_time_ms]), _digit(said))
    longer = found.holds is Holds.NO and found.worse_by <= 0
    return Statement(claim=said) if longer else found


def _digit(said: Said) -> float:
    """Return one unit of the last printed digit in ms, and at least 1 ms, because logs round to that."""
    assert said.value is not None
    return max(2 * half_a_unit(said.value) * said.unit, 1.0)


def _printed(said: Said, logs: Logs, facts: Callable[[Run], Sequence[float | None]]) -> list[_Printed]:
    """Return what the claimed runs print. If the claim names a seed, only that seed's runs are used."""
    return [
        _Printed(value=value, log=one.log, line=one.training.size_line or one.metric.line)
        for one in logs.selection.claimed
        if said.seed in (None, seed_of(one.run))
        for value in dict.fromkeys(facts(with_training(one)))
        if value is not None
    ]


def _compared(said: Said, printed: Sequence[_Printed], near: float) -> Statement:
    """Compare a number with each printed one and their mean, or with the mean, largest or smallest if it says which."""
    assert said.value is not None
    claimed = float(said.value) * said.unit
    if not printed:
        return Statement(claim=said)
    found = [one.value for one in printed]
    wanted = {Of.MEAN: [mean(found)], Of.LARGEST: [max(found)], Of.SMALLEST: [min(found)]}
    tried = wanted.get(said.of, [*found, mean(found)])
    nearest = min(tried, key=lambda value: abs(value - claimed))
    fits = abs(nearest - claimed) <= near
    place = min(printed, key=lambda one: abs(one.value - nearest))
    unit = {Kind.SIZE: "bytes", Kind.CODE: "bytes", Kind.STEPS: "steps"}.get(said.kind, "ms")
    return Statement(
        claim=said,
        holds=Holds.YES if fits else Holds.NO if said.strict else Holds.UNKNOWN,
        evidence=f"{nearest:.0f} {unit}",
        log=place.log,
        log_line=place.line,
        worse_by=0.0 if fits else nearest - claimed,
        share=claimed / nearest if nearest else None,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
