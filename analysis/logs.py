"""Read training logs: bytes in, runs out. Nothing of a log is ever executed or imported.

    python -m analysis.logs PATH... [--format csv|json|parquet] [--output FILE]

The rules, in order:

1. An embedded source (a block of code closed by a line of `=`) is cut out; its digest and size are kept.
2. A log is split into runs where a new source begins, the warm-up starts again or the steps fall back.
3. Prefixes (rank, Ray, epoch stamps) and terminal codes are taken off; `name:value` and `name=value` mean the same.
4. A final-metric line is a label with a val_loss and a val_bpb that is no step and no progress line; one marked
   diagnostic or pre-quantization is kept apart.
5. The seed comes from inside the log.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

SUFFIXES = (".log", ".txt")

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf(?:inity)?)"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_PREFIX = re.compile(r"(?:\[(?:rank|default)\d+\]:\s*|\(\w+ pid=\d+[^)]*\)\s*|\d{10,13}(?:\.\d+)?[:\s]\s*)+")
_RULER = re.compile(rb"^=[=]{19,}[ \t]*\r?$", re.MULTILINE)
_CODE = re.compile(rb"^(?:import|from)[ \t]+\w", re.MULTILINE)
_LOGGED = re.compile(
    rb"^(?:(?:step[:= \t]\s*)?\d+/\d+[ \t:]|\w*step:\d|[\w ./-]+[: ]val_loss\s*[:=]\s*[\d.]+|[\w +]+: \d+ bytes)[^\n]*\n",
    re.MULTILINE | re.IGNORECASE,
)
_LAUNCHER = re.compile(rb"(?:[WEI]\d{4} |\*{5,}|\s*$|\S*Warning:)")
_STEP = re.compile(r"(?:step[:=\s]\s*)?(\d+)/(\d+)(?=[\s:,]|$)", re.IGNORECASE)
_WARMUP = re.compile(r"warmup_step[:=]\s*1/")
_PAIR = re.compile(rf"([A-Za-z_]\w*)\s*[:=]\s*({_NUMBER})(ms|s)?(?![\w.])", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z][\w.+/-]*(?:[ \t]+[\w.+/-]+)*")
_PROGRESS = re.compile(
    r"(?:step|iter|epoch|chunk|batch|progress|sliding_eval)\b|running_|tt[tp]:|ttt_chunk", re.IGNORECASE
)
_DIAGNOSTIC = re.compile(r"diagnostic|pre[-_ ]?quant", re.IGNORECASE)
_SIZES = {
    "Code size": "code_bytes",
    "Serialized model int8+zlib": "model_bytes",
    "Total submission size int8+zlib": "artifact_bytes",
}
_SIZE = re.compile(rf"({'|'.join(re.escape(name) for name in _SIZES)}): (\d+) bytes")


@dataclass(frozen=True, slots=True)
class Metric:
    """One final-metric line. val_loss in nats per token, val_bpb in bits per byte; either may be NaN or infinite."""

    label: str
    val_loss: float
    val_bpb: float
    decimals: int
    line: int
    diagnostic: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One logged step; what the line does not print is None."""

    step: int
    line: int
    train_loss: float | None
    val_loss: float | None
    val_bpb: float | None
    train_time_ms: float | None


@dataclass(slots=True)
class Run:
    """What one log says about one run. "Unknown" is None. Lines count from 1, in the log as it lies on disk."""

    log: Path
    line: int
    seed: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    total_steps: int | None = None
    train_time_ms: float | None = None
    code_bytes: int | None = None
    model_bytes: int | None = None
    artifact_bytes: int | None = None
    model_params: int | None = None
    world_size: int | None = None
    torch: str | None = None
    gpu: str | None = None
    source_sha256: str | None = None
    source_bytes: int | None = None

    @property
    def last_step(self) -> int | None:
        return self.steps[-1].step if self.steps else None

    @property
    def finals(self) -> list[Metric]:
        """Final metrics that are no diagnostics, without those that an `_exact` twin gives with more decimals."""
        plain = [metric for metric in self.metrics if not metric.diagnostic]
        exact = {metric.label: metric.decimals for metric in plain}
        return [metric for metric in plain if exact.get(f"{metric.label}_exact", 0) <= metric.decimals]

    @property
    def trained(self) -> bool:
        """Whether the run came as far as a step or a metric."""
        return bool(self.steps or self.metrics)


# -- one log -----------------------------------------------------------------------------------------------------------


def read_log(path: Path, content: bytes | None = None) -> list[Run]:
    """The runs of one log, in order, those that ended before the first step too. Empty when it is no training log."""
    data = path.read_bytes() if content is None else content
    sources, text = _cut_sources(data)
    runs = [Run(path, 1)]
    for number, raw in enumerate(text.split(b"\n"), start=1):
        if number in sources:
            if runs[-1].trained:
                runs.append(Run(path, number))
            runs[-1].source_sha256, runs[-1].source_bytes = sources[number]
        line = _normalised(raw)
        if not line:
            continue
        if runs[-1].trained and (_WARMUP.match(line) or _other_seed(runs[-1], line)):
            runs.append(_again(runs[-1], number))
        step = _step(line, number)
        if step is not None:
            total, found = step
            if runs[-1].steps and found.step < runs[-1].steps[-1].step:
                runs.append(_again(runs[-1], number))
            _take_step(runs[-1], total, found)
        elif (metric := _metric(line, number)) is not None:
            runs[-1].metrics.append(metric)
        else:
            _take_fact(runs[-1], line)
    return [run for run in runs if run.trained or run.seed is not None or run.source_sha256 or run.model_params]


def _cut_sources(data: bytes) -> tuple[dict[int, tuple[str, int]], bytes]:
    """(first line after each embedded source -> its SHA-256 and bytes, the log with the sources blanked out)."""
    sources: dict[int, tuple[str, int]] = {}
    kept: list[bytes] = []
    start = 0
    for ruler in _RULER.finditer(data):
        block = data[start : ruler.start()]
        lead = 0
        for logged in _LOGGED.finditer(block):
            lead = logged.end()  # the source of a second run follows the lines of the first
        if _CODE.search(block, lead):
            while (end := block.find(b"\n", lead) + 1) and _LAUNCHER.match(block[lead:end]):
                lead = end
            source = block[lead:].removesuffix(b"\n")
            after = data.count(b"\n", 0, ruler.start()) + 1
            sources[after] = hashlib.sha256(source).hexdigest(), len(source)
            block = block[:lead] + b"\n" * block.count(b"\n", lead)
        kept += (block, data[ruler.start() : ruler.end()])
        start = ruler.end()
    return sources, b"".join(kept) + data[start:]


def _normalised(raw: bytes) -> str:
    """The line without terminal codes, prefixes and blanks around it."""
    line = raw.decode("utf-8", "replace").strip()
    if "\x1b" in line:
        line = _ANSI.sub("", line)
    prefix = _PREFIX.match(line)
    return line[prefix.end() :].strip() if prefix else line


def _again(run: Run, line: int) -> Run:
    """A new run of the same log, with the facts that are printed once."""
    return Run(
        run.log,
        line,
        seed=run.seed,
        model_params=run.model_params,
        world_size=run.world_size,
        torch=run.torch,
        gpu=run.gpu,
        source_sha256=run.source_sha256,
        source_bytes=run.source_bytes,
    )


def _pairs(line: str) -> dict[str, tuple[float, str]]:
    return {name: (float(value), unit or "") for name, value, unit in _PAIR.findall(line)}


def _step(line: str, number: int) -> tuple[int, Step] | None:
    match = _STEP.match(line)
    if match is None:
        return None
    pairs = _pairs(line[match.end() :])
    values = {name: pairs[name][0] if name in pairs else None for name in ("train_loss", "val_loss", "val_bpb")}
    if not any(value is not None for value in values.values()):
        return None
    time_ms = None
    if "train_time" in pairs:
        time, unit = pairs["train_time"]
        time_ms = 1000.0 * time if unit == "s" else time
    return int(match[2]), Step(int(match[1]), number, train_time_ms=time_ms, **values)


def _take_step(run: Run, total: int, step: Step) -> None:
    run.steps.append(step)
    run.total_steps = total
    if step.train_time_ms is not None:
        run.train_time_ms = step.train_time_ms


def _metric(line: str, number: int) -> Metric | None:
    if "val_bpb" not in line or _PROGRESS.match(line):
        return None
    first = _PAIR.search(line)
    label = line[: first.start()].rstrip(" \t:") if first else ""
    pairs = _pairs(line)
    if not _LABEL.fullmatch(label) or "val_loss" not in pairs or "val_bpb" not in pairs:
        return None
    printed = re.search(r"val_bpb\s*[:=]\s*[-+]?\d+\.(\d+)", line)
    return Metric(
        label=label,
        val_loss=pairs["val_loss"][0],
        val_bpb=pairs["val_bpb"][0],
        decimals=len(printed[1]) if printed else 0,
        line=number,
        diagnostic=bool(_DIAGNOSTIC.search(label)),
    )


_SEED = re.compile(r"seed\s*[:=]\s*(\d{1,18})(?:\s|$)", re.IGNORECASE)
_PARAMS = re.compile(r"model_params\s*[:=]\s*(\d+)")
_WORLD = re.compile(r"world_size\s*[:=]\s*(\d+)")
_TORCH = re.compile(r"Running PyTorch (\S+)")
_GPU = re.compile(r"\|\s+\d+\s+(NVIDIA [\w .-]+?)\s{2,}")


def _other_seed(run: Run, line: str) -> bool:
    seed = _SEED.match(line)
    return seed is not None and int(seed[1]) != run.seed


def _take_fact(run: Run, line: str) -> None:
    """Seed, sizes, world size, versions: whatever else a line may say."""
    if size := _SIZE.match(line):
        setattr(run, _SIZES[size[1]], int(size[2]))
    elif seed := _SEED.match(line):
        run.seed = int(seed[1])
    elif params := _PARAMS.match(line):
        run.model_params = int(params[1])
    elif world := _WORLD.match(line):
        run.world_size = int(world[1])
    elif version := _TORCH.match(line):
        run.torch = version[1]
    elif run.gpu is None and (gpu := _GPU.match(line)):
        run.gpu = gpu[1]


# -- folders -----------------------------------------------------------------------------------------------------------


def log_files(path: Path) -> Iterator[Path]:
    """A log itself, or every .log and .txt file below a folder, in name order. Raises OSError for what it may not see."""
    if not path.is_dir():
        yield path
        return

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(path, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            if name.endswith(SUFFIXES):
                yield Path(folder, name)


def printable_path(path: Path) -> str:
    """A path as text that every format can hold, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def main(paths: tuple[Path, ...], form: str, output: Path | None) -> None:
    """What was read from the logs, one row a run."""
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet is binary: name a file with --output FILE.")
    from analysis.runs import from_run, to_frame, write_frame

    rows = []
    try:
        for file in (file for path in paths for file in log_files(path)):
            for run in read_log(file):
                final = run.finals[-1] if run.finals else None
                rows.append(from_run(run, final, printable_path(file), state="succeeded" if final else "failed"))
    except OSError as error:
        click.echo(f"{error.filename} cannot be read: {error.strerror}.", err=True)
        raise SystemExit(3) from None
    if not rows:
        click.echo(f"No training log in {', '.join(map(str, paths))}: no step and no final metric was found.", err=True)
        raise SystemExit(3)
    try:
        write_frame(to_frame(rows), form, output)
    except OSError as error:
        raise click.UsageError(f"--output {output} cannot be written: {error.strerror}.") from None


if __name__ == "__main__":
    main()
