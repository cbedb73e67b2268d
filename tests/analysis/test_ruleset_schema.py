"""The JSON Schema of rulesets and the loader agree: on every file of ours, on each key wrong once, on every allowed value."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analysis.rules import data, keys, ruleset
from analysis.rules.findings import OFF, SEVERITIES, Code
from analysis.rules.ruleset import Criterion, RulesError, Ruleset, from_table
from tests.conftest import ROOT

SCHEMA = json.loads(Path(ruleset.__file__).with_name("ruleset.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PAGE = (ROOT / "docs" / "rulesets.md").read_text(encoding="utf-8")
FILES = {
    **{path.stem: path.read_text(encoding="utf-8") for path in sorted(ruleset.FOLDER.glob("*.toml"))},
    **{f"block {n}": block for n, block in enumerate(re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL), 1)},
}

TWO: dict[str, Any] = {"version": 2, "metric": "val_loss", "test": "one-sample t", "alpha": 0.01}
ONE = TWO | {"version": 1, "margin": 0.005, "unit": "nats"}
COMPARED = {"version": 2, "metric": "core_metric", "test": "comparison"}
Z = TWO | {"test": "known-sigma z", "sigma": 0.0013}


def without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def criterion(**changed: Any) -> dict[str, Any]:
    return TWO | {"criteria": [{"metric": "steps", "test": "comparison", **changed}]}


RIGHT = {
    "version 2": TWO,
    "version 1": ONE,
    "a z-test": Z | {"scaled_gain": 0.004, "step_value": 4.5e-5, "at_step": "earliest", "final": "last validation"},
    "one run": Z | {"minimum_runs": 1},
    "a step": TWO | {"at_step": 3250, "final": "last validation"},
    "the last step of a labelled line": TWO | {"at_step": "last"},
    "a comparison has no level": COMPARED,
    "a statistic of a comparison": COMPARED | {"statistic": "median", "direction": "higher"},
    "a margin below 0": TWO | {"margin": -0.002},
    "a criterion": criterion(name="time", statistic="each run", target=5, against="target"),
    "the other unit": TWO | {"unit": "bpb"},
    "a metric of one's own with a unit": COMPARED | {"unit": "points"},
}
WRONG = {
    "no version": without(TWO, "version"),
    "another version": TWO | {"version": 3},
    "version as a text": TWO | {"version": "2"},
    "no metric": without(TWO, "metric"),
    "a metric in capitals": TWO | {"metric": "CORE"},
    "no test": without(TWO, "test"),
    "another test": TWO | {"test": "sign test"},
    "no level": without(TWO, "alpha"),
    "a level of 1": TWO | {"alpha": 1},
    "a level as a text": TWO | {"alpha": "0.01"},
    "an unknown key": TWO | {"metrik": 1},
    "a name": TWO | {"name": "mine"},
    "another direction": TWO | {"direction": "up"},
    "another unit": TWO | {"unit": "bits"},
    "time in minutes": TWO | {"metric": "train_time_s", "unit": "min"},
    "steps in seconds": TWO | {"metric": "steps", "unit": "s"},
    "an empty unit": COMPARED | {"unit": ""},
    "a margin as a text": TWO | {"margin": "0.1"},
    "a margin too large": TWO | {"margin": 1e300},
    "another statistic": COMPARED | {"statistic": "mode"},
    "a t-test of the median": TWO | {"statistic": "median"},
    "a target as a text": TWO | {"target": "3.28"},
    "against nothing known": TWO | {"against": "sota"},
    "against a target that is not there": TWO | {"against": "target"},
    "welch against a target": TWO | {"test": "welch", "against": "target", "target": 3.28},
    "a z-test without sigma": without(Z, "sigma"),
    "sigma of 0": Z | {"sigma": 0},
    "sigma in a t-test": TWO | {"sigma": 0.0013},
    "scaled_gain in a t-test": TWO | {"scaled_gain": 0.004},
    "step_value in a t-test": TWO | {"step_value": 1e-5},
    "scaled_gain below 0": Z | {"scaled_gain": -1},
    "step_value of 0": Z | {"step_value": 0},
    "another step": TWO | {"at_step": "best", "final": "last validation"},
    "step 0": TWO | {"at_step": 0, "final": "last validation"},
    "a step of a labelled line": TWO | {"at_step": "earliest"},
    "rank_by a number": TWO | {"rank_by": 1},
    "another final": TWO | {"final": "first"},
    "another seeds": TWO | {"seeds": "maybe"},
    "no runs": TWO | {"minimum_runs": 0},
    "half a run": TWO | {"minimum_runs": 2.5},
    "another submission": TWO | {"submission": "maybe"},
    "artifact_bytes below 0": TWO | {"artifact_bytes": -1},
    "train_time_s of 0": TWO | {"train_time_s": 0},
    "eval_time_s as a text": TWO | {"eval_time_s": "600"},
    "world_size true": TWO | {"world_size": True},
    "gpu as a number": TWO | {"gpu": 7},
    "bpb_per_nat of 0": TWO | {"bpb_per_nat": {"x.model": 0}},
    "data as a number": TWO | {"data": 1},
    "an unknown key of data": TWO | {"data": {"shards": 1}},
    "half a shard": TWO | {"data": {"train_shards": 1.5}},
    "a share of 2": TWO | {"data": {"val_tokens_within": 2}},
    "a ratio off by 0": TWO | {"data": {"bpb_per_nat_within": 0}},
    "a data set as a text": TWO | {"data": {"datasets": "x"}},
    "no tokens": TWO | {"data": {"val_tokens": {"x.model": []}}},
    "findings as a text": TWO | {"findings": "no-logs"},
    "an unknown finding": TWO | {"findings": {"no-log": "off"}},
    "an unknown severity": TWO | {"findings": {"no-logs": "bad"}},
    "criteria as a text": TWO | {"criteria": "time"},
    "a criterion as a text": TWO | {"criteria": ["time"]},
    "a criterion without a metric": TWO | {"criteria": [{"test": "comparison"}]},
    "a criterion without a test": TWO | {"criteria": [{"metric": "steps"}]},
    "a criterion with a cap": criterion(world_size=8),
    "a criterion with a wrong test": criterion(test="sign test"),
    "a criterion without a level": criterion(test="welch"),
    "a criterion with an empty name": criterion(name=""),
    "a criterion that waives a number": criterion(waives=1),
    "a criterion with an odd name": criterion(name="\x1b[31m"),
    "a criterion that asks nothing": criterion(test="none"),
    "criteria without a first test": TWO | {"test": "none", "criteria": criterion()["criteria"]},
    "too many criteria": TWO | {"criteria": [{"metric": "steps", "test": "comparison", "name": f"n{i}"} for i in range(21)]},
    "an odd unit": COMPARED | {"unit": "s\nSUPPORTED"},
    "version 1 without a unit": without(ONE, "unit"),
    "version 1 without a margin": without(ONE, "margin"),
    "version 1 without a level": without(ONE | {"test": "none"}, "alpha"),
    "version 1 with another metric": ONE | {"metric": "core_metric"},
    "version 1 with welch": ONE | {"test": "welch"},
    "version 1 with a margin below 0": ONE | {"margin": -0.001},
    **{f"version 1 with {key}": ONE | {key: value} for key, value in {
        "direction": "lower", "statistic": "mean", "against": "standing", "at_step": "last", "rank_by": "steps",
        "criteria": [{"metric": "steps", "test": "comparison"}],
    }.items()},
}  # fmt: skip


def loads(table: dict[str, Any]) -> bool:
    try:
        from_table("mine", table, "mine.toml")
    except RulesError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_every_ruleset_of_ours_is_valid_in_both(text: str) -> None:
    table = tomllib.loads(text)
    assert loads(table)
    VALIDATOR.validate(table)


@pytest.mark.parametrize("table", RIGHT.values(), ids=RIGHT)
def test_what_the_loader_takes_the_schema_takes(table: dict[str, Any]) -> None:
    assert (loads(table), VALIDATOR.is_valid(table)) == (True, True)


@pytest.mark.parametrize("table", WRONG.values(), ids=WRONG)
def test_what_the_loader_refuses_the_schema_refuses(table: dict[str, Any]) -> None:
    assert (loads(table), VALIDATOR.is_valid(table)) == (False, False)


def test_each_key_is_wrong_once() -> None:
    text = json.dumps(list(WRONG.values()))
    names = {one.name for kind in (Ruleset, Criterion) for one in fields(kind)}
    assert {name for name in (*names, *data.KEYS) if f'"{name}"' not in text} == set()


def test_the_schema_has_the_keys_of_the_loader() -> None:
    own, one_test = SCHEMA["$defs"]["criterion"]["properties"], SCHEMA["$defs"]["keys_of_a_test"]
    assert SCHEMA["properties"].keys() == {one.name for one in fields(Ruleset)} - {"name"}
    assert own.keys() == {one.name for one in fields(Criterion)}
    assert one_test.keys() == set(ruleset.OF_A_TEST)
    assert SCHEMA["$defs"]["data"]["properties"].keys() == set(data.KEYS)


def test_the_schema_has_the_values_of_the_loader() -> None:
    one_test = SCHEMA["$defs"]["keys_of_a_test"]
    found = {key: (SCHEMA["properties"] | one_test)[key]["enum"] for key in keys.ALLOWED}
    assert {key: tuple(values) for key, values in found.items()} == keys.ALLOWED
    findings = SCHEMA["properties"]["findings"]
    assert findings["propertyNames"]["enum"] == list(Code)
    assert findings["additionalProperties"]["enum"] == [*SEVERITIES, OFF]
    assert SCHEMA["properties"]["at_step"]["anyOf"][0]["enum"] == [keys.LAST, keys.EARLIEST]
    assert SCHEMA["$defs"]["metric"]["pattern"] == f"^{keys.METRIC_NAME.pattern}$"
