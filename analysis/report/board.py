"""A leaderboard in words: its cells, its Markdown table, and a sentence each on luck and on chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.report.grid import WHOLE, Width, fitted, literal_table, or_dash, text_table, wrapped
from analysis.report.said.headline import WORDS
from analysis.rules.keys import MEAN
from analysis.rules.metrics import CONVERTIBLE, TRAIN_TIME
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import line_start, printable
from analysis.verdict.answer import REFUSED, SUPPORTED
from analysis.verdict.board.row import Row, best_of, sign_of
from analysis.verdict.numbers import format_p

NOTHING = 5e-7  # of any metric: no digit of the board shows it


def cells(row: Row, rules: Ruleset) -> dict[str, str]:
    """Return a row for people, by column; JSON and CSV hold all digits."""
    of_rank = {}
    if ranked_in_words(rules) != f"mean {rules.metric}":
        of_rank = {
            ranked_in_words(rules): value_of_rank(row, rules),
            f"change of {rules.ranked}": or_dash(row.delta_ranked, _format(rules, "{:+z.6g}")),
        }
    return {
        "rank": or_dash(row.rank),
        "date": or_dash(row.date),
        "record": row.record,
        "n": str(row.n),
        **of_rank,
        f"mean {rules.metric}": or_dash(row.mean, "{:z.6f}"),
        "sd": or_dash(row.sd, "{:.6f}"),
        "change": or_dash(row.delta, "{:+z.6f}"),
        "expected shrinkage": "0"
        if row.shrinkage is not None and row.shrinkage < NOTHING
        else or_dash(row.shrinkage, "{:.2g}"),
        "bytes": or_dash(row.bytes, "{:,}"),
        "longest time": or_dash(row.train_time_s, "{:.1f} s"),
        "after": or_dash(row.predecessor),
        "tested against": _against(row),
        **_verdicts(row, rules),
        "errors": str(row.errors),
        "warnings": str(row.warnings),
        "remarks": printable(row.why or ""),
    }


def _against(row: Row) -> str:
    said = {"runs": "its runs", "number": "its mean", "target and runs": "target and its runs"}
    return said.get(row.tested_against or "", or_dash(row.tested_against))


def ranked_in_words(rules: Ruleset) -> str:
    """Return what the board is ranked by, in words."""
    return f"{rules.statistic if rules.ranked == rules.metric else MEAN} {rules.ranked}"


def value_of_rank(row: Row, rules: Ruleset) -> str:
    """Return what a record is ranked by, as printed."""
    return or_dash(row.ranked, _format(rules, "{:z.6f}" if rules.ranked == rules.metric else "{:z.6g}"))


def _format(rules: Ruleset, usual: str) -> str:
    """Return how a value of what the board is ranked by is printed: a time to the millisecond."""
    if rules.ranked != TRAIN_TIME:
        return usual
    return "{:+z.3f} s" if "+" in usual else "{:.3f} s"


def _verdicts(row: Row, rules: Ruleset) -> dict[str, str]:
    """Return the verdict and, where the margin has two units, the verdict in each instead."""
    if rules.margin == 0 or rules.target is not None or rules.metric not in CONVERTIBLE.values():
        return {"verdict": _with_p(gate_word(row, row.verdict), row.p, f"{rules.metric} p" if rules.criteria else "p")}
    return {
        "verdict, bpb": _with_p(gate_word(row, row.verdict_bpb), row.p_bpb),
        "verdict, nats": _with_p(gate_word(row, row.verdict_nats), row.p_nats),
    }


def gate_word(row: Row, verdict: str | None) -> str | None:
    """Return the word that `check` would say: errors in the evidence refuse what the numbers support."""
    return WORDS[REFUSED] if verdict == SUPPORTED and row.errors else verdict


def _with_p(word: str | None, p: float | None, name: str = "p") -> str:
    """Return a verdict and the p of the first test, named where the verdict is on more than that."""
    return or_dash(word) if p is None else f"{word}, {name} {format_p(p)}"


def markdown(rows: Sequence[Row], rules: Ruleset) -> str:
    """Return the table, and a sentence each on luck and on chance."""
    lines = literal_table([cells(row, rules) for row in rows])
    for said in (sentence_on_luck(rows, rules), sentence_on_chance(rows, rules)):
        lines += ["", said] if said else []
    return "\n".join(lines) + "\n"


def sentence_on_luck(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Return how much of the best record's lead is luck, as it was chosen for its mean; None where nobody can tell."""
    best = best_of(rows, rules)
    if best is None or best.ranked is None or best.shrinkage is None or best.shrinkage < NOTHING:
        return None
    rerun = sign_of(rules) * (sign_of(rules) * best.ranked + best.shrinkage)
    return (
        f"The best of several is partly lucky: a rerun of the best record is expected at a {rules.ranked} of "
        f"{_format(rules, '{:z.6f}').format(rerun)}, {best.shrinkage:.2g} worse than its mean."
    )


def sentence_on_chance(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Return how likely several tests let a false claim pass (five at 1 %: 0.049); None for fewer than two tests."""
    tests = sum(row.p is not None for row in rows)
    if tests < 2:
        return None
    return (
        f"{tests} tests at p < {rules.alpha:g}: if no record were better than what it is tested against, at least one "
        f"would still pass with a probability of {1 - (1 - rules.alpha) ** tests:.2g}."
    )


# -- for a terminal -----------------------------------------------------------------------------------------------------

ALSO = ("date", "sd", "longest time", "bytes", "tested against", "after", "expected shrinkage", "remarks")
SPARE = (*reversed(ALSO), "p")


def board_text(rows: Sequence[Row], rules: Ruleset, width: Width = WHOLE) -> str:
    """Return the table, and what is said below it."""
    best_first = sorted(rows, key=lambda row: math.inf if row.rank is None else row.rank)  # stable: else by date
    table = [_cells(row, rules) for row in best_first]
    shown = fitted(table, width.table, "record", SPARE)
    lines = [line_start(line) for line in text_table(shown)]
    left_out = [name for name in table[0] if name not in shown[0]]
    said = [sentence_on_luck(rows, rules), sentence_on_chance(rows, rules)]
    if left_out:
        said.append(f"Not shown: {', '.join(left_out)}. A wider terminal, or --format csv, json or html, shows them.")
    return "\n\n".join(["\n".join(lines), *("\n".join(wrapped([one], width.prose)) for one in said if one)]) + "\n"


def _cells(row: Row, rules: Ruleset) -> dict[str, str]:
    every = cells(row, rules)
    gain = None if row.delta_ranked is None else -sign_of(rules) * row.delta_ranked
    return {
        "rank": every["rank"],
        "record": printable(row.record),
        "n": every["n"],
        ranked_in_words(rules): value_of_rank(row, rules),
        "gain": or_dash(gain, "{:+z.6g}" if abs(gain or 0) >= 1 else "{:+z.6f}"),
        "verdict": or_dash(gate_word(row, row.verdict)),
        "p": "-" if row.p is None else format_p(row.p).removeprefix("= "),
        "findings": _findings(row),
        **{name: printable(every[name]) for name in ALSO if name in every},
    }


def _findings(row: Row) -> str:
    """Return how many there are of the worst severity."""
    many, what = (row.errors, "error") if row.errors else (row.warnings, "warning")
    return f"{many} {what}{'s' if many > 1 else ''}" if many else "-"
