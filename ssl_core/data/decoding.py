"""Step 1 of 12: files decoded one by one, in worker processes that a bad file can slow down, fill or crash, not this one.

Comes in: listed files and a decoder, a picklable function of one path. Goes out, in the order of the files: what was found in
each, or the `Fault` of a whole file. Nothing is raised for a file: a library's own error, whatever it is, makes the file
`UNREADABLE`; one that is larger or slower than declared, or takes more memory than `_memory` gives, is counted as that, and one
that kills its worker as `CRASHED`. What a library prints, warns or logs may quote a patient, so it goes nowhere, and a worker
that crashes leaves no core file. A file may take its worker over: what a worker sends is bounded in size and time, and never
unpickled: JSON, then the bytes of arrays.
`workers=0` decodes in this process, without the bounds of time and memory: for files that this program made itself.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import re
import resource
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Fault
from ssl_core.data.rows import Values

_WAITING_A_WORKER = 4
_START_SECONDS = 60.0
_SENDING_SECONDS = 60.0
_LENGTH = 8
_CHUNK = 1 << 20
_NUMBERS = re.compile(r"[<>|][iuf][1248]")


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a file. owner: what the file itself says, as written; name: orders a patient's records, by time.

    study: the examination that it belongs to, where the file itself says it; only images with reports ask for it.
    """

    owner: str | None = field(repr=False)
    name: str = field(repr=False)
    content: Values | Fault = field(repr=False)
    study: str | None = field(default=None, repr=False)


Decoder = Callable[[Path], Sequence[Found]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one file may be and take; `largest` in bytes."""

    largest: int
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes that a worker may allocate beyond what it starts with."""
        return (1 << 30) + 4 * self.largest


def decode_all(
    files: Sequence[Listed], decoder: Decoder, bounds: Bounds, *, workers: int
) -> Iterator[tuple[Listed, Sequence[Found] | Fault]]:
    """Every file with what was found in it, in order; see the module docstring."""
    if workers == 0:
        for file in files:
            yield file, _decode(decoder, file, bounds)
        return
    crew = [_Worker(decoder, bounds) for _ in range(min(workers, len(files)))]
    try:
        yield from _in_order(files, crew)
    finally:
        for worker in crew:
            worker.end()


def _in_order(files: Sequence[Listed], crew: Sequence[_Worker]) -> Iterator[tuple[Listed, Sequence[Found] | Fault]]:
    done: dict[int, Sequence[Found] | Fault] = {}
    ahead = deque(range(len(files)))
    next_out = 0
    while next_out < len(files):
        for worker in crew:
            # Never far ahead of what is taken, or slow files would fill the memory with the fast ones after them.
            if worker.place is None and ahead and ahead[0] < next_out + _WAITING_A_WORKER * len(crew):
                place = ahead.popleft()
                worker.give(place, files[place])
        busy = [worker for worker in crew if worker.place is not None]
        wait([worker.pipe for worker in busy], timeout=max(0.0, min(worker.left() for worker in busy)))
        for worker in busy:
            place, result = worker.take()
            if result is not None:
                done[place] = result
        while next_out in done:
            yield files[next_out], done.pop(next_out)
            next_out += 1


class _Worker:
    """One process, and the file that it is at."""

    def __init__(self, decoder: Decoder, bounds: Bounds) -> None:
        self._decoder, self._bounds = decoder, bounds
        self.place: int | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(theirs, self._decoder, self._bounds), daemon=True)
        self._process.start()
        theirs.close()
        self._fresh = True

    def give(self, place: int, file: Listed) -> None:
        """Let the process decode `file`; a process that is gone is noticed by `take`."""
        self.place = place
        # A new process imports its libraries first.
        self._until = time.monotonic() + self._bounds.seconds + (_START_SECONDS if self._fresh else 0.0)
        self._fresh = False
        try:
            self.pipe.send(file)
        except OSError:
            self._until = time.monotonic()

    def left(self) -> float:
        """Seconds until the file at hand has taken too long."""
        return self._until - time.monotonic()

    def take(self) -> tuple[int, Sequence[Found] | Fault | None]:
        """The place of the file at hand, and what came of it; None while it is at work."""
        place = self.place
        if place is None:
            raise RuntimeError("a worker without a file was asked for its result")
        result: Sequence[Found] | Fault | None = None
        try:
            if self.pipe.poll():
                whole = _received(self.pipe, self._bounds.memory)
                result = Fault.TOO_SLOW if whole is None else _unpacked(whole)
            elif self.left() <= 0:
                result = Fault.TOO_SLOW if self._process.is_alive() else Fault.CRASHED
        except (EOFError, OSError, ValueError, TypeError, RecursionError):
            # Gone, or it sent what no worker of ours sends.
            result = Fault.CRASHED
        if result is not None:
            self.place = None
        if result is Fault.TOO_SLOW or result is Fault.CRASHED:
            self.end()
            self._start()
        return place, result

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, decoder: Decoder, bounds: Bounds) -> None:
    """What a worker does until its pipe is closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(bounds.memory)
    while True:
        try:
            file = pipe.recv()
        except EOFError:
            return
        try:
            head, parts = _packed(_decode(decoder, file, bounds))
        except MemoryError:
            head, parts = _packed(Fault.TOO_LARGE)
        _send(pipe, head)
        for part in parts:
            _send(pipe, part)


def _packed(result: Sequence[Found] | Fault) -> tuple[bytes, list[memoryview]]:
    """Length of what follows, length of the JSON, JSON; the bytes of the arrays, in order."""
    found = [] if isinstance(result, Fault) else result
    arrays = [np.ascontiguousarray(each.content) for each in found if not isinstance(each.content, Fault)]
    told = (
        str(result)
        if isinstance(result, Fault)
        else [[each.owner, each.name, each.study, _told(each.content)] for each in found]
    )
    text = json.dumps(told).encode()
    text += b" " * (-len(text) % _LENGTH)
    size = _LENGTH + len(text) + sum(array.nbytes for array in arrays)
    head = size.to_bytes(_LENGTH, "big") + len(text).to_bytes(_LENGTH, "big") + text
    return head, [array.reshape(-1).view(np.uint8).data for array in arrays]


def _told(content: Values | Fault) -> str | list[Any]:
    return str(content) if isinstance(content, Fault) else [content.dtype.str, list(content.shape)]


def _send(pipe: Connection, part: bytes | memoryview) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(pipe.fileno(), rest[:_CHUNK]) :]


def _received(pipe: Connection, most: int) -> bytearray | None:
    """One message without its length; None where it does not come in time."""
    until = time.monotonic() + _SENDING_SECONDS
    size = bytearray(_LENGTH)
    if not _filled(size, pipe, until):
        return None
    length = int.from_bytes(size, "big")
    if length > most:
        raise ValueError("a message larger than a worker's memory")
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


def _unpacked(whole: bytearray) -> Sequence[Found] | Fault:
    """What `_packed` was given; ValueError or TypeError for anything that it does not write."""
    place = _LENGTH + int.from_bytes(whole[:_LENGTH], "big")
    told = json.loads(whole[_LENGTH:place])
    if isinstance(told, str):
        return Fault(told)
    found = []
    for owner, name, study, content in told:
        if not isinstance(owner, str | None) or not isinstance(study, str | None) or not isinstance(name, str):
            raise TypeError("names are texts")
        if isinstance(content, str):
            found.append(Found(owner, name, Fault(content), study))
            continue
        kind, shape = content
        if not _NUMBERS.fullmatch(kind) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("no array of numbers")
        count = math.prod(shape)
        values: Any = np.frombuffer(whole, kind, count, place).reshape(shape)
        place += values.nbytes
        found.append(Found(owner, name, values, study))
    return found


def _limit_memory(more: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as stream:
        now = int(stream.read().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = now + more
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _decode(decoder: Decoder, file: Listed, bounds: Bounds) -> Sequence[Found] | Fault:
    if not file.inside:
        return Fault.OUTSIDE
    try:
        with _quiet():
            size = file.path.stat().st_size
            if size > bounds.largest:
                return Fault.TOO_LARGE
            return decoder(file.path) if size else Fault.EMPTY
    except MemoryError:
        return Fault.TOO_LARGE
    except Exception:
        # A parser of a hostile file may raise anything; all of it means the same to the site, and its text may quote a patient.
        return Fault.UNREADABLE


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
