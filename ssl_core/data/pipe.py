"""Step 1 of 12: frames of bytes from a worker process to this one; a file may have taken the worker over.

Comes in: parts of one frame, on the worker's side. Goes out, here: the frame, bounded in size and time, as bytes: nothing is
ever unpickled. On the wire: its length, 8 bytes big-endian, then its parts. Raises `EOFError` and `OSError` where the other
side is gone, `ValueError` for a frame that is longer than allowed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

LENGTH = 8
"""Bytes of a length."""

_SENDING_SECONDS = 60.0
_CHUNK = 1 << 20

Part = bytes | memoryview


def send(pipe: Connection, parts: Sequence[Part]) -> None:
    """One frame; waits while the other side does not read."""
    size = sum(memoryview(part).nbytes for part in parts)
    for part in (size.to_bytes(LENGTH, "big"), *parts):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(pipe.fileno(), rest[:_CHUNK]) :]


def received(pipe: Connection, most: int) -> bytearray | None:
    """One frame of at most `most` bytes, once it has begun to come; None where the rest does not come in time."""
    until = time.monotonic() + _SENDING_SECONDS
    size = bytearray(LENGTH)
    if not _filled(size, pipe, until):
        return None
    length = int.from_bytes(size, "big")
    if length > most:
        raise ValueError("a frame longer than allowed")
    whole = bytearray(length)
    return whole if _filled(whole, pipe, until) else None


def _filled(whole: bytearray, pipe: Connection, until: float) -> bool:
    rest = memoryview(whole)
    while rest:
        if not pipe.poll(max(0.0, until - time.monotonic())):
            return False
        count = os.readv(pipe.fileno(), [rest])
        if not count:
            raise EOFError
        rest = rest[count:]
    return True
