"""What every view says first: the gate's word, the improvement, and why."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.evidence.case import Source
from analysis.rules.findings import ERROR, WARNING, in_words
from analysis.rules.metrics import HIGHER, TRAIN_TIME, unit_of
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, REFUSED, SUPPORTED, UNUSABLE, Answer
from analysis.verdict.gain import Gain
from analysis.verdict.numbers import in_short, percent
from analysis.verdict.verdict import OfCriterion, Verdict

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
    """Return the headline, and below it the limits and reasons that it does not hold already."""
    first = headline(verdict)
    below = [*([] if verdict.verdict is UNUSABLE else limits(verdict)), *why(verdict)]
    return [first, *(one for one in below if not first.endswith(f": {one}"))]


def why(verdict: Verdict) -> list[str]:
    """Return why, in sentences: the findings that overrule numbers that would pass, then what was tested."""
    return [*([refusal(verdict)] if verdict.gate == REFUSED else []), verdict.reason]


def refusal(verdict: Verdict) -> str:
    """Return what refuses a claim whose numbers would pass."""
    found = errors_in_words(verdict)
    found = f"{found} in the evidence refuse{'' if found.endswith('s') else 's'} it"
    return f"{found}; the numbers alone would pass." if verdict.verdict is SUPPORTED else f"{found}."


def improvement(verdict: Verdict) -> str | None:
    """Return how much better than what must be beaten: on average, at least, and how much is needed; None if nothing was.

    The gain of every criterion that the rules ask for is named, the first one's too unless it is waived. Of several, the
    limits follow below.
    """
    every = gains(verdict)
    said = [one.mean if verdict.criteria else f"{one.mean}, {one.least}" for one in every]
    said += [f"{one.name} is not tested" for one in verdict.criteria if one.gain is None]
    return "; ".join(said) or None


def limits(verdict: Verdict) -> list[str]:
    """Return what each of several gains is at least, and how much is needed; nothing where the headline says it of one."""
    return [f"{one.of}: {one.least}" for one in gains(verdict)] if verdict.criteria else []


@dataclass(frozen=True, slots=True)
class Gained:
    """A gain in words. of: its metric, or what it is over. mean: 0.0230 bpb better. least: at least 0.0155 at 99%; 0.0050 needed."""

    metric: str
    of: str
    mean: str
    least: str


def gains(verdict: Verdict) -> list[Gained]:
    """Return the gain in the rules' metric, unless it is waived, and that of every further criterion that was compared."""
    asked: list[Verdict | OfCriterion] = [] if verdict.metric in verdict.waived else [verdict]
    asked += verdict.criteria
    metrics = [one.metric for one in asked]
    return [
        _in_words(one, one.gain, _rival(one) if metrics.count(one.metric) > 1 else None)
        for one in asked
        if one.gain is not None
    ]


def first_name(verdict: Verdict) -> str | None:
    """Return what the first test's gain is over, in a word; None if no further criterion is of the same metric."""
    same = any(one.metric == verdict.metric for one in verdict.criteria) and verdict.metric not in verdict.waived
    return verdict.sota_is.rival if same else None


def _rival(one: Verdict | OfCriterion) -> str:
    """Return the name of what a gain is over."""
    return f"the {one.name if isinstance(one, OfCriterion) else one.sota_is.rival}"


def _in_words(one: Verdict | OfCriterion, gain: Gain, rival: str | None) -> Gained:
    numbers = [gain.mean, gain.needed, *([] if gain.low is None else [gain.low])]
    mean, needed, *low = in_short(one.metric, *map(abs, numbers))
    better, worse = _sides(one)
    least = ""
    if gain.low is not None:
        least = f"at least {low[0]}" if gain.low >= 0 else f"perhaps {low[0]} {worse}"
        least += f" at {percent(1 - one.alpha)}; "
    return Gained(
        metric=one.metric,
        of=one.metric if rival is None else f"gain over {rival}",
        mean=f"{mean}{_unit(one.metric)} {better if gain.mean >= 0 else worse}{f' than {rival}' if rival else ''}",
        least=f"{least}{_needed(gain.needed, needed, worse)}{_rounded(one, gain)}",
    )


def _rounded(one: Verdict | OfCriterion, gain: Gain) -> str:
    """Return why a gain passes whose limit does not: a track may round its critical value."""
    passes = one.verdict is SUPPORTED and gain.low is not None and gain.low <= gain.needed
    return "; the rules' own critical value passes it" if passes else ""


def _sides(one: Verdict | OfCriterion) -> tuple[str, str]:
    """Return the words for a gain and for a loss: against a target that nobody ran, on which side of it the runs are."""
    if one.metric == TRAIN_TIME:
        return "faster", "slower"
    if isinstance(one, Verdict) and one.sota_is is Source.TARGET:
        below, above = "below the target", "above the target"
        return (above, below) if one.direction == HIGHER else (below, above)
    return "better", "worse"


def _needed(needed: float, shown: str, worse: str) -> str:
    if needed == 0:
        return "any gain is enough"
    return f"{shown} needed" if needed > 0 else f"{shown} {worse} is allowed"


def _unit(metric: str) -> str:
    """Return a blank and the unit; nothing where the metric has none but its name."""
    unit = unit_of(metric)
    return "" if unit == metric else f" {unit}"


def title(verdict: Verdict) -> str:
    """Return what follows the word in a page's title: the reason in a few words, empty where only a sentence can say it."""
    found = errors_in_words(verdict)
    if verdict.gate == REFUSED:
        return f" by {found} in the evidence; the numbers alone would pass"
    if verdict.verdict is SUPPORTED:
        return f": {_shown(verdict)}, {_of_the_evidence(verdict)}"
    errors = f", and the evidence has {found}" if found else ""
    if verdict.verdict is CONTINUE and verdict.sequential is not None and verdict.sequential.next_look is not None:
        return f": the next look is at {verdict.sequential.next_look} seeds{errors}"
    if verdict.verdict is NOT_SUPPORTED and verdict.is_decided:
        return _not_shown(verdict, errors)
    return ""


def _shown(verdict: Verdict) -> str:
    """Return what a claim that is supported shows: a comparison without a test shows no more than these runs."""
    asked: list[Verdict | OfCriterion] = [*([] if verdict.metric in verdict.waived else [verdict]), *verdict.criteria]
    untested = [one.name for one in verdict.criteria if one.verdict is UNUSABLE]
    shown = "the gain is shown" if any(one.test is not None for one in asked) else "better, compared without a test"
    return f"{shown}, but {', '.join(untested)} is not tested" if untested else shown


def _of_the_evidence(verdict: Verdict) -> str:
    """Return that the evidence fits, or what is left to look at: warnings, and checks that could not be made."""
    left, warned = len(verdict.not_checked), in_words(one for one in verdict.findings if one.severity is WARNING)
    not_made = f"{left} check{'s' if left > 1 else ''} not made" if left else ""
    said = " and ".join(filter(None, (warned, not_made)))
    return f"with {said}" if said else "and the evidence fits"


def _not_shown(verdict: Verdict, errors: str) -> str:
    """Return which test does not pass. Where all that were made do, something else is asked, and a sentence says what."""
    first = verdict.metric not in verdict.waived and alone(verdict) is NOT_SUPPORTED
    failed = [one for one in verdict.criteria if one.verdict is NOT_SUPPORTED]
    lost = [_gain_over(one) if one.metric == verdict.metric and first_name(verdict) else one.name for one in failed]
    others = f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} not shown" if lost else ""
    if not first:
        return f": {others}{errors}" if others else ""
    level = f" at p < {verdict.alpha:g}" if verdict.test is not None else ""
    gain = _gain_over(verdict) if first_name(verdict) else "the gain"
    return f": {gain} is not shown{level}{f', and {others}' if others else ''}{errors}"


def _gain_over(one: Verdict | OfCriterion) -> str:
    return f"the gain over {_rival(one)}"


def alone(verdict: Verdict) -> Answer:
    """Return the answer of the first test: the verdict is also that of further criteria, of a plan and of a second lab."""
    whole = verdict.verdict
    if whole in (SUPPORTED, CONTINUE) or (whole is UNUSABLE and not verdict.criteria) or verdict.gain is None:
        return whole
    if verdict.test is not None:
        return Answer.of(passed=verdict.test.p_value < verdict.alpha)
    better, tied = verdict.gain.mean > verdict.gain.needed, verdict.value == verdict.threshold
    return Answer.of(passed=verdict.sota_is is Source.TARGET if tied else better)


def errors_in_words(verdict: Verdict) -> str:
    """Return how many errors the list of findings shows: 2 errors; nothing where there is none."""
    return in_words(one for one in verdict.findings if one.severity is ERROR)


def beaten(verdict: Verdict) -> str | None:
    """Return what must be beaten and where it comes from: SOTA 1.2244 (given, not checked)."""
    if verdict.sota is None:
        return None
    also = [one for one in verdict.criteria if one.metric == verdict.metric and one.sota is not None]
    further = [f"{_rival(one)} {in_short(one.metric, one.sota or 0.0)[0]}" for one in also]
    return " and ".join([_first_beaten(verdict, verdict.sota), *further])


def _first_beaten(verdict: Verdict, sota: float) -> str:
    (value,) = in_short(verdict.metric, sota)
    if verdict.sota_is is Source.CONTROL:
        # looks need not count all of them: the reason says how many they do
        many = len(verdict.control) if verdict.pair_sd is None else verdict.n
        runs = "" if verdict.sequential is not None else f" ({many} run{'s' if many > 1 else ''})"
        return f"the control's mean {value}{runs}"
    return f"the target {value}" if verdict.sota_is is Source.TARGET else f"SOTA {value} (given, not checked)"
