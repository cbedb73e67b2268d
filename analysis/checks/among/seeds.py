"""Whether the claimed runs are of different seeds: by the seeds that they print, and by what two logs have in common.

The thresholds were measured on 146 pairs of honest runs of public Parameter Golf records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.checks.consistent import Trace
from analysis.reading.grammar import Step
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Found, Raised
from analysis.rules.ruleset import Ruleset

BEGINNING = range(2, 10)  # steps whose losses two seeds do not share
SAME_LOSS = 0.008  # the largest difference there; of honest pairs at least 0.0112
SAME_CLOCK_MS = 20.0
SAME_CLOCK = 0.6  # share of steps within SAME_CLOCK_MS; of honest pairs at most 0.39
LONG_MS = 300_000.0  # the clocks of shorter runs are close to each other
COARSE_MS = 100.0  # what times in minutes or seconds are multiples of
WARM = 10  # steps that set clocks and losses going
FEWEST = 10  # equal losses or times that are more than chance
MOST_COMPARED = 200  # logged steps of one run
EXACT = 6  # decimals from which on two runs do not end in one value


def check_seeds(traces: Sequence[Trace], rules: Ruleset) -> Raised:
    """Check that no two runs print one seed, trained as one, or were made from one another."""
    yield from _same_seeds([trace.one for trace in traces])
    every = max((len(trace.steps) for trace in traces), default=0) // MOST_COMPARED
    before: list[_Curve] = []
    for trace in traces:
        own = _Curve.of(trace, max(every, 1))
        twins = ((other, own.same_as(other, rules)) for other in before if other.one.training is not own.one.training)
        twin, same = next(((other, same) for other, same in twins if same), (None, None))
        if twin is not None:
            yield Found(
                code=Code.SAME_TRAJECTORY,
                at=own.one.at(own.one.training.line),
                found=f"{same} of {twin.one.log}",
                expected="another seed's",
                do="One seed was run twice, or one log was made from the other: rerun it.",
            )
        before.append(own)


def _same_seeds(claimed: Sequence[Claimed]) -> Raised:
    first: dict[int, Claimed] = {}
    for one in claimed:
        if one.run.seed is None:
            continue
        if one.run.seed in first:
            yield Found(
                code=Code.DUPLICATE_SEED,
                at=one.at(one.run.line),
                found=f"seed {one.run.seed}, which {first[one.run.seed].log} prints too",
                expected="another",
                do="Keep one run for each seed.",
            )
        first.setdefault(one.run.seed, one)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """What is compared of a run: its losses and times by step, thinned where it logs more than MOST_COMPARED."""

    one: Claimed
    beginning: Mapping[int, float]
    losses: Mapping[int, tuple[float | None, ...]]
    times: Mapping[int, float]
    values: tuple[float | None, ...] = field(default=())

    @classmethod
    def of(cls, trace: Trace, every: int) -> _Curve:
        """Take the first steps and, of the others, those that are a multiple of `every`."""
        logged = [s for s in trace.steps if s.step > 0 and (s.step <= WARM or s.step % every == 0)]
        metric = trace.one.metric
        return cls(
            one=trace.one,
            beginning={s.step: s.train_loss for s in logged if s.step in BEGINNING and s.train_loss is not None},
            losses={s.step: _losses(s) for s in logged if _losses(s) != (None, None, None)},
            times={s.step: s.train_time_ms for s in logged if s.step > WARM and s.train_time_ms is not None},
            values=(metric.val_loss, metric.val_bpb) if metric.decimals >= EXACT else (),
        )

    def same_as(self, other: _Curve, rules: Ruleset) -> str | None:
        """Return what both runs have in common though two seeds do not; None if there is nothing."""
        if rules.seeds == "required":  # other runs may well share their first weights
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

    def _same_clock(self, other: _Curve) -> str | None:
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
