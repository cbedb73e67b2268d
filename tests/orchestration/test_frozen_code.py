"""The frozen code of a sweep: which modules are packed with the script, and that nothing else is taken for them."""

from __future__ import annotations

import hashlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from analysis.sweepdir.code import LARGEST_SCRIPT, MOST_MODULES, read_code
from analysis.sweepdir.layout import SweepError
from analysis.sweepdir.plan import Plan
from orchestration.plan.asked import PlanError
from orchestration.plan.freeze import freeze, notes
from tests.orchestration.orders import plan_of

TOKEN = "hf_" + "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "theirs" / "script.py"
    path.parent.mkdir()
    path.write_text("print(1)\n")
    return path


def packed(script: Path) -> list[str]:
    return [file.name for file in plan_of(script).script.files]


def refused(script: Path) -> str:
    with pytest.raises(PlanError) as caught:
        plan_of(script)
    return str(caught.value)


def write(folder: Path, **sources: str) -> None:
    """Write modules; `__` in a name is a slash."""
    for name, source in sources.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)


def test_modules_next_to_the_script_are_packed_with_what_they_import(script: Path, tmp_path: Path) -> None:
    plain = plan_of(script)
    assert plain.script.files == ()
    script.write_text(
        "import os, kernels\nfrom layers.deep import x\nimport numpy as np\nfrom . import unused\ndef f():\n    import late\n"
    )
    write(script.parent, kernels="import tables, kernels", late="", os="", unused="", tables="A = 1\n")
    write(script.parent, layers__deep="from ..above import y\nfrom . import near\nfrom .. import *")  # `..` leads out
    write(script.parent, layers__near="from layers.sub import *", layers__other="", above="")
    write(script.parent, layers__sub__one="", layers__sub__two="")
    (script.parent / "layers/sub/__init__.py").touch()
    names = ["kernels", "late", "layers/deep", "layers/near", "layers/sub/__init__", "layers/sub/one", "layers/sub/two"]
    made = plan_of(script)
    assert packed(script) == [f"{name}.py" for name in (*names, "tables")]
    assert made.script.files[-1].sha256 == hashlib.sha256(b"A = 1\n").hexdigest()
    assert made.script.files[-1].bytes == 6
    assert "imports kernels.py, late.py" in notes(made)[0]
    freeze(made, tmp_path / "out")
    kept = read_code(tmp_path / "out", made.script.digests)
    assert kept["modules/tables.py"] == b"A = 1\n"
    assert {(tmp_path / "out" / name).stat().st_mode & 0o777 for name in kept} == {0o444}
    assert not (tmp_path / "out/modules/unused.py").exists()
    write(script.parent, tables="A = 2\n")
    assert plan_of(script).seeds != made.seeds  # they depend on every byte that runs
    with pytest.raises(PlanError, match="was changed just now"):
        freeze(made, tmp_path / "again")
    script.write_text("import kernels (")
    assert packed(script) == []


def test_a_local_package_goes_before_an_installed_one_and_a_plain_folder_after_it(script: Path) -> None:
    script.write_text("import numpy.linalg, wandb, random\nimport datasets.arrow\n")
    write(script.parent, wandb__run__data="", wandb__more="", datasets__other="", numpy__linalg="", numpy__unused="")
    write(script.parent, random="")  # Python, too, would load this one
    assert packed(script) == ["numpy/linalg.py", "random.py"]
    write(script.parent, numpy____init__="", wandb____init__="")
    (script.parent / "numpy" / "__init__.py").touch()
    (script.parent / "wandb" / "__init__.py").touch()
    assert packed(script) == ["numpy/__init__.py", "numpy/linalg.py", "random.py", "wandb/__init__.py"]


def test_what_cannot_be_packed_is_refused(script: Path) -> None:
    script.write_text("import fast\n")
    (script.parent / f"fast{EXTENSION_SUFFIXES[0]}").touch()
    assert "only .py files are kept" in refused(script)
    script.write_text("from many import *\n")
    write(script.parent, **{f"many__m{n}": "" for n in range(MOST_MODULES)})
    assert packed(script) == []  # a folder without __init__.py has nothing for `*`
    (script.parent / "many" / "__init__.py").touch()
    assert f"more from its own folder than is kept with a plan ({MOST_MODULES} files" in refused(script)
    script.write_text("import large\n")
    write(script.parent, large="#" * LARGEST_SCRIPT)
    assert "more from its own folder" in refused(script)
    write(script.parent, large=f"X = '{TOKEN}'\n")
    assert refused(script).startswith(f"{script.parent / 'large.py'}:1 holds what looks like a secret")


@pytest.mark.parametrize(
    "change", [{"name": "../x.py"}, {"name": "/x.py"}, {"name": "x.so"}, {"bytes": "1"}, {"sha256": None}]
)
def test_a_plan_names_its_modules_safely(script: Path, change: dict[str, Any]) -> None:
    table = dict(plan_of(script).table)
    table["script"] = dict(table["script"])
    good = {"name": "deep/x.py", "bytes": 1, "sha256": "0"}
    table["script"]["files"] = [good]
    assert Plan.of(table, "plan.json").script.digests["modules/deep/x.py"] == "0"
    table["script"]["files"] = [good | change]
    with pytest.raises(SweepError, match=r"script\.files has"):
        Plan.of(table, "plan.json")


def test_code_that_is_not_the_plans_is_refused(script: Path, tmp_path: Path) -> None:
    script.write_text("import helper\n")
    write(script.parent, helper="A = 1\n")
    made, out = plan_of(script), tmp_path / "out"
    freeze(made, out)
    (out / "modules" / "__pycache__").mkdir()
    (out / "modules" / "__pycache__" / "helper.pyc").touch()  # Python's own
    assert set(read_code(out, made.script.digests)) == {"script.py", "modules/helper.py"}
    (out / "modules" / "numpy.py").touch()
    with pytest.raises(SweepError, match="numpy.py is not in the plan"):
        read_code(out, made.script.digests)
    (out / "modules" / "numpy.py").unlink()
    (out / "modules" / "helper.py").unlink()
    with pytest.raises(SweepError, match=r"modules/helper.py cannot be read: No such file"):
        read_code(out, made.script.digests)
    (out / "modules" / "helper.py").write_text("A = 2\n")
    with pytest.raises(SweepError, match=r"modules/helper.py was changed after the plan was frozen"):
        read_code(out, made.script.digests)
    (out / "modules" / "helper.py").unlink()
    (out / "modules" / "helper.py").symlink_to(script.parent / "helper.py")
    with pytest.raises(SweepError, match="link that leads out"):
        read_code(out, made.script.digests)
