"""The checks on a submission JSON: does the headline fit the runs, are units, sizes and seeds those of the logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from analysis.checks.runs import size_over_cap
from analysis.reading.metric import Metric
from analysis.record.claim import Claim
from analysis.record.fit import (
    RATIO_TOLERANCE,
    ROUNDING,
    Fit,
    agrees,
    among,
    half_a_unit,
    is_exact,
    mean,
    ratio_of,
    values_in,
)
from analysis.record.folder import Record, file_seed, seed_of
from analysis.record.selection import Claimed, Selection, with_training
from analysis.record.stated.said import Holds, Kind, Statement
from analysis.rules.findings import ERROR, Code, Finding, Found, Place, Raised
from analysis.rules.ruleset import Ruleset

IMPROVES = {  # the claimed number over the logs' own: below or above these it makes the claim better
    Kind.SD: (0.8, math.inf),
    Kind.P: (1 / 1.5, 1.5),  # of the p that the claimed t has
    Kind.T: (1 / 1.5, 1.5),
    Kind.RUNS: (0.0, 1.0),
    Kind.STEPS: (0.99, math.inf),
    Kind.VALUES: (0.0, 1.0),
    Kind.SIZE: (0.99, math.inf),
    Kind.TRAIN_TIME: (0.99, math.inf),
    Kind.EVAL_TIME: (0.99, math.inf),
}
MOST_SHOWN = 10  # values in one sentence


def check_claim(record: Record, claim: Claim, selection: Selection, rules: Ruleset) -> Raised:
    """Check the JSON against the runs that it claims."""
    for key, what, severity in claim.schema:
        at = claim.at(claim.line_of(key))
        yield replace(at.has(Code.SUBMISSION_SCHEMA, f"that {what}"), severity=severity)
    if selection.claimed:
        yield from _headline(claim, selection)
        yield from _units(claim, selection)
    yield from _size(claim, selection.claimed, rules)
    held = {seed_of(run) for run in record.runs} | {file_seed(log) for log in record.empty}
    count = len(claim.seeds)
    if not held & set(claim.seeds) and set(claim.seeds) in (set(range(count)), set(range(1, count + 1))):
        return  # first, second, third run: no seeds
    seeds = sorted(seed for seed in held if seed is not None)
    shown = ", ".join(map(str, seeds[:MOST_SHOWN])) + (", ..." if len(seeds) > MOST_SHOWN else "")
    for seed in claim.seeds:
        at = claim.at(claim.line_of(f"seed {seed}"))
        if record.logs and None not in held and seed not in held:
            found = f"seed {seed}, which has no log"
            yield at.has(Code.CLAIMED_SEED_WITHOUT_LOG, found, expected=f"one of those that have ({shown})")
        yield from _named_log(record, claim, seed, at)
        yield from _value_of_seed(record, claim, seed, at)


def _headline(claim: Claim, selection: Selection) -> Raised:
    headline = selection.headline
    values = values_in(headline.metric, [one.metric for one in selection.claimed]) if headline is not None else []
    if headline is None or not values:
        return
    at, said = claim.at(claim.line_of_key(headline.key)), f"{headline.metric} {headline.value}"
    shown = ", ".join(f"{value:.8g}" for value in values[:MOST_SHOWN]) + (", ..." if len(values) > MOST_SHOWN else "")
    there = f"({selection.claimed[0].metric.label}: mean {mean(values):.8f}, runs {shown})"
    if selection.fit is Fit.UNSUPPORTED:
        yield at.has(Code.HEADLINE_UNSUPPORTED, said, expected=f"the mean or one run's value {there}")
    elif selection.fit is Fit.IN_TRAINING:
        found = f"{said}, which the logs print only in training or as a diagnostic"
        yield at.has(Code.HEADLINE_NOT_FINAL, found, expected=f"a final metric {there}")
    elif selection.fit in (Fit.BEST, Fit.ONE):
        best = selection.fit is Fit.BEST
        code = Code.HEADLINE_IS_BEST_SEED if best else Code.HEADLINE_IS_ONE_SEED
        found = f"{said}, {'the best' if best else 'one'} of {len(values)} runs"
        yield at.has(code, found, expected=f"their mean, {mean(values):.8f}")


def _units(claim: Claim, selection: Selection) -> Raised:
    """Check that the JSON's loss is a loss, and that both its numbers are of one line."""
    metrics = [one.metric for one in selection.claimed if ratio_of(one.metric) is not None]
    loss, headline = claim.val_loss, selection.headline
    if not metrics or loss is None:
        return
    at = claim.at(claim.line_of("val_loss"))
    bpb = headline.value if headline is not None and headline.metric == "val_bpb" else claim.val_bpb
    if bpb is None:
        bpbs, losses = values_in("val_bpb", metrics), values_in("val_loss", metrics)
        if among(loss, [*bpbs, mean(bpbs)]) and not among(loss, [*losses, mean(losses)]):
            found = f"{loss} under val_loss, which is the logs' val_bpb"
            yield at.has(Code.SUBMISSION_UNIT, found, expected="nats", do="Name it val_bpb.")
        return
    named = [one.metric for one in selection.claimed if one.run.seed in claim.seeds and one.metric in metrics]
    ratios = _ratios(metrics, named)
    own = float(bpb) / float(loss)
    rounding = (half_a_unit(bpb) + own * half_a_unit(loss)) / float(loss)
    if all(abs(own - expected) > RATIO_TOLERANCE + rounding for expected in ratios):
        found = f"val_bpb / val_loss = {bpb} / {loss} = {own:.6f}"
        shown = " or ".join(dict.fromkeys(f"{ratio:.6f}" for ratio in ratios[:MOST_SHOWN]))
        yield at.has(Code.SUBMISSION_UNIT, found, expected=f"the logs' {shown}")


def _ratios(metrics: Sequence[Metric], named: Sequence[Metric]) -> list[float]:
    """Return what val_bpb / val_loss of a JSON may be: that of one run, or of the means of all runs or of those it names."""
    ratios = [ratio for metric in metrics if (ratio := ratio_of(metric)) is not None]
    for some in (metrics, named):
        bpb, loss = (mean(values_in(what, some)) if some else 0.0 for what in ("val_bpb", "val_loss"))
        ratios += [bpb / loss] if loss else []
    return ratios


def _size(claim: Claim, claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    size, at = claim.artifact_bytes, claim.at(claim.line_of("artifact_bytes"))
    runs = [with_training(one) for one in claimed]
    totals = [run.artifact_bytes for run in runs if run.artifact_bytes is not None]
    if not totals:  # else the runs' own sizes are checked
        yield from size_over_cap(size, rules, at)
        return
    every = {*totals, *(total for run in runs for _, total in run.totals)}
    if size is not None and size not in every and abs(size - mean([float(total) for total in totals])) > 1:
        expected = f"a run's total ({', '.join(map(str, dict.fromkeys(totals[:MOST_SHOWN])))}) or their mean"
        yield at.has(Code.SIZE_NOT_IN_LOGS, f"{size} bytes in all", expected=expected)


def _named_log(record: Record, claim: Claim, seed: int, at: Place) -> Raised:
    """Check that the log that the JSON names for a seed prints that seed."""
    name = claim.seeds[seed].log
    if name is None:
        return
    log = next((log for log in record.logs if record.shown(log) == name), None)
    printed = {run.seed for run in record.logs[log]} - {None} if log is not None else set()
    if printed and seed not in printed:
        expected = f"seed {', '.join(map(str, printed))}, which that log prints"
        yield at.has(Code.SEED_MISMATCH, f"seed {seed} for {name}", expected=expected, do="Correct one of them.")


def _value_of_seed(record: Record, claim: Claim, seed: int, at: Place) -> Raised:
    """Check that the value that the JSON gives a seed, if it has decimals enough to tell, is not another seed's."""
    exact = [value for value in claim.seeds[seed].val_bpbs if is_exact(value)]
    own = [metric.val_bpb for run in record.runs if run.seed == seed for metric in run.metrics]
    if not exact or any(among(value, own) for value in exact):
        return
    found = f"{exact[0]} for seed {seed}"
    others = [
        run
        for run in record.runs
        if run.seed not in (None, seed)
        and among(exact[0], [metric.val_bpb for metric in run.finals])
        and not _is_claimed_as(claim, run.seed, exact[0])
    ]
    if len(others) == 1:
        log = record.shown(others[0].log)
        expected = f"seed {others[0].seed}, which the log with that value prints ({log})"
        yield at.has(Code.SEED_MISMATCH, found, expected=expected)


def _is_claimed_as(claim: Claim, seed: int | None, value: Decimal) -> bool:
    """Return whether the JSON gives this value to this seed too, up to printing."""
    about = claim.seeds.get(-1 if seed is None else seed)
    return about is not None and any(agrees(value, float(one)) for one in about.val_bpbs)


# -- every claim against the logs --------------------------------------------------------------------------------------

_SAID_BY = {  # findings that say the same of a claim
    Kind.HEADLINE: (Code.HEADLINE_UNSUPPORTED, Code.HEADLINE_NOT_FINAL, Code.SUBMISSION_UNIT),
    Kind.MEAN: (Code.HEADLINE_UNSUPPORTED, Code.HEADLINE_NOT_FINAL),
    Kind.VALUE: (Code.SEED_MISMATCH,),
    Kind.SEED: (Code.CLAIMED_SEED_WITHOUT_LOG,),
    Kind.SIZE: (Code.SIZE_NOT_IN_LOGS,),
}


def check_statements(claims: Iterable[Statement], raised: Iterable[Found | Finding], rules: Ruleset) -> Raised:
    """Check that the logs hold what JSON and README claim, once for each line. raised: what was found already."""
    known = {(one.code, place_of(one)) for one in raised}
    by_line: dict[Place, list[Statement]] = {}
    for one in claims:
        told = any((code, one.claim.at) in known for code in _SAID_BY.get(one.claim.kind, ()))
        if one.holds is Holds.NO and not told:
            by_line.setdefault(one.claim.at, []).append(one)
    for at, stated in by_line.items():
        found = " and ".join(f"{one.claim.what} {one.claim.text}" for one in stated[:MOST_SHOWN])
        expected = " and ".join(dict.fromkeys(in_the_logs(one) for one in stated[:MOST_SHOWN]))
        better = any(_improves(one, rules) for one in stated)
        yield replace(at.has(Code.CLAIM_NOT_IN_LOGS, found, expected=expected), severity=ERROR if better else None)


def _improves(one: Statement, rules: Ruleset) -> bool:
    """Return whether a number makes the claim better than the logs do, by more than a rounding or an older version's."""
    if not one.sure:
        return False
    if one.claim.kind in (Kind.VALUE, Kind.VALUES, Kind.MEAN, Kind.HEADLINE) and one.worse_by > 0:
        return one.worse_by > max(ROUNDING, rules.margin / 10)
    least, most = IMPROVES.get(one.claim.kind, (0.0, math.inf))
    return one.claim.kind is Kind.SEED or (one.share is not None and not least <= one.share <= most)


def place_of(one: Found | Finding) -> Place:
    return one.at if isinstance(one, Found) else Place(one.file, one.line)


def in_the_logs(one: Statement) -> str:
    """Return what the logs say, and where."""
    if one.evidence is None:
        return "a log of it" if one.claim.kind is Kind.SEED else "unknown"
    return f"{one.evidence} ({one.log}:{one.log_line})" if one.log is not None else one.evidence
