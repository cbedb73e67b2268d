"""deploy/: the files fit their tools' schemas, and their scripts do the right thing on clusters made of stubs."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from orchestration import sweep
from tests.conftest import ROOT, clean_environment, until

DEPLOY = ROOT / "deploy"
EDITED = ("kuberay-rayjob.yaml", "ray-cluster.yaml", "skypilot.yaml", "slurm.sh")
NODES = 3
TOKEN = "f00d" * 16

# Each stub adds a line to $CALLS; what `--block` or $SWEEP_HANGS keeps alive says that it was ended.
STUBS = {
    "python": """\
#!/bin/bash
if [ "$1" = -c ]; then PYTHONPATH=$STUBS exec "$REAL_PYTHON" "$@"; fi
echo "python$(printf ' %q' "$@") RAY_ADDRESS=${RAY_ADDRESS-} token=${RAY_AUTH_TOKEN-}" >> "$CALLS"
trap 'echo "sweep stopped" >> "$CALLS"; exit "$CODE"' TERM
while [ -n "${SWEEP_HANGS-}" ]; do /bin/sleep 0.02; done
exit "$CODE"
""",
    "ray": """\
#!/bin/bash
if [ "$1" = health-check ]; then exec grep -q "ray start --head" "$CALLS"; fi
if [[ $* == *--address* ]]; then /bin/sleep 0.3; fi  # the sweep must wait for it
echo "ray $* mode=${RAY_AUTH_MODE-} token=${RAY_AUTH_TOKEN-}" >> "$CALLS"
if [ -n "${RAY_FAILS-}" ]; then exit 1; fi
trap 'echo "ray ended" >> "$CALLS"; exit 0' TERM
while [[ $* == *--block* ]]; do /bin/sleep 0.02; done
""",
    "srun": """\
#!/bin/bash
echo "srun ${*//$'\\n'/ }" >> "$CALLS"
while [[ $1 == --* ]]; do
    case $1 in --ntasks=*) tasks=${1#*=} ;; esac
    shift
done
if [ "$1" = mkdir ] || [ "$1" = rm ]; then tasks=1; fi  # all nodes are this machine
trap 'kill $(jobs -p)' TERM
for ((task = 0; task < tasks; task++)); do "$@" & done
wait
wait
""",
    "sleep": "#!/bin/bash\nexec /bin/sleep 0.02\n",
    "ray.py": """\
import os
def init(**options): pass
def nodes(): return [{"Alive": True} for line in open(os.environ["CALLS"]) if line.startswith("ray start")]
""",
}


def content(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@dataclass
class Cluster:
    """A checkout that holds deploy/ alone, and the stubs of what the scripts call."""

    checkout: Path
    environment: dict[str, str]

    def start(self, command: list[str], code: int = 0, **environment: str) -> subprocess.Popen[str]:
        environment = {**self.environment, "CODE": str(code), **environment}
        return subprocess.Popen(command, cwd=self.checkout, env=environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip

    def run(self, command: list[str], code: int = 0, **environment: str) -> tuple[int, str]:
        process = self.start(command, code, **environment)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, output

    def calls(self, beginning: str = "") -> list[str]:
        lines = Path(self.environment["CALLS"]).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.startswith(beginning)]

    def wait_for(self, beginning: str) -> None:
        until(lambda: self.calls(beginning))

    def temporary(self) -> Path:
        return Path(re.findall(r"mkdir -m 700 (\S+)", "\n".join(self.calls()))[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    checkout, stubs, calls = tmp_path / "checkout", tmp_path / "stubs", tmp_path / "calls"
    shutil.copytree(DEPLOY, checkout / "deploy")
    stubs.mkdir()
    calls.touch()
    for name, text in STUBS.items():
        (stubs / name).write_text(text, encoding="utf-8")
        (stubs / name).chmod(0o755)
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "bin").symlink_to(stubs)
    environment = clean_environment() | {
        "PATH": f"{stubs}:/usr/bin:/bin", "HOME": str(tmp_path), "STUBS": str(stubs), "CALLS": str(calls),
        "REAL_PYTHON": sys.executable,
        "SLURM_SUBMIT_DIR": str(checkout), "SLURM_JOB_ID": "70001", "SLURM_NNODES": str(NODES), "SLURM_CPUS_ON_NODE": "2",
        "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2\n10.0.0.3",
        "SKYPILOT_NUM_NODES": str(NODES), "SKYPILOT_NUM_GPUS_PER_NODE": "8", "RAY_AUTH_TOKEN": TOKEN,
    }  # fmt: skip
    yield Cluster(checkout, environment)
    for line in calls.read_text(encoding="utf-8").splitlines():  # what a failed test left
        if found := re.search(r"mkdir -m 700 (/tmp/seedproof\S+)", line):
            shutil.rmtree(found[1], ignore_errors=True)


def skypilot(cluster: Cluster, rank: int = 0, **change: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a rank; the sweep directory lies in the checkout."""
    task = content("skypilot.yaml")
    return ["bash", "-c", task["run"]], task["envs"] | {"OUTPUT": "out", "SKYPILOT_NODE_RANK": str(rank)} | change


def skypilot_of_one(cluster: Cluster, **change: str) -> tuple[list[str], dict[str, str]]:
    return skypilot(cluster, SKYPILOT_NUM_NODES="1", **change)


def slurm(cluster: Cluster, **change: str) -> tuple[list[str], dict[str, str]]:
    script = cluster.checkout / "deploy" / "slurm.sh"
    text = re.sub(r"^OUTPUT=\S+", "OUTPUT=out", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    script.write_text(text, encoding="utf-8")
    return ["bash", str(script)], change


def kuberay(cluster: Cluster) -> tuple[list[str], dict[str, str]]:
    _, script, _, *options = shlex.split(content("kuberay-rayjob.yaml")["spec"]["entrypoint"])
    assert script == "/opt/seedproof/deploy/sweep.sh"
    return ["bash", "deploy/sweep.sh", "out", *options], {}


def ray_cluster(cluster: Cluster) -> tuple[list[str], dict[str, str]]:
    """What the comment says to submit."""
    lines = (DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[1:].rstrip("\\ ") for line in lines if line.startswith("#  "))
    _, script, _, *options = shlex.split(comment.split(" -- ")[1])
    assert script == "/home/ubuntu/seedproof/deploy/sweep.sh"
    assert content("ray-cluster.yaml")["file_mounts"]["/home/ubuntu/seedproof"] == "."
    return ["bash", "deploy/sweep.sh", "out", *options], {}


Start = Callable[..., tuple[list[str], dict[str, str]]]
EVERY = pytest.mark.parametrize("start", [kuberay, ray_cluster, skypilot_of_one, slurm])
OWN_RAY = pytest.mark.parametrize("start", [skypilot_of_one, slurm])


# -- all files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDITED)
def test_two_lines_on_top_are_to_be_edited(name: str) -> None:
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    marked = [number for number, line in enumerate(lines, 1) if re.search(r"\S +# EDIT\b", line)]
    assert len(marked) == sum("EDIT" in line for line in lines) == 2
    assert marked[1] <= 15


def test_every_file_is_known_here_and_in_the_table() -> None:
    table = (DEPLOY / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in DEPLOY.iterdir()} - {"README.md"}
    assert names == {*EDITED, "sweep.sh", "github"}
    assert all(f"`{name}`" in table for name in names)


@pytest.mark.parametrize("name", EDITED)
def test_no_file_starts_a_ray_that_anybody_may_use(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in text or "authOptions: {mode: token}" in text
    assert "disabled" not in text


def test_the_image_holds_what_runs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = {line.removeprefix("**/") for line in lines if line and not line.startswith("#")}
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line}
    assert left_out >= ignored | {".git"}
    needed = "analysis orchestration trainer deploy pyproject.toml constraints.txt README.md LICENSE"
    assert not {name for name in needed.split() for one in left_out if fnmatch.fnmatch(name, one)}


@EVERY
def test_it_runs_a_sweep_that_the_command_takes_and_resumes_one_that_is_there(start: Start, cluster: Cluster) -> None:
    command, environment = start(cluster)
    if start is slurm:
        environment["SLURM_NNODES"] = "1"
    assert cluster.run(command, **environment)[0] == 0
    (call,) = cluster.calls("python")
    module, verb, *arguments = shlex.split(call.partition(" RAY_ADDRESS")[0])[2:]
    assert module == "orchestration.sweep"
    assert verb == "run"
    given = sweep.run.make_context("run", arguments).params  # refuses what `run` does not know
    assert given["output"] == Path("out")
    assert given["gpus_per_run"] == 8
    assert given["sota"] is not None
    assert (ROOT / given["script"]).is_file()
    assert (ROOT / given["recipe"]).is_file()

    (cluster.checkout / "out").mkdir()
    (cluster.checkout / "out" / "plan.json").write_text("{}")
    assert cluster.run(command, **environment)[0] == 0
    _, again = cluster.calls("python")
    module, verb, *arguments = shlex.split(again.partition(" RAY_ADDRESS")[0])[2:]
    assert module == "orchestration.sweep"
    assert verb == "resume"
    assert arguments[0] == "out"
    arguments[0] = str(cluster.checkout / "out")
    kept = sweep.resume.make_context("resume", arguments).params
    assert kept == {name: given[name] for name in kept if name != "directory"} | {"directory": cluster.checkout / "out"}


@EVERY
@pytest.mark.parametrize("code", [1, 4])
def test_the_exit_code_is_the_sweeps(start: Start, code: int, cluster: Cluster) -> None:
    command, environment = start(cluster)
    if start is slurm:
        environment["SLURM_NNODES"] = "1"
    assert cluster.run(command, code, **environment)[0] == code
    assert len(cluster.calls("python")) == 1


@EVERY
def test_a_signal_reaches_the_sweep_and_its_exit_code_counts(start: Start, cluster: Cluster) -> None:
    command, environment = start(cluster)
    if start is slurm:
        environment["SLURM_NNODES"] = "1"
    process = cluster.start(command, 4, SWEEP_HANGS="yes", **environment)
    try:
        cluster.wait_for("python")
        process.terminate()  # the script alone, as Slurm does
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 4
    ended = [line for line in cluster.calls() if line in ("sweep stopped", "ray ended")]
    assert ended == ["sweep stopped", "ray ended"][: 2 if start in (skypilot_of_one, slurm) else 1]


# -- sweep.sh --------------------------------------------------------------------------------------------------------------


def test_resume_gets_all_the_options_that_it_knows_and_no_other(cluster: Cluster) -> None:
    options = [option for option in sweep.resume.params if isinstance(option, click.Option)]
    known = [name for option in options if not option.is_flag for name in option.opts]
    flags = [name for option in options if option.is_flag for name in option.opts]
    assert len(known) >= 5
    (cluster.checkout / "out").mkdir()
    (cluster.checkout / "out" / "plan.json").write_text("{}")
    others = ["--script", "a b.py", "--env", "X=1", "--seeds=3"]
    values = {name: str(number) for number, name in enumerate(known, 1)}
    spaced = [*flags, *(word for pair in values.items() for word in pair)]
    joined = [*flags, *(f"{name}={value}" for name, value in values.items())]
    for given in (spaced, joined):
        cluster.run(["bash", "deploy/sweep.sh", "out", *others, *given, *others])
        assert f"resume out {' '.join(given)} RAY_ADDRESS" in cluster.calls("python")[-1]


def test_options_reach_the_sweep_word_for_word_from_any_folder(cluster: Cluster) -> None:
    script = cluster.checkout / "deploy" / "sweep.sh"
    command = ["bash", "-c", f"cd / && bash {script} out --deadline '1 2' --script 'a b'"]
    assert cluster.run(command)[0] == 0
    (cluster.checkout / "out").mkdir()
    (cluster.checkout / "out" / "plan.json").write_text("{}")
    assert cluster.run(command)[0] == 0  # it is looked for below the checkout
    first, second = (shlex.split(call)[3:-2] for call in cluster.calls("python"))
    assert first == ["run", "--output", "out", "--deadline", "1 2", "--script", "a b"]
    assert second == ["resume", "out", "--deadline", "1 2"]


def test_the_sweep_does_not_start_before_the_nodes_have_joined(cluster: Cluster) -> None:
    command = ["bash", "deploy/sweep.sh", "out"]
    process = cluster.start(command, AWAIT_NODES="2")
    calls = Path(cluster.environment["CALLS"])
    calls.write_text("ray start --head\n", encoding="utf-8")
    time.sleep(0.3)
    assert process.poll() is None
    assert cluster.calls("python") == []
    calls.write_text("ray start --head\nray start\n", encoding="utf-8")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(cluster.calls("python")) == 1


def test_nodes_that_never_join_end_it_with_the_code_of_a_missing_run(cluster: Cluster) -> None:
    late = {"AWAIT_NODES": "2", "RAY_ADDRESS": "head:1", "SECONDS": "600"}  # bash counts on from there
    code, output = cluster.run(["bash", "deploy/sweep.sh", "out"], **late)
    assert code == 4
    assert cluster.calls("python") == []
    assert "2 nodes have not joined Ray at head:1" in output


# -- Slurm -----------------------------------------------------------------------------------------------------------------


def test_slurm_reads_its_options_before_the_first_command() -> None:
    lines = (DEPLOY / "slurm.sh").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = {number for number, line in enumerate(lines) if line.startswith("#SBATCH")}
    assert options
    assert max(options) < first
    words = " ".join(lines[number] for number in options).split()
    assert {"--signal=B:TERM@120", "--gpus-per-node=8", "--ntasks-per-node=1", "--exclusive", "--mem=0"} <= set(words)


def test_slurm_starts_ray_on_every_node_and_ends_it(cluster: Cluster) -> None:
    command, environment = slurm(cluster)
    code, output = cluster.run(command, 3, **environment)
    assert code == 3, output
    steps = cluster.calls("srun")
    head, others = next(s for s in steps if "--head" in s), next(s for s in steps if "bash -c" in s)
    assert "--relative=0 --nodes=1 --ntasks=1 " in head
    assert "--relative=1 --nodes=2 --ntasks=2 " in others
    assert "--nodes=3 --ntasks=3 mkdir" in steps[0]
    starts, (call,) = cluster.calls("ray start"), cluster.calls("python")
    assert len(starts) == NODES
    tokens = {line.rpartition("token=")[2] for line in (*starts, call)}
    assert re.fullmatch("[0-9a-f]{64}", tokens.pop())
    assert not tokens  # one secret for all
    assert all("mode=token" in line for line in starts)
    assert not any(re.search("[0-9a-f]{64}", line) for line in steps)  # everybody may read a command line
    port = re.search(r"--port=(\d+)", starts[0])[1]
    assert re.search(r"RAY_ADDRESS=\S+:(\d+)", call)[1] == port
    assert all(f":{port} " in line for line in starts[1:])
    order = [line.split()[0] + line.split()[1] for line in cluster.calls() if not line.startswith("srun")]
    assert order == ["raystart"] * NODES + ["python-m"] + ["rayended"] * NODES
    assert cluster.calls()[-1] == steps[-1] == f"srun --overlap --nodes=3 --ntasks=3 rm -rf {cluster.temporary()}"
    assert not cluster.temporary().exists()


def test_slurm_jobs_on_one_node_have_ports_and_folders_of_their_own(cluster: Cluster) -> None:
    ports, folders = [], []
    for job in ("70001", "70002"):
        command, environment = slurm(cluster, SLURM_JOB_ID=job, SLURM_NNODES="1")
        cluster.run(command, **environment)
        head = cluster.calls("ray start")[-1]
        ports += [int(port) for port in re.findall(r"port=(\d+)", head)]
        folders.append(re.search(r"--temp-dir=(\S+)", head)[1])
    assert len(set(ports)) == 4
    assert all(20000 <= port < 32768 for port in ports)  # beside Ray's workers, below the ephemeral ports
    assert folders[0] != folders[1]


def test_slurm_runs_nothing_where_its_folder_cannot_be_made(cluster: Cluster) -> None:
    stub = Path(cluster.environment["STUBS"]) / "mkdir"
    stub.write_text("#!/bin/bash\nexit 1\n")
    stub.chmod(0o755)
    (Path(cluster.environment["STUBS"]) / "srun").write_text('#!/bin/bash\necho "srun $*" >> "$CALLS"; shift 3; "$@"\n')
    command, environment = slurm(cluster)
    assert cluster.run(command, **environment)[0] == 4
    assert cluster.calls("ray") == []
    assert cluster.calls("python") == []


# -- SkyPilot --------------------------------------------------------------------------------------------------------------


def test_skypilot_task_has_only_what_skypilot_knows() -> None:
    task = content("skypilot.yaml")
    assert set(task) <= {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "volumes", "setup", "run"}
    assert task["resources"] == {"accelerators": "H100:8"}
    assert all(isinstance(value, str) for value in task["envs"].values())
    assert task["secrets"] == {"RAY_AUTH_TOKEN": None}  # null: SkyPilot asks for it at the launch
    assert any(task["envs"]["OUTPUT"].startswith(f"{path}/") for path in task["volumes"])
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_skypilot_ranks_join_the_head_and_leave_the_exit_code_to_it(cluster: Cluster) -> None:
    tasks = [skypilot(cluster, rank) for rank in range(NODES)]
    head, *ranks = [cluster.start(command, 1, **environment) for command, environment in tasks]
    try:
        head.communicate(timeout=60)
        assert head.returncode == 1
        starts = [call for call in cluster.calls()[:NODES] if call.startswith("ray start")]
        assert len(starts) == NODES  # all of them before the sweep
        assert "--head --port=6479 " in starts[0]
        assert [("--address=10.0.0.1:6479 " in line) for line in starts[1:]] == [True, True]
        assert all("--num-gpus=8" in line and line.endswith(f"mode=token token={TOKEN}") for line in starts)
        assert "RAY_ADDRESS=10.0.0.1:6479 " in cluster.calls("python")[0]
        assert cluster.calls().index("ray ended") > cluster.calls().index(cluster.calls("python")[0])
    finally:
        for process in ranks:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_a_skypilot_rank_whose_ray_failed_does_not_end_the_others(cluster: Cluster) -> None:
    Path(cluster.environment["CALLS"]).write_text("ray start --head\n", encoding="utf-8")
    command, environment = skypilot(cluster, 1, RAY_FAILS="yes")
    assert cluster.run(command, **environment)[0] == 0
    assert len(cluster.calls("ray start --address")) == 1


# -- Ray's cluster launcher ------------------------------------------------------------------------------------------------


def test_ray_cluster_fits_rays_own_schema() -> None:
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    schema = Path(str(ray.origin)).parent / "autoscaler" / "ray-schema.json"
    config = content("ray-cluster.yaml")
    jsonschema.validate(config, json.loads(schema.read_text(encoding="utf-8")))
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}  # no run lands there
    ((_, workers),) = [item for item in kinds.items() if item[0] != config["head_node_type"]]
    assert workers["resources"]["GPU"] == 8
    assert workers["node_config"]["InstanceType"] == "p5.48xlarge"
    assert 0 == workers["min_workers"] < workers["max_workers"] <= config["max_workers"]
    assert {kind["node_config"]["ImageId"] for kind in kinds.values()} == {config["provider"]["image"]}
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert all(" RAY_AUTH_MODE=token;" in command for command in (head, worker))
    assert ("/home/ubuntu/.ray/auth_token", "~/.ray/auth_token") in config["file_mounts"].items()
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--dashboard-host=127.0.0.1" in head  # whoever reaches it may run programs
    port = re.search(r"--port=(\d+)", head)[1]
    assert f"--address=$RAY_HEAD_IP:{port}" in worker
    text = (DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8")
    block = yaml.safe_load("\n".join(re.findall(r"^ +# ((?:InstanceMarket|CapacityRes)\w+: .+)$", text, re.MULTILINE)))
    assert block["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
    assert list(block["CapacityReservationSpecification"]["CapacityReservationTarget"]) == ["CapacityReservationId"]
    for key, commands in config.items():
        for line in commands if key.endswith("commands") else ():
            assert subprocess.run(["bash", "-n"], input=line, text=True, check=False).returncode == 0, line


# -- KubeRay ---------------------------------------------------------------------------------------------------------------

RAYJOB = jsonschema.Draft202012Validator(yaml.safe_load((ROOT / "tests/rayjob_schema.yaml").read_text("utf-8")))


def change(job: Any, place: str, value: Any) -> None:
    """Set one value; the place is written with dots, a list's item by its number."""
    *parents, name = (int(word) if word.isdigit() else word for word in place.split("."))
    for parent in parents:
        job = job[parent]
    job[name] = value


def test_kuberay_job_fits_the_schema() -> None:
    RAYJOB.check_schema(RAYJOB.schema)
    assert [error.message for error in RAYJOB.iter_errors(content("kuberay-rayjob.yaml"))] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.backofLimit", 0),
        ("spec.backoffLimit", "0"),
        ("spec.submissionMode", "K8sJob"),
        ("spec.rayClusterSpec.authOptions.mode", "tokens"),
        ("spec.rayClusterSpec.authOptions.enabled", True),
        ("spec.authOptions", {"mode": "token"}),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.env.0.value", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limits.memory", "256GiB"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.volumes.0.persistentVolumeClaim.claim", "x"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.containers", []),
    ],
)
def test_the_schema_refuses_what_kubectl_would(place: str, value: Any) -> None:
    job = json.loads(json.dumps(content("kuberay-rayjob.yaml")))  # without the anchors' shared parts
    change(job, place, value)
    assert len(list(RAYJOB.iter_errors(job))) == 1


def test_kuberay_job_asks_for_a_token_and_is_never_made_again() -> None:
    job = content("kuberay-rayjob.yaml")
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,30}-", job["metadata"]["generateName"])
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)  # the first with tokens
    assert spec["backoffLimit"] == 0
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"] is True
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    text = (DEPLOY / "kuberay-rayjob.yaml").read_text(encoding="utf-8")
    assert cluster["rayVersion"] == pinned
    assert re.search(r"rayproject/ray:([\d.]+)-", text)[1] == pinned


def test_kuberay_submitter_reads_the_command_as_it_stands() -> None:
    command = content("kuberay-rayjob.yaml")["spec"]["entrypoint"]  # it goes through a shell
    assert re.fullmatch(r"[\w ./=:,-]+", command)


def test_kuberay_runs_land_on_the_workers_which_share_the_sweep_directory_with_the_head() -> None:
    spec = content("kuberay-rayjob.yaml")["spec"]
    cluster, words = spec["rayClusterSpec"], spec["entrypoint"].split()
    (workers,) = cluster["workerGroupSpecs"]
    head, worker = cluster["headGroupSpec"]["template"]["spec"], workers["template"]["spec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}  # texts, as KubeRay wants them
    assert cluster["enableInTreeAutoscaling"] is True
    assert 0 == workers["minReplicas"] == workers["replicas"] < workers["maxReplicas"]
    assert float(words[words.index("--wait-for-nodes") + 1]) >= 10  # nothing is there in the beginning
    for pod in (head, worker):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory"}
        assert volumes[mounts["/shared"]]["persistentVolumeClaim"] == {"claimName": "seedproof"}
        assert words[2].startswith("/shared/")
        assert pod["restartPolicy"] == "Never"
        assert not any(one["name"].startswith("RAY_AUTH") for one in container["env"])  # the operator sets it
    resources = worker["containers"][0]["resources"]
    gpus = int(words[words.index("--gpus-per-run") + 1])
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == gpus == 8
    assert "cpu" not in resources["limits"]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert head["containers"][0]["image"] == worker["containers"][0]["image"]
