"""List frauds and mistakes with numbers: results edited in logs, and what JSON and README say about them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.mutations.claims import write_claims
from benchmarks.mutations.edits import ONE, Change, claim, file, finals, logs, readme, says, sub, write_text
from benchmarks.mutations.folders import Folder, Made
from benchmarks.mutations.study import Kind


def claimed(make: Callable[[Made], Made], only: int | None = None) -> Change:
    """Let JSON and README describe changed runs, and leave the logs as they are."""

    def change(folder: Folder) -> None:
        own = folder.runs
        folder.runs = [make(run) if only in (None, n) else run for n, run in enumerate(own)]
        if not folder.dialect.is_sweep:
            write_claims(folder)
        folder.runs = own

    return change


def better(by: float) -> Callable[[Made], Made]:
    return lambda run: replace(run, val_loss=round(run.val_loss - by, 8))


def last_result(text: str) -> str:
    return [line for line in text.split("\n") if "val_bpb" in line][-1]


def rounded_line_stays(folder: Folder) -> None:
    """Edit the exact line of a result, and forget the rounded one above it."""
    old = folder.runs[ONE]
    finals(-0.01, ONE)(folder)
    now = folder.runs[ONE]
    line = "val_loss:{0.val_loss:.4f} val_bpb:{0.val_bpb:.4f}"
    logs(lambda text: text.replace(line.format(now), line.format(old)), ONE)(folder)


def bpb_alone(folder: Folder) -> None:
    """Edit the val_bpb of one result, but not its val_loss."""
    if folder.dialect.is_speedrun:
        return
    run = folder.runs[ONE]
    now = replace(run, ratio=run.val_bpb / run.val_loss * 0.995)
    claimed(lambda _: now, ONE)(folder)
    for decimals in (8, 6, 4):
        sub(f"val_bpb([:=]){run.val_bpb:.{decimals}f}", rf"val_bpb\g<1>{now.val_bpb:.{decimals}f}", ONE)(folder)


def appended(label: str | None = None, only: int | None = None) -> Change:
    """Append a better result to logs, under the same label or another one, and claim it."""

    def change(folder: Folder) -> None:
        if folder.dialect.is_speedrun:
            return
        for n in range(len(folder.runs)) if only is None else [only]:
            path, run = folder.logs[n], better(0.02)(folder.runs[n])
            line = last_result(folder.text_of(run))
            line = line if label is None else re.sub(r"[\w ]*?(?=\s*:? val_loss)", label, line, count=1)
            write_text(folder, path, path.read_text().rstrip("\n") + f"\n{line}\n")
        claimed(better(0.02), only)(folder)

    return change


def floor_to(decimals: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda table: table | {"val_bpb": math.floor(table["val_bpb"] * 10**decimals) / 10**decimals}


def of_seed(**values: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Multiply what the JSON says about one seed by factors."""

    def make(table: dict[str, Any]) -> dict[str, Any]:
        seed = str(table["seeds"][ONE])
        own = table["seed_results"][seed]
        changed = {key: type(own[key])(round(own[key] * factor, 8)) for key, factor in values.items()}
        return table | {"seed_results": table["seed_results"] | {seed: own | changed}}

    return make


def extra_seed(table: dict[str, Any]) -> dict[str, Any]:
    own = table["seed_results"][str(table["seeds"][0])]
    return table | {"seeds": [*table["seeds"], 77], "seed_results": table["seed_results"] | {"77": own}}


def other_seed(table: dict[str, Any]) -> dict[str, Any]:
    old = table["seeds"][ONE]
    values = {("43" if key == str(old) else key): value for key, value in table["seed_results"].items()}
    return table | {"seeds": [43 if seed == old else seed for seed in table["seeds"]], "seed_results": values}


def factor(key: str, by: float) -> Change:
    """Multiply a number of the JSON."""
    return claim(lambda table: table | {key: type(table[key])(table[key] * by)} if key in table else table)


def less(pattern: str, by: float, decimals: int) -> Change:
    """Multiply a number of the README: group 2 of a pattern."""
    return readme(pattern, lambda found: f"{found[1]}{float(found[2].replace(',', '')) * by:,.{decimals}f}")


def second_row(found: re.Match[str]) -> str:
    cells = found[0].split("|")
    return found[0] + "|".join([cells[0], " 77 ", *cells[2:]])


def sota_in_nats(folder: Folder) -> None:
    if folder.options.sota is not None:
        folder.options = replace(folder.options, sota=round(folder.runs[0].val_loss * 1.02, 4))


ROW = r"(?m)^\| \d+ \|[^\n]*\n"
KINDS = (
    Kind(name="one result better by 0.006", change=finals(-0.01, ONE)),
    Kind(name="all results better by 0.12", change=finals(-0.31)),
    Kind(name="the exact result edited, the rounded one forgotten", change=rounded_line_stays),
    Kind(name="a result's val_bpb edited, its val_loss not", change=bpb_alone),
    Kind(name="a better result appended to one log", change=appended(only=ONE)),
    Kind(name="a better result appended to every log", change=appended()),
    Kind(name="a better result under a new label", change=appended("final_tuned")),
    Kind(name="JSON and README better than the logs by 0.006", change=claimed(better(0.01))),
    Kind(name="JSON and README better than one log", change=claimed(better(0.01), ONE)),
    Kind(name="headline better by 0.002", change=claim(lambda table: table | {"val_bpb": table["val_bpb"] - 0.002})),
    Kind(name="headline rounded down to two decimals", change=claim(floor_to(2))),
    Kind(
        name="headline of the best seed",
        change=claim(lambda t: t | {"val_bpb": min(s["val_bpb"] for s in t["seed_results"].values())}),
    ),
    Kind(name="headline in words", change=says(val_bpb="about one point two")),
    Kind(name="headline missing", change=claim(lambda t: {k: v for k, v in t.items() if not k.startswith("val_")})),
    Kind(
        name="headline there twice",
        change=file("submission.json", lambda t: re.sub(r'("val_bpb":) [\d.]+', r"\1 1.1, \g<0>", t, count=1)),
    ),
    Kind(name="nats under val_bpb", change=claim(lambda table: table | {"val_bpb": table["val_loss"]})),
    Kind(name="bpb under val_loss", change=claim(lambda table: table | {"val_loss": table["val_bpb"]})),
    Kind(name="JSON: sd a fifth", change=factor("val_bpb_std", 0.2)),
    Kind(name="JSON: p a tenth", change=factor("p_value", 0.1)),
    Kind(name="JSON: t doubled", change=factor("t_statistic", 2)),
    Kind(
        name="JSON: two more seeds in n",
        change=claim(lambda t: t | {"n_seeds": t["n_seeds"] + 2} if "n_seeds" in t else t),
    ),
    Kind(name="JSON: one more seed in the list", change=claim(lambda table: table | {"seeds": [*table["seeds"], 77]})),
    Kind(name="JSON: one more seed with a value", change=claim(extra_seed)),
    Kind(name="JSON: another seed's number", change=claim(other_seed)),
    Kind(name="JSON: a seed's val_bpb better", change=claim(of_seed(val_bpb=0.996))),
    Kind(name="JSON: a seed's val_loss better", change=claim(of_seed(val_loss=0.996))),
    Kind(name="JSON: a seed's artifact smaller", change=claim(of_seed(artifact_bytes=0.9))),
    Kind(name="JSON: a seed's steps fewer", change=claim(of_seed(steps=0.9))),
    Kind(name="JSON: bytes_total smaller", change=factor("bytes_total", 0.95)),
    Kind(name="JSON: training time shorter than in the logs", change=factor("train_time_seconds", 0.8)),
    Kind(name="JSON: training time over the cap", change=factor("train_time_seconds", 1.1)),
    Kind(name="JSON: evaluation time over the cap", change=says(eval_time_seconds=688.2)),
    Kind(name="JSON: other hardware", change=says(hardware="8xH200")),
    Kind(name="JSON: fewer GPUs", change=says(hardware="1xH100")),
    Kind(
        name="JSON: other seeds in the blurb",
        change=claim(lambda t: t | {"blurb": t["blurb"].replace("3-seed", "8-seed")}),
    ),
    Kind(name="README: mean better", change=less(r"(\*\*val_bpb: )([\d.]+)", 0.997, 5)),
    Kind(name="README: a seed's value better", change=less(r"(\| 42 \|[^|]*\|[^|]*\| )([\d.]+)", 0.997, 5)),
    Kind(name="README: one more seed in the table", change=readme(ROW, second_row)),
    Kind(name="README: sd smaller", change=less(r"(std )([\d.]+)", 0.2, 5)),
    Kind(name="README: p smaller", change=less(r"(p = )([\d.]+\d)", 0.1, 6)),
    Kind(name="README: t larger", change=readme(r"t = (-?)(\d+)", r"t = \g<1>9\2")),
    Kind(name="README: artifact smaller", change=less(r"(\| 42 \|[^|]*\|[^|]*\|[^|]*\| )([\d,]+)", 0.9, 0)),
    Kind(name="README: one more loss in the list", change=readme(r"losses = \[", "losses = [3.2761, ")),
    Kind(name="README: a loss in the list better", change=less(r"(losses = \[)([\d.]+)", 0.999, 4)),
    Kind(name="the number to beat in nats", change=sota_in_nats),
)
