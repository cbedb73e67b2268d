"""Connect to a cluster, or run our own Ray: its settings, what it may print, and whether its head still answers."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import worker

from analysis.untrusted.refusal import SeedproofError
from orchestration.driver.head import watch_head
from orchestration.driver.start.address import ANSWER_S, no_ray, refusal
from orchestration.driver.start.logs import Look, RayLogs, cause_in
from orchestration.driver.start.place import RayFolder, ray_folder

ASK_S = 5.0
MOST_SAID = 300  # characters of an error of Ray's
NOWHERE = Path("/nonexistent")


class EngineError(SeedproofError):
    """A cluster that cannot do what was asked, as one sentence with the sizes."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The Ray that a sweep runs on.

    logs: of the nodes on this machine. here: its address. dashboard: where Ray's dashboard is, None where there is none.
    """

    logs: Path
    here: str
    dashboard: str | None

    def causes(self, node: str) -> Look:
        """Return a function that says what keeps a node from starting a worker, by its logs from now on, if they are here."""
        return RayLogs(self.logs).cause if self.is_here(node) else lambda: None

    def is_here(self, node: str) -> bool:
        return any(one["NodeID"] == node and one["NodeManagerAddress"] == self.here for one in ray.nodes())


@contextmanager
def cluster(head_gone: Callable[[], None], *, dashboard: bool = False) -> Iterator[Cluster]:
    """Connect to the cluster that RAY_ADDRESS names, or run a Ray of our own on this machine. Raises EngineError.

    A Ray of our own has a dashboard if `dashboard` says so.

    `head_gone` is called, in a thread of its own, when the head no longer answers. By then calls of Ray may hang, and after
    a minute Ray ends this process with the exit code 1.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address and (why := refusal(address)):
        raise EngineError(why)
    over = threading.Event()
    with ExitStack() as stack:
        folder = stack.enter_context(ray_folder(os.environ, own=not address))
        stack.enter_context(quiet(folder.printed))
        if address not in ("", "auto") and (trouble := _trouble_of(address)):
            raise EngineError(no_ray(address, trouble))
        url = _connect(address, folder, dashboard=dashboard)
        stack.callback(over.set)
        stack.callback(ray.shutdown)
        threading.Thread(target=watch_head, args=(_answers, head_gone, over), daemon=True).start()
        node = worker._global_node
        logs = Path(node.get_session_dir_path()) / "logs" if node is not None else NOWHERE
        yield Cluster(logs=logs, here=ray.util.get_node_ip_address(), dashboard=url)


def _trouble_of(address: str) -> str | None:
    """Return why a head cannot be used, None if it can. Ray's own client would try for minutes, so a thread of its own asks."""
    said: list[str | None] = []

    def ask() -> None:
        try:
            client = ray._raylet.GcsClient(address=address)
            client.internal_kv_get(b"", namespace=b"healthcheck", timeout=ASK_S)
            said.append(None)
        except Exception as error:
            said.append(f"what listens there is not Ray's head ({' '.join(str(error).split())})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return said[0] if said else f"Ray's head does not answer within {ANSWER_S:g} s"


def _connect(address: str, folder: RayFolder, *, dashboard: bool) -> str | None:
    """Call ray.init; return where the dashboard is. Raises EngineError."""
    # a run must not be nice to other processes, because a bare torchrun is not; and a worker that ends with its driver must
    # not kill the supervisor before that has ended what is below it
    variables = {"RAY_worker_niceness": "0", "RAY_kill_child_processes_on_worker_exit": "0"}
    runtime_env: dict[str, Any] = {"env_vars": variables}
    options: dict[str, Any] = {}
    if not address:
        options = {"address": "local", "include_dashboard": dashboard, "_temp_dir": str(folder.ray)}
        runtime_env["py_executable"] = shlex.quote(sys.executable)  # Ray gives it to a shell as it is
    try:
        context = ray.init(log_to_driver=False, logging_level="error", runtime_env=runtime_env, **options)
    except (Exception, SystemExit) as error:  # Ray raises what it likes
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        found = cause_in(f"{error}\n{folder.printed.read_text(errors='replace')}", "Ray says")
        why = found.sentence if found else " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
        raise EngineError(f"Ray {where} cannot be reached or started: {why}") from error
    return context.dashboard_url or None


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Send what Ray's own code prints on the terminal to a file; what we say to stderr still arrives."""
    sys.stderr.flush()
    kept, ours, printed = os.dup(2), sys.stderr, worker.print_to_stdstream
    with (
        open(path, "ab") as file,
        open(os.dup(kept), "w", buffering=1, encoding=ours.encoding, errors="replace") as shown,
    ):

        def noted(data: dict[str, Any], ignore_prefix: bool) -> None:
            """Take what the nodes tell every driver: the last lines of a raylet's log, when it dies."""
            file.write("\n".join(map(str, data["lines"])).encode("utf-8", "replace") + b"\n")
            file.flush()

        os.dup2(file.fileno(), 2)
        worker.print_to_stdstream = noted
        if _is_terminal_of_ours(ours):
            sys.stderr = shown
        try:
            yield
        finally:
            sys.stderr, worker.print_to_stdstream = ours, printed
            os.dup2(kept, 2)
            os.close(kept)


def _is_terminal_of_ours(stream: Any) -> bool:
    """Return whether a stream writes to the process's own stderr; a test may have put another one in its place."""
    try:
        return bool(stream.fileno() == 2)
    except (OSError, ValueError, AttributeError):
        return False


def _answers() -> bool:
    """Ask the head's GCS something, as `ray health-check` does: a connection alone is answered by the kernel."""
    try:
        worker.global_worker.gcs_client.internal_kv_get(b"", namespace=b"healthcheck", timeout=ASK_S)
    except Exception:  # whatever it is, it did not answer
        return False
    return True
