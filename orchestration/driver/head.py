"""Set what Ray reads when it is imported, and watch the cluster's head. Imports no Ray."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable

LOOK_S, SILENT_S = 5.0, 40.0


def prepare_ray() -> str | None:
    """Set what Ray reads once, when it is imported: no usage reports and, for a Ray of our own, a secret and no idle workers.

    Return the secret, None where it is not made here.

    Left to itself Ray writes a secret to the home folder. From then on every `ray start` asks for it, while clients send
    it only with RAY_AUTH_MODE=token.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if os.environ.get("RAY_ADDRESS") in ("", "local"):
        del os.environ["RAY_ADDRESS"]  # both mean a Ray of our own
    if "RAY_ADDRESS" in os.environ:
        return None
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # our workers have an environment of their own
    if "RAY_AUTH_MODE" in os.environ:
        return None
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": (token := secrets.token_hex(32))}
    return token


def where_dashboard(url: str | None, token: str | None) -> str:
    """Return a sentence on where Ray's dashboard is, with its token if this process made it."""
    if url is None:
        return "Ray has no dashboard here. If the sweep starts its own Ray, install it with: pip install 'seedproof[orchestration]'"
    return f"Ray's dashboard: http://{url}" + (f" (it asks for a token: {token})" if token else "")


def watch_head(answers: Callable[[], bool], gone: Callable[[], None], over: threading.Event) -> None:
    """Call `gone` once the head has not answered for SILENT_S; return then, or when it is `over`.

    It is asked in a thread of its own, because the question may hang, too.
    """
    heard = time.monotonic()

    def ask() -> None:
        nonlocal heard
        while not over.is_set():
            if answers():
                heard = time.monotonic()
            over.wait(LOOK_S)

    threading.Thread(target=ask, daemon=True).start()
    while not over.wait(min(LOOK_S, 1.0)):
        if time.monotonic() - heard > SILENT_S and not over.is_set():
            gone()
            return
