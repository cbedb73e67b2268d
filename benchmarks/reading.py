"""What the reader costs on many logs, as a ratio to a bare regex for the final line over the same files.

    python -m benchmarks.reading [--logs 1500] [--kilobytes 160] [--rounds 3]

CPU time (user and system), so that a wait for the disk or a neighbour does not count; rounds are interleaved and medians
shown. The logs are made up from fixed seeds, half with labelled final metrics and half of the speedrun kind, and every
value that is read is compared with what was written. The tables are appended to benchmarks/results/reading.md with date
and machine.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from analysis.reading.reader import read_log
from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "reading.md"
READER, YARDSTICK, LITERAL, BYTES = "the reader", "regex for the final line", "literal `val_loss:`", "bytes only"
PATTERNS = {
    YARDSTICK: re.compile(rb"^(\S+) val_loss:(\S+)(?: val_bpb:(\S+))?", re.MULTILINE),
    LITERAL: re.compile(rb"val_loss:(\S+)"),
}
BARE = """
import os, re, sys
find = re.compile(os.fsencode(sys.argv[2]), re.MULTILINE).findall
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        print(name, find(file.read())[-1], sep="\\t")
"""
SIZES = (40, 160, 640, 2560, 10240)  # kB
USUAL = 160  # kB, the size that the others are compared with
EACH = 20480  # kB that are read at every size in every round, by reading a small log more often
SOURCES = 16  # different scripts of a kind; the logs share them as the seeds of one submission do

# -- made-up logs ------------------------------------------------------------------------------------------------------

NAMES = (
    "hidden", "weight_decay", "momentum", "embedding", "rotary", "token", "window", "batch", "shard", "grad",
    "scale", "attn_norm", "lr_schedule", "residual", "bucket", "state", "rank", "cooldown", "logits", "block",
    "seq_len", "param", "quantile",
)  # fmt: skip
STATEMENTS = (
    "{a} = {b}.view(-1, {n}).to(dtype=torch.bfloat16)",
    "{a} = {b} * {n} + self.{c}(x)[..., :{n}]",
    "{a}, {b} = {c}.chunk(2, dim=-1)",
    'log0(f"{a}:{{{b}:.4f}} {c}:{{1000 * {a} / max({b}, 1):.2f}}ms")',
    'raise ValueError(f"{a} must be at least {n}, got {{{b}!r}} for {{{c}.shape}}")',
    'pattern = re.compile(r"^(?P<{a}>[A-Za-z_]\\w*)\\s*[:=]\\s*(\\d+(?:\\.\\d+)?)$")',
    "assert {a}.size(0) == {n}, ({a}.shape, {b}, '{c}')",
    "dist.all_reduce({a}, op=dist.ReduceOp.AVG)",
    "# {a} before {b}: the {c} of the last {n} steps would be counted twice otherwise",
    "x = x + F.linear(norm(x), self.{a}.type_as(x)).relu().square().mul({n} ** -0.5)",
    "{a}_{n} = [p for n, p in model.named_parameters() if p.ndim >= 2 and '{b}' not in n and p.numel() > {n}]",
    "return {a}",
    "",
)
PRINTS = """
def report(step, total, val_loss, val_bpb, training_time_ms):
    log0(f"step:{step}/{total} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} train_time:{training_time_ms:.0f}ms")
    log0(f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{training_time_ms:.0f}ms")
    log0(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")
"""


def make_source(rng: random.Random, size: int) -> str:
    """A script of about `size` bytes that parses and does nothing sensible."""
    parts = [
        "import os\nimport re\nfrom pathlib import Path\n\nimport torch\nimport torch.nn.functional as F\n",
        PRINTS,
    ]
    length = sum(map(len, parts))
    while length < size:
        a, b, c = rng.sample(NAMES, 3)
        lines = ["", f"def {a}_{b}_{rng.randrange(1000)}(self, x, {a}, {b}={rng.random():.3g}, *, {c}=None):"]
        lines.append(f'    """The {a} of every {b}, scaled by {c}."""')
        depth = 1
        for _ in range(rng.randint(4, 30)):
            a, b, c = rng.sample(NAMES, 3)
            if depth < 5 and rng.random() < 0.2:
                opening = rng.choice(("if {a} > {n} and {b} is not None:", "for {a} in range({n}):", "with {a}.{b}():"))
                lines.append(" " * 4 * depth + opening.format(a=a, b=b, n=rng.randrange(512)))
                depth += 1
            body = rng.choice(STATEMENTS).format(a=a, b=b, c=c, n=rng.randrange(1, 4096))
            lines.append(" " * 4 * depth + body if body else "")
            if not body or body[0] == "#":
                lines.append(" " * 4 * depth + f"{a} = {b}")
            elif depth > 1 and rng.random() < 0.3:
                depth -= 1
        parts.append("\n".join(lines) + "\n")
        length += len(parts[-1])
    return "".join(parts)


def header(rng: random.Random) -> str:
    """What a run prints of its machine: versions and a box of the kind that nvidia-smi draws."""
    rule = "+" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "+\n"
    box = [rule, rule.replace("-", "="), f"|{'GPU  Name':41}|{'Bus-Id':24}|{'Volatile Uncorr. ECC':22}|\n"]
    for gpu in range(8):
        used = rng.randrange(1000, 80000)
        box += [
            f"|   {gpu}  NVIDIA H100 80GB HBM3          On  |   00000000:{rng.randrange(256):02X}:00.0 Off |{'0':>21} |\n",
            f"| N/A   {rng.randrange(25, 60)}C    P0    {rng.randrange(70, 700):>3}W /  700W | {used:>6}MiB /  81559MiB |"
            f"{rng.randrange(100):>5}%      Default |\n",
            f"|{'':41}|{'':24}|{'Disabled':>21} |\n",
            rule,
        ]
    box += [f"|    {i % 8}   N/A  N/A    {rng.randrange(10**5):>6}      C   python3   {i:>5}MiB |\n" for i in range(20)]
    return f"Running Python 3.12.7 (main)\nRunning PyTorch 2.6.0+cu124\nsmi\n{''.join(box)}"


@dataclass(frozen=True, slots=True)
class Written:
    """What a made-up log says at its end."""

    path: Path
    val_loss: float
    val_bpb: float | None
    line: int


def write_labelled(path: Path, rng: random.Random, source: str, size: int) -> Written:
    """A log of `size` bytes with final metrics that carry a label."""
    seed = rng.randrange(10_000)
    facts = (
        "val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/bpe_1024.model\n"
        "train_loader:dataset:web10B shards:80\nval_loader:shards pattern=./data/web_val_*.bin tokens:62021632\n"
        f"model_params:17059912\nworld_size:8 grad_accum_steps:1\nseed:{seed}\n"
    ) + "".join(f"warmup_step:{i}/20\n" for i in range(1, 21))
    val_loss = 2.0 + rng.random() / 10
    val_bpb = 0.592256 * val_loss
    time_ms = 600_000 + rng.randrange(1000)
    ending = (
        f"peak memory allocated: 10184 MiB reserved: 10588 MiB\nSerialized model: 67224983 bytes\n"
        f"Code size: {len(source)} bytes\nTotal submission size: {67224983 + len(source)} bytes\n"
        f"Serialized model int8+zlib: 15815847 bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)\n"
        f"Total submission size int8+zlib: {15815847 + len(source)} bytes\n"
        f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{rng.randrange(999, 9999)}ms\n"
    )
    parts = [source, "\n", "=" * 100, "\n", header(rng), facts]
    room = size - sum(map(len, parts)) - len(ending) - 80
    total = max(20_000, room // 60)
    every = max(1, total * 60 // max(room, 60))
    step = 0
    while room > 0:
        step += every
        timing = f"train_time:{43.5 * step:.0f}ms step_avg:{43.5 + rng.random():.2f}ms"
        loss = 2 + 5 / (1 + step / 500) + rng.random() / 9
        losses = f"val_loss:{loss:.4f} val_bpb:{0.6 * loss:.4f}" if step // every % 4 == 0 else f"train_loss:{loss:.4f}"
        parts.append(f"step:{step}/{total} {losses} {timing}\n")
        room -= len(parts[-1])
    parts += [f"stopping_early: wallclock_cap train_time:{time_ms}ms step:{step}/{total}\n", ending]
    exact = f"{val_loss:.8f}", f"{val_bpb:.8f}"
    parts.append(f"final_int8_zlib_roundtrip_exact val_loss:{exact[0]} val_bpb:{exact[1]}\n")
    text = "".join(parts)
    path.write_text(text)
    return Written(path, float(exact[0]), float(exact[1]), text.count("\n"))


def write_speedrun(path: Path, rng: random.Random, source: str, size: int) -> Written:
    """A log of about `size` bytes that ends in a validation."""
    parts = [source, "\n", "=" * 100, "\n", header(rng), "=" * 100, "\n"]
    room = size - sum(map(len, parts))
    total = max(1, room // (44 + 2 * len(str(room // 50))))
    loss = ""
    for step in range(total + 1):
        timing = f"train_time:{69 * step + rng.randrange(60)}ms step_avg:{69 + rng.random():.2f}ms"
        if step % 125 == 0 or step == total:
            loss = f"{3.2 + 7 / (1 + step / 40) + rng.random() / 50:.4f}"
            parts.append(f"step:{step}/{total} val_loss:{loss} {timing}\n")
        else:
            parts.append(f"step:{step}/{total} {timing}\n")
    text = "".join(parts)
    path.write_text(f"{text}peak memory allocated: 31125 MiB reserved: 46794 MiB\n")
    return Written(path, float(loss), None, text.count("\n"))


KINDS: dict[str, tuple[Callable[[Path, random.Random, str, int], Written], int, float]] = {
    # how a log is written, the bytes of its source and the share of a small log that the source may take
    "labelled": (write_labelled, 55_000, 0.35),
    "speedrun": (write_speedrun, 70_000, 0.45),
}


def make_logs(folder: Path, count: int, kilobytes: int) -> dict[str, list[Written]]:
    """`count` logs, the kinds by turns."""
    made: dict[str, list[Written]] = {kind: [] for kind in KINDS}
    sources: dict[str, list[str]] = {}
    for kind, (_, length, share) in KINDS.items():
        rng = random.Random(kind)  # noqa: S311 - the same logs every time
        small = min(length, int(1000 * kilobytes * share))
        sources[kind] = [make_source(rng, small) for _ in range(min(SOURCES, count))]
        ast.parse(sources[kind][0])
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        rng = random.Random(number)  # noqa: S311
        path = folder / f"{number:06}_{kind}.log"
        made[kind].append(KINDS[kind][0](path, rng, rng.choice(sources[kind]), 1000 * kilobytes))
    return made


# -- what was read is what was written ---------------------------------------------------------------------------------


def require(found: object, wanted: object, path: Path, who: str) -> None:
    if found != wanted:
        raise SystemExit(f"{who} read {found} from {path.name}, which says {wanted}: nothing was measured.")


def check_rows(output: Path, logs: list[Written]) -> None:
    """The command's CSV has one row a log, with its loss, its val_bpb and their line."""
    with open(output, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != len(logs):
        raise SystemExit(f"The reader gave {len(rows)} rows for {len(logs)} logs of one run each.")
    found = {Path(row["log"]).name: row for row in rows}
    for log in logs:
        row = found[log.path.name]
        read = float(row["val_loss"]), float(row["val_bpb"]) if row["val_bpb"] else None, int(row["line"])
        require(read, (log.val_loss, log.val_bpb, log.line), log.path, READER)


def check_bare(printed: str, logs: list[Written]) -> None:
    """The bare regexes found the same loss: they are a yardstick only where they do the job."""
    found = dict(line.split("\t") for line in printed.splitlines())
    for log in logs:
        last = ast.literal_eval(found[log.path.name])
        require(float(last if isinstance(last, bytes) else last[1]), log.val_loss, log.path, "a regex")


def check_runs(logs: list[Written]) -> None:
    for log in logs:
        read = [(run.finals[-1] if run.finals else run.validation) for run in read_log(log.path)]
        values = [(metric.val_loss, metric.val_bpb, metric.line) for metric in read if metric]
        require(values, [(log.val_loss, log.val_bpb, log.line)], log.path, READER)


# -- what it costs -----------------------------------------------------------------------------------------------------


def cpu_of(command: list[str], output: Path) -> float:
    """User and system time of one child in ms; what it prints goes to `output`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(output, "wb") as file:
        subprocess.run([sys.executable, *command], check=True, stdout=file)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure_commands(folder: Path, scratch: Path, logs: list[Written], rounds: int) -> dict[str, float]:
    """Median CPU time in ms of one call over all logs; the first call of each is checked."""
    rows, printed = scratch / "rows.csv", scratch / "printed"
    commands = {
        READER: ["-m", "analysis.logs", str(folder), "--format", "csv", "--output", str(rows)],
        **{name: ["-c", BARE, str(folder), pattern.pattern.decode()] for name, pattern in PATTERNS.items()},
        "python -c pass": ["-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            times[name].append(cpu_of(command, printed))
            if number == 0 and name == READER:
                check_rows(rows, logs)
            elif number == 0 and name in PATTERNS:
                check_bare(printed.read_text(), logs)
    return {name: statistics.median(values) for name, values in times.items()}


def find_last(pattern: re.Pattern[bytes]) -> Callable[[Path], object]:
    def find(path: Path) -> object:
        with open(path, "rb") as file:
            return pattern.findall(file.read())[-1]

    return find


def cpu_over(call: Callable[[Path], object], paths: list[Path]) -> float:
    start = time.process_time()
    for path in paths:
        call(path)
    return 1000 * (time.process_time() - start)


def measure_calls(logs: dict[str, list[Written]], rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU time in ms over the logs of each kind, without the start of an interpreter."""
    calls: dict[str, Callable[[Path], object]] = {READER: read_log}
    calls |= {name: find_last(pattern) for name, pattern in PATTERNS.items()}
    calls[BYTES] = Path.read_bytes
    times: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in logs} for name in calls}
    for _ in range(rounds):
        for kind, written in logs.items():
            for name, call in calls.items():
                times[name][kind].append(cpu_over(call, [log.path for log in written]))
    return {name: {kind: statistics.median(ms) for kind, ms in of.items()} for name, of in times.items()}


def measure_sizes(folder: Path, rounds: int) -> list[str]:
    """Rows of a table: what one log costs by its size. A reader that is linear stays near 1.00."""
    logs: dict[tuple[str, int], Path] = {}
    for size in SIZES:
        below = folder / str(size)
        below.mkdir()
        for kind, (written,) in make_logs(below, len(KINDS), size).items():
            check_runs([written])
            logs[kind, size] = written.path
    times: dict[tuple[str, int], list[float]] = {key: [] for key in logs}
    for _ in range(rounds):
        for (kind, size), path in logs.items():
            again = EACH // size
            times[kind, size].append(cpu_over(read_log, [path] * again) / again)
    ms = {key: statistics.median(values) for key, values in times.items()}
    each = {key: ms[key] / (path.stat().st_size / 1e6) for key, path in logs.items()}
    return [
        f"| {kind} | {size} | {ms[kind, size]:.2f} | {each[kind, size]:.2f} | {each[kind, size] / each[kind, USUAL]:.2f} |"
        for kind, size in sorted(logs)
    ]


# -- the command -------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=1500)
    parser.add_argument("--kilobytes", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.logs < len(KINDS) or options.kilobytes < 20 or options.rounds < 1:
        parser.error("at least 2 logs of 20 kB and 1 round")
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name, "logs"), Path(name, "scratch")
        folder.mkdir()
        scratch.mkdir()
        logs = make_logs(folder, options.logs, options.kilobytes)
        every = [log for written in logs.values() for log in written]
        megabytes = sum(log.path.stat().st_size for log in every) / 1e6
        check_runs(every)
        whole = measure_commands(folder, scratch, every, options.rounds)
        calls = measure_calls(logs, options.rounds)
        sizes = measure_sizes(scratch, options.rounds)
    inside = {name: sum(of.values()) for name, of in calls.items()}
    lines = [
        f"## {date.today().isoformat()}",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, medians of {options.rounds}, "
        f"{len(every)} logs of {1000 * megabytes / len(every):.0f} kB, every value as written.",
        "",
        f"| CPU time, ratio | to {YARDSTICK} | to {LITERAL} |",
        "| --- | --- | --- |",
        *(
            f"| {what} | {of[READER] / of[YARDSTICK]:.2f} | {of[READER] / of[LITERAL]:.2f} |"
            for what, of in {
                "whole command": whole,
                "in-process": inside,
                **{f"in-process, {kind}": {name: calls[name][kind] for name in calls} for kind in KINDS},
            }.items()
        ),
        "",
        "| CPU time | ms | ms a log | ms a MB |",
        "| --- | --- | --- | --- |",
        *(
            f"| {what}, {name} | {ms:.0f} | {ms / len(every):.3f} | {ms / megabytes:.2f} |"
            for what, of in {"whole command": whole, "in-process": inside}.items()
            for name, ms in of.items()
        ),
        "",
        f"| one log, in-process | kB | ms | ms a MB | ms a MB, ratio to {USUAL} kB |",
        "| --- | --- | --- | --- | --- |",
        *sizes,
    ]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main()
