"""Check that runs used the data that the ruleset allows, and that candidate and control used the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from statistics import median

from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.reading.seeding import constant_seeds
from analysis.record.selection import Claimed
from analysis.rules.data import Data
from analysis.rules.findings import ERROR, WARNING, Code, Found, Place, Raised, Severity
from analysis.rules.ruleset import Ruleset

BYTES_WITHIN = 0.02  # of the validation split's bytes, which no tokenizer changes
_VALIDATION = re.compile(r"(?:^|[^a-z])val(?:idation)?(?:[^a-z]|$)", re.IGNORECASE)
_TRAIN_FILES = re.compile(
    rb"^[ \t]{0,80}(?:\w{1,40}\.)?(?:train_\w{0,20}(?:files?|pattern|glob|bin|path|dir)|train_data|input_bin)\b[^=\n]{0,80}=([^\n]{1,400})",
    re.MULTILINE,
)
_QUOTED = re.compile(rb"""["']([^"'\n]{1,300})["']""")


def check_data(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check the data of each run. A problem that several runs share is raised once."""
    said: set[str] = set()
    for one in claimed:
        for problem in _problems(one, rules):
            if problem.found not in said:
                said.add(problem.found)
                yield problem


def _problems(one: Claimed, rules: Ruleset) -> Raised:
    data, run = Data.of(rules.data), one.training
    problem = partial(Found, code=Code.DATA_UNEXPECTED, at=one.at(one.run.line))
    if trained_on := _trained_on_validation(run):
        yield problem(
            found=f"training on {trained_on}",
            expected="training shards, not those of the validation",
            do="Train on training data alone.",
        )
    elif run.dataset is not None and not data.knows(run.dataset):
        yield problem(
            found=f"the data set {run.dataset}",
            expected=f"one that {rules.name} knows ({', '.join(data.datasets)})",
            do="Show that it holds no validation text.",
            severity=WARNING,
        )
    if run.train_shards is not None and data.train_shards is not None and run.train_shards > data.train_shards:
        yield problem(
            found=f"{run.train_shards} training shards",
            expected=f"at most {data.train_shards}, as in accepted records",
            do="Show where the others come from, and that they hold no validation text.",
        )
    yield from _validated_on(one, data, rules)


def _validated_on(one: Claimed, data: Data, rules: Ruleset) -> Raised:
    """Check the number of validation tokens: the whole split, as the run's tokenizer cuts it."""
    run = one.run
    problem = partial(Found, code=Code.DATA_UNEXPECTED, at=one.at(run.line))
    tokenizer, tokens = run.tokenizer or one.training.tokenizer, run.val_tokens or one.training.val_tokens
    counts = data.counts_for(tokenizer)
    if tokens is None or not data.val_tokens:
        return
    if counts and not data.agree(tokens, counts):
        shown = ", ".join(map(str, counts))
        yield problem(
            found=f"{tokens} validation tokens",
            expected=f"the whole split ({shown}{f' with {tokenizer}' if tokenizer else ''})",
            do="Validate on all of it.",
        )
    elif not counts and not _has_all_bytes(one, tokens, rules):
        yield problem(
            found=f"{tokens} validation tokens with {tokenizer}, which by val_bpb / val_loss are not all bytes of the split",
            expected=f"all of them, or a tokenizer that {rules.name} knows",
            do="Validate on the whole split, and show how its bytes are counted.",
        )


def _has_all_bytes(one: Claimed, tokens: int, rules: Ruleset) -> bool:
    """Return whether tokens / (ratio * ln 2), the bytes of the split, are those of the known tokenizers, or unknown.

    The split has 151.08 million bytes: 62,021,632 / (0.592257 * ln 2), or 40,540,160 / (0.387133 * ln 2).
    """
    data, own = Data.of(rules.data), one.metric.ratio
    known = [
        max(data.val_tokens[name][:1]) / ratio for name, ratio in rules.bpb_per_nat.items() if name in data.val_tokens
    ]
    return not known or own is None or abs(tokens / own / median(known) - 1) <= BYTES_WITHIN


def _trained_on_validation(run: Run) -> str | None:
    """Return the name of validation files that a run trains on, by its log or by its embedded program."""
    names = [name for name in (run.train_files, run.dataset) if name is not None]
    if run.source is not None:
        for line in _TRAIN_FILES.finditer(run.source.text):
            names += [text.decode("utf-8", "replace").rsplit("/", 1)[-1] for text in _QUOTED.findall(line[1])]
    return next((name for name in names if _VALIDATION.search(name) and "train" not in name.lower()), None)


# -- seeds of the program ----------------------------------------------------------------------------------------------


def check_seeding(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that runs that print no seed do not all have programs that set the same constant seed.

    It is an error where the rules ask for a printed seed.
    """
    same: dict[tuple[int, ...], list[Claimed]] = {}
    if any(one.run.seed is not None for one in claimed):
        return
    known: dict[bytes, tuple[int, ...] | None] = {}
    for one in claimed:
        source = one.training.source
        if source is None:
            continue
        if source.text not in known:
            known[source.text] = constant_seeds(source.text)
        seeds = known[source.text]
        if seeds is not None:
            same.setdefault(seeds, []).append(one)
    for seeds, runs in same.items():
        if len(runs) > 1:
            yield Found(
                code=Code.SEED_CONSTANT,
                at=runs[0].at(runs[0].training.line),
                found=f"a program that always sets the seed {', '.join(map(str, seeds))}, in {len(runs)} logs that print none",
                expected="a seed of its own for each run",
                do="Repeats of one seed are one run: show that each had another seed, or rerun them.",
                severity=ERROR if rules.seeds == "required" else None,
            )


# -- candidate and control ---------------------------------------------------------------------------------------------


def check_control(runs: Sequence[Result], control: Sequence[Result], rules: Ruleset) -> Raised:
    """Check that the control was validated like the candidate, on the same hardware and software."""
    same_tokenizer = True
    for name, word in (("tokenizer", "tokenizer"), ("val_tokens", "validation tokens")):
        odd = _odd_control(runs, control, name, Data.of(rules.data))
        if odd is None:
            continue
        if name == "tokenizer":
            same_tokenizer = False
        # bits per byte of two tokenizers can be compared although their token counts differ
        comparable = rules.metric == "val_bpb" and not same_tokenizer
        yield _differs(odd, word, Code.DATA_DIFFERS, WARNING if comparable else ERROR)
    for name, word in (("torch", "torch"), ("gpu", "GPU"), ("world_size", "ranks")):
        odd = _odd_control(runs, control, name, Data.of(rules.data))
        if odd is not None:
            yield _differs(odd, word, Code.ENVIRONMENT_DIFFERS, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Odd:
    """The first control run with a fact that no candidate run has."""

    run: Result
    own: object
    theirs: str


def _odd_control(runs: Sequence[Result], control: Sequence[Result], name: str, data: Data) -> _Odd | None:
    fact = attrgetter(f"run.{name}")
    known = list(dict.fromkeys(value for run in runs if (value := fact(run)) is not None))
    for run in control if known else ():
        own = fact(run)
        same = own in known or (name == "val_tokens" and own is not None and data.agree(own, known))
        if own is not None and not same:
            return _Odd(run=run, own=own, theirs=", ".join(map(str, known)))
    return None


def _differs(odd: _Odd, word: str, code: Code, severity: Severity | None) -> Found:
    return Found(
        code=code,
        at=Place(odd.run.log, odd.run.run.line),
        found=f"{word}: {odd.own} in a control run",
        expected=f"{odd.theirs}, as in the candidate's runs",
        do="Run the control like the candidate.",
        severity=severity,
    )
