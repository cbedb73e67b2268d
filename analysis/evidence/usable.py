"""Which runs a test can be made on: present, finite, of one metric, independent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.checks.among.alike import differing_settings
from analysis.reading.result import Result
from analysis.reading.run import Origin
from analysis.untrusted.refusal import EvidenceError

SMALLEST, LARGEST = 1e-6, 1e6  # nats or bits; anything beyond is a broken evaluation


def check_results(results: Sequence[Result], where: str, at_least: int = 2, *, seeds: str = "required") -> None:
    """Raise EvidenceError for runs that no test can be made on: missing, not finite, mixed, not independent, too few.

    seeds: what the rules ask of logs. Where they ask for none, runs of one seed are told apart by their numbers, and
    `duplicate-seed` says that they are not independent.
    """
    if not results and at_least > 0:
        raise EvidenceError(f"No training log in {where}: no step and no final metric was found (*.log, *.txt).")
    waiting = [result for result in results if result.state not in ("succeeded", "failed")]
    if waiting:
        first = waiting[0]
        raise EvidenceError(
            f"{len(waiting)} planned runs have no result, the first is {first.arm} seed {first.seed} ({first.state}, "
            f"{first.log}): finish the sweep."
        )
    for result in results:
        at = result.log if result.line is None else f"{result.log}, line {result.line}"
        for name, value in (("val_bpb", result.val_bpb), ("val_loss", result.val_loss)):
            if value is not None and not SMALLEST < value < LARGEST:
                raise EvidenceError(f"{at}: {name} is {value}, which no run can end with.")
        other = result.value(result.label or "")
        if other is not None and not abs(other) < LARGEST:
            raise EvidenceError(f"{at}: {result.label} is {other}, which no run can end with.")
    check_one_metric(results)
    _check_one_configuration(results)
    _check_independent(results, seeds=seeds)
    if len(results) < at_least:
        raise EvidenceError(f"{where} holds one run ({results[0].log}): a test needs at least two seeds.")


def check_one_metric(results: Sequence[Result]) -> None:
    """Raise EvidenceError where the runs carry different metrics: they are not one sample."""
    labels = {result.label: result.log for result in results if result.succeeded and _has_label(result)}
    if len(labels) > 1:
        named = ", ".join(f"{label} ({log})" for label, log in labels.items())
        raise EvidenceError(
            f"The runs carry different metrics: {named}. Name the label that all of them print: "
            f"--metric {next(iter(labels))}, or another one."
        )


def _has_label(result: Result) -> bool:
    return result.run.origin is not Origin.TYPED  # a number in a list has the name of its metric alone


def _check_one_configuration(results: Sequence[Result]) -> None:
    """Raise EvidenceError where several PATHs, or folders of one run each, hold different programs or configurations.

    Each of them is an arm (analysis/record/arms.py), and together they are no sample. One odd run among many is a finding.
    """
    groups = configurations(results)
    folders = [{str(Path(result.log).parent) for result in group} for group in groups]
    apart = len({folder for those in folders for folder in those}) == sum(map(len, folders))
    if len(groups) < 2 or not apart or any(len(group) < 2 for group in groups):
        return
    said = [
        f"{', '.join(sorted(own))} ({settings_of(group[0], groups)})"
        for own, group in zip(folders, groups, strict=True)
    ]
    raise EvidenceError(
        f"The runs are of {len(groups)} configurations: {'; '.join(said)}. Name the folder of one; the other may be the "
        f"--control."
    )


def check_second_lab(fault: str | None, own: Sequence[Result], where: Path, authors: Sequence[Result]) -> None:
    """Raise EvidenceError where the verifier's runs leave nothing to compare."""
    if fault is not None:
        raise EvidenceError(fault)
    check_results(own, str(where), at_least=1)
    if lost := [run for run in own if run.state == "failed"]:
        raise EvidenceError(f"{lost[0].log} is a failed run. Run it again, or leave it out and say why.")
    check_one_metric([*authors, *own])
    known = {run.numbers: run for run in authors}
    for run in own:
        if other := known.get(run.numbers):
            raise EvidenceError(f"{run.log} is the author's {other.log}. Verify with runs of your own.")


def configurations(results: Sequence[Result]) -> list[list[Result]]:
    """Return the results by program and settings, in the order of their first ones."""
    groups: list[list[Result]] = []
    for result in results:
        own = next((group for group in groups if _is_alike(result, group[0])), None)
        groups.append([result]) if own is None else own.append(result)
    return groups


def _is_alike(one: Result, other: Result) -> bool:
    same_program = one.program is None or other.program is None or one.program == other.program
    return same_program and not differing_settings(one.run, other.run)


def settings_of(one: Result, groups: Sequence[Sequence[Result]]) -> str:
    """Return what a group has of its own: the settings that differ from another group's, else its program."""
    names = {name for group in groups for name in differing_settings(one.run, group[0].run)}
    settings = ", ".join(f"{name} {one.run.hyperparameters[name]}" for name in sorted(names)[:3])
    return settings or f"program {one.program.sha256[:8] if one.program is not None else 'unknown'}"


def _place(result: Result) -> str:
    return result.log if result.seed is not None else f"{result.log}:{result.line}"  # a log may hold several trials


def _check_independent(results: Sequence[Result], *, seeds: str) -> None:
    """Raise EvidenceError unless there is one run per seed. Without seeds, two runs equal in every number are one run."""
    by_seed = seeds == "required"
    seedless = [result for result in results if result.seed is None]
    if seedless and len(seedless) < len(results):
        raise EvidenceError(
            f"{seedless[0].log} prints no seed and other logs do: it may be one of their runs. "
            f"Take it away if it is not a run of its own."
        )
    known: dict[object, Result] = {}
    for result in results:
        if result.seed is None and result.run.origin is Origin.TYPED:
            continue  # typed numbers have few decimals
        key = result.seed if by_seed and result.seed is not None else (result.seed, *result.numbers)
        if key in known:
            what = f"Seed {key} is there twice" if key == result.seed else "One result is there twice"
            raise EvidenceError(
                f"{what}, in {_place(known[key])} and {_place(result)}: they are not two independent runs. Keep one run per seed."
            )
        known[key] = result
