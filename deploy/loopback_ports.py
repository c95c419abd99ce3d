"""Free loopback TCP ports, and waiting for one to answer.

Flower refuses port 0 and treats 9094 specially, so ports are chosen here. A chosen port is *held*: bound with
SO_REUSEADDR but not listening. The kernel then gives it to nobody else, yet the server that it is meant for (uvicorn
sets SO_REUSEADDR too) may bind it and listen. Goes out: port numbers; TransportError when none is free.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ssl_core.errors import TransportError

LOOPBACK = "127.0.0.1"
_AVOID = frozenset({9091, 9092, 9093, 9094, 9095})
_TRIES = 50


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Reserve `count` different free ports while the servers that will listen on them start."""
    holders: list[socket.socket] = []
    try:
        for _ in range(count + _TRIES):
            if len(holders) == count:
                break
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((LOOPBACK, 0))
            if holder.getsockname()[1] in _AVOID:
                holder.close()
                continue
            holders.append(holder)
        if len(holders) < count:
            raise TransportError("no free loopback port was found", value=count, remedy="stop other servers")
        yield [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def answers(port: int, host: str = LOOPBACK) -> Callable[[], bool]:
    """A readiness check: does anything listen on this port?"""

    def check() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((host, port)) == 0

    return check


def wait_for(check: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Ask `check` every 0.1 s; TransportError naming `what` when time is up."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise TransportError(f"{what} did not answer", limit=f"{timeout_s:g} s")
        time.sleep(0.1)
