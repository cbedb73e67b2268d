"""Runs that no log tells of: the files of trackers, plain tables and typed values; and logs with metrics of any name."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.gather import gather
from analysis.evidence.options import Options
from analysis.reading.importers.ask import imported
from analysis.reading.reader import read_log
from analysis.reading.run import Origin, Run
from analysis.rules.findings import ERROR, Code
from analysis.rules.ruleset import Ruleset, load
from analysis.untrusted.files import LeftAside
from analysis.verdict.judge import judge

RULES = """version = 2
metric = "{metric}"
direction = "{direction}"
margin = 0.0
test = "one-sample t"
alpha = 0.01
final = "last validation"
seeds = "unprinted"
"""
LOSSES = {1: 2.71, 2: 2.72, 3: 2.74}
Write = Callable[[Path, int, float], None]


@pytest.fixture
def rules(tmp_path: Path) -> Callable[..., Ruleset]:
    def make(metric: str = "val_loss", direction: str = "lower") -> Ruleset:
        file = tmp_path / f"{metric}-rules.toml"
        file.write_text(RULES.format(metric=metric, direction=direction))
        return load(str(file))

    return make


# -- builders: one run of each kind, in a folder of its own ------------------------------------------------------------


def put(file: Path, text: str | bytes | dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(text) if isinstance(text, dict) else text
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def trainer_state(folder: Path, seed: int, loss: float) -> None:
    history = [
        {"loss": 3.5, "step": 5},
        {"eval_loss": 3.1, "step": 5},
        {"loss": 2.9, "step": 9},
        {"eval_loss": loss, "step": 9},
    ]
    state = {"global_step": 9, "max_steps": 9, "log_history": history}
    put(folder / f"seed{seed}/trainer_state.json", state)
    put(folder / f"seed{seed}/checkpoint-5/trainer_state.json", state | {"global_step": 5, "log_history": history[:2]})
    put(folder / f"seed{seed}/all_results.json", {"eval_loss": loss, "train_runtime": 60.5, "eval_f1": 0.5})
    put(folder / f"seed{seed}/eval_results.json", {"eval_loss": loss})


def all_results(folder: Path, seed: int, loss: float) -> None:
    put(folder / f"out_seed_{seed}/all_results.json", {"epoch": 2.0, "eval_loss": loss, "train_runtime": 12.0})


def lightning(folder: Path, seed: int, loss: float) -> None:
    text = f"epoch,step,train_loss,val/loss\n0,5,3.5,\n0,9,,{loss}\n"
    put(folder / f"version_{seed}/metrics.csv", text)
    put(folder / f"version_{seed}/hparams.yaml", f"lr: 0.1\nseed: {seed}\n")


def mlflow(folder: Path, seed: int, loss: float) -> None:
    run = folder / f"77/run{seed}"
    put(run / "meta.yaml", "run_name: a\nstatus: 3\n")
    put(run / "metrics/val/loss", f"1 3.5 5\n2 {loss} 9\n")
    put(run / "params/seed", str(seed))
    put(folder / "77/meta.yaml", "experiment_id: 77\n")


def wandb_files(folder: Path, seed: int, loss: float) -> None:
    files = folder / f"run-2030_{seed}/files"
    put(files / "wandb-summary.json", {"_step": 9, "_runtime": 70, "val/loss": loss, "acc": {"last": 0.5}})
    put(files / "config.yaml", f"_wandb:\n  value: {{}}\nseed:\n  desc: null\n  value: {seed}\n")
    put(files / "requirements.txt", "torch==2.8\n")


def lm_eval(folder: Path, seed: int, loss: float) -> None:
    table = {"alias": "text", "val_loss,none": loss, "val_loss_stderr,none": "N/A"}
    put(folder / f"results_{seed}.json", {"results": {"text": table}, "config": {"random_seed": seed}})


def json_lines(folder: Path, seed: int, loss: float) -> None:
    rows = [{"config": {"seed": seed}}, {"step": 5, "loss": 3.5}, {"step": 9, "eval/loss": loss}]
    put(folder / f"run{seed}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def record_of(event: bytes) -> bytes:
    return struct.pack("<Q", len(event)) + bytes(4) + event + bytes(4)


def scalar(step: int, tag: str, number: float) -> bytes:
    value = message(1, tag.encode()) + b"\x15" + struct.pack("<f", number)
    return record_of(b"\x09" + bytes(8) + b"\x10" + varint(step) + message(5, message(1, value)))


def tensor(step: int, tag: str, number: float) -> bytes:
    value = message(1, tag.encode()) + message(8, b"\x08\x01" + message(2, b"") + message(4, struct.pack("<f", number)))
    return record_of(b"\x10" + varint(step) + message(5, message(1, value)))


def hyper_parameters(seed: int) -> bytes:
    entry = message(1, b"seed") + message(2, b"\x11" + struct.pack("<d", seed))
    plugin = message(1, b"hparams") + message(2, message(3, message(1, entry)))
    value = message(1, b"_hparams_/session_start_info") + message(9, message(1, plugin))
    return record_of(message(5, message(1, value)))


def tensorboard(folder: Path, seed: int, loss: float) -> None:
    events = record_of(message(3, b"brain.Event:2")) + scalar(300, "loss", 3.5) + hyper_parameters(seed)
    put(folder / f"run{seed}/events.out.tfevents.1.host", events + tensor(900, "eval/loss", loss))


ONE_A_FOLDER: dict[str, Write] = {
    one.__name__: one
    for one in (trainer_state, all_results, lightning, mlflow, wandb_files, lm_eval, json_lines, tensorboard)
}


@pytest.mark.parametrize("write", ONE_A_FOLDER.values(), ids=ONE_A_FOLDER)
def test_seed_and_loss_of_a_tracker(write: Write, tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    for seed, loss in LOSSES.items():
        write(tmp_path / "runs", seed, loss)
    found = gather([tmp_path / "runs"], rules())
    assert {run.seed: run.val_loss for run in found.runs} == LOSSES
    origin = Origin.LOG if write is json_lines else Origin.TRACKER
    assert {run.run.origin for run in found.runs} == {origin}
    refused = [one.severity for one in found.findings if one.code is Code.NO_LOGS]
    assert refused == ([] if origin is Origin.LOG else ["error"])


# -- files with several runs -------------------------------------------------------------------------------------------


def wandb_export(folder: Path) -> None:
    rows = "".join(f'"run-{seed}","finished","{seed}","{loss}"\n' for seed, loss in LOSSES.items())
    put(folder / "export.csv", f'"Name","State","seed","val_loss"\n{rows}"run-4","crashed","4","3.1"\n')


def trackio(folder: Path) -> None:
    folder.mkdir()
    database = sqlite3.connect(folder / "p.db")
    database.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
    )
    database.execute("CREATE TABLE configs (id INTEGER PRIMARY KEY, run_name TEXT, config TEXT)")
    for seed, loss in LOSSES.items():
        for step, value in ((5, 3.5), (9, loss)):
            row = (f"calm-{seed * 7}", step, json.dumps({"val_loss": value}).encode())
            database.execute("INSERT INTO metrics (run_name, step, metrics) VALUES (?, ?, ?)", row)
        database.execute(
            "INSERT INTO configs (run_name, config) VALUES (?, ?)", (f"calm-{seed * 7}", json.dumps({"seed": seed}))
        )
    database.commit()
    database.close()


def plain_table(folder: Path) -> None:
    put(folder / "runs.csv", "seed,val_loss\n" + "".join(f"{seed},{loss}\n" for seed, loss in LOSSES.items()))


def plain_list(folder: Path) -> None:
    put(folder / "runs.json", json.dumps([{"seed": seed, "val_loss": loss} for seed, loss in LOSSES.items()]))


def all_in_one_jsonl(folder: Path) -> None:
    rows = [{"seed": seed, "step": 9, "val_loss": loss} for seed, loss in LOSSES.items()]
    put(folder / "all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


SEVERAL = {
    "wandb export": (wandb_export, Origin.TRACKER),
    "trackio": (trackio, Origin.TRACKER),
    "plain table": (plain_table, Origin.TYPED),
    "plain list": (plain_list, Origin.TYPED),
    "all in one jsonl": (all_in_one_jsonl, Origin.LOG),
}


@pytest.mark.parametrize(("write", "origin"), SEVERAL.values(), ids=SEVERAL)
def test_seeds_and_losses_of_a_file_of_several_runs(
    write: Callable[[Path], None], origin: Origin, tmp_path: Path, rules: Callable[..., Ruleset]
) -> None:
    write(tmp_path / "runs")
    found = gather([tmp_path / "runs"], rules())
    assert {run.seed: run.val_loss for run in found.runs} == LOSSES
    assert {run.run.origin for run in found.runs} == {origin}
    (file,) = (tmp_path / "runs").iterdir()
    named = gather([file], rules())
    assert [run.row() | {"log": ""} for run in named.runs] == [run.row() | {"log": ""} for run in found.runs]


def test_a_history_of_wandb_has_a_run_a_column(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    text = (
        '"Step","a - val_loss","a - val_loss__MIN","b - val_loss","b - val_loss__MIN"\n5,3.5,1,3.6,1\n9,2.71,1,2.72,1\n'
    )
    put(tmp_path / "runs/h.csv", text)
    found = gather([tmp_path / "runs"], rules())
    assert [(run.val_loss, run.line, run.run.last_step) for run in found.runs] == [(2.71, 3, 9), (2.72, 3, 9)]


def test_a_report_of_nanochat_gives_the_base_models_numbers(tmp_path: Path) -> None:
    sections = (
        "# nanochat training report\n\n## Tokenizer training\n- train_time: 7.5\n\n## Base model training\n- depth: 4\n"
        "- Calculated number of iterations: 1,200\n- Minimum validation bpb: 0.81\n- Final validation bpb: 0.82\n"
        "- Total training time: 1.50m\n\n## Base model evaluation\n- CORE metric: 0.2571\n\n"
        "## Midtraining\n- Minimum validation bpb: 0.4\n"
    )
    put(tmp_path / "seed4/report.md", sections)
    ((run,),) = imported([tmp_path / "seed4/report.md"]).runs.values()
    assert (run.seed, run.train_time_ms, run.last_step) == (4, 90_000, 1200)
    assert run.validation is not None
    assert run.validation.val_bpb == 0.82
    assert {name: run.values[name].number for name in ("core_metric", "minimum_validation_bpb")} == {
        "core_metric": 0.2571,
        "minimum_validation_bpb": 0.81,
    }


def test_a_run_that_the_tracker_calls_failed_has_no_result(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    mlflow(tmp_path / "runs", 1, 2.7)
    (tmp_path / "runs/77/run1/meta.yaml").write_text("status: 4\n")
    assert gather([tmp_path / "runs"], rules()).runs == ()


def test_the_seed_of_lm_evals_default_is_none(tmp_path: Path) -> None:
    lm_eval(tmp_path, 0, 2.5)
    ((run,),) = imported([tmp_path / "results_0.json"]).runs.values()
    assert run.seed is None


# -- what is asked when ------------------------------------------------------------------------------------------------


def test_a_log_with_a_result_counts_and_no_tracker_is_asked(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    for seed, loss in LOSSES.items():
        wandb_files(tmp_path / "runs", seed, loss + 1)
        put(tmp_path / f"runs/run-2030_{seed}/files/output.log", f"seed:{seed}\nstep:9/9 val_loss:{loss}\n")
    found = gather([tmp_path / "runs"], rules())
    assert {run.seed: (run.val_loss, run.run.origin) for run in found.runs} == {
        seed: (loss, Origin.LOG) for seed, loss in LOSSES.items()
    }


def test_a_log_without_a_result_next_to_its_summary_is_that_run(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    for seed, loss in LOSSES.items():
        wandb_files(tmp_path / "runs", seed, loss)
        put(tmp_path / f"runs/run-2030_{seed}/files/output.log", f"seed:{seed}\nstep:5/9 train_loss:3\n")
    found = gather([tmp_path / "runs"], rules())
    assert ({run.seed: run.val_loss for run in found.runs}, found.fault) == (LOSSES, None)


def test_a_crashed_log_next_to_a_table_is_not_hidden(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    plain_table(tmp_path / "runs")
    put(tmp_path / "runs/seed4.log", "seed:4\nstep:5/9 train_loss:3\n")
    found = gather([tmp_path / "runs"], rules())
    assert "seed4.log" in [one.result.log for one in found.left_out]


def test_a_submission_json_is_no_table(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    put(tmp_path / "runs/submission.json", {"seed": 1, "val_loss": 2.7, "val_bpb": 1.2})
    plain_table(tmp_path / "runs")
    assert gather([tmp_path / "runs"], rules()).runs == ()


def test_files_that_no_importer_knows_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "package.json", {"name": "x", "version": 1})
    put(tmp_path / "data.csv", "word,count\na,1\n")
    put(tmp_path / "notes.db", "no database")
    put(tmp_path / "README.md", "- CORE metric: 1\n")
    put(tmp_path / "a/meta.yaml", "status: 3\n")
    found = imported(sorted(tmp_path.rglob("*.*")))
    assert (found.runs, found.left_aside) == ({}, [])


# -- logs with metrics of other names ----------------------------------------------------------------------------------


def only(text: str) -> Run:
    (run,) = read_log(Path("a.log"), text.encode())
    return run


@pytest.mark.parametrize(
    ("text", "metric", "number", "line"),
    [
        ("seed:1\nmean accuracy: 0.94\nmean accuracy: 0.95\n", "mean_accuracy", 0.95, 3),
        ("seed:1\nstep:9/9 val_loss:2\nwandb: Run summary:\nwandb:    core_metric 0.26\n", "core_metric", 0.26, 4),
        ("seed:1\nstep:9/9 val_loss:2\n- CORE metric: 0.27\n", "core_metric", 0.27, 3),
        ("seed:1\nstep:8/9 acc:0.1\nstep:9/9 acc:0.5\n", "acc", 0.5, 3),
        ("seed:1\nStep 00009 | CORE metric: 0.21\n", "core_metric", 0.21, 2),
        ("seed:1\nfinal_x val_loss:2.0 val_bpb:1.2 accuracy:0.7\n", "accuracy", 0.7, 2),
        ("seed:1\n{'eval_accuracy': 0.8, 'epoch': 1.0}\n", "eval_accuracy", 0.8, 2),
        ("seed:1\nstep:9/9 val_loss:2\nscore: 1,234 | spread: 3\n", "score", 1234, 3),
    ],
)
def test_a_metric_of_any_name(text: str, metric: str, number: float, line: int) -> None:
    found = only(text).value(metric)
    assert found is not None
    assert (found.number, found.line) == (number, line)


def test_settings_and_sizes_are_no_metrics() -> None:
    run = only("seed:1\nlearning rate: 0.1\nstep:9/9 val_loss:2\npeak memory: 5 MiB\nscore: 3\n")
    assert {*run.values} == {"score"}


def test_a_metric_before_the_last_step_is_no_result(rules: Callable[..., Ruleset], tmp_path: Path) -> None:
    put(tmp_path / "runs/a.log", "seed:1\nstep:8/9 acc:0.1\nstep:9/9 loss:3\n")
    assert gather([tmp_path / "runs"], rules("acc", "higher")).runs == ()


@pytest.mark.parametrize(
    ("text", "seed", "loss", "bpb"),
    [
        ("[rank0]:[titan] 2030-01-01 01:02:03,004 - root - INFO - Setting deterministic seed 3\n"
         "[rank0]:[titan] 2030-01-01 01:02:04,004 - root - INFO - validate step: 9  loss:  2.5  tps: 7\n", 3, 2.5, None),
        ("seed=3\n{'loss': 3.1, 'epoch': 0.5}\n{'eval_loss': 2.5, 'epoch': 1.0}\n", 3, 2.5, None),
        ("seed 3\nStep 00009 | Validation bpb: 0.75\n", 3, None, 0.75),
        ('{"seed": 3, "step": 9, "val_loss": 2.5}\n', 3, 2.5, None),
    ],
    ids=["torchtitan", "HF", "nanochat", "JSON lines"],
)  # fmt: skip
def test_losses_of_other_trainers(text: str, seed: int, loss: float | None, bpb: float | None) -> None:
    run = only(text)
    assert run.validation is not None
    assert (run.seed, run.validation.val_loss, run.validation.val_bpb) == (seed, loss, bpb)


def test_mllog_lines_are_a_run() -> None:
    lines = [("seed", 5, 0), ("run_start", None, 1000), ("eval_accuracy", 0.5, 2000), ("eval_accuracy", 0.7, 3000)]
    text = "".join(f"0: :::MLLOG {json.dumps({'key': k, 'value': v, 'time_ms': t})}\n" for k, v, t in lines)
    stop = json.dumps({"key": "run_stop", "value": None, "time_ms": 4000, "metadata": {"status": "success"}})
    run = only(f"{text}:::MLLOG {stop}\n")
    assert (run.seed, run.values["eval_accuracy"].number, run.values["eval_accuracy"].line) == (5, 0.7, 4)
    assert (run.train_time_ms, run.origin) == (3000, Origin.LOG)
    assert only(f"{text}:::MLLOG {stop.replace('success', 'aborted')}\n").values == {}


def test_a_table_with_a_column_of_runs_is_several_runs() -> None:
    rows = [
        "|  run  | epoch | acc  |",
        "| warmup |  1  | 0.1 |",
        "|  1  |  1  | 0.5 |",
        "|     |  eval  | 0.9 |",
        "|  2  | eval | 0.8 |",
    ]
    runs = read_log(Path("a.log"), "\n".join(["import torch", *rows, "mean acc: 0.85"]).encode())
    assert [(run.line, run.values["acc"].number) for run in runs] == [(4, 0.9), (6, 0.8)]


# -- typed values, and what the rules do not read ----------------------------------------------------------------------


def test_of_typed_values_one_error_says_all(tmp_path: Path) -> None:
    """The ruleset caps time, size and ranks; that a list of numbers prints none of them needs no errors of its own."""
    (tmp_path / "values.csv").write_text("seed,val_bpb\n1,1.2\n2,1.201\n3,1.203\n")
    verdict = judge((tmp_path / "values.csv",), Options(sota=1.3))
    assert [one.code for one in verdict.findings if one.severity == ERROR] == [Code.NO_LOGS]
    assert {one.why for one in verdict.not_checked} == {"only numbers were given"}


def test_typed_values_are_judged_by_report_and_refused_by_check(
    command: Callable[..., Any], rules: Callable[..., Ruleset], tmp_path: Path
) -> None:
    rules("core_metric", "higher")
    words = ("--values", "0.261,0.262,0.2645", "--rules", tmp_path / "core_metric-rules.toml", "--sota", "0.25")
    said = json.loads(command("analysis.significance", "report", *words, "--format", "json").stdout)
    assert (said["verdict"], said["gate"], said["n"]) == ("supported", "refused", 3)
    assert {run["origin"] for run in said["runs"]} == {"typed"}
    assert [run["values"] for run in said["runs"]] == [{"core_metric": value} for value in (0.261, 0.262, 0.2645)]
    assert command("analysis.significance", "check", *words).returncode == 1
    for wrong in (["--values", "0.2,nan"], ["--values", ""], [], [tmp_path, "--values", "1,2"]):
        assert command("analysis.significance", "report", *wrong, "--sota", "1").returncode == 2


def test_a_tracker_is_marked_in_every_format(
    command: Callable[..., Any], rules: Callable[..., Ruleset], tmp_path: Path
) -> None:
    rules()
    plain_table(tmp_path / "runs")
    words = ("report", tmp_path / "runs", "--rules", tmp_path / "val_loss-rules.toml", "--sota", "2.8", "--format")
    for form in ("text", "markdown", "html"):
        assert re.search(r"runs\.csv:2.{1,9}typed", command("analysis.significance", *words, form).stdout)
    assert '"origin": "typed"' in command("analysis.significance", *words, "json").stdout
    csv = command("analysis.logs", tmp_path / "runs", "--format", "csv").stdout.splitlines()
    assert dict(zip(csv[0].split(","), csv[1].split(","), strict=True))["origin"] == "typed"


def test_a_run_that_crashed_is_said_in_the_report(command: Callable[..., Any], tmp_path: Path) -> None:
    rows = '"a","finished","1","0.26"\n"b","crashed","2","0.25"\n"c","finished","3","0.27"\n'
    put(tmp_path / "runs/export.csv", f'"Name","State","seed","core_metric"\n{rows}')
    for form in ("text", "markdown"):
        shown = command("analysis.significance", "report", tmp_path / "runs", "--rules", "nanochat", "--format", form)
        assert "export.csv:3" in shown.stdout  # the line of the crashed run


def test_names_that_the_rules_do_not_read_are_said(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    put(tmp_path / "runs/a.log", "seed:1\nstep:20 loss:2.5 bpb:1.5\n")
    fault = gather([tmp_path / "runs"], rules()).fault or ""
    assert "step 20 prints `loss` and `bpb`" in fault
    assert "let the run finish" not in fault.lower()
    put(tmp_path / "runs/a.log", "seed:1\nstep 20 | loss 2.5 | bpb 1.5\n")
    assert "step 20 prints `loss` and `bpb`" in (gather([tmp_path / "runs"], rules()).fault or "")
    put(tmp_path / "runs/a.log", "seed:1\nstep:20/40 loss:2.5 bpb:1.5\n")
    assert "let the run finish" in (gather([tmp_path / "runs"], rules()).fault or "").lower()


def test_a_table_without_the_metric_says_which_metrics_it_has(tmp_path: Path) -> None:
    put(tmp_path / "runs.csv", "seed,val_bpb,core_score\n1,0.7372,0.2567\n2,0.7373,0.2577\n")
    found = gather([tmp_path / "runs.csv"], load("nanochat"))
    assert "`core_score`" in (found.fault or "")
    assert "core_metric" in (found.fault or "")
    assert "let the run finish" not in f"{found.fault} {[one.message for one in found.findings]}".lower()


def test_another_metric_is_named_by_an_option(tmp_path: Path, rules: Callable[..., Ruleset]) -> None:
    rules()
    for seed in (1, 2, 3):
        put(tmp_path / f"runs/{seed}.log", f"seed:{seed}\nmean accuracy: 0.9{seed}\n")
    asked = Options(rules=str(tmp_path / "val_loss-rules.toml"), metric="mean_accuracy", sota=0.5)
    verdict = judge([tmp_path / "runs"], asked)
    assert (verdict.verdict, verdict.metric) == ("supported", "mean_accuracy")


# -- hostile files -----------------------------------------------------------------------------------------------------


def refused(file: Path) -> list[LeftAside]:
    found = imported([file], named=True)
    assert found.runs == {}
    return found.left_aside


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"[" * 500_000),
        ("a.json", b'{"log_history": 5}'),
        ("a.json", b"\xff\xfe{"),
        ("a.csv", b"\0\0\0"),
        ("a.jsonl", b"{" * 100_000),
        ("events.out.tfevents.1", b"\xff" * 100_000),
        ("events.out.tfevents.1", record_of(b"\xff" * 1000) * 50),
        ("report.md", b"# nanochat"),
        ("meta.yaml", b"status: 3\n"),
    ],
)
def test_what_is_damaged_tells_of_no_run(tmp_path: Path, name: str, content: bytes) -> None:
    put(tmp_path / name, content)
    assert all("\n" not in one.why for one in refused(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.json", b" " * 2**24, "MiB"),
        ("a.csv", b"seed,val_loss\n" + b"1,2\n" * 120_000, "lines"),
        ("a.csv", b"seed,val_loss\n" + b"1,2\n" * 2000, "runs"),
        ("a.csv", b",".join(b"c%d" % i for i in range(5000)) + b"\n1\n", "columns"),
        ("a.csv", b'seed,x\n1,"' + b"x" * 200_000 + b'"\n', "CSV"),
        ("a.json", json.dumps([{"seed": i, "val_loss": 1} for i in range(3000)]).encode(), "runs"),
        ("a.jsonl", b"".join(b'{"seed": %d, "step": 1}\n' % i for i in range(3000)), "runs"),
        ("a.db", b"SQLite format 3\0" + b"\xff" * 5000, "database"),
    ],
    ids=range(8),
)
def test_what_is_too_much_is_said_in_one_sentence(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    put(tmp_path / name, content)
    (one,) = refused(tmp_path / name)
    assert why in one.why
    assert len(one.why) < 200


def test_a_view_of_a_database_is_not_computed(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'r' AS run_name, x AS step, '{}' AS metrics FROM c"
    database.execute(f"CREATE VIEW metrics AS {endless}")
    database.commit()
    database.close()
    assert refused(tmp_path / "a.db") == []


def test_a_database_with_names_that_are_no_text_is_refused(tmp_path: Path) -> None:
    trackio(tmp_path / "runs")
    file = tmp_path / "runs/p.db"
    file.write_bytes(file.read_bytes().replace(b"timestamp TEXT", b"timest\xaemp TEXT"))
    (one,) = refused(file)
    assert "database" in one.why


def test_a_link_next_to_a_file_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "secret.yaml", "seed: 7\n")
    put(tmp_path / "v/metrics.csv", "step,val_loss\n9,2.5\n")
    (tmp_path / "v/hparams.yaml").symlink_to(tmp_path / "secret.yaml")
    ((run,),) = imported([tmp_path / "v/metrics.csv"]).runs.values()
    assert run.seed is None
