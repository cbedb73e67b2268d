"""What shells, loggers and launchers put around the lines of a log changes nothing that is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.reading.reader import read_log
from analysis.reading.run import Run
from tests import dialects
from tests.analysis.test_dialects import DIALECTS

LOG = Path("train.log")
Prefix = Callable[[int], str]  # of a line, by its number
PREFIXES: dict[str, Prefix] = {
    "rank": lambda n: "[rank0]:",
    "wandb": lambda n: "wandb: ",
    "srun": lambda n: "0: ",
    "mpi": lambda n: "[1,0]<stdout>:",
    "ray": lambda n: f"(train pid={n + 1000}, ip=10.0.0.1) ",
    "kubectl": lambda n: f"2026-05-03T11:02:{n % 60:02}.{123456789 + n}Z {'stderr' if n % 3 else 'stdout'} F ",
    "loguru": lambda n: (
        f"2026-05-03 11:00:{n % 60:02}.123 | {'INFO   ' if n % 7 else 'WARNING'} | a.b:fn{n % 3}:{n} - "
    ),
    "hydra": lambda n: f"[2026-05-03 11:00:{n % 60:02},123][__main__][INFO] - ",
    "logging": lambda n: "INFO:root:",
    "a clock": lambda n: f"11:00:{n % 60:02} ",
    "a clock in brackets": lambda n: f"[11:00:{n % 60:02}] ",
    "syslog": lambda n: f"May  3 11:00:{n % 60:02} node-17 train[4242]: ",
    "glog": lambda n: f"I0503 11:00:{n % 60:02}.{n:06} 4242 train.py:{80 + n % 9}] ",
    "compose": lambda n: "trainer-1  | ",
    "seconds": lambda n: f"[{n * 0.37:9.3f}] ",
    "JSON": lambda n: f'{{"ts": "2026-05-03T11:00:{n % 60:02}", "level": "info", "msg": "',
    "two": lambda n: f"[rank0]: 2026-05-03 11:00:{n % 60:02} INFO ",
    "one that nobody knows": lambda n: "«job 17» > ",
}
each_prefix = pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
SHORT = """\
seed:1337
world_size:8
Code size: 5 bytes
Total submission size int8+zlib: 15840000 bytes
final_int8_zlib_roundtrip_exact val_loss:2.02911713 val_bpb:1.20143417
"""


def put_before(text: str, prefix: Prefix, first: int = 0) -> str:
    """Return a text with the prefix on its lines, the first on line `first`."""
    return "".join(f"{prefix(n) if n >= first else ''}{line}\n" for n, line in enumerate(text.split("\n")[:-1]))


def read(text: str) -> Run:
    (run,) = read_log(LOG, text.encode())
    return run


@each_prefix
@pytest.mark.parametrize("dialect", ["root script", "hyper-parameter block", "letters", "speedrun track 3"])
def test_a_prefix_on_every_line_is_no_part_of_any(dialect: str, prefix: Prefix) -> None:
    text = DIALECTS[dialect].write(DIALECTS[dialect].runs()[0])
    plain, run = read(text), read(put_before(text, prefix))
    assert run.steps == plain.steps
    assert replace(run, curve=()) == replace(plain, curve=())


@each_prefix
def test_a_source_of_one_record_has_the_prefix_on_its_first_line_alone(prefix: Prefix) -> None:
    dialect = DIALECTS["root script"]
    text = dialect.write(dialect.runs()[0])
    end_of_source = dialect.told.source.count("\n") + 1
    lines = put_before(text, prefix, end_of_source)
    assert read(prefix(0) + lines).source == read(text).source


@each_prefix
def test_a_log_without_steps_has_prefixes_too(prefix: Prefix) -> None:
    assert read(put_before(SHORT, prefix)) == read(SHORT)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "".join(f"\x1b[32m{line}\x1b[0m\n" for line in text.split("\n")[:-1]),
        lambda text: "".join(f"\x1b[1;34m12:00:01\x1b[0m {line}\n" for line in text.split("\n")[:-1]),
        lambda text: text.replace("\nstep:", "\n 42%|####  | 3/7\rstep:"),
    ],
)
def test_terminal_codes_and_carriage_returns_are_no_part_of_a_source(change: Callable[[str], str]) -> None:
    text = dialects.root_script(DIALECTS["root script"].runs()[0])
    assert read(change(text)) == read(text)


@pytest.mark.parametrize(
    ("lines", "label"),
    [
        ("".join(f"ttt_chunk {n}/7 val_loss:2.1 val_bpb:1.3\n" for n in range(1, 7)) + "final_x val_loss:2.0 val_bpb:1.2\n", "final_x"),
        ("final_eval step:7100 val_loss:2.0 val_bpb:1.2\n" * 3, "final_eval"),
    ],
)  # fmt: skip
def test_what_only_one_kind_of_line_begins_with_is_no_prefix(lines: str, label: str) -> None:
    assert {metric.label for metric in read(lines).finals} == {label}


@pytest.mark.parametrize(
    ("end", "values"),
    [
        ("final_x val_loss:2.02911713 val_bpb:1.20143417", [1.20143417]),
        ("final_x val_loss:2.02911713 val_bpb:1.20", []),
        ("final_x val_loss:2.02911713 val_bpb:1.20\n", [1.2]),
        ("final_y val_loss:2.0291 val_bpb:1.2014", [1.2014]),
        ("final_x val_loss:2.0291171312345678 val_bpb:1.201434171234567", [1.201434171234567]),
    ],
)
def test_a_number_cut_off_at_the_end_is_no_number(end: str, values: list[float]) -> None:
    run = read(f"step:5/9 val_loss:2.10000000 val_bpb:1.25000000\n{end}")
    assert [metric.val_bpb for metric in run.finals] == values


def test_a_validation_cut_off_at_the_end_is_none() -> None:
    run = read("step:4/5 val_loss:3.28811 train_time:4s\nstep:5/5 val_loss:3.27")
    assert run.validation is not None
    assert run.validation.val_loss == 3.28811
