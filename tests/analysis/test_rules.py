from __future__ import annotations

from pathlib import Path

import pytest

from analysis.rules import RulesError, load

GOOD = 'version = 1\nmetric = "val_bpb"\nmargin = 0.01\nunit = "nats"\ntest = "one-sample t"\nalpha = 0.05\n'


def test_the_shipped_ruleset() -> None:
    rules = load("parameter-golf")
    assert (rules.metric, rules.margin, rules.unit, rules.alpha) == ("val_bpb", 0.005, "bpb", 0.01)


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
        (("version", "version = 2"), ["version", "allowed: 1"]),
        (("test", "= ="), ["not TOML"]),
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
