"""The tables of a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.evidence.usable import configurations, settings_of
from analysis.reading.result import Result, remade
from analysis.reading.run import Origin
from analysis.report.grid import Table, or_dash
from analysis.report.said.headline import WORDS
from analysis.report.said.statements import degrees, plain_p
from analysis.untrusted.escape import printable
from analysis.untrusted.secrets import redacted
from analysis.verdict.answer import DOES_NOT_FIT, FITS
from analysis.verdict.numbers import in_metric
from analysis.verdict.verdict import OfCriterion, Verdict

MOST_VALUES = 4  # in a cell


def run_tables(verdict: Verdict) -> dict[str, Table]:
    """Return the tables of the runs, the control's and a second lab's, without empty ones."""
    second = verdict.verification.runs if verdict.verification is not None else ()
    arms = {"runs": verdict.runs, "control": verdict.control, "verifier": second}
    names = _metrics_of(verdict, [*verdict.runs, *verdict.control, *second])
    tables: dict[str, Table] = {
        name: [_run_cells(run, number, names) for number, run in enumerate(runs, start=1)]
        for name, runs in arms.items()
        if runs
    }
    if verdict.criteria:
        tables["further criteria"] = [_criterion_cells(one) for one in verdict.criteria]
    if again := remade_table([*verdict.runs, *verdict.control], verdict.metric):
        tables["remade attempts"] = again
    others = _others(verdict) if verdict.verdict in (FITS, DOES_NOT_FIT) or not verdict.runs else []
    return tables | ({"other runs, by configuration": others} if others else {})


def _criterion_cells(one: OfCriterion) -> dict[str, str]:
    return {
        "criterion": one.name,
        "verdict": WORDS[one.verdict],
        "metric": one.metric,
        "n": str(one.n) if one.n else "-",
        "value": "-" if one.value is None else in_metric(one.value, one.metric),
        "to beat": "-" if one.threshold is None else in_metric(one.threshold, one.metric),
        "test": "-" if one.test is None else one.test.name,
        "p": "-" if one.test is None else plain_p(one.test.p_value),
    }


def remade_table(runs: Iterable[Result], metric: str) -> Table:
    """Return the table of the attempts that ended without a result, of runs that have one."""
    found = [one for run in runs for one in remade(run.attempts)]
    return [
        {
            "arm": one.arm,
            "seed": str(one.seed),
            "attempt": str(one.attempt),
            "state": one.state,
            "after": or_dash(one.wall_s, "{:.4g} s"),
            f"last {metric}": or_dash(one.last, "{:z.8f}"),
            "log": printable(f"{one.log}:{one.line}") if one.log is not None else "-",
            "reason": printable(redacted(one.reason or "-")),
        }
        for one in found
    ]


def _others(verdict: Verdict) -> Table:
    """Return the table of the complete runs that a study has besides the claimed ones."""
    complete = [one.result for one in verdict.left_out if one.result.value(verdict.metric) is not None]
    groups = configurations(complete)
    every = configurations([*verdict.runs, *complete])
    return [
        {
            "configuration": printable(settings_of(group[0], every)) if len(every) > 1 else "as claimed",
            "runs": str(len(group)),
            verdict.metric: ", ".join(f"{run.value(verdict.metric):z.6f}" for run in group[:MOST_VALUES])
            + (", ..." if len(group) > MOST_VALUES else ""),
            "logs": ", ".join(place(run) for run in group[:MOST_VALUES])
            + (", ..." if len(group) > MOST_VALUES else ""),
        }
        for group in groups
    ]


def _metrics_of(verdict: Verdict, runs: Iterable[Result]) -> list[str]:
    """Return the metrics that a table of runs shows: the one that counts, and val_bpb and val_loss where a run has them."""
    results = [*runs]
    there = [name for name in ("val_bpb", "val_loss") if any(run.value(name) is not None for run in results)]
    return there if verdict.metric in there else [verdict.metric, *there]


def run_name(run: Result, number: int) -> str:
    """Return a run's seed, or else its number among the runs of its arm: #3."""
    return f"#{number}" if run.seed is None else str(run.seed)


def _run_cells(result: Result, number: int, metrics: Sequence[str]) -> dict[str, str]:
    run = result.run
    values = {name: or_dash(result.value(name), "{:z.8f}") for name in metrics}
    if not result.succeeded:
        values[metrics[0]] = result.state
    return {
        "seed": run_name(result, number),
        **values,
        "steps": or_dash(run.last_step),
        "train time": or_dash(run.train_time_ms and run.train_time_ms / 1000, "{:.1f} s"),
        "artifact": or_dash(run.artifact_bytes, "{:,} B"),
        "log": place(result) + (f" ({run.origin})" if run.origin is not Origin.LOG else ""),
    }


def sensitivity(verdict: Verdict) -> Table:
    """Return the table of the same question asked in other ways."""
    return [
        {
            "reading": also.reading,
            "verdict": WORDS[also.verdict],
            "statistic": or_dash(also.test and also.test.statistic, "{:z.4f}"),
            "df": or_dash(also.test and degrees(also.test)),
            "p": or_dash(also.test and plain_p(also.test.p_value)),
            "assumes": also.assumes,
        }
        for also in verdict.also
    ]


def place(result: Result) -> str:
    """Return where a run's metric is printed: log and line."""
    return printable(f"{result.log}:{result.line}" if result.line else result.log)
