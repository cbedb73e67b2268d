"""List frauds and mistakes about facts of a run: times, sizes, hardware, program, settings, data, the control, the plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from benchmarks.mutations.edits import (
    ONE,
    STEP,
    Change,
    both,
    capped,
    drop,
    embeds,
    facts,
    file,
    finals,
    lines,
    remade,
    sub,
    times,
    where,
    without_claims,
    write_text,
)
from benchmarks.mutations.folders import Folder, Made, runs_of
from benchmarks.mutations.study import Kind
from tests.dialects import BPB_PER_NAT

TIME = r"(train_time: ?)([\d.]+)"
STOP = r"(stopping_early.*train_time: ?)(\d+)"
TOTAL = r"(Total submission size [\w+]+: |budget:|Total submission size zstd: )(\d+)"
SETTING = r"(train_seq_len:20|matrix_lr: 0\.0|adam_lr=0\.0|lr: 0\.00)(\d)"
SLOW = where(capped, facts(ms_a_step=95.0))


def ratio(by: float) -> Callable[[Made], Made]:
    return lambda run: replace(run, ratio=BPB_PER_NAT[run.tokenizer] * by)


def unknown_tokenizer(run: Made) -> Made:
    return replace(ratio(0.95)(run), tokenizer="mine.model")


def source(old: str, put: str, only: int | None = None) -> Change:
    return remade(lambda run: replace(run, source=run.source.replace(old, put, 1)), only)


def artifact(size: int) -> Change:
    """Put an artifact into a record, `size` bytes larger than the largest printed total."""

    def change(folder: Folder) -> None:
        if not folder.dialect.is_speedrun and not folder.dialect.is_sweep:
            with (folder.path / "final_model.int8.ptz").open("wb") as file:
                file.truncate(max(run.artifact_bytes for run in folder.runs) + size)

    return change


def cut_number(text: str) -> str:
    """Cut a log off inside the last number of its result: 1.2023 becomes 1.2."""
    found = list(re.finditer(r"val_bpb[:=] ?\d\.\d", text))
    return text[: found[-1].end()] if found else text


def two_writers(text: str) -> str:
    steps = [line for line in text.split("\n") if STEP.match(line)]
    return text.replace(
        steps[20], "\n".join([steps[20], *steps[12:16], steps[21], *steps[13:17], steps[22], *steps[14:18]]), 1
    )


def falling(text: str) -> str:
    found = list(re.finditer(TIME, text))[-6]
    return text[: found.start()] + times(found, 0.9, 3 if "." in found[2] else None) + text[found.end() :]


def second_validation(text: str) -> str:
    line = [one for one in text.split("\n") if STEP.match(one) and "val_loss" in one][-1]
    better = re.sub(r"(val_loss: ?)([\d.]+)", lambda found: times(found, 0.998, 4), line)
    return text.replace(line, f"{line}\n{better}", 1)


def control(change: Callable[[Made], Made], only: int | None = None) -> Change:
    """Rewrite the standing record's runs."""

    def apply(folder: Folder) -> None:
        if folder.dialect.has_standing:
            runs = runs_of(folder.dialect, folder.dialect.loss + 0.025, (5, 6, 8), first=30)
            for n, run in enumerate(runs):
                made = change(run) if only in (None, n) else run
                write_text(folder, folder.standing / f"train_seed{run.seed}.log", folder.text_of(made))

    return apply


def control_copied(folder: Folder) -> None:
    if folder.dialect.has_standing:
        text = (folder.standing / "train_seed5.log").read_text()
        write_text(folder, folder.standing / "train_seed6.log", text.replace("seed:5", "seed:6"))


def worse(run: Made) -> Made:
    return replace(
        run, val_loss=run.val_loss + 0.03, last_validation_is_worse_by=run.last_validation_is_worse_by - 0.03
    )


HALF = 31_000_000
KINDS = (
    Kind(
        name="no times in any log",
        change=both(
            sub(r",? ?(\| )?(train_time|step_avg|tok/s|t|avg): ?[\d.]+\w*", ""), drop("^.{0,12}stopping_early")
        ),
    ),
    Kind(name="times without a unit", change=both(sub(TIME + r"(ms|m|s)\b", r"\1\2"), sub(r"\b(t:\d+)ms", r"\1"))),
    Kind(name="training over the cap", change=SLOW),
    Kind(name="over the cap, the last time edited", change=both(SLOW, sub(STOP, lambda f: f"{f[1]}599100"))),
    Kind(
        name="over the cap, all times edited",
        change=both(SLOW, sub(TIME, lambda f: times(f, 0.9, 1 if "." in f[2] else None))),
    ),
    Kind(name="evaluation over the cap", change=sub(r"(eval_time: ?)(\d+)(?=ms)", lambda f: f"{f[1]}702345")),
    Kind(name="artifact over the cap", change=facts(model_bytes=16_100_000)),
    Kind(name="no sizes in any log", change=drop("Total submission|Serialized model|Code size|artifact:|budget:")),
    Kind(name="no total in one log", change=drop("Total submission|Serialized model|Code size|artifact:|budget:", ONE)),
    Kind(
        name="over the cap, the total edited",
        change=both(facts(model_bytes=16_100_000), sub(TOTAL, lambda f: f"{f[1]}15900000")),
    ),
    Kind(
        name="over the cap, a smaller total after it",
        change=both(
            facts(model_bytes=16_100_000),
            lines(
                lambda x: (
                    f"{x}\nTotal submission size int8+lzma: 15900000 bytes"
                    if re.match("Total submission size [\\w+]+:", x)
                    else x
                )
            ),
        ),
    ),
    Kind(name="the artifact in the folder is larger", change=artifact(20_000)),
    Kind(name="the artifact in the folder is over the cap", change=artifact(900_000)),
    Kind(name="sixteen ranks", change=facts(world_size=16)),
    Kind(name="one run on sixteen ranks", change=facts(ONE, world_size=16)),
    Kind(name="other GPUs", change=facts(gpu="NVIDIA H200")),
    Kind(name="one run on another GPU", change=facts(ONE, gpu="NVIDIA H200")),
    Kind(name="one run with another torch", change=facts(ONE, torch="2.6.0+cu124")),
    Kind(
        name="the shipped script is not the embedded one",
        change=file("train_gpt.py", lambda text: f"{text}\nTUNED = 2\n"),
    ),
    Kind(name="a stub for a script", change=file("train_gpt.py", lambda _: "print('see the logs')\n")),
    Kind(
        name="no script",
        change=lambda folder: (folder.path / ("script.py" if folder.dialect.is_sweep else "train_gpt.py")).unlink(),
    ),
    Kind(name="another program in one run", change=without_claims(source("import math", "import math  # tuned", ONE))),
    Kind(
        name="another code size in one run",
        change=sub(r"(Code size: |code:)(\d+)", lambda f: f"{f[1]}{int(f[2]) + 400}", ONE),
    ),
    Kind(name="an embedded program that does not parse", change=where(embeds, source("import math", "import math("))),
    Kind(
        name="an embedded program that prints no result",
        change=where(
            lambda d: d.embeds and not d.is_speedrun,
            remade(lambda run: replace(run, source=re.sub("final", "x", run.source))),
        ),
    ),
    Kind(name="another setting in one run", change=sub(SETTING, r"\g<1>9", ONE)),
    Kind(name="more steps planned in one run", change=facts(ONE, total_steps=30_000)),
    Kind(name="fewer parameters in one run", change=facts(ONE, model_params=15_000_000)),
    Kind(
        name="no seed printed",
        change=where(capped, both(sub(r"^(\s*|.*\b)(seed[:=] ?|s:)\d+\s?", r"\1"), sub(r"(toy.)\d+", r"\1"))),
    ),
    Kind(name="another seed in a log than in its name", change=sub(r"(seed[:=] ?|\bs:)42\b", r"\g<1>43")),
    Kind(
        name="no seed printed, and one constant in the program",
        change=where(
            embeds,
            both(
                source("STEPS = 500", "STEPS = 500\nimport torch\ntorch.manual_seed(1337)"), sub(r"^(seed: ?\d+)\n", "")
            ),
        ),
    ),
    Kind(name="half of the validation tokens", change=facts(val_tokens=HALF)),
    Kind(name="half of the validation tokens in one run", change=facts(ONE, val_tokens=HALF)),
    Kind(name="a few validation shards fewer", change=facts(val_tokens=38_000_000)),
    Kind(name="fewer bytes a token", change=remade(ratio(0.99))),
    Kind(name="fewer bytes a token by 0.1 %", change=remade(ratio(0.999))),
    Kind(name="fewer bytes a token in one run", change=remade(ratio(0.995), ONE)),
    Kind(name="an unknown tokenizer with fewer bytes a token", change=remade(unknown_tokenizer)),
    Kind(name="an unknown data set", change=facts(dataset="mine10B")),
    Kind(name="trained on validation shards", change=facts(dataset="fineweb_val_sp1024")),
    Kind(
        name="trained on validation files, in the program",
        change=where(embeds, source("STEPS = 500", "STEPS = 500\ntrain_files = 'data/fineweb_val_*.bin'")),
    ),
    Kind(name="more training shards than there are", change=facts(train_shards=300)),
    Kind(name="other training shards in one run", change=facts(ONE, train_shards=80)),
    Kind(name="control on half of the validation tokens", change=control(lambda run: replace(run, val_tokens=HALF))),
    Kind(name="control with another torch", change=control(lambda run: replace(run, torch="2.5.1"))),
    Kind(name="control on another GPU", change=control(lambda run: replace(run, gpu="NVIDIA A100-SXM4-80GB"))),
    Kind(name="a control run copied", change=control_copied),
    Kind(name="one control result worse", change=control(worse, ONE)),
    Kind(
        name="one control log cut",
        change=both(
            control(worse, ONE),
            lambda f: (
                write_text(f, f.standing / "train_seed6.log", "seed:6\nstep:1/20000 train_loss:6.9\n")
                if f.dialect.has_standing
                else None
            ),
        ),
    ),
    Kind(
        name="a NaN beside a good twin",
        change=sub(r"^(final\w*[^_e]) val_loss:\S+ val_bpb:\S+ eval", r"\1 val_loss:nan val_bpb:nan eval", ONE),
    ),
    Kind(
        name="the last number cut off", change=lambda f: write_text(f, f.logs[ONE], cut_number(f.logs[ONE].read_text()))
    ),
    Kind(
        name="a training time that falls", change=lambda f: write_text(f, f.logs[ONE], falling(f.logs[ONE].read_text()))
    ),
    Kind(name="steps taken out of one log", change=drop(r"^\D{0,12}(1[0-9]00|1[0-9]5\d)/", ONE)),
    Kind(
        name="two writers in one log", change=lambda f: write_text(f, f.logs[ONE], two_writers(f.logs[ONE].read_text()))
    ),
    Kind(
        name="two validations of one step",
        change=lambda f: write_text(f, f.logs[ONE], second_validation(f.logs[ONE].read_text())),
    ),
    Kind(
        name="a claimed log cut before its result",
        change=lambda f: write_text(f, f.logs[ONE], f.logs[ONE].read_text()[:-900].rpartition("\n")[0] + "\n"),
    ),
    Kind(name="a claimed log removed", change=where(capped, lambda f: f.logs[ONE].unlink())),
    Kind(name="no evaluation time", change=sub(r" ?eval_time: ?\S+", ""), unseen="many accepted records print none"),
    Kind(
        name="every number of every log invented alike", change=finals(0.001), unseen="it looks like an honest record"
    ),
)
