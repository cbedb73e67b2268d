"""What is said of a verdict in every format: its numbers by name, what stands beside it, what it assumes."""

from __future__ import annotations

from analysis.rules.findings import ERROR, in_words
from analysis.stats.fixed import Test
from analysis.sweepdir.layout import SEQUENTIAL
from analysis.verdict.looks import chance_in_words
from analysis.verdict.verdict import Looks, Verdict, Verification, format_p, percent


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """The numbers behind the verdict, by name."""
    if verdict.sota is None or verdict.threshold is None:
        return []
    origin = {"given": "SOTA", "target": "the target"}.get(verdict.sota_is, f"the {verdict.sota_is}")
    rows = [(f"threshold ({origin})", f"{verdict.threshold:.8f}")]
    if verdict.margin > 0:
        name = f"threshold ({origin} - {verdict.margin:g} {verdict.unit})"
        rows = [(name, f"{verdict.sota:.8f} - {verdict.sota - verdict.threshold:.8f} = {verdict.threshold:.8f}")]
    if verdict.test is not None:
        known = verdict.test.df is None
        noise = ", the control's noise included" if verdict.sota_is == "control's mean" else ""
        later = len(verdict.runs) - verdict.n if verdict.design == SEQUENTIAL else 0
        rows += [
            ("test", verdict.test.name),
            ("n", f"{verdict.n} of {len(verdict.runs)} runs" if later > 0 else str(verdict.n)),
            ("mean", f"{verdict.mean:.8f}"),
            ("sd (95% interval)", f"{verdict.sd:.8f} ({verdict.sd_low:.6f} to {verdict.sd_high:.6f})"),
            ("z" if known else "t", f"{verdict.test.statistic:.6f}"),
            ("df", degrees(verdict.test)),
            ("p" if verdict.sequential is None else "sequential p", plain_p(verdict.test.p_value)),
            (f"{percent(1 - verdict.alpha)} upper bound of the mean{noise}", f"{verdict.upper_bound:.8f}"),
        ]
    return rows + look_facts(verdict.sequential) + verification_facts(verdict.verification)


def look_facts(looks: Looks | None) -> list[tuple[str, str]]:
    """Where a sequential test stands, by name."""
    if looks is None:
        return []
    planned = f"{looks.looks[0]} to {looks.looks[-1]}" if len(looks.looks) > 5 else ", ".join(map(str, looks.looks))
    rows = [("looks at", f"{planned} runs, {looks.boundary} boundary")]
    if looks.critical is not None and looks.nominal_p is not None and looks.p_value is not None:
        rows.append(("this look's own p", plain_p(looks.p_value)))
        rows.append(("it must be below", f"{looks.nominal_p:.7g} (t {looks.critical:.4f})"))
    if looks.stagewise_p is not None:
        rows.append(("stage-wise p after stopping here", plain_p(looks.stagewise_p)))
    if looks.chance is not None:
        rows.append((f"chance of passing by seed {looks.looks[-1]}", chance_in_words(looks.chance)))
    return rows


def verification_facts(second: Verification | None) -> list[tuple[str, str]]:
    """What a second lab measured, by name."""
    if second is None:
        return []
    return [
        (f"verifier's mean of {second.n} run{'s' if second.n > 1 else ''}", f"{second.mean:.8f}"),
        (f"author's {percent(second.level)} prediction interval for it", f"{second.low:.8f} to {second.high:.8f}"),
        ("author against verifier, two-sided p", plain_p(second.test.p_value)),
    ]


def plain_p(p: float) -> str:
    """p in a table: 0.006, < 1e-5."""
    return format_p(p).removeprefix("= ")


def degrees(test: Test) -> str:
    """Degrees of freedom as printed; a test with a known spread has none."""
    return "-" if test.df is None else f"{test.df:.4g}"


def concerns(verdict: Verdict) -> list[str]:
    """What stands beside the verdict: how much does not fit, and which logs are not in the numbers."""
    lines = list(verdict.notes)
    if verdict.plan is not None:
        lines.append(verdict.plan.sentence())
    if verdict.findings:
        fails = any(finding.severity == ERROR for finding in verdict.findings)
        lines.append(f"findings: {in_words(verdict.findings)}" + ("; check fails on the errors" if fails else ""))
    return lines + not_counted(verdict)


def not_counted(verdict: Verdict) -> list[str]:
    """The logs that are not in the numbers, in a line."""
    if not verdict.not_counted:
        return []
    return [f"not counted: {', '.join(verdict.not_counted[:6])}{', ...' if len(verdict.not_counted) > 6 else ''}"]


def assumptions(verdict: Verdict) -> list[str]:
    """What a reader must believe for the numbers to mean what they say."""
    if verdict.test is None:
        return []
    lines = ["The seeds are independent runs of one program, and were chosen before their results were known."]
    if verdict.plan is not None:
        lines.append("The plan was public before the first run; its hash proves no date.")
    elif verdict.sequential is not None:
        looks = verdict.sequential.looks
        lines.append(
            f"No plan fixes looks and order: all runs are taken at one look, as if looks after each of seeds {looks[0]} to "
            f"{looks[-1]} had been allowed."
        )
    if verdict.test.df is None:
        level = verdict.level_at_own_sd
        own = "" if level is None else f"; were it the true one, the level would be {level:.2g}"
        lines.append(f"The spread between runs is known. These runs' own sd is {verdict.sd:.6f}{own}.")
        lines.append(
            "A track may round its critical value: then the bound lies on the threshold only nearly where the rule does."
        )
    lines += _of_the_standing(verdict)
    if verdict.verification is not None:
        lines.append(
            "Records that passed have small spreads by selection: fresh runs leave their prediction interval more often "
            "than it says."
        )
    if verdict.test.df is not None:
        few = f" With {verdict.n} seeds the sd is barely known." if verdict.n < 5 else ""
        lines.append(f"Values are near normal; a skewed metric lets more false claims pass.{few}")
    return lines


def _of_the_standing(verdict: Verdict) -> list[str]:
    """What is assumed of the record that is to be beaten."""
    if verdict.sota_is == "target":
        return ["The target is a fixed number, so there is no noise of a record to count."]
    if verdict.sota_is != "given":
        lines = ["The control ran on the same kind of machine as the candidate; its noise counts."]
        if verdict.sequential is not None:
            lines.append("Candidate and control scatter alike; if not, the level is somewhat above alpha.")
        return lines
    lines = ["The SOTA is taken as an exact number: its own noise and its hardware are ignored."]
    if verdict.control:
        lines.append("The readings against the control count both.")
    elif verdict.rerun_at_least is not None:
        lines.append(
            f"Rerun as a control, with {verdict.n} seeds of this spread, it would count both: the claim would then be "
            f"supported only if the rerun's mean came out at {verdict.rerun_at_least:.8f} or above "
            f"(taken now: {verdict.sota:.8f})."
        )
    return lines
