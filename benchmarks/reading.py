"""What the reader costs on many logs, as a ratio to a bare regex for the final line over the same files.

    python -m benchmarks.reading [--logs 1500] [--kilobytes 160] [--rounds 3]

Times are CPU time (user and system), so that waiting for the disk or for another process does not count. The candidates
take turns, and medians are shown. The logs are made up from fixed seeds, half with labelled final metrics and half of the
speedrun kind; every value that is read is compared with what was written. The tables are appended to
benchmarks/results/reading.md with date and machine.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import platform
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
from benchmarks.made_logs import KINDS, Written, make_logs
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
USUAL = 160  # kB; the other sizes are compared with it
EACH = 20480  # kB that each round reads at every size: a small log is read more often

# -- is what was read what was written? --------------------------------------------------------------------------------


def require(found: object, wanted: object, path: Path, who: str) -> None:
    if found != wanted:
        raise SystemExit(f"{who} read {found} from {path.name}, which says {wanted}: nothing was measured.")


def check_rows(output: Path, logs: list[Written]) -> None:
    """Check that the command's CSV has one row a log, with its loss, its val_bpb and their line."""
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
    """Check that a bare regex found the same loss: it is a yardstick only if it does the job."""
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
    """Run one child and return its user and system time in ms; write what it prints to `output`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(output, "wb") as file:
        subprocess.run([sys.executable, *command], check=True, stdout=file)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure_commands(folder: Path, scratch: Path, logs: list[Written], rounds: int) -> dict[str, float]:
    """Return the median CPU time in ms of one call over all logs; check the first call of each."""
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
    """Return the median CPU time in ms over the logs of each kind, without starting an interpreter."""
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
    """Return table rows of what one log costs by its size. A linear reader stays near 1.00."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians in ms by name: of whole commands, of calls by kind of log, and the table rows of sizes."""

    logs: int
    megabytes: float
    commands: dict[str, float]
    calls: dict[str, dict[str, float]]
    sizes: list[str]


def measure(count: int, kilobytes: int, rounds: int) -> Measured:
    """Write the logs, check that they are read as written, and measure."""
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name, "logs"), Path(name, "scratch")
        folder.mkdir()
        scratch.mkdir()
        logs = make_logs(folder, count, kilobytes)
        every = [log for written in logs.values() for log in written]
        check_runs(every)
        return Measured(
            logs=len(every),
            megabytes=sum(log.path.stat().st_size for log in every) / 1e6,
            commands=measure_commands(folder, scratch, every, rounds),
            calls=measure_calls(logs, rounds),
            sizes=measure_sizes(scratch, rounds),
        )


def tables(found: Measured, rounds: int) -> list[str]:
    """Return what was measured as lines of Markdown."""
    inside = {name: sum(of.values()) for name, of in found.calls.items()}
    by_kind = {f"in-process, {kind}": {name: of[kind] for name, of in found.calls.items()} for kind in KINDS}
    ratios = {"whole command": found.commands, "in-process": inside, **by_kind}
    return [
        f"## {date.today().isoformat()}",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, medians of {rounds}, "
        f"{found.logs} logs of {1000 * found.megabytes / found.logs:.0f} kB, every value as written.",
        "",
        f"| CPU time, ratio | to {YARDSTICK} | to {LITERAL} |",
        "| --- | --- | --- |",
        *(
            f"| {what} | {of[READER] / of[YARDSTICK]:.2f} | {of[READER] / of[LITERAL]:.2f} |"
            for what, of in ratios.items()
        ),
        "",
        "| CPU time | ms | ms a log | ms a MB |",
        "| --- | --- | --- | --- |",
        *(
            f"| {what}, {name} | {ms:.0f} | {ms / found.logs:.3f} | {ms / found.megabytes:.2f} |"
            for what, of in {"whole command": found.commands, "in-process": inside}.items()
            for name, ms in of.items()
        ),
        "",
        f"| one log, in-process | kB | ms | ms a MB | ms a MB, ratio to {USUAL} kB |",
        "| --- | --- | --- | --- | --- |",
        *found.sizes,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=1500)
    parser.add_argument("--kilobytes", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.logs < len(KINDS) or options.kilobytes < 20 or options.rounds < 1:
        parser.error("at least 2 logs of 20 kB and 1 round")
    publish(tables(measure(options.logs, options.kilobytes, options.rounds), options.rounds), RESULTS)


if __name__ == "__main__":
    main()
