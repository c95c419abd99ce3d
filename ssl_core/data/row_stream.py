"""Step 1 of 12: what one worker process tells of one file, part by part, while it is read: for files that hold many records.

Comes in: a picklable function that yields parts, each a value that JSON has. Goes out: the same parts, in order. A file may
take the worker over or make it allocate: a part is bounded in size and time and never unpickled, the worker's memory is
limited, and whatever ends that process is a `Broken` with its fault. Raises `ConfigError` where no worker starts (child.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from ssl_core.data.child import Child
from ssl_core.data.pipe import received, send
from ssl_core.data.reading import Fault

Parts = Callable[[], Iterator[Any]]


class Broken(Exception):
    """The parts ended before their time; `fault` says how."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def streamed(parts: Parts, *, memory: int, seconds: float, most: int) -> Iterator[Any]:
    """Parts of at most `most` bytes of JSON, each within `seconds` of being waited for; `memory`: bytes, of the worker."""
    child = Child(partial(_serve, parts), memory)
    try:
        while not child.is_ready():
            wait([child.pipe], timeout=max(0.0, child.left()))
        while True:
            told = _next(child.pipe, seconds, most)
            if not told:
                return
            yield told[0]
    finally:
        child.end()


def _next(pipe: Connection, seconds: float, most: int) -> list[Any]:
    """A list of one part, or of none after the last one."""
    try:
        whole = received(pipe, most) if pipe.poll(seconds) else None
        if whole is None:
            raise Broken(Fault.TOO_SLOW)
        told = json.loads(whole)
    except (EOFError, OSError, ValueError, RecursionError):
        # Gone, or it sent what no worker of ours sends.
        raise Broken(Fault.CRASHED) from None
    if not isinstance(told, list) or len(told) > 1:
        raise Broken(Fault.CRASHED)
    return told


def _serve(parts: Parts, pipe: Connection) -> None:
    """What the worker does: every part, then the empty list."""
    for part in parts():
        send(pipe, [json.dumps([part]).encode()])
    send(pipe, [b"[]"])
