"""A coverage-guided fuzzer for what reads foreign files: logs, submission JSONs, trackers' files, and the audit of a whole folder.

    python -m tests.fuzz TARGET [--seconds N]      # TARGET: log, claim, import or audit

It starts from tests/seeds/TARGET/. An input that makes the reader raise anything but FileError is kept there, one for
each place that raises, so that tests/analysis/test_hostile.py replays it from then on; inputs that are too slow or too
large are kept as well.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

SEEDS = Path(__file__).with_name("seeds")
SEPARATOR = b"\n%%%%\n"  # between the parts of an audit's input: the JSON, then the logs
LOGS = ("train_seed1.log", "train_seed2.log", "more.txt")
KINDS = (
    "runs.csv",
    "trainer_state.json",
    "wandb-summary.json",
    "metrics.jsonl",
    "project.db",
    "events.out.tfevents.1",
    "report.md",
)
LONGEST_INPUT = 16_384
WORDS = (
    "step:", "step:1/2 ", "1/2 val_loss", "s:1 tel:", "seed:", "seed 1", "val_loss:", "val_bpb:", "train_loss:", "train_time:1ms",
    "step_avg:1ms", "final_exact val_loss:2.0 val_bpb:1.2", "inf", "nan", "1e308", "-inf", "1e-400", "=" * 50, "import os", "warmup_step:1/2",
    "hyperparameters:", "Code size: 5 bytes", "Code size: ", ", bytes", ",,,", "Serialized model int8: 5 bytes", "Total submission size int8: 15870 bytes", "budget:15870/16000",
    "artifact:", "code:5", "params:1 ", " ws:8 ", "world_size:8", "model_params:", "tokens:", "device_name=", "pre-quant", "diagnostic",
    "[rank0]:", "(a pid=1)", "2026-01-01 00:00:00", "stopping_early train_time:1ms step:1/2", "|   0  NVIDIA H100  ", "# coding: ",
    "bytes_total", "seeds", "seed_1_val_bpb", "mean", "Infinity", "NaN", "1E999999", "bytes", "log", "date", "%%%%",
)  # fmt: skip


def read_a_log(data: bytes, folder: Path) -> None:
    """Every run of the log, down to its steps and its final metrics."""
    from analysis.reading.reader import read_log
    from analysis.untrusted.files import FileError

    with contextlib.suppress(FileError):
        for run in read_log(folder / "train.log", data):
            _ = run.steps, run.finals, run.source and run.source.sha256


def read_a_claim(data: bytes, folder: Path) -> None:
    """The claim, and the line of every fact that it holds."""
    from analysis.record.claim import read_claim

    file = folder / "submission.json"
    file.write_bytes(data)
    claim = read_claim(file)
    for what in (*list(claim.keys)[:20], *(key for key, *_ in claim.schema)):
        claim.line_of(what)


def import_a_file(data: bytes, folder: Path) -> None:
    """The data as a file of every kind that an importer knows, and every value of its runs."""
    from analysis.reading.importers.ask import imported

    for name in KINDS:
        (folder / name).write_bytes(data)
        for run in (run for runs in imported([folder / name], named=True).runs.values() for run in runs):
            _ = run.steps, run.validations, run.value("val_loss")
        (folder / name).unlink()


def audit_a_folder(data: bytes, folder: Path) -> None:
    """The whole audit of a folder made of the data's parts, and its findings in every format."""
    from analysis.evidence.audit import audit
    from analysis.report import audit as views

    claim, *logs = data.split(SEPARATOR, len(LOGS))
    (folder / "submission.json").write_bytes(claim)
    for name, content in zip(LOGS, logs, strict=False):
        (folder / name).write_bytes(content)
    for name in LOGS[len(logs) :]:
        (folder / name).unlink(missing_ok=True)
    one = audit([folder], "parameter-golf")
    for form in (views.text(one), views.as_json([one]), *views.as_annotations(one)):
        form.encode()


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "log": read_a_log,
    "claim": read_a_claim,
    "import": import_a_file,
    "audit": audit_a_folder,
}


def main() -> int:
    """Fuzz in a child process, whose noise is read and put into three lines. Exit code 1 when an input is kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return fuzz(options.target, options.seconds, Path(options.child))
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("The fuzzer needs atheris: pip install atheris", file=sys.stderr)
        return 2
    seeds = SEEDS / options.target
    before = set(seeds.iterdir())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz", options.target, "--seconds", str(options.seconds)]
        done = subprocess.run([*command, "--child", folder], capture_output=True, text=True, errors="replace", check=False)  # fmt: skip
    found = sorted(set(seeds.iterdir()) - before)
    units = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
    if not units or not covered:
        print(done.stderr[-2000:], file=sys.stderr)
    edges, features, corpus = covered[-1] if covered else ("?", "?", "?")
    print(f"{options.target}: {units[-1] if units else '?'} executions in {options.seconds} s")
    print(f"coverage: {edges} edges, {features} features, {corpus} inputs that reach something new")
    print(f"kept: {', '.join(path.name for path in found) if found else 'none'}")
    return 1 if found or not units else 0


def fuzz(target: str, seconds: int, folder: Path) -> int:
    """Run libFuzzer in this process; it does not return. `folder` is for its corpus and for the target's files."""
    import atheris

    with atheris.instrument_imports(include=["analysis"], enable_loader_override=False):
        from analysis.evidence import audit  # noqa: F401

    seeds = SEEDS / target
    corpus, files, dictionary = folder / "corpus", folder / "files", folder / "words"
    corpus.mkdir()
    files.mkdir()
    dictionary.write_text("".join(f'"{word}"\n' for word in WORDS))
    seen: set[str] = set()

    def one(data: bytes) -> None:
        try:
            TARGETS[target](data, files)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__.lower()}-{Path(place.filename).stem}-{place.name.strip('_<>')}"
            if where not in seen:
                seen.add(where)
                (seeds / f"{where}-{hashlib.sha256(data).hexdigest()[:8]}").write_bytes(data)

    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-dict={dictionary}", "-print_final_stats=1", "-reload=0",
        "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={seeds}/", str(corpus), str(seeds),
    ]  # fmt: skip
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
