"""What every format says of a verdict: its word, its numbers by name, what does not fit, what is assumed."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.evidence.case import Source
from analysis.evidence.options import Change
from analysis.reading.run import Origin
from analysis.report.said.headline import beaten
from analysis.rules.keys import MEAN
from analysis.rules.metrics import HIGHER
from analysis.stats.fixed import Test
from analysis.verdict.answer import SUPPORTED, UNUSABLE
from analysis.verdict.numbers import chance_in_words, format_p, in_metric, in_short, percent, percent_of
from analysis.verdict.verdict import Verdict, Verification

MOST_NAMED = 6  # logs in a line
ROUNDING = 1e-9  # of sums of numbers such as 3.28
UNPAIRED = ("Welch t", "pooled t")  # tests whose level depends on the ratio of the two spreads


def rules_in_words(verdict: Verdict) -> str:
    """Return the name of the rules, with what options changed: parameter-golf, with alpha 0.3 for 0.01."""
    changed = [_changed(key, change) for key, change in verdict.rules_changed.items()]
    changed += [f"{name} waived" for name in verdict.waived]
    because = f", chosen by {verdict.rules_because}" if verdict.rules_because else ""
    return f"{verdict.rules}{because}" + (f", with {', '.join(changed)}" if changed else "")


def question(verdict: Verdict) -> list[str]:
    """Return a line that says what is asked: by which rules, and what must be beaten."""
    against = beaten(verdict)
    return [f"rules: {rules_in_words(verdict)}" + (f"; to beat: {against}" if against else "")]


def _changed(key: str, change: Change) -> str:
    return f"without {key}" if change.asked in (None, ()) else f"{key} {change.asked} for {change.ruleset}"


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the numbers behind the verdict, by name."""
    if verdict.sota is None or verdict.threshold is None:
        return []
    origin = {Source.GIVEN: "SOTA", Source.TARGET: "the target", Source.CONTROL: "control's mean"}[verdict.sota_is]
    value, moved = in_metric(verdict.threshold, verdict.metric), verdict.threshold - verdict.sota
    sign = "+" if moved > 0 else "-"
    if verdict.margin != 0:
        origin += f" {sign} {abs(verdict.margin):g} {verdict.unit}"
    elif abs(moved) > ROUNDING:
        origin += f" {sign} what the saved steps are worth"
    if verdict.margin != 0 or abs(moved) > ROUNDING:
        value = f"{in_metric(verdict.sota, verdict.metric)} {sign} {in_metric(abs(moved), verdict.metric)} = {value}"
    waived = verdict.metric in verdict.waived
    return [
        *([(verdict.metric, "waived: the numbers in this table do not decide")] if waived else []),
        (f"threshold ({origin})", value),
        *_test_facts(verdict),
        *_look_facts(verdict),
        *_verification_facts(verdict.verification),
    ]


def _test_facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    test, looks, runs = verdict.test, verdict.sequential, len(verdict.runs)
    if not verdict.is_decided:
        return
    if verdict.at_step is not None:
        yield "at step", str(verdict.at_step)
    if test is None:
        yield "compared, without a test", f"the {verdict.statistic}"
        yield from _sample_facts(verdict)
        return
    noise = " (the control's noise included)" if verdict.sota_is == Source.CONTROL else ""
    yield "test", test.name
    yield "n", f"{verdict.n} of {runs} runs" if looks is not None and runs > verdict.n else str(verdict.n)
    yield from _sample_facts(verdict)
    yield "z" if test.df is None else "t", f"{test.statistic:z.6f}"
    yield "df", degrees(test)
    yield "p" if looks is None else "sequential p", plain_p(test.p_value)
    side = "lower" if verdict.direction == HIGHER else "upper"
    assert verdict.upper_bound is not None, "a test has a bound"
    bound = in_metric(verdict.upper_bound, verdict.metric)
    yield f"{percent(1 - verdict.alpha)} {side} bound of the mean", f"{bound}{noise}"


def _sample_facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    if verdict.test is None:
        yield "n", str(verdict.n)
    assert verdict.mean is not None, "there is a sample"
    assert verdict.value is not None, "there is a sample"
    yield "mean", in_metric(verdict.mean, verdict.metric)
    if verdict.statistic != MEAN:
        yield verdict.statistic, in_metric(verdict.value, verdict.metric)
    if verdict.sd is not None:
        sd = in_metric(verdict.sd, verdict.metric)
        if verdict.sd_low is None or verdict.sd_high is None:
            yield "sd", f"{sd}; looks chose the number of runs, so it has no 95% interval"
        else:
            # claims that pass have small ones
            passed = ", ignoring that it passed" if verdict.verdict is SUPPORTED else ""
            yield f"sd (95% interval{passed})", f"{sd} ({verdict.sd_low:.6f} to {verdict.sd_high:.6f})"
    else:
        yield "sd", "unknown, of one run"
    if verdict.pair_sd is not None:
        yield (
            f"sd of {verdict.n} differences",
            f"{in_metric(verdict.pair_sd, verdict.metric)} (each run less the control's run of its seed)",
        )


def _look_facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    looks = verdict.sequential
    if looks is None:
        return
    last = looks.looks[-1]
    planned = f"{looks.looks[0]} to {last}" if len(looks.looks) > 5 else ", ".join(map(str, looks.looks))
    yield "looks after", f"{planned} runs, {looks.boundary} boundary"
    if looks.critical is not None and looks.nominal_p is not None and looks.p_value is not None:
        yield "nominal p at this look", plain_p(looks.p_value)
        yield "it must be below", f"{looks.nominal_p:.7g} (t {looks.critical:.4f})"
    if looks.stagewise_p is not None:
        yield "stage-wise p after stopping here", plain_p(looks.stagewise_p)
    if looks.chance is not None:
        yield f"chance of passing by seed {last}", chance_in_words(looks.chance)


def _verification_facts(second: Verification | None) -> Iterator[tuple[str, str]]:
    if second is not None:
        yield f"verifier's mean of {second.n} run{'s' if second.n > 1 else ''}", f"{second.mean:.8f}"
        yield f"author's {percent(second.level)} prediction interval for it", f"{second.low:.8f} to {second.high:.8f}"
        yield "author against verifier, two-sided p", plain_p(second.test.p_value)


def plain_p(p: float) -> str:
    """Return p as in a table: 0.006, < 1e-5."""
    return format_p(p).removeprefix("= ")


def degrees(test: Test) -> str:
    """Return degrees of freedom as printed; a test with a known spread has none."""
    return "-" if test.df is None else f"{test.df:.4g}"


def said_besides(verdict: Verdict) -> list[str]:
    """Return what a reader must know besides the verdict and the findings: notes, the plan, what is not counted."""
    plan = [verdict.plan.sentence()] if verdict.plan is not None else []
    return [*verdict.notes, *plan, *not_counted(verdict)]


def not_counted(verdict: Verdict) -> list[str]:
    """Return a line each that names the logs that are not in the numbers, and the tracker's runs without a result."""
    lost = [
        one.result for one in verdict.left_out if one.result.metric is None and one.result.run.origin is not Origin.LOG
    ]
    named = {
        "not counted": verdict.not_counted,
        "without a result, and not counted": [f"{one.log}:{one.run.line}" for one in lost],
    }
    return [
        f"{what}: {', '.join([*logs[:MOST_NAMED], *(['...'] if len(logs) > MOST_NAMED else [])])}"
        for what, logs in named.items()
        if logs
    ]


def assumptions(verdict: Verdict) -> list[str]:
    """Return what a reader must believe for the numbers to mean what they say."""
    if not verdict.is_decided:
        return []
    of_test = [*_assumed(verdict, verdict.test)] if verdict.test is not None else [_not_proven(verdict)]
    return [*of_test, *_assumed_of_rules(verdict)]


def evidence(verdict: Verdict) -> str:
    """Return what the numbers are read from: logs, or else only numbers."""
    return "logs" if all(run.run.origin is Origin.LOG for run in verdict.runs) else "numbers"


def _not_proven(verdict: Verdict) -> str:
    said = f"The {evidence(verdict)} come from real runs, and no run is missing."
    return f"{said} No check of files can prove that; only a rerun can test it (--verify)."


def _assumed_of_rules(verdict: Verdict) -> Iterator[str]:
    """Yield what the reviewer takes on himself, and what the ruleset accepts."""
    for name in verdict.waived:
        yield f"The change only makes the same training faster. --waive {name} says so; no check of files can."
    if verdict.at_step is not None and "at_step" not in verdict.rules_changed:
        yield (
            f"Step {verdict.at_step} was chosen by its result: each validation before it was another chance to pass. "
            f"The rules accept that."
        )
    decided = [one for one in verdict.criteria if one.verdict is not UNUSABLE]
    if decided and verdict.control and verdict.sota_is != Source.CONTROL:
        yield "The control ran on the same kind of machine as the candidate."
    if verdict.test is None or any(one.test is None for one in decided):
        yield "Where the rules compare without a test, luck counts like skill: another run may come out on the other side."


def _assumed(verdict: Verdict, test: Test) -> Iterator[str]:
    if verdict.verification is None:
        yield _not_proven(verdict)
    if runs_are(verdict) == "seeds":
        yield "The seeds are independent runs of one program, and were chosen before their results were known."
    else:
        yield "The runs are independent, and of one program. Which of them count was decided before their results were known."
    if verdict.registry is not None and verdict.registry.known:
        yield f"The registry {verdict.registry.url} is kept by somebody else, and nothing in it was removed or written over."
    elif verdict.plan is not None:
        yield "The plan was public before the first run; its hash does not prove a date."
    elif verdict.sequential is not None:
        looks = verdict.sequential.looks
        yield (
            f"No plan fixes looks and order: all runs are taken at one look, as if looks after each of seeds {looks[0]} "
            f"to {looks[-1]} had been allowed."
        )
    if test.df is None:
        level = verdict.level_at_own_sd
        own = "" if level is None else f"; if that were the true one, the level would be {level:.2g}"
        seen = "One run does not show it" if verdict.sd is None else f"These runs' own sd is {verdict.sd:.6f}{own}"
        yield f"The spread between runs is known. {seen}."
        yield "A track may round its critical value: very close to the threshold, its rule and the bound may then disagree."
    yield from _assumed_of_sota(verdict)
    if verdict.verification is not None:
        yield (
            "A small spread helps a record to pass, so records that passed have small ones: fresh runs fall outside "
            "their prediction interval more often than it says."
        )
    if test.df is not None:
        few = f" With {verdict.n} {runs_are(verdict)} the sd is barely known." if verdict.n < 5 else ""
        paired = verdict.sota_is == Source.CONTROL and verdict.pair_sd is not None
        skewed = "" if paired else "; where bad runs lie farther from the mean than good ones, more false claims pass"
        yield f"{'Differences' if paired else 'Values'} are close to normal{skewed}.{few}"


def runs_are(verdict: Verdict) -> str:
    """Return what the sample consists of: seeds if every run prints one."""
    return "seeds" if verdict.runs and all(run.seed is not None for run in verdict.runs) else "runs"


def _assumed_of_sota(verdict: Verdict) -> Iterator[str]:
    if verdict.sota_is == Source.TARGET:
        yield "The target is a fixed number, so it has no noise to count."
    elif verdict.sota_is == Source.CONTROL:
        yield "The control ran on the same kind of machine as the candidate; its noise counts."
        if verdict.pair_sd is not None:
            yield (
                "The two runs of a seed are a pair, as decided beforehand. What they share, such as the node, cancels in their "
                "difference. What a node does to one arm alone does not."
            )
        elif verdict.sequential is not None:
            yield "Candidate and control have the same spread; if not, the level can be two to three and a half times alpha."
        elif verdict.level_at_worst is not None and verdict.level_at_worst > verdict.alpha:
            yield f"If candidate and control scatter differently, the level is up to {percent_of(verdict.level_at_worst)}."
    else:
        yield "The SOTA is taken as an exact number: its own noise and its hardware are ignored."
        if any(one.metric == verdict.metric and one.test is not None for one in verdict.criteria):
            yield "The test against the control counts the noise and the hardware of both. Both tests must pass."
            if any(one.test is not None and one.test.name in UNPAIRED for one in verdict.criteria):
                yield "Candidate and control have the same spread; if not, the level of the test against the control can exceed alpha."
        elif verdict.control:
            yield "The readings against the control count the noise and the hardware of both."
        elif verdict.rerun_at_least is not None and verdict.sota is not None:
            worse = "less" if verdict.direction == HIGHER else "more"
            needed, now = in_short(verdict.metric, verdict.rerun_at_least, verdict.sota)
            yield (
                f"A rerun of the SOTA as a control would count them: with {verdict.n} {runs_are(verdict)} of this spread, the claim is "
                f"supported only if the rerun's mean is {needed} or {worse} (assumed now: {now})."
            )
