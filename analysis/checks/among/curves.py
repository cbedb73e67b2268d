"""Find what two runs share that runs of two seeds do not: losses, clock, result.

The thresholds were measured on 146 pairs of honest runs of public Parameter Golf records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.checks.consistent import Trace
from analysis.reading.metric import Step
from analysis.record.selection import Claimed
from analysis.rules.ruleset import Ruleset

if TYPE_CHECKING:
    import numpy as np

BEGINNING = range(2, 10)  # steps whose losses two seeds do not share
SAME_LOSS = 0.008  # the largest difference there; of honest pairs at least 0.0112
SAME_CLOCK_MS = 20.0
SAME_CLOCK = 0.6  # share of steps within SAME_CLOCK_MS; of honest pairs at most 0.39
LONG_MS = 300_000.0  # the clocks of shorter runs are close to each other
COARSE_MS = 100.0  # what times in minutes or seconds are multiples of
WARM = 10  # first steps, in which clocks and losses settle
FEWEST = 10  # equal losses or times that are more than chance
MOST_COMPARED = 200  # logged steps of one run
EXACT = 6  # decimals; two runs do not end in the same value to that many
FEW = 30  # runs that are compared two by two
MOST_CELLS = 2**28  # of the comparison of more: runs * runs * steps
MOST_TWINS = 20  # of one run that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The part of a run that is compared: losses and times by step, thinned if it logs more than MOST_COMPARED."""

    one: Claimed
    beginning: Mapping[int, float]
    losses: Mapping[int, tuple[float | None, ...]]
    times: Mapping[int, float]
    values: tuple[float | None, ...] = field(default=())

    @classmethod
    def of(cls, trace: Trace, every: int) -> Curve:
        """Return the curve with the first steps and, of the later ones, the multiples of `every`."""
        logged = [s for s in trace.steps if s.step > 0 and (s.step <= WARM or s.step % every == 0)]
        metric = trace.one.metric
        is_loss = (
            metric.label not in metric.others
        )  # of another metric equal values are no sign: two runs may have the same accuracy
        return cls(
            one=trace.one,
            beginning={s.step: s.train_loss for s in logged if s.step in BEGINNING and s.train_loss is not None},
            losses={s.step: _losses(s) for s in logged if _losses(s) != (None, None, None)},
            times={s.step: s.train_time_ms for s in logged if s.step > WARM and s.train_time_ms is not None},
            values=(metric.val_loss, metric.val_bpb) if is_loss and metric.decimals >= EXACT else (),
        )

    def same_as(self, other: Curve, rules: Ruleset) -> str | None:
        """Return what both runs share that two seeds do not; None if there is nothing."""
        if rules.seeds == "required":  # without seeds, runs may share their first weights
            common = sorted(self.beginning.keys() & other.beginning.keys())
            if len(common) > 1 and all(abs(self.beginning[n] - other.beginning[n]) < SAME_LOSS for n in common):
                shown = ", ".join(f"{self.beginning[step]:g}" for step in common)
                return f"the training losses at the first steps ({shown})"
        least = 2 if rules.seeds == "required" else 3
        common = [n for n in self.losses.keys() & other.losses.keys() if n > 1]
        equal = [n for n in common if self.losses[n] == other.losses[n]]
        if least <= len(common) == len(equal):
            return "every logged loss"
        late = [n for n in common if n > WARM]
        if len(late) >= FEWEST and 2 * len([n for n in equal if n > WARM]) >= len(late):
            return f"the losses to the last digit at {len(equal)} of {len(common)} steps"
        if self.values and self.values == other.values:
            return "the final metric to the last digit"
        return self._same_clock(other)

    def _same_clock(self, other: Curve) -> str | None:
        common = self.times.keys() & other.times.keys()
        if len(common) < FEWEST or _is_coarse([self.times[n] for n in common]):
            return None
        apart = [abs(self.times[n] - other.times[n]) for n in common]
        near = [ms for ms in apart if ms <= SAME_CLOCK_MS]
        is_long = max(self.times[n] for n in common) >= LONG_MS
        if apart.count(0.0) >= SAME_CLOCK * len(common) or (is_long and len(near) >= SAME_CLOCK * len(common)):
            return f"the clock to {SAME_CLOCK_MS:g} ms at {len(near)} of {len(common)} steps"
        return None


def _losses(step: Step) -> tuple[float | None, ...]:
    return step.train_loss, step.val_loss, step.val_bpb


def _is_coarse(times: Sequence[float]) -> bool:
    """Return whether most times are printed in minutes or seconds."""
    return 2 * sum(abs(ms / COARSE_MS - round(ms / COARSE_MS)) < 1e-6 for ms in times) > len(times)


# -- very many runs ------------------------------------------------------------------------------------------------------


def earlier_twins(curves: Sequence[Curve], rules: Ruleset) -> Iterator[Sequence[int]]:
    """Yield for each run the earlier runs that `same_as` must look at: all of a few runs, or the likely ones of many.

    A thousand runs would take minutes two by two. So all runs go into tables with a row for each run and a column for each step.
    """
    if len(curves) <= FEW:
        yield from (range(i) for i in range(len(curves)))
        return
    import numpy as np

    required = rules.seeds == "required"
    known: dict[object, int] = {}
    numbers = [{n: known.setdefault(loss, len(known)) for n, loss in one.losses.items() if n > 1} for one in curves]
    beginning = _table([one.beginning if required else {} for one in curves])
    losses, late = _table(numbers), _table([{n: row[n] for n in row if n > WARM} for row in numbers])
    times = _table([one.times if not _is_coarse([*one.times.values()]) else {} for one in curves])
    for i, one in enumerate(curves):
        apart = np.abs(beginning[:i] - beginning[i])
        common = ~np.isnan(apart)
        found = (common.sum(1) > 1) & ((apart < SAME_LOSS) | ~common).all(1)
        common, equal = _common(losses, i), (losses[:i] == losses[i]).sum(1)
        found |= (common >= (2 if required else 3)) & (common == equal)
        common, equal = _common(late, i), (late[:i] == late[i]).sum(1)
        found |= (common >= FEWEST) & (2 * equal >= common)
        common, equal = _common(times, i), (times[:i] == times[i]).sum(1)
        if max(one.times.values(), default=0.0) >= LONG_MS:
            equal = (np.abs(times[:i] - times[i]) <= SAME_CLOCK_MS).sum(1)
        found |= (common >= FEWEST) & (equal >= SAME_CLOCK * common)
        found |= np.array([bool(one.values) and one.values == other.values for other in curves[:i]], dtype=bool)
        yield [int(j) for j in np.flatnonzero(found)[:MOST_TWINS]]


def _common(table: np.ndarray, i: int) -> np.ndarray:
    """Count, for each row above row i, the columns in which both rows have a number."""
    import numpy as np

    count: np.ndarray = (~np.isnan(table[:i] - table[i])).sum(1)
    return count


def _table(rows: Sequence[Mapping[int, float]]) -> np.ndarray:
    """Return a table of the rows. Its columns are the most common steps, with NaN if a row lacks one."""
    import numpy as np

    most = max(FEWEST, MOST_CELLS // len(rows) ** 2)
    counted = Counter(step for row in rows for step in row)
    column = {step: number for number, (step, _) in enumerate(counted.most_common(most))}
    table = np.full((len(rows), len(column)), np.nan)
    for number, row in enumerate(rows):
        for step, value in row.items():
            if step in column:
                table[number, column[step]] = value
    return table
