"""The checks on a submission JSON: does the headline fit the runs, are units, sizes and seeds those of the logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from analysis.record.claim import Claim
from analysis.record.fit import RATIO_TOLERANCE, Fit, Headline, agrees, mean, values_in
from analysis.record.folder import Record, file_seed, seed_of
from analysis.record.selection import Claimed, Selection, with_training
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.rules.ruleset import Ruleset

MOST_SHOWN = 10  # values in one sentence
EXACT = 4  # decimals from which on a seed's value can be told from another's


def check_claim(record: Record, claim: Claim, selection: Selection, rules: Ruleset) -> Raised:
    """Check the JSON against the runs that it claims."""
    file = record.shown(claim.file)
    for key, what, severity in claim.schema:
        at = Place(file, claim.line_of(key))
        yield Found(code=Code.SUBMISSION_SCHEMA, at=at, found=f"that {what}", do="Correct it.", severity=severity)
    claimed = selection.claimed
    if claimed:
        yield from _headline(claim, selection, file)
        yield from _units(claim, selection, file)
    yield from _size(claim, claimed, rules, file)
    held = {seed_of(run) for run in record.runs} | {file_seed(log) for log in record.empty}
    numbered = set(claim.seeds) in (set(range(1, len(claim.seeds) + 1)), set(range(len(claim.seeds))))
    if numbered and not held & set(claim.seeds):
        return  # first, second, third run: no seeds
    if record.logs and None not in held:
        yield from _seeds_without_log(claim, sorted(seed for seed in held if seed is not None), file)
    for seed in claim.seeds:
        at = Place(file, claim.line_of(f"seed {seed}"))
        yield from _named_log(record, claim, seed, at)
        yield from _value_of_seed(record, claim, claimed, seed, at)


# -- the headline ------------------------------------------------------------------------------------------------------


def _headline(claim: Claim, selection: Selection, file: str) -> Raised:
    headline = selection.headline
    values = values_in(headline.metric, [one.metric for one in selection.claimed]) if headline is not None else []
    if headline is None or not values:
        return
    at = Place(file, claim.line_of_key(headline.key))
    said = f"{headline.metric} {headline.value}"
    shown = ", ".join(f"{value:.8g}" for value in values[:MOST_SHOWN]) + (", ..." if len(values) > MOST_SHOWN else "")
    there = f"{selection.claimed[0].metric.label}: mean {mean(values):.8f}, runs {shown}"
    if selection.fit is Fit.UNSUPPORTED:
        yield Found(
            code=Code.HEADLINE_UNSUPPORTED,
            at=at,
            found=said,
            expected=f"the mean or one run's value ({there})",
            do="Correct the number.",
        )
    elif selection.fit is Fit.IN_TRAINING:
        yield Found(
            code=Code.HEADLINE_NOT_FINAL,
            at=at,
            found=f"{said}, which the logs print only in training or as a diagnostic",
            expected=f"a final metric ({there})",
            do="Claim a final metric.",
        )
    elif selection.fit in (Fit.BEST, Fit.ONE):
        best = selection.fit is Fit.BEST
        yield Found(
            code=Code.HEADLINE_IS_BEST_SEED if best else Code.HEADLINE_IS_ONE_SEED,
            at=at,
            found=f"{said}, {'the best' if best else 'one'} of {len(values)} runs",
            expected=f"their mean, {mean(values):.8f}",
            do="Claim the mean.",
        )


def _units(claim: Claim, selection: Selection, file: str) -> Raised:
    """Check that the JSON's loss is a loss, and that both its numbers are of one line."""
    pairs = [(one.metric.val_bpb, one.metric.val_loss) for one in selection.claimed]
    known = [(bpb, loss) for bpb, loss in pairs if bpb and loss and math.isfinite(bpb) and math.isfinite(loss)]
    if not known or claim.val_loss is None:
        return
    at = Place(file, claim.line_of("val_loss"))
    claimed_bpb = _claimed_bpb(claim, selection.headline)
    if claimed_bpb is None:
        if _is_bpb(claim.val_loss, [bpb for bpb, _ in known], [loss for _, loss in known]):
            yield Found(
                code=Code.SUBMISSION_UNIT,
                at=at,
                found=f"{claim.val_loss} under val_loss, which is the logs' val_bpb",
                expected="nats",
                do="Name it val_bpb.",
            )
        return
    ratio = mean([bpb / loss for bpb, loss in known])
    found = float(claimed_bpb) / float(claim.val_loss)
    rounding = (_half(claimed_bpb) + found * _half(claim.val_loss)) / float(claim.val_loss)
    if abs(found - ratio) > RATIO_TOLERANCE + rounding:
        yield Found(
            code=Code.SUBMISSION_UNIT,
            at=at,
            found=f"val_bpb / val_loss = {claimed_bpb} / {claim.val_loss} = {found:.6f}",
            expected=f"the logs' {ratio:.6f}",
            do="Take both numbers from one line: bpb under val_bpb, nats under val_loss.",
        )


def _claimed_bpb(claim: Claim, headline: Headline | None) -> Decimal | None:
    """Return the bpb that is meant, which may be the JSON's second one."""
    return headline.value if headline is not None and headline.metric == "val_bpb" else claim.val_bpb


def _is_bpb(value: Decimal, bpbs: list[float], losses: list[float]) -> bool:
    among_bpbs = any(agrees(value, one) for one in (*bpbs, mean(bpbs)))
    return among_bpbs and not any(agrees(value, one) for one in (*losses, mean(losses)))


def _half(value: Decimal) -> float:
    """Return half a unit of a decimal's last printed digit."""
    exponent = value.as_tuple().exponent
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


# -- the size ----------------------------------------------------------------------------------------------------------


def _size(claim: Claim, claimed: Sequence[Claimed], rules: Ruleset, file: str) -> Raised:
    if claim.artifact_bytes is None:
        return
    at = Place(file, claim.line_of("artifact_bytes"))
    runs = [with_training(one) for one in claimed]
    totals = [run.artifact_bytes for run in runs if run.artifact_bytes is not None]
    if not totals:
        if rules.artifact_bytes is not None and claim.artifact_bytes > rules.artifact_bytes:
            yield Found(
                code=Code.SIZE_OVER_CAP,
                at=at,
                found=f"{claim.artifact_bytes} bytes",
                expected=f"at most {rules.artifact_bytes}",
                do="Shrink the artifact.",
            )
        return
    every = {*totals, *(size for run in runs for _, size in run.totals)}
    if claim.artifact_bytes not in every and abs(claim.artifact_bytes - mean([float(size) for size in totals])) > 1:
        shown = ", ".join(map(str, dict.fromkeys(totals[:MOST_SHOWN])))
        yield Found(
            code=Code.SIZE_NOT_IN_LOGS,
            at=at,
            found=f"{claim.artifact_bytes} bytes in all",
            expected=f"a run's total ({shown}) or their mean",
            do="Take the number from the logs: model plus code.",
        )


# -- the seeds ---------------------------------------------------------------------------------------------------------


def _seeds_without_log(claim: Claim, held: list[int], file: str) -> Raised:
    shown, there = ", ".join(map(str, held)), set(held)
    for seed in claim.seeds:
        if seed not in there:
            yield Found(
                code=Code.CLAIMED_SEED_WITHOUT_LOG,
                at=Place(file, claim.line_of(f"seed {seed}")),
                found=f"seed {seed}, which has no log",
                expected=f"one of those that have ({shown})",
                do="Add its log, or do not claim it.",
            )


def _named_log(record: Record, claim: Claim, seed: int, at: Place) -> Raised:
    """Check that the log that the JSON names for a seed prints that seed."""
    name = claim.seeds[seed].log
    log = next((log for log in record.logs if record.shown(log) == name), None) if name is not None else None
    printed = {run.seed for run in record.logs[log]} - {None} if log is not None else set()
    if printed and seed not in printed:
        yield Found(
            code=Code.SEED_MISMATCH,
            at=at,
            found=f"seed {seed} for {name}",
            expected=f"seed {', '.join(map(str, printed))}, which that log prints",
            do="Correct one of them.",
        )


def _value_of_seed(record: Record, claim: Claim, claimed: Sequence[Claimed], seed: int, at: Place) -> Raised:
    """Check that a seed's log holds the value that the JSON gives it, if that has decimals enough to tell."""
    exact = [value for value in claim.seeds[seed].val_bpbs if int(value.as_tuple().exponent) <= -EXACT]
    own = [run for run in record.runs if run.seed == seed]
    if not exact or any(agrees(value, m.val_bpb) for value in exact for run in own for m in run.metrics):
        return
    value = exact[0]
    others = [
        run
        for run in record.runs
        if run.seed not in (None, seed)
        and any(agrees(value, metric.val_bpb) for metric in run.finals)
        and not _is_claimed_as(claim, run.seed, value)
    ]
    if len(others) == 1:
        yield Found(
            code=Code.SEED_MISMATCH,
            at=at,
            found=f"{value} for seed {seed}",
            expected=f"seed {others[0].seed}, which the log with that value prints ({record.shown(others[0].log)})",
            do="Correct the seed.",
        )
    elif ends := [one.metric.val_bpb for one in claimed if one.run.seed == seed]:
        yield Found(
            code=Code.SUBMISSION_SCHEMA,
            at=at,
            found=f"{value} for seed {seed}",
            expected=f"{ends[0]}, which its log ends in",
            do="Correct the number.",
        )


def _is_claimed_as(claim: Claim, seed: int | None, value: Decimal) -> bool:
    """Return whether the JSON gives this value to this seed too, up to printing."""
    about = claim.seeds.get(-1 if seed is None else seed)
    return about is not None and any(agrees(value, float(one)) for one in about.val_bpbs)
