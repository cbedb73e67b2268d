from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from analysis.rules.ruleset import RulesError, from_table, known, load

GOOD = 'version = 1\nmetric = "val_bpb"\nmargin = 0.01\nunit = "nats"\ntest = "one-sample t"\nalpha = 0.05\n'


def test_the_shipped_ruleset() -> None:
    rules = load("parameter-golf")
    assert (rules.metric, rules.margin, rules.unit, rules.alpha) == ("val_bpb", 0.005, "bpb", 0.01)


def test_the_speedruns_rulesets() -> None:
    one, three = load("nanogpt-track-1"), load("nanogpt-track-3")
    assert (one.metric, one.target, one.test, one.alpha, one.final) == (
        "val_loss",
        3.28,
        "one-sample t",
        0.01,
        "last validation",
    )
    assert (three.test, three.sigma, three.scaled_gain, three.target) == ("known-sigma z", 0.0013, 0.004, 3.28)
    assert {one.seeds, three.seeds, one.submission, three.submission} == {"unprinted", "none"}


def test_a_plan_keeps_a_ruleset_whole() -> None:
    for name in known():
        rules = load(name)
        table = json.loads(json.dumps(asdict(rules)))
        assert from_table(table.pop("name"), table, "plan.json") == rules


def test_a_ruleset_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert (load(str(path)).name, load(str(path)).unit) == ("mine", "nats")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("unit", 'unit = "bits"'), ["unit", "'bits'", "'bpb'"]),
        (("alpha", "alpha = 2"), ["alpha", "0.5"]),
        (("alpha", 'alpha = "x"'), ["alpha", "number"]),
        (("margin", "margin = -1"), ["margin", "0 or more"]),
        (("margin", "margin = nan"), ["margin"]),
        (("metric", ""), ["'metric'", "missing"]),
        (("metric", 'metric = "val_bpb"\nmetrik = 1'), ["'metrik'", "unknown"]),
        (("version", "version = 3"), ["version", "allowed: 1, 2"]),
        (("test", "= ="), ["not TOML"]),
        (("test", 'test = "known-sigma z"'), ["the test 'known-sigma z' needs sigma"]),
        (("alpha", "alpha = 0.01\nsigma = 0.001"), ["sigma", "'one-sample t'"]),
        (("alpha", "alpha = 0.01\nscaled_gain = 0.004"), ["scaled_gain", "'one-sample t'"]),
        (("alpha", "alpha = 0.01\nworld_size = 8.5"), ["world_size", "8.5", "whole number"]),
        (("alpha", "alpha = 0.01\ntrain_time_s = 0"), ["train_time_s", "above 0"]),
        (("alpha", f"alpha = 0.01\ntarget = {10**400}"), ["target", "finite"]),
        (("alpha", 'alpha = 0.01\nseeds = "maybe"'), ["seeds", "'required'", "'unprinted'"]),
        (("alpha", "alpha = 0.01\ngpu = 7"), ["gpu", "a text"]),
        (("alpha", 'alpha = 0.01\nfindings = "no-logs"'), ["findings", "a table"]),
        (("alpha", 'alpha = 0.01\n[findings]\nno-log = "off"'), ["findings", "'no-log'", "no-logs"]),
        (("alpha", 'alpha = 0.01\n[findings]\nno-logs = "bad"'), ["findings", "'bad'", "warning"]),
        (("alpha", 'alpha = 0.01\n[bpb_per_nat]\n"x.model" = -1'), ["bpb_per_nat", "above 0"]),
        (("alpha", "alpha = 0.01\neval_time_s = -1"), ["eval_time_s", "above 0"]),
        (("alpha", "alpha = 0.01\ndata = 1"), ["data", "a table"]),
        (("alpha", "alpha = 0.01\n[data]\nshards = 1"), ["data", "'shards'", "train_shards"]),
        (("alpha", "alpha = 0.01\n[data]\ntrain_shards = 1.5"), ["data", "train_shards", "1.5", "whole number"]),
        (("alpha", "alpha = 0.01\n[data]\nval_tokens_within = 2"), ["data", "val_tokens_within", "0.1"]),
        (("alpha", 'alpha = 0.01\n[data]\ndatasets = "x"'), ["data", "datasets", "list of names"]),
        (
            ("alpha", 'alpha = 0.01\n[data.val_tokens]\n"x.model" = [-1]'),
            ["data", "val_tokens", "list of whole numbers"],
        ),
    ],
)
def test_a_wrong_ruleset_is_refused_with_file_and_key(
    tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("\n".join(change[1] if line.startswith(change[0]) else line for line in GOOD.splitlines()))
    with pytest.raises(RulesError) as error:
        load(str(path))
    for word in ["wrong.toml", *words]:
        assert word in str(error.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RulesError, match="parameter-golf"):
        load("paramater-golf")
