"""Around Ray: what it reads when it is imported, and a watch on the cluster's head. Imports no Ray."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

LOOK_S, SILENT_S = 5.0, 40.0


def prepare_ray() -> None:
    """Set what Ray reads once, when it is imported: no usage reports and, for a Ray of our own, a secret and no idle workers.

    Left to itself Ray writes a secret to the home folder. From then on every `ray start` asks for it, while clients send
    it only with RAY_AUTH_MODE=token.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" in os.environ:
        return
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # our workers have an environment of their own
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def watch_head(address: str, gone: Callable[[], None], over: threading.Event) -> None:
    """Call `gone` once the head's GCS has not answered for SILENT_S; return then, or when it is `over`."""
    host, _, port = address.rpartition(":")
    heard = time.monotonic()
    while not over.wait(LOOK_S):
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_S):
                heard = time.monotonic()
        except OSError:
            if time.monotonic() - heard > SILENT_S and not over.is_set():
                gone()
                return
