"""List harmless edits that honest people and tools make. None may raise a finding that the clean folder lacks."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace

from benchmarks.mutations.claims import seal
from benchmarks.mutations.edits import (
    STEP,
    Change,
    both,
    claim,
    facts,
    file,
    lines,
    logs,
    new,
    no_sweep,
    readme,
    remade,
    says,
    where,
    write_text,
)
from benchmarks.mutations.folders import Folder, Made, rewrite, runs_of
from benchmarks.mutations.study import Kind

WARNING = "/usr/lib/python3.12/site-packages/torch/_inductor/lowering.py:1889: UserWarning: Torchinductor does not support code generation for complex operators.\n  warnings.warn("


def in_bytes(edit: Callable[[bytes], bytes]) -> Change:
    def change(folder: Folder) -> None:
        for path in folder.logs:
            write_text(folder, path, edit(path.read_bytes()))

    return change


def after_steps(text: str, every: int = 7) -> Change:
    """Insert lines between the steps at a regular distance."""
    seen = [0]

    def edit(line: str) -> str:
        seen[0] += bool(STEP.match(line))
        return f"{line}\n{text}" if STEP.match(line) and seen[0] % every == 0 else line

    return lines(edit)


def steps(edit: Callable[[str], str]) -> Change:
    return lines(lambda line: edit(line) if STEP.match(line) else line)


def prefix(put: Callable[[int], str]) -> Change:
    """Put a prefix before every line of logs that embed no source."""

    def edit(text: str) -> str:
        if '"""An invented' in text:
            return text
        return "".join(put(n) + line for n, line in enumerate(text.splitlines(keepends=True)))

    return logs(edit)


def renamed(name: Callable[[Made, int], str]) -> Change:
    def change(folder: Folder) -> None:
        for n, (run, path) in enumerate(zip(folder.runs, folder.logs, strict=True)):
            there = folder.path / name(run, n)
            there.parent.mkdir(exist_ok=True)
            path.rename(there)

    return where(no_sweep, change)


def moved(folder: Folder) -> None:
    """Put another folder next to the record."""
    (folder.root / "elsewhere").mkdir()
    (folder.root / "elsewhere" / "notes.txt").write_text("The record was here.\n")


def fourth(folder: Folder) -> None:
    """Run and claim one more seed."""
    extra = runs_of(folder.dialect, folder.dialect.loss, [None if folder.dialect.is_speedrun else 99], first=7)
    rewrite(folder, [*folder.runs, *extra])
    seal(folder)


def other_program(folder: Folder) -> None:
    """Keep the log of an ablation with its own program and settings."""
    run = folder.extra()
    source = run.source.replace("STEPS = 500", "STEPS = 400\nWIDTH = 256")
    text = folder.text_of(replace(run, source=source, total_steps=9000, model_params=9_000_000))
    if not folder.dialect.is_speedrun:
        write_text(folder, folder.path / "ablations" / "narrow_seed7.log", text)


def packed(folder: Folder) -> None:
    for path in folder.logs:
        write_text(folder, path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes(), mtime=0))


def bar(line: str) -> str:
    found = STEP.match(line)
    return f"\r 41%|####      | {found[1]}/20000 [00:10<00:12, 11.4it/s]\r{line}" if found else line


def tokenizer_log(folder: Folder) -> None:
    text = "trainer_interface.cc(428) LOG(INFO) Loaded all 1000000 sentences\nvocab_size: 1024 model_type: BPE seed_sentencepiece_size: 1000000\n"
    write_text(folder, folder.path / ("tokenizer.log" if not folder.dialect.is_sweep else "notes/tokenizer.txt"), text)


NOTE = "\n## Ablations\n\n| what | val_bpb |\n| --- | --- |\n| no warm-up | 1.2345 |\n| narrow | 1.2222 |\n\nEarlier tries: losses 3.31, 3.30.\n"
KINDS = (
    Kind(name="CRLF", change=in_bytes(lambda text: text.replace(b"\n", b"\r\n"))),
    Kind(name="blanks at the ends of lines", change=lines(lambda line: f"{line}  ")),
    Kind(name="a byte order mark", change=in_bytes(lambda text: b"\xef\xbb\xbf" + text)),
    Kind(name="UTF-16", change=in_bytes(lambda text: text.decode().encode("utf-16"))),
    Kind(name="no newline at the end", change=in_bytes(bytes.rstrip)),
    Kind(name="blank lines at the end", change=in_bytes(lambda text: text + b"\n\n\n")),
    Kind(name="blank lines between all lines", change=lines(lambda line: f"{line}\n")),
    Kind(name="colours", change=steps(lambda line: f"\x1b[32m{line}\x1b[0m")),
    Kind(name="prefix [rank0]:", change=prefix(lambda _: "[rank0]: ")),
    Kind(name="prefix of srun", change=prefix(lambda _: "0: ")),
    Kind(name="prefix of Ray", change=prefix(lambda _: "(train pid=4242, ip=10.0.0.7) ")),
    Kind(
        name="prefix of a logger", change=prefix(lambda n: f"2026-05-03 11:{n // 60 % 60:02}:{n % 60:02},123 - INFO - ")
    ),
    Kind(name="prefix of a clock", change=prefix(lambda n: f"[11:{n // 60 % 60:02}:{n % 60:02}] ")),
    Kind(
        name="prefix of kubectl",
        change=prefix(lambda n: f"2026-05-03T11:{n // 60 % 60:02}:{n % 60:02}.123456789Z stdout F "),
    ),
    Kind(name="prefix wandb:", change=prefix(lambda _: "wandb: ")),
    Kind(name="a progress bar", change=lines(bar)),
    Kind(name="a warning of a library", change=after_steps(WARNING, every=40)),
    Kind(
        name="lines of NCCL",
        change=after_steps("node7:4242:4299 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM"),
    ),
    Kind(
        name="lines of checkpoints", change=after_steps("saved checkpoint to ckpt/latest.pt (68000123 bytes) in 812ms")
    ),
    Kind(name="lines of memory", change=after_steps("GPU memory: 9001 MiB allocated, 9100 MiB reserved")),
    Kind(name="lines of gradients", change=after_steps("grad_norm:0.4123 clip:1.0 lr_scale:0.91")),
    Kind(name="more columns", change=steps(lambda line: f"{line} lr:3.1e-04 gnorm:0.412 tok/s:7712198")),
    Kind(
        name="lines of a dashboard at the end",
        change=logs(
            lambda text: f"{text}wandb: Run history:\nwandb:   loss x\nwandb: View run at https://example.org/r/1\n"
        ),
    ),
    Kind(
        name="a farewell at the end",
        change=logs(
            lambda text: f"{text}[W503 11:20:00] Warning: destroy_process_group() was not called\nreal 14m2.1s\n"
        ),
    ),
    Kind(
        name="the result printed twice",
        change=logs(
            lambda text: (
                text
                + "".join(
                    f"{x}\n"
                    for x in text.split("\n")
                    if "val_bpb" in x and x.startswith(("final", "quantized_", "result"))
                )[-400:].rpartition("\n\n")[2]
            )
        ),
    ),
    Kind(name="logs renamed", change=renamed(lambda run, n: f"run_{n if run.seed is None else run.seed}.txt")),
    Kind(
        name="logs in a subfolder",
        change=renamed(lambda run, n: f"logs/train_seed{run.seed}.log" if run.seed else f"logs/{n}d0f3a1c.txt"),
    ),
    Kind(
        name="logs with other letters in their names",
        change=renamed(lambda run, n: f"протокол_seed{run.seed}.log" if run.seed else f"протокол {n}.txt"),
    ),
    Kind(name="logs packed next to themselves", change=where(no_sweep, packed)),
    Kind(name="another folder next to it", change=moved),
    Kind(name="one more seed, claimed", change=where(no_sweep, fourth)),
    Kind(name="an ablation with its own program", change=where(no_sweep, other_program)),
    Kind(name="losses logged more often", change=facts(train_every=50)),
    Kind(name="validations more often", change=facts(val_every=500)),
    Kind(
        name="another host and other ports",
        change=lines(lambda line: line.replace("00000000:0A:00.0", "00000000:9B:00.0")),
    ),
    Kind(
        name="comments in the program", change=remade(lambda run: replace(run, source=f"# tuned by hand\n{run.source}"))
    ),
    Kind(name="a newer torch in all runs", change=where(lambda d: not d.has_standing, facts(torch="2.10.0+cu130"))),
    Kind(name="more text in the README", change=readme(r"\Z", NOTE)),
    Kind(
        name="an image in the README",
        change=both(new("loss.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), readme(r"\Z", "\n![loss](loss.png)\n")),
    ),
    Kind(name="a README with CRLF", change=file("README.md", lambda text: text.replace("\n", "\r\n"))),
    Kind(
        name="a log's beginning in the README",
        change=lambda f: readme(
            r"\Z",
            "\n```\nstep:1/20000 train_loss:6.94 train_time:87ms\nfinal_int8_zlib_roundtrip val_loss:2.03 val_bpb:1.2023\n```\n",
        )(f),
    ),
    Kind(
        name="requirements and licence",
        change=both(new("requirements.txt", "torch==2.9.0\nnumpy>=2\nsentencepiece==0.2.0\n"), new("LICENSE", "MIT\n")),
    ),
    Kind(
        name="a shell script",
        change=new("run.sh", "for s in 1337 42 2025; do SEED=$s torchrun --nproc_per_node=8 train_gpt.py; done\n"),
    ),
    Kind(name="a helper script", change=new("prepare_data.py", "import os\n\nprint(os.getcwd())\n")),
    Kind(name="a plot's numbers", change=new("curve.csv", "step,val_loss\n0,6.93\n1000,2.5\n6000,2.05\n")),
    Kind(
        name="a notebook",
        change=new(
            "look.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": ["print(1.2023)"]}], "nbformat": 4})
        ),
    ),
    Kind(
        name="a TensorBoard file",
        change=new(
            "events.out.tfevents.1777800000.node7",
            b"\x18\0\0\0\0\0\0\0\xa3\x7fK\x22\t\0\0\xc0m\xd9}\xdaA\x1a\rbrain.Event:2",
        ),
    ),
    Kind(name="a tokenizer's log", change=tokenizer_log),
    Kind(
        name="files of an editor and a cache",
        change=both(
            new(".DS_Store", b"\0\0\0\1Bud1"),
            new("__pycache__/train_gpt.cpython-312.pyc", b"\xcb\r\r\n\0"),
            new(".gitignore", "*.pt\n"),
        ),
    ),
    Kind(
        name="JSON: more keys",
        change=says(notes="3 seeds", ablation_bpb=1.2345, technique={"width": 512, "lr": 0.0032}, learning_rate=0.04),
    ),
    Kind(name="JSON: other order", change=claim(lambda table: dict(reversed(table.items())))),
    Kind(name="JSON: on one line", change=file("submission.json", lambda text: json.dumps(json.loads(text)))),
    Kind(
        name="JSON: headline to four decimals",
        change=claim(lambda t: t | {"val_bpb": round(t["val_bpb"], 4), "val_loss": round(t["val_loss"], 4)}),
    ),
    Kind(name="JSON: sd to four decimals", change=claim(lambda t: t | {"val_bpb_std": round(t["val_bpb_std"], 4)})),
    Kind(name="JSON: no values by seed", change=claim(lambda t: {k: v for k, v in t.items() if k != "seed_results"})),
    Kind(
        name="JSON: headline alone",
        change=claim(lambda t: {k: t[k] for k in ("name", "author", "date", "val_bpb", "bytes_total")}),
    ),
    Kind(name="JSON: names in other letters", change=says(author="Žofie Ünal", name="Größer")),
    Kind(name="JSON: a date with a time", change=says(date="2026-05-03T10:00:00Z")),
    Kind(name="JSON: the standing record's number", change=says(previous_sota_bpb=1.2153, delta_vs_sota=-0.013)),
    Kind(
        name="README: fewer decimals",
        change=file("README.md", lambda t: re.sub(r"\b1\.(\d\d\d\d)\d\b", r"1.\1", t) if "1." in t else t),
    ),
)
