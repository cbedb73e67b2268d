"""Plans and recipes: what is decided before the first run, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.rules.ruleset import FOLDER, load
from analysis.sweepdir.layout import SweepError
from analysis.sweepdir.manifest import planned_runs
from analysis.sweepdir.plan import Design, DesignKind, Plan, SeedsAre, derive_seeds, plan_digest, read_plan
from orchestration.plan.asked import Asked, PlanError, parse_env, parse_seeds, read_recipe, shipped_recipes
from orchestration.plan.freeze import freeze, make_design, notes
from tests.conftest import ROOT
from tests.orchestration.orders import plan_of


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text("print(1)\n")
    return path


def table_of(script: Path, seeds: str = "3", **env: str) -> dict[str, Any]:
    """What plan.json holds."""
    return dict(plan_of(script, seeds, pairs=tuple(f"{name}={value}" for name, value in env.items())).table)


def test_seeds_are_a_list_or_a_count() -> None:
    assert parse_seeds("1337,1338,1339") == [1337, 1338, 1339]
    assert parse_seeds("7,") == [7]
    assert parse_seeds("3") == 3


@pytest.mark.parametrize(
    ("text", "word"),
    [("a,b", "1337,1338"), ("1,1", "twice"), ("1337", "'1337,'"), ("0", "0"), ("-1,2", "negative"), ("", "at least")],
)
def test_bad_seeds(text: str, word: str) -> None:
    with pytest.raises(PlanError, match=word):
        parse_seeds(text)


def test_derived_seeds_follow_from_the_plan_alone(script: Path) -> None:
    one = table_of(script)
    assert one == table_of(script)
    assert one["seeds_are"] == "derived"
    assert one["seeds"] == derive_seeds(one, 3)
    assert len(set(one["seeds"])) == 3
    assert all(0 <= seed < 2**31 for seed in one["seeds"])
    assert table_of(script, A="1")["seeds"] != one["seeds"]
    assert table_of(script, seeds="5")["seeds"][:3] != one["seeds"]
    moved = script.with_name("moved.py")
    moved.write_bytes(script.read_bytes())
    assert table_of(moved, DATA_PATH="/elsewhere")["seeds"] == one["seeds"]
    basis = {**one, "script": one["script"]["sha256"], "arms": {"candidate": {}}, "seeds": 3}
    assert basis.pop("max_attempts") == 3
    first = hashlib.sha256(f"{plan_digest(basis)}0".encode()).hexdigest()
    assert one["seeds"][0] == int(first, 16) % 2**31


def test_another_limit_of_attempts_buys_no_other_seeds(script: Path) -> None:
    one, more = plan_of(script), plan_of(script, max_attempts=9)
    assert (one.max_attempts, more.max_attempts) == (3, 9)
    assert one.sha256 != more.sha256
    assert one.seeds == more.seeds
    older = {key: value for key, value in one.table.items() if key != "max_attempts"}
    assert Plan.of(older, "plan.json").max_attempts == 3
    assert derive_seeds(older, 3) == list(one.seeds)
    for bad in (0, -1, "3", True, 2.0, None):
        with pytest.raises(SweepError, match="max_attempts is "):
            Plan.of(older | {"max_attempts": bad}, "plan.json")


def test_the_keys_of_a_plan_keep_their_order_and_so_its_bytes(script: Path, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("[env]\nB = 1\n")
    made = plan_of(script, "1,2", gpus_per_run=2, accelerator_type="H100", control=tmp_path / "b.toml")
    freeze(made, tmp_path / "sweep")
    written = json.loads((tmp_path / "sweep" / "plan.json").read_text())
    assert [*written] == [
        "version",
        "script",
        "arms",
        "ruleset",
        "sota",
        "accelerator_type",
        "gpus_per_run",
        "cpus_per_run",
        "max_attempts",
        "design",
        "seeds",
        "seeds_are",
        "sha256",
    ]
    assert written["arms"] == {
        "candidate": {"recipe": None, "env": {}},
        "control": {"recipe": str(tmp_path / "b.toml"), "env": {"B": "1"}},
    }
    assert written["cpus_per_run"] == 2
    assert written["seeds_are"] == "given"
    assert written["sha256"] == plan_digest(written) == made.sha256


def test_a_frozen_plan_is_read_back_and_a_changed_one_refused(script: Path, tmp_path: Path) -> None:
    made = plan_of(script)
    assert made.seeds_are is SeedsAre.DERIVED
    freeze(made, tmp_path / "sweep")
    assert read_plan(tmp_path / "sweep") == made
    assert [run.state for run in planned_runs(tmp_path / "sweep", made)] == ["pending"] * 3
    with pytest.raises(PlanError, match="already holds a sweep"):
        freeze(made, tmp_path / "sweep")
    path = tmp_path / "sweep" / "plan.json"
    path.write_text(json.dumps({**made.table, "sota": 2.0}))
    with pytest.raises(SweepError, match="changed after it was frozen"):
        read_plan(tmp_path / "sweep")
    other = {"sota": 2.0}
    path.write_text(json.dumps(other | {"sha256": plan_digest(other)}))
    with pytest.raises(SweepError, match="not a plan of this version"):
        read_plan(tmp_path / "sweep")


def test_recipes_become_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.toml"
    path.write_text('[env]\nDATA_PATH = "data/x"\nITERATIONS = 3\nMATRIX_LR = 0.5\nTIE_EMBEDDINGS = true\n')
    assert read_recipe(path) == {
        "DATA_PATH": str(tmp_path / "data/x"),
        "ITERATIONS": "3",
        "MATRIX_LR": "0.5",
        "TIE_EMBEDDINGS": "1",
    }


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("x =", "not TOML"),
        ("A = 1", r"\[env\]"),
        ("[env]\nSEED = 1", "--seeds"),
        ("[env]\n'A B' = 1", "'A B'"),
        ("[env]\nA = [1]", "A must be"),
        ("[env]\nWANDB_API_KEY = 'x'", "published"),
        ("[env]\nHF_TOKEN = 'q8Zr2LxP0vT7mK4n'", "published"),
    ],
)
def test_bad_recipes(tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(content)
    with pytest.raises(PlanError, match=word):
        read_recipe(path)
    with pytest.raises(PlanError, match="missing.toml"):
        read_recipe(tmp_path / "missing.toml")


def test_a_shipped_recipe_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "demo-rules" not in shipped_recipes()
    for name in shipped_recipes():
        assert read_recipe(Path(name)) == read_recipe(ROOT / "trainer" / "recipes" / f"{name}.toml")
    with pytest.raises(PlanError, match="Did you mean 'demo-candidate'"):
        read_recipe(Path("demo-candidat"))
    monkeypatch.chdir(tmp_path)
    Path("demo-candidate").write_text("[env]\nA = 1\n")  # a file of that name comes first
    assert read_recipe(Path("demo-candidate")) == {"A": "1"}


def test_bad_plans(script: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="KEY=VALUE"):
        parse_env(("A",))
    with pytest.raises(PlanError, match="is not a file"):
        plan_of(tmp_path / "nope.py")
    recipe = tmp_path / "same.toml"
    recipe.write_text("[env]\nA = 1\n")
    with pytest.raises(PlanError, match="nothing to compare"):
        plan_of(script, recipe=recipe, control=recipe)


# put together here, so that no scanner takes this file for a leak
KEY_ID, TOKEN = "AKIA" + "Q3EGRIOSFODNN7XY", "hf_" + "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"


def refusal(make: Callable[[], object]) -> str:
    """What a plan with a secret is refused with; the secret itself is not in it."""
    with pytest.raises(PlanError) as caught:
        make()
    assert KEY_ID not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "published" in str(caught.value)
    return str(caught.value)


def test_a_value_that_looks_like_a_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    said = refusal(lambda: parse_env((f"NOTE=see {TOKEN}",)))
    assert said.startswith("--env sets NOTE to what looks like a secret (Hugging Face token): values go into plan.json")
    assert "DATA_URL to what looks like a secret (password in a URL)" in refusal(
        lambda: parse_env(("DATA_URL=postgres://me:hunter2@db/x",))
    )
    assert "[secret: Hugging Face token]" in refusal(lambda: parse_env((f"{TOKEN}=1",)))
    path = tmp_path / "r.toml"
    path.write_text(
        f"[env]\nNOTE = '\\u0041{KEY_ID[1:]}'\n".replace("'", '"')
    )  # written so that the file's text hides it
    assert refusal(lambda: read_recipe(path)).startswith(
        f"{path} sets NOTE to what looks like a secret (AWS access key id)"
    )
    path.write_text(f"# the bucket's is\n# {KEY_ID}\n[env]\nA = 1\n")
    assert refusal(lambda: read_recipe(path)).startswith(
        f"{path}:2 holds what looks like a secret (AWS access key id): a recipe"
    )
    for pair in (TOKEN, f"A B {TOKEN}=1"):
        with pytest.raises(PlanError) as caught:
            parse_env((pair,))
        assert TOKEN not in str(caught.value)


def test_ordinary_variables_of_a_training_are_no_secrets() -> None:
    env = {"TOKENIZER_PATH": "/t.model", "TRAIN_BATCH_TOKENS": "524288", "PAD_TOKEN": "0", "KEY_DIM": "64"}
    assert parse_env(tuple(f"{name}={value}" for name, value in env.items())) == env


def test_a_script_or_rules_with_a_secret_are_refused(script: Path, tmp_path: Path) -> None:
    script.write_bytes(b"import os\n# \xff\nos.environ['X'] = '" + TOKEN.encode() + b"'\n")
    said = refusal(lambda: plan_of(script))
    assert said.startswith(f"{script}:3 holds what looks like a secret (Hugging Face token): the script is published")
    script.write_text("import os\ntoken = os.environ.get('HF_TOKEN')\n")
    assert table_of(script)["script"]["bytes"] == script.stat().st_size
    rules = tmp_path / "ours.toml"
    shipped = (FOLDER / "parameter-golf.toml").read_text()
    rules.write_text(re.sub(r"^gpu = .*$", f'gpu = "{KEY_ID}"', shipped, flags=re.MULTILINE))
    said = refusal(lambda: plan_of(script, rules=str(rules)))
    assert said.startswith("The rules hold what looks like a secret (AWS access key id)")


def test_the_shipped_recipes_are_the_published_ones() -> None:
    table = {
        name: tomllib.loads((ROOT / "trainer" / "recipes" / f"{name}.toml").read_text())["env"]
        for name in ("seq4096", "seq2048", "baseline")
    }
    columns = (
        "TRAIN_SEQ_LEN",
        "TRAIN_BATCH_TOKENS",
        "TIED_EMBED_LR",
        "MATRIX_LR",
        "SCALAR_LR",
        "MUON_MOMENTUM",
        "MUON_MOMENTUM_WARMUP_START",
        "MUON_MOMENTUM_WARMUP_STEPS",
        "WARMDOWN_ITERS",
    )
    assert [table["seq4096"][c] for c in columns] == [4096, 393216, 0.03, 0.02, 0.02, 0.99, 0.92, 1500, 3000]
    assert [table["seq2048"][c] for c in columns] == [2048, 524288, 0.04, 0.032, 0.032, 0.95, 0.85, 500, 1200]
    assert [table["baseline"][c] for c in columns] == [1024, 524288, 0.05, 0.04, 0.04, 0.95, 0.85, 500, 1200]


def test_a_sequential_design_looks_after_each_seed_from_the_third() -> None:
    rules = load("parameter-golf")
    fixed, sequential = Asked(script=Path("x")), Asked(script=Path("x"), design="sequential", boundary="pocock")
    assert make_design(sequential, 5, rules) == {"name": "sequential", "looks": [3, 4, 5], "boundary": "pocock"}
    assert make_design(fixed, 5, rules) == {"name": "fixed"}
    with pytest.raises(PlanError, match="first at 3 seeds; 2 are planned"):
        make_design(sequential, 2, rules)
    with pytest.raises(PlanError, match="at most 30"):
        make_design(sequential, 51, rules)


def test_the_design_is_part_of_the_plan_and_of_what_seeds_are_derived_from(script: Path) -> None:
    made = plan_of(script, design="sequential")
    assert made.design == Design(kind=DesignKind.SEQUENTIAL, looks=(3,), boundary="flat")
    assert made.seeds != plan_of(script).seeds


def test_too_few_seeds_are_noted(script: Path) -> None:
    assert notes(plan_of(script, "1,")) == ["seeds planned: 1; a claim by parameter-golf needs 3."]
    assert notes(plan_of(script, "1,2,3")) == []


@pytest.mark.parametrize("seed", [2**32, 10**30])
def test_a_seed_that_no_library_takes_is_refused(seed: int) -> None:
    with pytest.raises(PlanError, match="above 4294967295"):
        parse_seeds(f"{seed},1")


def test_a_script_that_is_too_large_to_be_kept_is_refused(script: Path) -> None:
    script.write_bytes(b"#" * (2**22 + 1))
    with pytest.raises(PlanError, match="has 4194305 bytes; at most 4194304"):
        plan_of(script)


def test_a_script_that_changes_while_it_is_frozen_is_refused(script: Path, tmp_path: Path) -> None:
    made = plan_of(script)
    script.write_text("print(2)\n")
    with pytest.raises(PlanError, match="was changed just now"):
        freeze(made, tmp_path / "out")
    assert not (tmp_path / "out" / "plan.json").exists()
