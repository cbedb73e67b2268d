"""What run.json says of machine, GPUs, commit and data; and that no machine can make it fail or wait."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.worker import data as data_of
from orchestration.worker import provenance as module
from orchestration.worker.provenance import provenance
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")

SCRIPT = ROOT / "trainer" / "train_gpt.py"
# what an 8-GPU node answers, by nvidia-smi's own names
H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "driver_version": "550.54.15",
    "memory.total": "81559",
    "clocks.sm": "345",
    "clocks.max.sm": "1980",
    "clocks.mem": "1593",
    "clocks.max.mem": "2619",
    "power.limit": "700.00",
}
TOPOLOGY = "\t\x1b[4mGPU0\tGPU1\x1b[0m\nGPU0\t X \tNV18\nGPU1\tNV18\t X \n"
ANSWERING = """#!{python}
import sys
if sys.argv[1:] == ["topo", "-m"]:
    print({topology!r})
else:
    assert sys.argv[2:] == ["--format=csv,noheader,nounits"]
    names = sys.argv[1].removeprefix("--query-gpu=").split(",")
    for index in range({count}):
        cells = {cells!r} | {{"index": str(index), "uuid": f"GPU-{{index}}"}}
        print(", ".join(cells[name] for name in names))
"""


def run(**environment: str) -> dict[str, Any]:
    """provenance() of the trainer, as it comes back out of run.json; no field is null without a reason."""
    found = provenance(SCRIPT, {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment)
    found = json.loads(json.dumps(found, allow_nan=False).encode("ascii"))
    assert_explained(found)
    return found


def assert_explained(found: dict[str, Any]) -> None:
    unknown = found["unknown"]
    assert all(unknown.values())

    def walk(value: Any, path: str) -> None:
        if value is None:
            assert path in unknown or path.rpartition(".")[0] in unknown, f"{path} is null without a reason"
        elif isinstance(value, dict):
            for name, item in value.items():
                walk(item, f"{path}.{name}" if path else name)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                walk(item, f"{path}.{number}")

    walk(found, "")


def nvidia_smi(folder: Path, text: str) -> str:
    """A PATH on which nvidia-smi is this program."""
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(text)
    tool.chmod(0o755)
    return f"{tool.parent}:{os.environ['PATH']}"


def answering(count: int, **cells: str) -> str:
    return ANSWERING.format(python=sys.executable, topology=TOPOLOGY, count=count, cells=H100 | cells)


def test_this_machine() -> None:
    found = run()
    assert found["machine"]["cpus"] == os.cpu_count()
    total_kib = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert found["machine"]["memory_bytes"] == int(total_kib) * 1024
    assert found["machine"]["kernel"] == f"Linux {platform.release()}"
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["numpy"] == __import__("numpy").__version__
    assert list(found) == [
        "machine",
        "versions",
        "gpus",
        "topology",
        "container",
        "git",
        "data",
        "unknown",
    ]


def test_no_torch_is_imported_and_nobody_waits() -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from orchestration.worker.provenance import provenance\n"
        "times = []\n"
        "for _ in range(5):\n"
        "    started = time.perf_counter()\n"
        f"    provenance(Path({str(SCRIPT)!r}), {{'PATH': '/usr/bin:/bin'}})\n"
        "    times.append(time.perf_counter() - started)\n"
        "assert not {'torch', 'ray', 'numpy'} & set(sys.modules), 'imported'\n"
        "print(min(times))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 0.15


def test_the_cuda_of_torch_is_read_from_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemError('imported')")
    version = package / "version.py"
    nccl = tmp_path / "nvidia_nccl_cu12-2.27.3.dist-info"
    nccl.mkdir()
    (nccl / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-nccl-cu12\nVersion: 2.27.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    version.write_text("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n")
    found = run()["versions"]
    assert (found["cuda"], found["nccl"]) == ("12.8", "2.27.3")
    version.write_text("cuda: Optional[str] = '99.0'\n")  # no build of torch brings its NCCL
    found = run()
    assert found["versions"]["nccl"] is None
    assert "nvidia-nccl-cu99 is not installed" in found["unknown"]["versions.nccl"]
    version.write_text("cuda: Optional[str] = None\nhip = '6.4'\n")
    assert run()["unknown"]["versions.cuda"] == "torch is built without CUDA"
    version.unlink()
    assert run()["unknown"]["versions.cuda"] == "No such file or directory"


def test_eight_gpus(tmp_path: Path) -> None:
    found = run(PATH=nvidia_smi(tmp_path, answering(8)))
    assert len(found["gpus"]) == 8
    assert found["gpus"][7] == {
        "index": 7,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-7",
        "driver": "550.54.15",
        "memory_bytes": 81559 * 2**20,
        "sm_clock_mhz": 345,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 1593,
        "memory_clock_max_mhz": 2619,
        "power_limit_w": 700.0,
    }
    assert found["versions"]["driver"] == "550.54.15"
    assert found["topology"] == "GPU0\tGPU1\nGPU0\t X \tNV18\nGPU1\tNV18\t X"
    assert not [field for field in found["unknown"] if field.startswith(("gpus", "topology", "versions.driver"))]


@pytest.mark.parametrize("cell", ["[N/A]", "[Not Supported]", "nan", "inf", "seven"])
def test_a_property_that_a_gpu_does_not_tell(tmp_path: Path, cell: str) -> None:
    found = run(PATH=nvidia_smi(tmp_path, answering(1, **{"power.limit": cell})))
    assert found["gpus"][0]["power_limit_w"] is None
    assert cell in found["unknown"]["gpus.0.power_limit_w"]
    assert found["gpus"][0]["sm_clock_max_mhz"] == 1980


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho 'No devices were found'; exit 6\n", "nvidia-smi exited with 6: No devices were found"),
        (
            "#!/bin/sh\necho 'NVML: Driver/library mismatch' >&2; exit 18\n",
            "exited with 18: NVML: Driver/library mismatch",
        ),
        ("#!/bin/sh\nexit 1\n", "exited with 1: it said nothing"),
        ("#!/bin/sh\nkill -9 $$\n", "exited with -9"),
        ("#!/bin/sh\n", "lists no GPU"),
        ("#!/bin/sh\nprintf '\\377\\000\\033[31m, %s\\n' garbage\n", "garbage' instead of 10 values"),
        ("#!/no/such/interpreter\n", "No such file"),
        ("no program\n", "Exec format error"),
    ],
)
def test_an_nvidia_smi_that_does_not_work(tmp_path: Path, text: str, reason: str) -> None:
    found = run(PATH=nvidia_smi(tmp_path, text))
    for field in ("gpus", "topology", "versions.driver"):
        assert reason in found["unknown"][field]
        assert found["unknown"][field].isprintable()
    assert found["gpus"] is None


def test_an_nvidia_smi_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOOL_S", 0.4)
    path = nvidia_smi(tmp_path, f"#!/bin/sh\ntrap '' TERM\nsleep 60 &\necho $! >> {tmp_path}/pid\nwait\n")
    found = run(PATH=path)
    (child,) = (tmp_path / "pid").read_text().split()  # asked once, not again for the topology
    assert found["unknown"]["gpus"] == "nvidia-smi gave no answer within 0.4 s"
    stat = Path("/proc", child, "stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_reason_holds_no_secret(tmp_path: Path) -> None:
    key = "hf_" + "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"
    found = run(PATH=nvidia_smi(tmp_path, f"#!/bin/sh\necho 'token {key}'; exit 1\n"))
    assert key not in json.dumps(found)
    assert "[secret: Hugging Face token]" in found["unknown"]["gpus"]


def test_the_image_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "PODMAN", tmp_path / "containerenv")
    monkeypatch.setattr(module, "DOCKER", tmp_path / "dockerenv")
    assert run()["container"] == {"kind": None, "image": None}
    (tmp_path / "dockerenv").touch()
    found = run()
    assert found["container"] == {"kind": "docker", "image": None}
    assert "does not tell" in found["unknown"]["container.image"]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert run()["container"] == {"kind": "kubernetes", "image": None}
    (tmp_path / "containerenv").write_bytes(b'engine="podman-4"\nname="\xff"\nimage="docker.io/x/y:1"\nimageid="abc"\n')
    assert run()["container"] == {"kind": "podman", "image": "docker.io/x/y:1"}
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/train.sif")
    assert run()["container"] == {"kind": "apptainer", "image": "/images/train.sif"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of script.py and helper.py."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "script.py").write_text("print(1)\n")
    (folder / "helper.py").write_text("A = 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message=x")
    return folder


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def git_of(script: Path, **environment: str) -> tuple[str | None, bool | None, dict[str, str]]:
    found = provenance(script, {"PATH": os.environ["PATH"], "HOME": str(script.parent)} | environment)
    assert_explained(found)
    return found["git"]["commit"], found["git"]["dirty"], found["unknown"]


def test_the_commit_and_whether_the_tree_is_as_committed(repository: Path) -> None:
    script = repository / "script.py"
    commit = git(repository, "rev-parse", "HEAD")
    assert git_of(script)[:2] == (commit, False)
    (repository / "unrelated.txt").touch()
    assert git_of(script)[:2] == (commit, False)
    (repository / "new.py").write_text("print(2)\n")  # a script that no commit holds
    assert git_of(repository / "new.py")[:2] == (commit, True)
    (repository / "helper.py").write_text("A = 2\n")
    assert git_of(script)[:2] == (commit, True)
    assert git_of(script, GIT_DIR="/nowhere")[0] == commit


def test_nothing_of_the_repository_is_written_and_no_hook_runs(repository: Path) -> None:
    for name, hook in (("core.fsmonitor", "monitor"), ("core.hooksPath", "hooks/post-index-change")):
        path = repository / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {repository}/ran\n")
        path.chmod(0o755)
        git(repository, "config", name, str(path if name == "core.fsmonitor" else path.parent))
    os.utime(repository / "helper.py", (1, 1))  # the index would be refreshed
    before = (repository / ".git" / "index").read_bytes()
    assert git_of(repository / "script.py")[1] is False
    assert not (repository / "ran").exists()
    assert (repository / ".git" / "index").read_bytes() == before


def test_no_commit_to_name(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, dirty, unknown = git_of(tmp_path / "script.py", GIT_CEILING_DIRECTORIES="/")
    assert (commit, dirty) == (None, None)
    assert "not a git repository" in unknown["git.commit"]
    assert git_of(Path("/no/such/folder/s.py"))[0] is None
    shutil.rmtree(repository / ".git")
    git(repository, "init", "--quiet")
    assert git_of(repository / "script.py")[0] is None  # nothing is committed yet
    (tmp_path / "empty").mkdir()
    assert git_of(repository / "script.py", PATH=str(tmp_path / "empty"))[2]["git.commit"] == "there is no git on PATH"
    monkeypatch.setattr(module, "GIT_S", 0.2)
    (tmp_path / "empty" / "git").write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    (tmp_path / "empty" / "git").chmod(0o755)
    assert "no answer within 0.2 s" in git_of(repository / "script.py", PATH=str(tmp_path / "empty"))[2]["git.commit"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_data_of_a_run(tmp_path: Path) -> None:
    data, mib = tmp_path / "data", 2**20
    (data / "more").mkdir(parents=True)
    long = bytes(range(256)) * (4 * mib // 256) + b"end"
    two = os.urandom(2 * mib)
    (data / "train_0.bin").write_bytes(long)
    (data / "train_1.bin").write_bytes(two)
    (data / "more" / "val.bin").write_bytes(b"")
    (data / ".lock").touch()
    (tmp_path / "t.model").write_bytes(b"model")
    found = run(DATA_PATH=str(data), TOKENIZER_PATH=str(tmp_path / "t.model"))["data"]
    assert found["tokenizer"] == {"bytes": 5, "sha256": sha256(b"model")}
    assert found["shards"] == {
        "count": 3,
        "digests": [
            {"name": "more/val.bin", "bytes": 0, "ends_sha256": sha256(b"")},
            {"name": "train_0.bin", "bytes": 4 * mib + 3, "ends_sha256": sha256(long[:mib] + long[-mib:])},
            {"name": "train_1.bin", "bytes": 2 * mib, "ends_sha256": sha256(two)},
        ],
    }


@pytest.mark.parametrize("size", [1, 2**20 - 1, 2**20, 2**20 + 1, 2**21 - 1, 2**21])
def test_a_file_of_no_more_than_two_ends_is_read_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a.bin").write_bytes(content)
    found = run(DATA_PATH=str(tmp_path))["data"]["shards"]["digests"]
    assert found == [{"name": "a.bin", "bytes": size, "ends_sha256": sha256(content)}]


def test_of_many_shards_the_first_and_the_last_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_of, "MOST_SHARDS", 4)
    for number in range(6):
        (tmp_path / f"train_{number}.bin").touch()
    (tmp_path / "val_0.bin").touch()
    found = run(DATA_PATH=str(tmp_path))
    shards = found["data"]["shards"]
    assert shards["count"] == 7
    assert [shard["name"] for shard in shards["digests"]] == ["train_0.bin", "train_1.bin", "train_5.bin", "val_0.bin"]
    assert found["unknown"]["data.shards.digests"] == "4 of 7 files were read: at most 4 are"
    monkeypatch.setattr(data_of, "MOST_FILES", 6)
    assert "more than 6 files" in run(DATA_PATH=str(tmp_path))["unknown"]["data.shards"]


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"{number}.bin").touch()

    def slow(path: Path) -> dict[str, Any]:
        time.sleep(0.15)
        return {"bytes": 0, "ends_sha256": sha256(b"")}

    monkeypatch.setattr(data_of, "_ends", slow)
    monkeypatch.setattr(data_of, "DATA_S", 0.25)
    assert run(DATA_PATH=str(tmp_path))["unknown"]["data.shards.digests"] == "2 of 5 files were read: 0.25 s had passed"


def test_data_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.bin")  # whoever opens it waits
    (tmp_path / "b.bin").symlink_to(tmp_path / "gone")
    (tmp_path / "c.bin").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.bin")).touch()
    found = run(DATA_PATH=str(tmp_path), TOKENIZER_PATH=str(tmp_path / "a.bin"))
    digests = found["data"]["shards"]["digests"]
    assert [shard["bytes"] for shard in digests] == [None, None, 1, None, 0]
    assert found["unknown"]["data.shards.digests.0"] == "not a regular file"
    assert found["unknown"]["data.tokenizer"] == "TOKENIZER_PATH is not a file"
    digests[4]["name"].encode("utf-8")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "DATA_PATH is not set"),
        ("data/x", "DATA_PATH is relative"),
        ("/no/such/folder", "No such file or directory"),
        (str(SCRIPT), "Not a directory"),
        ("/\udcff", "No such file"),
        ("/\ud800", "UnicodeEncodeError"),
        ("/a\0b", "ValueError"),
    ],
)
def test_a_path_that_leads_nowhere(path: str, reason: str) -> None:
    assert reason in run(DATA_PATH=path, TOKENIZER_PATH=path)["unknown"]["data.shards"]


def test_whatever_breaks_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("boom \udcff \ud800\x1b[31m")

    for owner, name in (
        (subprocess, "Popen"),
        (os, "cpu_count"),
        (os, "walk"),
        (os, "uname"),
        (data_of, "file_digest"),
    ):
        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setitem(module.MACHINE, "cpus", broken)
    (tmp_path / "t.model").touch()
    found = run(PATH=nvidia_smi(tmp_path, ""), DATA_PATH=str(tmp_path), TOKENIZER_PATH=str(tmp_path / "t.model"))
    for field in ("machine.cpus", "machine.kernel", "gpus", "git.commit", "data.tokenizer", "data.shards"):
        assert found["unknown"][field].startswith("RuntimeError: boom")
