"""Check that a Ray answers at RAY_ADDRESS, before Ray itself tries for minutes. Imports no Ray."""

from __future__ import annotations

import os
import socket
import time

ANSWER_S = 10.0
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings, as gRPC begins
SETTINGS = 4  # the type of the frame that a gRPC server answers with
DO = "Start it with `ray start --head`, name another HOST:PORT, or unset RAY_ADDRESS to use this machine alone"


def refusal(address: str) -> str | None:
    """Return why no Ray can be used at this address, as one sentence with what to do; None if one answers."""
    if address == "auto":  # Ray looks for it on this machine, at once
        return None
    host, separator, port = address.rpartition(":")
    if "://" in address or not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return f"RAY_ADDRESS={address} is not HOST:PORT of a cluster's head, such as 10.0.0.1:6379. {DO}."
    try:
        trouble = _trouble(host.strip("[]"), int(port))
    except socket.gaierror:
        trouble = f"there is no machine called {host}"
    except TimeoutError:
        trouble = f"nothing answers within {ANSWER_S:g} s"
    except OSError as error:
        trouble = error.strerror or str(error)
    return no_ray(address, trouble) if trouble else None


def no_ray(address: str, trouble: str) -> str:
    """Return the sentence for an address at which no Ray can be used."""
    return f"Ray does not answer at RAY_ADDRESS={address}: {trouble}. {DO}."


def _trouble(host: str, port: int) -> str | None:
    """Greet a server as gRPC does, and return what is wrong with its answer."""
    with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return None  # it would not understand this greeting
        connection.sendall(HELLO)
        answer, deadline = b"", time.monotonic() + ANSWER_S
        while len(answer) < 4:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not (more := connection.recv(64)):
                break
            answer += more
    return None if answer[3:4] == bytes((SETTINGS,)) else "what listens there is not Ray's head"
