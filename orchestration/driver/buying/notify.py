"""Call the user's command at each event (`--notify`), with one JSON object on its stdin. The sweep never waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from analysis.untrusted.secrets import redacted
from orchestration.disk.files import now

LONGEST_S = 30.0  # a command that takes longer is ended
LAST_S = 10.0  # for events that are queued at the end
LONGEST_SAID = 2**16  # bytes of what it prints
LOSSES = ("lost", "failed")  # states that are reported


class Notifier:
    """Call the command for one event after the other, in a background thread; say(text) gets the first failure.

    about: what every event has: the sweep and its plan.
    """

    def __init__(self, command: str | None, about: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self._words = [] if command is None else shlex.split(command)
        self._about, self._say = about, say
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        self._failed = False
        self._process: subprocess.Popen[bytes] | None = None
        if self._words:
            threading.Thread(target=self._call_all, daemon=True).start()

    def tell(self, event: str, text: str, **more: Any) -> None:
        """Queue an event; return at once."""
        if self._words:
            self._waiting.put({"event": event, "time": now(), **self._about, "text": redacted(text), **more})

    def close(self) -> None:
        """Wait a little for queued events, then end the command."""
        deadline = time.monotonic() + LAST_S
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        self._end()

    def _call_all(self) -> None:
        while True:
            told = self._waiting.get()
            why = self._call(json.dumps(told).encode() + b"\n")
            if why is not None and not self._failed:
                self._failed = True
                self._say(f"--notify: {self._words[0]} {why}. The sweep goes on. Later failures are not reported.")
            self._waiting.task_done()

    def _call(self, told: bytes) -> str | None:
        """Run the command; return how it failed, or None. It has its own session, so Ctrl-C does not reach it."""
        with tempfile.TemporaryFile() as errors:  # what the command leaves running would keep a pipe open
            try:
                self._process = process = subprocess.Popen(
                    self._words, stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True
                )
                process.communicate(told, timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                self._end()
                return f"did not end within {LONGEST_S:g} s"
            except (OSError, ValueError) as error:
                return f"cannot be started: {getattr(error, 'strerror', None) or error}"
            errors.seek(0)
            last = errors.read(LONGEST_SAID).decode("utf-8", "replace").strip().splitlines()[-1:]
        if process.returncode == 0:
            return None
        return f"ended with exit code {process.returncode}" + "".join(f" ({redacted(line)[:200]})" for line in last)

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
