"""Step 1 of 12: files decoded one by one, in worker processes that a bad file can slow down, fill or crash, not this one.

Comes in: listed files and a decoder, a picklable function of one path. Goes out, in the order of the files: what was found in
each, or the `Fault` of a whole file. Nothing is raised for a file: a library's own error, whatever it is, makes the file
`UNREADABLE`; one that is larger or slower than declared, or takes more memory than a worker may, is counted as that, and one
that kills its worker as `CRASHED`. A worker that fails before it is given a file is no file's fault: `ConfigError` (child.py).
A file may take its worker over: what a worker sends is bounded in size and time, and never unpickled (pipe.py, found.py); an
answer names the file that it is of by a number that was drawn for it, and a file whose worker failed it after it had decoded
others is given to a fresh one, so that what a file leaves behind costs no other. Beyond that goes only code that plays a worker
to the end: it could answer for the files that are given to that process after its own.
`workers=0` decodes in this process, without the bounds of time and memory: for files that this program made itself.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

from ssl_core.data.child import Child
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.folder_files import Listed
from ssl_core.data.found import Found, packed, unpacked
from ssl_core.data.pipe import received, send
from ssl_core.data.reading import Fault

__all__ = ["Bounds", "Decoder", "Found", "decode_all"]

_WAITING_A_WORKER = 4
_NAME = 16
_OF_THE_PROCESS = (Fault.CRASHED, Fault.TOO_SLOW, Fault.TOO_LARGE)

Decoder = Callable[[Path], Sequence[Found]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one file may be and take; `largest` in bytes."""

    largest: int
    seconds: float

    @classmethod
    def of(cls, source: FolderSource) -> Self:
        """What a folder's declaration allows."""
        return cls(source.largest_mib << 20, source.seconds_a_file)

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
    with ExitStack() as stack:
        crew = []
        for _ in range(min(workers, len(files))):
            crew.append(_Worker(decoder, bounds))
            stack.callback(crew[-1].end)
        yield from _in_order(files, crew)


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
        self._bounds = bounds
        self._child = Child(partial(_serve, decoder, bounds), bounds.memory)
        self.place: int | None = None
        self._file: Listed | None = None
        self._until = 0.0
        self._name = b""
        self._given: list[Listed] = []

    @property
    def pipe(self) -> Connection:
        """Where the process answers."""
        return self._child.pipe

    def give(self, place: int, file: Listed) -> None:
        """Let the process decode `file`, at once or when it is ready."""
        self.place, self._file = place, file
        self._hand_over()

    def left(self) -> float:
        """Seconds until the process, or the file at hand, has taken too long."""
        return self._child.left() if self._file is not None else self._until - time.monotonic()

    def take(self) -> tuple[int, Sequence[Found] | Fault | None]:
        """The place of the file at hand, and what came of it; None while it is at work."""
        place = self.place
        if place is None:
            raise RuntimeError("a worker without a file was asked for its result")
        result: Sequence[Found] | Fault | None = None
        try:
            if self._file is not None:
                self._hand_over()
            elif self.pipe.poll():
                result = self._answer()
            elif self.left() <= 0:
                result = Fault.TOO_SLOW if self._child.is_alive else Fault.CRASHED
        except (EOFError, OSError, ValueError, TypeError, RecursionError):
            # Gone, or it sent what no worker of ours sends.
            result = Fault.CRASHED
        if result in _OF_THE_PROCESS:
            self._child.restart()
            if len(self._given) > 1:
                # It may be the doing of a file before it.
                result, self._file = None, self._given[-1]
            self._given.clear()
        if result is not None:
            self.place = None
        return place, result

    def _hand_over(self) -> None:
        if self._file is None or not self._child.is_ready():
            return
        file, self._file = self._file, None
        self._given = [*self._given[-1:], file]
        self._until = time.monotonic() + self._bounds.seconds
        self._name = os.urandom(_NAME)
        try:
            self.pipe.send((self._name, file))
        except OSError:
            # Gone since the file before this one: that is noticed by `take`.
            self._until = time.monotonic()

    def _answer(self) -> Sequence[Found] | Fault:
        name = received(self.pipe, _NAME)
        if name is not None and name != self._name:
            raise ValueError("an answer of another file")
        whole = None if name is None else received(self.pipe, self._bounds.memory)
        return Fault.TOO_SLOW if whole is None else unpacked(whole)

    def end(self) -> None:
        """End the process."""
        self._child.end()


def _serve(decoder: Decoder, bounds: Bounds, pipe: Connection) -> None:
    """What a worker does until its pipe is closed."""
    while True:
        try:
            name, file = pipe.recv()
        except EOFError:
            return
        try:
            parts = packed(_decode(decoder, file, bounds))
        except MemoryError:
            parts = packed(Fault.TOO_LARGE)
        send(pipe, [name])
        send(pipe, parts)


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
