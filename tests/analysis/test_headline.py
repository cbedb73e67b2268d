"""What every view says first: the gate's word, the improvement, what a claim must pass. Numbers are short, and never on the wrong side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence.checked import NotChecked
from analysis.evidence.options import Options
from analysis.reading.importers.typed import THE_METRIC, Typed
from analysis.reading.metric import Metric
from analysis.report.gate import gate
from analysis.report.html.page import card, page
from analysis.report.markdown import markdown
from analysis.report.said.chips import Chip, Passes, chips
from analysis.report.said.headline import WORDS, first_lines, gains, headline, improvement, title, why
from analysis.report.text import text
from analysis.rules.findings import ERROR, WARNING, Code, Finding
from analysis.rules.ruleset import load
from analysis.stats import fixed
from analysis.verdict.answer import CONTINUE, FITS, NOT_SUPPORTED, REFUSED, SUPPORTED, UNUSABLE, Answer
from analysis.verdict.judge import judge
from analysis.verdict.numbers import in_short, short_p
from analysis.verdict.verdict import OfCriterion
from tests.analysis.test_criteria import trials
from tests.analysis.verdicts import METRICS, decided, runs

Record = Callable[..., Path]
RULES = load("parameter-golf")
GOOD = {1: 1.2, 2: 1.201, 3: 1.202}


def bad(code: Code = Code.NO_LOGS, line: int = 1) -> Finding:
    return Finding(code=code, severity=ERROR, file="a.log", line=line, message="Found it. Mend it.", do="Mend it.")


@pytest.mark.parametrize(
    ("values", "sota", "errors", "word"),
    [
        ((1.2, 1.201, 1.202), 1.3, 0, "supported"),
        ((1.2, 1.201, 1.202), 1.3, 1, "refused"),
        ((1.2, 1.201, 1.202), 1.2, 0, "not supported"),
        ((1.2, 1.201, 1.202), 1.2, 1, "not supported"),
        ((1.2, 1.2, 1.2), 1.3, 0, "cannot tell"),
    ],
)
def test_every_view_begins_with_the_gates_word(values: tuple[float, ...], sota: float, errors: int, word: str) -> None:
    verdict = replace(decided(RULES, runs(*values), sota, []), findings=(bad(),) * errors)
    assert WORDS[verdict.gate] == word
    assert text(verdict).startswith(f"{word.upper()}: ")
    assert gate(verdict).startswith(f"{word.upper()}: ")
    assert markdown(verdict).startswith(f"## seedproof: {word}\n")
    assert f"<title>{word.capitalize()}: " in page(verdict, "")
    assert f">{word.capitalize()}</span>" in card(verdict)
    assert WORDS[verdict.to_json()["gate"]] == word


def test_a_refusal_says_how_many_errors_the_list_shows() -> None:
    verdict = decided(RULES, runs(1.2, 1.201, 1.202), 1.3, [])
    assert why(verdict) == [verdict.reason]
    same = replace(verdict, findings=(bad(line=1), bad(line=2)))  # one error in two places
    assert same.gate == REFUSED
    assert why(same)[0].startswith("1 error in")
    assert why(replace(verdict, findings=(bad(), bad(Code.MISSING_FILE))))[0].startswith("2 errors in")


def test_the_improvement_is_over_what_must_be_beaten_and_not_over_the_threshold() -> None:
    verdict = decided(RULES, runs(1.2, 1.201, 1.202), 1.3, [])
    (said,) = gains(verdict)
    bound = fixed.one_sample_t(fixed.Sample.of([1.2, 1.201, 1.202]), 1.295, 0.01).bound or 0.0
    assert said.mean == "0.0990 bpb better"
    assert said.least == f"at least {1.3 - bound:.4f} at 99%; 0.0050 needed"
    assert headline(verdict) == f"SUPPORTED: {said.mean}, {said.least}"
    plain = verdict.to_json()
    assert plain["gain"] == pytest.approx(0.099)
    assert plain["gain_low"] == pytest.approx(1.3 - bound)


def test_a_worse_mean_and_a_limit_below_zero_are_said_as_worse() -> None:
    (worse,) = gains(decided(RULES, runs(1.2, 1.201, 1.202), 1.199, []))
    assert worse.mean == "0.0020 bpb worse"
    assert worse.least.startswith("perhaps ")
    (unsure,) = gains(decided(RULES, runs(1.19, 1.2, 1.21), 1.21, []))
    assert unsure.mean == "0.0100 bpb better"
    assert " worse at 99%" in unsure.least


@given(METRICS, st.floats(1.1, 1.3))
def test_the_limit_and_what_is_needed_are_on_the_verdicts_side(values: list[float], sota: float) -> None:
    verdict = decided(RULES, runs(*values), sota, [])
    gain = verdict.gain
    assert gain is not None
    assert gain.low is not None
    assert (verdict.verdict is SUPPORTED) == (gain.low > gain.needed)
    low, needed = map(float, in_short("val_bpb", gain.low, gain.needed))
    if abs(gain.low - gain.needed) > 1e-7:
        assert (low > needed) == (gain.low > gain.needed)


@given(st.floats(0, 1), st.floats(1e-4, 0.5))
def test_a_short_p_is_on_its_side_of_alpha(p: float, alpha: float) -> None:
    said = short_p(p, alpha)
    if p >= 1e-4:
        assert (float(said) < alpha) == (p < alpha)
    else:
        assert said.startswith("< 1e-")
        assert p <= float(said.removeprefix("< "))


@pytest.mark.parametrize(
    ("metric", "values", "said"),
    [
        ("val_bpb", (1.20136009,), ["1.2014"]),
        ("val_bpb", (1.20004, 1.20001), ["1.20004", "1.20001"]),  # 1.2000 twice would hide the difference
        ("val_bpb", (0.00002, 0.005), ["0.00002", "0.00500"]),  # which is not zero
        ("val_loss", (-3.2,), ["-3.2000"]),
        ("train_time_s", (172.346, 0.0), ["172.35", "0.00"]),
        ("tokens_per_s", (123456.7,), ["123457"]),
        ("score", (123.4567,), ["123.457"]),
    ],
)
def test_numbers_in_sentences_are_short_and_tell_apart(metric: str, values: tuple[float, ...], said: list[str]) -> None:
    assert in_short(metric, *values) == said


def test_a_time_claim_names_both_gains_and_what_was_not_tested(tmp_path: Path) -> None:
    verdict = judge((trials(tmp_path / "speedrun", 3.27),), Options(rules="nanogpt-track-1"))
    said = improvement(verdict) or ""
    assert " nats below the target" in said
    assert said.endswith("; time is not tested")


def test_two_gains_leave_the_first_line_short(sweep: Callable[..., Path]) -> None:
    """The limit of each, and what it needs, follow on lines of their own."""
    control = {seed: value + 0.02 for seed, value in ((1, 1.2), (2, 1.2011), (3, 1.2023))}
    verdict = judge((sweep({1: 1.2003, 2: 1.2011, 3: 1.2021}, sota=1.2244, control=control),))
    first, *below = first_lines(verdict)
    assert first == "SUPPORTED: 0.0232 bpb better than the SOTA; 0.0200 bpb better than the control"
    assert [line.partition(":")[0] for line in below[:2]] == ["gain over the SOTA", "gain over the control"]
    assert all(" at 99%; 0.0050 needed" in line for line in below[:2])
    for shown in (text(verdict), gate(verdict), markdown(verdict)):
        assert all(shown.count(line) == 1 for line in below[:2])


def test_a_look_that_is_not_the_last_says_not_yet(record: Record) -> None:
    folder = record({1: 1.2, 2: 1.202, 3: 1.204})
    verdict = judge((folder,), Options(sota=1.2075, design="sequential"))
    assert verdict.verdict is CONTINUE
    assert headline(verdict).startswith("NOT YET: ")
    shown = page(verdict, "")
    assert "the next look is at 4 seeds" in shown.split("</h1>")[0]
    assert {one.name: one.passes for one in chips(verdict)}["Significance"] is Passes.UNKNOWN


def test_a_title_and_the_chip_of_the_test_do_not_say_that_a_gain_is_not_shown_where_a_plan_is_what_lacks(
    record: Record,
) -> None:
    verdict = judge((record(GOOD),), Options(sota=1.3, require_plan=True))
    assert verdict.verdict is NOT_SUPPORTED
    assert title(verdict) == ""
    assert by_name(chips(verdict))["Significance"].passes is Passes.YES
    plan = by_name(chips(verdict))["Plan"]
    assert plan == Chip("Plan", Passes.NO, "none was frozen, and one is required")
    poor = judge((record({4: 1.3, 5: 1.31, 6: 1.29}, "poor"),), Options(sota=1.3, require_plan=True))
    assert plan in chips(poor)  # whatever the numbers say


def test_a_title_hides_no_warning_and_no_check_that_was_not_made(record: Record) -> None:
    verdict = judge((record(GOOD),), Options(sota=1.3))
    assert title(verdict) == ": the gain is shown, and the evidence fits"
    warned = replace(verdict, findings=(replace(bad(), severity=WARNING),))
    assert title(warned) == ": the gain is shown, with 1 warning"
    lacking = replace(warned, not_checked=(NotChecked(check="time", why="no log prints it"),) * 2)
    assert title(lacking) == ": the gain is shown, with 1 warning and 2 checks not made"


def test_a_comparison_without_a_test_shows_no_gain() -> None:
    verdict = replace(decided(RULES, runs(1.2, 1.201, 1.202), 1.3, []), test=None, upper_bound=None)
    assert title(verdict).startswith(": better, compared without a test, ")


@pytest.mark.parametrize(
    ("p", "time", "said"),
    [
        (0.001, NOT_SUPPORTED, ": time is not shown"),
        (0.2, NOT_SUPPORTED, ": the gain is not shown at p < 0.01, and time is not shown"),
        (0.2, SUPPORTED, ": the gain is not shown at p < 0.01"),
    ],
)
def test_a_title_names_the_test_that_does_not_pass(p: float, time: Answer, said: str) -> None:
    verdict = decided(RULES, runs(1.2, 1.201, 1.202), 1.3, [])
    assert verdict.test is not None
    one = OfCriterion(
        name="time", metric="train_time_s", direction="lower", verdict=time, reason="", alpha=0.01, margin=0, unit="s",
        waives=None,
    )  # fmt: skip
    found = replace(verdict, verdict=NOT_SUPPORTED, criteria=(one,), test=replace(verdict.test, p_value=p))
    assert title(found) == said
    assert by_name(chips(found))["Significance"].passes is Passes.of(passed=p < 0.01)


def test_a_p_at_which_a_rounded_critical_value_passes_is_not_said_to_be_too_large() -> None:
    verdict = decided(load("nanogpt-track-3"), [replace(runs(3.276)[0], metric=loss(3.276))], None, [])
    assert verdict.verdict is SUPPORTED
    assert verdict.test is not None
    assert verdict.test.p_value > verdict.alpha
    assert "not below" not in by_name(chips(verdict))["Significance"].detail
    assert (improvement(verdict) or "").endswith("; the rules' own critical value passes it")


def loss(value: float) -> Metric:
    return Metric(label="", val_loss=value, val_bpb=None, decimals=4, line=9)


VALUES = st.lists(st.floats(1.1, 1.3), min_size=2, max_size=6)
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "sota": st.floats(1.1, 1.3),
        "control_values": VALUES.map(lambda values: tuple(Typed(numbers={THE_METRIC: one}) for one in values)),
        "alpha": st.sampled_from([1e-5, 0.05, 0.3]),
        "margin": st.sampled_from([0.0, 0.02]),
        "design": st.sampled_from(["fixed", "sequential"]),
        "require_plan": st.booleans(),
        "rules": st.sampled_from(["parameter-golf", "parameter-golf-non-record"]),
    },
).filter(lambda asked: "non-record" not in asked.get("rules", "") or "design" not in asked)


@settings(max_examples=60)
@given(VALUES, ASKED, st.booleans(), st.sampled_from([(), (bad(),), (replace(bad(), severity=WARNING),)]))
def test_all_views_and_numbers_say_the_same(
    values: list[float], asked: dict[str, Any], waived: bool, findings: tuple[Finding, ...]
) -> None:
    if "control_values" in asked:
        asked["control"] = Path("<control>")
    elif "sota" not in asked:
        asked["sota"] = 1.25
    given_values = tuple(Typed(numbers={THE_METRIC: one}, seed=seed) for seed, one in enumerate(values))
    verdict = judge((Path("<evidence>"),), Options(values=given_values, **asked))
    verdict = replace(verdict, findings=findings, waived=(verdict.metric,) if waived else ())
    said, plain = WORDS[verdict.gate], verdict.to_json()
    accepted = verdict.gate in (SUPPORTED, FITS)
    assert (verdict.gate_code == 0) == accepted == (plain["gate"] in (SUPPORTED, FITS))
    for shown in (text(verdict), gate(verdict)):
        assert shown.startswith(f"{said.upper()}: ")
        assert ("SUPPORTED: " in shown.replace("NOT SUPPORTED: ", "")) == (verdict.gate is SUPPORTED)
    assert f'class="sp-card {Passes.YES}"' in card(verdict) or not accepted
    assert title(verdict).startswith((": the gain is shown", ": better,")) == (verdict.gate is SUPPORTED)
    if verdict.is_decided and not waived and verdict.verdict is not CONTINUE and verdict.test is not None:
        passes = chips(verdict)[0].passes  # the first test comes first
        assert passes is Passes.of(passed=verdict.test.p_value < verdict.alpha)
        assert plain["gain_low"] <= plain["gain"]


# -- what a claim must pass ------------------------------------------------------------------------------------------------


def by_name(found: list[Chip]) -> dict[str, Chip]:
    return {one.name: one for one in found}


def test_a_claim_that_fits_passes_everything_but_the_plan_it_does_not_have(record: Record) -> None:
    found = by_name(chips(judge((record(GOOD),), Options(sota=1.3))))
    assert {name: one.passes for name, one in found.items()} == {
        "Significance": Passes.YES,
        "Evidence": Passes.YES,
        "Seeds": Passes.YES,
        "Time": Passes.YES,
        "Size": Passes.YES,
        "Plan": Passes.UNKNOWN,
        "Checks": Passes.YES,
    }
    assert found["Seeds"].detail == "3 of 3, distinct"


def test_time_and_size_say_how_near_the_cap_the_largest_is(record: Record) -> None:
    verdict = judge((record(GOOD),), Options(sota=1.3))
    times = (599_900.0, 100_000.0, 570_000.0)
    sized = [
        replace(one, run=replace(one.run, train_time_ms=time, artifact_bytes=15_890_000))
        for one, time in zip(verdict.runs, times, strict=True)
    ]
    found = by_name(chips(replace(verdict, runs=tuple(sized))))
    assert found["Time"].detail == "599.9 of 600 s, 0.017% left"
    assert found["Size"].detail == "15.89 of 16 MB, 0.69% left"
    some = replace(sized[0], run=replace(sized[0].run, train_time_ms=None))
    found = by_name(chips(replace(verdict, runs=(some, *sized[1:]))))
    assert found["Time"].passes is Passes.UNKNOWN
    assert found["Time"].detail == "570.0 of 600 s, 5% left, 1 unknown"


def test_a_cap_fails_where_a_finding_says_so_and_not_by_a_rounding(record: Record) -> None:
    folder = record(GOOD)
    verdict = judge((folder,), Options(sota=1.3))
    just = tuple(replace(one, run=replace(one.run, train_time_ms=600_010.0)) for one in verdict.runs)
    rounded = by_name(chips(replace(verdict, runs=just)))["Time"]
    assert rounded.passes is Passes.YES
    assert rounded.detail.endswith(" over, accepted by the checks")
    late = replace(verdict, runs=just, findings=(bad(Code.TIME_OVER_CAP),))
    assert by_name(chips(late))["Time"].passes is Passes.NO


def test_runs_without_a_result_and_seeds_used_twice_are_seen(record: Record) -> None:
    verdict = judge((record(GOOD),), Options(sota=1.3))
    first, second, third = verdict.runs
    lost = by_name(chips(replace(verdict, runs=(first, second, replace(third, state="failed", metric=None)))))
    assert lost["Seeds"] == Chip("Seeds", Passes.NO, "2 of 3, distinct")
    twice = by_name(chips(replace(verdict, findings=(bad(Code.DUPLICATE_SEED),))))
    assert twice["Seeds"].passes is Passes.NO
    seedless = tuple(replace(one, run=replace(one.run, seed=None)) for one in verdict.runs)
    assert by_name(chips(replace(verdict, runs=seedless)))["Seeds"].passes is Passes.UNKNOWN


def test_nothing_is_said_to_pass_where_nothing_was_tested(record: Record) -> None:
    verdict = judge((record({1: 1.2}, bare=True),), Options(sota=1.3))
    assert verdict.verdict is UNUSABLE
    assert by_name(chips(verdict))["Significance"] == Chip("Significance", Passes.UNKNOWN, "not tested")
    assert by_name(chips(verdict))["Seeds"].passes is Passes.UNKNOWN
    assert verdict.gain is None
    assert math.isfinite(verdict.sota or math.nan)
    assert improvement(verdict) is None
