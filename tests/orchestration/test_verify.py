"""Records that are run again: what is planned, asked, bought and answered; and whole verifications on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from orchestration import record as record_command
from tests.conftest import ROOT, clean_environment, make_log, until

Made = Callable[..., Path]

TINY = '''\
"""Somebody's trainer, as short as one can be: it trains nothing and prints what a run prints."""
import os
import random
import time

seed = int(os.environ["SEED"])
value = float(os.environ.get("BASE", "1.2")) + random.Random(seed).gauss(0, 0.001)
print(f"world_size:8\\nseed:{seed}\\nTotal submission size int8+zlib: 12000000 bytes", flush=True)
for step in range(1, 4):
    print(f"step:{step}/3 train_loss:{3 - step / 10:.4f} train_time:{step}00ms", flush=True)
time.sleep(float(os.environ.get("PAUSE", "0")))
print(f"final_int8_zlib_roundtrip_exact val_loss:{value / 0.592256:.8f} val_bpb:{value:.8f}", flush=True)
'''
BROKEN = TINY.replace("import random\n", "import random\nimport no_such_module_anywhere\n")
AS_IT_IS = {1: 1.2003, 2: 1.1994, 3: 1.2011}
TOO_GOOD = {1: 1.1503, 2: 1.1494, 3: 1.1511}


@pytest.fixture
def recorded(sweep: Callable[..., Path], tmp_path: Path) -> Made:
    """Make a record as `record` writes it, of a finished sweep of runs with these values."""

    def make(name: str, values: dict[int, float], source: str = TINY, **plan: Any) -> Path:
        script = {"path": "/home/alice/train.py", "sha256": digest(source.encode()), "bytes": len(source)}
        folder = sweep(values, name=f"sweep-{name}", script=script, **{"gpus_per_run": 0, "cpus_per_run": 1} | plan)
        (folder / "script.py").write_text(source)
        for seed, value in values.items():
            attempt = folder / "candidate" / f"seed-{seed}" / "attempt-1"
            (attempt / "train.log").write_text(make_log(seed, value, source))
            said = json.loads((attempt / "run.json").read_text())
            files = {"train.log": {"sha256": digest((attempt / "train.log").read_bytes())}}
            (attempt / "run.json").write_text(json.dumps(said | {"host": "far", "files": files}))
        output = tmp_path / "records" / name
        words = [str(folder), "--name", name, "--author", "A. Author", "--output", str(output)]
        found = CliRunner().invoke(record_command.main, words)
        assert found.exit_code == 0, found.output
        return output

    return make


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- whole verifications -------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(private_ray: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head on which nothing runs, and two nodes."""
    for name, value in private_ray.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(num_cpus=2)
        found.environment = clean_environment() | private_ray | {"RAY_ADDRESS": found.address}
        yield found
    finally:
        found.shutdown()


def start(records: list[Path], output: Path, environment: dict[str, str], log: Path, *more: str) -> Any:
    words = [sys.executable, "-m", "orchestration.verify", *map(str, records), "--output", str(output), *more]
    with open(log, "ab") as out:
        return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=out, stderr=out)


@pytest.mark.slow
def test_three_records_on_two_nodes(cluster: Any, recorded: Made, tmp_path: Path) -> None:
    records = [recorded("honest", AS_IT_IS), recorded("too-good", TOO_GOOD), recorded("broken", AS_IT_IS, BROKEN)]
    output, log = tmp_path / "out", tmp_path / "log"
    process = start(records, output, cluster.environment, log)
    assert process.wait(120) == 1, log.read_text()
    found = {row["record"]: row for row in json.loads((output / "verify.json").read_text())["records"]}
    print(log.read_text())
    assert {name: row["verdict"] for name, row in found.items()} == {
        "honest": "holds up",
        "too-good": "does not hold up",
        "broken": "cannot tell",
    }
