"""The checks on a submission JSON: does the headline fit the runs, are units, sizes and seeds those of the logs."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from analysis.record.claim import Claim
from analysis.record.folder import Record, file_seed, seed_of
from analysis.record.selection import (
    BEST,
    IN_TRAINING,
    ONE,
    RATIO_TOLERANCE,
    UNSUPPORTED,
    Claimed,
    Selection,
    agrees,
    mean,
    with_training,
)
from analysis.rules.findings import Raised
from analysis.rules.ruleset import Ruleset


def check_claim(record: Record, claim: Claim, selection: Selection, rules: Ruleset) -> Raised:
    """What does not fit between the JSON and the runs that it claims."""
    file = record.shown(claim.file)
    for key, what in claim.schema:
        yield "submission-schema", file, claim.line_of(key), f"Found that {what}. Correct it."
    claimed = selection.claimed
    if claimed:
        yield from _headline(claim, selection, file)
        yield from _units(claim, claimed, file)
    yield from _claimed_size(claim, claimed, rules, file)
    yield from _claimed_seeds(record, claim, claimed, file)


def _headline(claim: Claim, selection: Selection, file: str) -> Raised:
    what, value = ("val_bpb", claim.val_bpb) if claim.val_bpb is not None else ("val_loss", claim.val_loss)
    if value is None:
        return
    line = claim.line_of(what)
    values = [v for one in selection.claimed if (v := getattr(one.metric, what)) is not None]
    if not values:
        return
    label = selection.claimed[0].metric.label
    there = (
        f"{label}: mean {mean(values):.8f}, runs "
        + ", ".join(f"{v:.8g}" for v in values[:10])
        + (", ..." if len(values) > 10 else "")
    )
    if selection.fit == UNSUPPORTED:
        yield (
            "headline-unsupported",
            file,
            line,
            f"Found {what} {value}; expected the mean or one run's value ({there}). Correct the number.",
        )
    elif selection.fit == IN_TRAINING:
        yield (
            "headline-not-final", file, line,
            f"Found {what} {value}, which the logs print in training or as a diagnostic only; expected a final metric ({there}).",
        )  # fmt: skip
    elif selection.fit == BEST:
        yield (
            "headline-is-best-seed",
            file,
            line,
            f"Found {what} {value}, the best of {len(values)} runs; expected their mean, {mean(values):.8f}.",
        )
    elif selection.fit == ONE:
        yield (
            "headline-is-one-seed",
            file,
            line,
            f"Found {what} {value}, one of {len(values)} runs; expected their mean, {mean(values):.8f}.",
        )


def _units(claim: Claim, claimed: list[Claimed], file: str) -> Raised:
    pairs = [(one.metric.val_bpb, one.metric.val_loss) for one in claimed]
    known = [(bpb, loss) for bpb, loss in pairs if bpb and loss and math.isfinite(bpb) and math.isfinite(loss)]
    if not known or claim.val_loss is None:
        return
    line = claim.line_of("val_loss")
    bpbs, losses = [bpb for bpb, _ in known], [loss for _, loss in known]
    if claim.val_bpb is None:
        is_bpb = any(agrees(claim.val_loss, value) for value in (*bpbs, mean(bpbs)))
        if is_bpb and not any(agrees(claim.val_loss, value) for value in (*losses, mean(losses))):
            yield (
                "submission-unit",
                file,
                line,
                f"Found {claim.val_loss} under val_loss, which is the logs' val_bpb; expected nats. Name it val_bpb.",
            )
        return
    ratio = mean([bpb / loss for bpb, loss in known])
    found = float(claim.val_bpb) / float(claim.val_loss)
    rounding = (_half(claim.val_bpb) + found * _half(claim.val_loss)) / float(claim.val_loss)
    if abs(found - ratio) > RATIO_TOLERANCE + rounding:
        yield (
            "submission-unit", file, line,
            f"Found val_bpb / val_loss = {claim.val_bpb} / {claim.val_loss} = {found:.6f}; expected the logs' {ratio:.6f}. Take both "
            f"numbers from one line, bpb under val_bpb and nats under val_loss.",
        )  # fmt: skip


def _half(value: Any) -> float:
    """Half a unit of a decimal's last printed digit."""
    exponent = value.as_tuple().exponent
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def _claimed_size(claim: Claim, claimed: list[Claimed], rules: Ruleset, file: str) -> Raised:
    if claim.artifact_bytes is None:
        return
    line = claim.line_of("artifact_bytes")
    printed = [with_training(one) for one in claimed]
    totals = [run.artifact_bytes for run in printed if run.artifact_bytes is not None]
    if not totals:
        if rules.artifact_bytes is not None and claim.artifact_bytes > rules.artifact_bytes:
            yield (
                "size-over-cap",
                file,
                line,
                f"Found {claim.artifact_bytes} bytes; the cap is {rules.artifact_bytes}. Shrink the artifact.",
            )
        return
    every = {size for run in printed for size in (run.artifact_bytes, *(size for _, size in run.totals))}
    if claim.artifact_bytes not in every and abs(claim.artifact_bytes - mean([float(size) for size in totals])) > 1:
        yield (
            "size-not-in-logs", file, line,
            f"Found {claim.artifact_bytes} bytes in all; expected a run's total ({', '.join(map(str, dict.fromkeys(totals[:10])))}) or their mean. "
            f"Take the number from the logs: model and code.",
        )  # fmt: skip


def _claimed_seeds(record: Record, claim: Claim, claimed: list[Claimed], file: str) -> Raised:
    held = {seed_of(run) for run in record.runs} | {file_seed(log) for log in record.empty}
    numbered = set(claim.seeds) in (set(range(1, len(claim.seeds) + 1)), set(range(len(claim.seeds))))
    if numbered and not held & set(claim.seeds):
        return  # first, second, third run: no seeds
    if record.logs and None not in held:
        for seed in claim.seeds:
            if seed not in held:
                there = ", ".join(str(one) for one in sorted(s for s in held if s is not None))
                yield (
                    "claimed-seed-without-log", file, claim.line_of(f"seed {seed}"),
                    f"Found seed {seed}, of which there is no log; the logs are of {there}. Add its log, or do not claim it.",
                )  # fmt: skip
    logs = {record.shown(log): log for log in record.logs}
    for seed, about in claim.seeds.items():
        line = claim.line_of(f"seed {seed}")
        if about.log is not None and (log := logs.get(about.log)) is not None:
            printed = {run.seed for run in record.logs[log]} - {None}
            if printed and seed not in printed:
                yield (
                    "seed-mismatch", file, line,
                    f"Found seed {seed} for {about.log}, which prints seed {', '.join(map(str, printed))}. Correct one of them.",
                )  # fmt: skip
        exact = [value for value in about.val_bpbs if int(value.as_tuple().exponent) <= -4]
        own = [run for run in record.runs if run.seed == seed]
        if not exact or any(agrees(value, m.val_bpb) for value in exact for run in own for m in run.metrics):
            continue
        value = exact[0]
        others = [
            run
            for run in record.runs
            if run.seed not in (None, seed)
            and any(agrees(value, m.val_bpb) for m in run.finals)
            and not _is_claimed_as(claim, run.seed, value)
        ]
        if len(others) == 1:
            yield (
                "seed-mismatch", file, line,
                f"Found {value} for seed {seed}; the log with that value, {record.shown(others[0].log)}, prints seed "
                f"{others[0].seed}. Correct the seed.",
            )  # fmt: skip
        elif ends := [one.metric.val_bpb for one in claimed if one.run.seed == seed]:
            yield (
                "submission-schema",
                file,
                line,
                f"Found {value} for seed {seed}; its log ends in {ends[0]}. Correct the number.",
            )


def _is_claimed_as(claim: Claim, seed: int | None, value: Decimal) -> bool:
    """Whether the JSON gives this value to this seed too, up to printing."""
    about = claim.seeds.get(-1 if seed is None else seed)
    return about is not None and any(agrees(value, float(one)) for one in about.val_bpbs)
