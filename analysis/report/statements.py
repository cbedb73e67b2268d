"""What every format says of a verdict: its word, its numbers by name, what does not fit, what is assumed."""

from __future__ import annotations

from analysis.evidence.case import Source
from analysis.reading.result import Result
from analysis.rules.findings import in_words
from analysis.stats.fixed import Test
from analysis.verdict.numbers import chance_in_words, format_p, percent
from analysis.verdict.verdict import Answer, Looks, Verdict, Verification

WORDS = {
    Answer.SUPPORTED: "SUPPORTED",
    Answer.NOT_SUPPORTED: "NOT SUPPORTED",
    Answer.CONTINUE: "CONTINUE",
    Answer.UNUSABLE: "CANNOT TELL",
}
MOST_NAMED = 6  # logs in a line


def rules_in_words(verdict: Verdict) -> str:
    """Return the name of the rules, with what options changed: parameter-golf, with alpha 0.3 for 0.01."""
    changed = [f"{key} {change.asked} for {change.ruleset}" for key, change in verdict.rules_changed.items()]
    return f"{verdict.rules}, with {', '.join(changed)}" if changed else verdict.rules


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the numbers behind the verdict, by name."""
    if verdict.sota is None or verdict.threshold is None:
        return []
    origin = {Source.GIVEN: "SOTA", Source.TARGET: "the target", Source.CONTROL: "the control's mean"}[verdict.sota_is]
    rows = [(f"threshold ({origin})", f"{verdict.threshold:.8f}")]
    if verdict.margin > 0:
        name = f"threshold ({origin} - {verdict.margin:g} {verdict.unit})"
        rows = [(name, f"{verdict.sota:.8f} - {verdict.sota - verdict.threshold:.8f} = {verdict.threshold:.8f}")]
    return rows + _test_facts(verdict) + _look_facts(verdict.sequential) + _verification_facts(verdict.verification)


def _test_facts(verdict: Verdict) -> list[tuple[str, str]]:
    if verdict.test is None:
        return []
    noise = ", the control's noise included" if verdict.sota_is == Source.CONTROL else ""
    later = len(verdict.runs) - verdict.n if verdict.sequential is not None else 0
    return [
        ("test", verdict.test.name),
        ("n", f"{verdict.n} of {len(verdict.runs)} runs" if later > 0 else str(verdict.n)),
        ("mean", f"{verdict.mean:.8f}"),
        ("sd (95% interval)", f"{verdict.sd:.8f} ({verdict.sd_low:.6f} to {verdict.sd_high:.6f})"),
        ("z" if verdict.test.df is None else "t", f"{verdict.test.statistic:.6f}"),
        ("df", degrees(verdict.test)),
        ("p" if verdict.sequential is None else "sequential p", plain_p(verdict.test.p_value)),
        (f"{percent(1 - verdict.alpha)} upper bound of the mean{noise}", f"{verdict.upper_bound:.8f}"),
    ]


def _look_facts(looks: Looks | None) -> list[tuple[str, str]]:
    """Return how far a sequential test has come, by name."""
    if looks is None:
        return []
    planned = f"{looks.looks[0]} to {looks.looks[-1]}" if len(looks.looks) > 5 else ", ".join(map(str, looks.looks))
    rows = [("looks after", f"{planned} runs, {looks.boundary} boundary")]
    if looks.critical is not None and looks.nominal_p is not None and looks.p_value is not None:
        rows.append(("nominal p at this look", plain_p(looks.p_value)))
        rows.append(("it must be below", f"{looks.nominal_p:.7g} (t {looks.critical:.4f})"))
    if looks.stagewise_p is not None:
        rows.append(("stage-wise p after stopping here", plain_p(looks.stagewise_p)))
    if looks.chance is not None:
        rows.append((f"chance of passing by seed {looks.looks[-1]}", chance_in_words(looks.chance)))
    return rows


def _verification_facts(second: Verification | None) -> list[tuple[str, str]]:
    """Return what a second lab measured, by name."""
    if second is None:
        return []
    return [
        (f"verifier's mean of {second.n} run{'s' if second.n > 1 else ''}", f"{second.mean:.8f}"),
        (f"author's {percent(second.level)} prediction interval for it", f"{second.low:.8f} to {second.high:.8f}"),
        ("author against verifier, two-sided p", plain_p(second.test.p_value)),
    ]


def plain_p(p: float) -> str:
    """Return p as in a table: 0.006, < 1e-5."""
    return format_p(p).removeprefix("= ")


def degrees(test: Test) -> str:
    """Return degrees of freedom as printed; a test with a known spread has none."""
    return "-" if test.df is None else f"{test.df:.4g}"


def concerns(verdict: Verdict) -> list[str]:
    """Return what a reader must know besides the verdict: notes, the plan, how much does not fit, what is not counted."""
    lines = list(verdict.notes)
    if verdict.plan is not None:
        lines.append(verdict.plan.sentence())
    if verdict.findings:
        fails = "; check fails on the errors" if verdict.errors else ""
        lines.append(f"findings: {in_words(verdict.findings)}{fails}")
    return lines + not_counted(verdict)


def not_counted(verdict: Verdict) -> list[str]:
    """Return a line that names the logs that are not in the numbers, if there are any."""
    if not verdict.not_counted:
        return []
    more = ", ..." if len(verdict.not_counted) > MOST_NAMED else ""
    return [f"not counted: {', '.join(verdict.not_counted[:MOST_NAMED])}{more}"]


def verifiers_runs(verdict: Verdict) -> tuple[Result, ...]:
    """Return the runs of a second lab, if there is one."""
    return verdict.verification.runs if verdict.verification is not None else ()


# -- assumptions -------------------------------------------------------------------------------------------------------


def assumptions(verdict: Verdict) -> list[str]:
    """Return what a reader must believe for the numbers to mean what they say."""
    if verdict.test is None:
        return []
    return [
        "The seeds are independent runs of one program, and were chosen before their results were known.",
        *_about_the_plan(verdict),
        *_about_a_known_spread(verdict),
        *_about_what_is_to_beat(verdict),
        *_about_a_second_lab(verdict),
        *_about_the_distribution(verdict),
    ]


def _about_the_plan(verdict: Verdict) -> list[str]:
    if verdict.plan is not None:
        return ["The plan was public before the first run; its hash does not prove a date."]
    if verdict.sequential is None:
        return []
    looks = verdict.sequential.looks
    return [
        f"No plan fixes looks and order: all runs are taken at one look, as if looks after each of seeds {looks[0]} to "
        f"{looks[-1]} had been allowed."
    ]


def _about_a_known_spread(verdict: Verdict) -> list[str]:
    if verdict.test is None or verdict.test.df is not None:
        return []
    level = verdict.level_at_own_sd
    own = "" if level is None else f"; if that were the true one, the level would be {level:.2g}"
    return [
        f"The spread between runs is known. These runs' own sd is {verdict.sd:.6f}{own}.",
        "A track may round its critical value: very close to the threshold, its rule and the bound may then disagree.",
    ]


def _about_what_is_to_beat(verdict: Verdict) -> list[str]:
    if verdict.sota_is == Source.TARGET:
        return ["The target is a fixed number, so it has no noise to count."]
    if verdict.sota_is == Source.CONTROL:
        lines = ["The control ran on the same kind of machine as the candidate; its noise counts."]
        if verdict.sequential is not None:
            lines.append("Candidate and control have the same spread; if not, the level is somewhat above alpha.")
        return lines
    lines = ["The SOTA is taken as an exact number: its own noise and its hardware are ignored."]
    if verdict.control:
        lines.append("The readings against the control count both.")
    elif verdict.rerun_at_least is not None:
        lines.append(
            f"A rerun of the SOTA as a control, with {verdict.n} seeds of this spread, would count both. The claim would "
            f"then be supported only if the rerun's mean were {verdict.rerun_at_least:.8f} or more (assumed now: "
            f"{verdict.sota:.8f})."
        )
    return lines


def _about_a_second_lab(verdict: Verdict) -> list[str]:
    if verdict.verification is None:
        return []
    return [
        "A small spread helps a record to pass, so records that passed have small ones: fresh runs fall outside their "
        "prediction interval more often than it says."
    ]


def _about_the_distribution(verdict: Verdict) -> list[str]:
    if verdict.test is None or verdict.test.df is None:
        return []
    few = f" With {verdict.n} seeds the sd is barely known." if verdict.n < 5 else ""
    return [f"Values are close to normal; a skewed metric lets more false claims pass.{few}"]
