"""What every view says first: the gate's word, the improvement, and why."""

from __future__ import annotations

from analysis.evidence.case import Source
from analysis.report.said.findings import alike
from analysis.rules.findings import ERROR
from analysis.rules.metrics import TRAIN_TIME, unit_of
from analysis.verdict.gain import Gain, gain_of
from analysis.verdict.numbers import in_short, percent
from analysis.verdict.verdict import CONTINUE, REFUSED, SUPPORTED, UNUSABLE, Answer, OfCriterion, Verdict

WORDS = {str(answer): answer.replace("_", " ") for answer in Answer} | {
    CONTINUE: "not yet",
    UNUSABLE: "cannot tell",
    REFUSED: "refused",
}


def word(verdict: Verdict) -> str:
    """Return the gate's word: error-level findings overrule numbers that would pass."""
    return WORDS[verdict.gate]


def headline(verdict: Verdict) -> str:
    """Return the first line of a text: the word, and the improvement or else the reason."""
    gained = None if verdict.verdict is UNUSABLE else improvement(verdict)
    return f"{word(verdict).upper()}: {gained or why(verdict)[0]}"


def first_lines(verdict: Verdict) -> list[str]:
    """Return the headline, and below it the reasons that it does not hold already."""
    first = headline(verdict)
    return [first, *(one for one in why(verdict) if not first.endswith(f": {one}"))]


def why(verdict: Verdict) -> list[str]:
    """Return why, in sentences: the findings that overrule numbers that would pass, then what was tested."""
    return [*([refusal(verdict)] if verdict.gate == REFUSED else []), verdict.reason]


def refusal(verdict: Verdict) -> str:
    """Return what refuses a claim whose numbers would pass."""
    number = sum(one["severity"] == ERROR for one in alike(verdict.findings))
    found = f"{number} error{'s' if number > 1 else ''} in the evidence refuse{'' if number > 1 else 's'} it"
    return f"{found}; the numbers alone would pass." if verdict.verdict is SUPPORTED else f"{found}."


def improvement(verdict: Verdict) -> str | None:
    """Return how much better than what must be beaten: on average, at least, and how much is needed; None if nothing was.

    The gain of every criterion that the rules ask for is named, the first one's too unless it is waived.
    """
    said = [] if verdict.metric in verdict.waived else [_gained(verdict, gain_of(verdict))]
    said += [_gained(one, gain_of(one)) or f"{one.name} is not tested" for one in verdict.criteria]
    return "; ".join(filter(None, said)) or None


def _gained(one: Verdict | OfCriterion, gain: Gain | None) -> str | None:
    if gain is None:
        return None
    numbers = [gain.mean, gain.needed, *([] if gain.low is None else [gain.low])]
    mean, needed, *low = in_short(one.metric, *map(abs, numbers))
    unit = _unit(one.metric)
    side = ("faster" if gain.mean >= 0 else "slower") if one.metric == TRAIN_TIME else _side(gain.mean)
    said = f"{mean}{unit} {side}"
    if gain.low is not None:
        said += f", at least {low[0]}" if gain.low >= 0 else f", perhaps {low[0]} worse"
        said += f" at {percent(1 - one.alpha)}"
    return f"{said}; {_needed(gain.needed, needed)}"


def _side(gain: float) -> str:
    return "better" if gain >= 0 else "worse"


def _needed(needed: float, shown: str) -> str:
    if needed == 0:
        return "any gain is enough"
    return f"{shown} needed" if needed > 0 else f"{shown} worse is allowed"


def _unit(metric: str) -> str:
    """Return a blank and the unit; nothing where the metric has none but its name."""
    unit = unit_of(metric)
    return "" if unit == metric else f" {unit}"


def beaten(verdict: Verdict) -> str | None:
    """Return what must be beaten and where it comes from: SOTA 1.2244 (given)."""
    if verdict.sota is None:
        return None
    (value,) = in_short(verdict.metric, verdict.sota)
    if verdict.sota_is is Source.CONTROL:
        many = len(verdict.control)
        return f"the control's mean {value} ({many} run{'s' if many > 1 else ''})"
    return f"the target {value}" if verdict.sota_is is Source.TARGET else f"SOTA {value} (given)"
