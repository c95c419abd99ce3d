"""Step 1 of 12: one worker process that files of a hospital are parsed in: how it starts, what it may take, how it ends.

Comes in: a function that runs there with its end of the pipe, and the bytes that it may allocate. Goes out: `Child`, with this
side's end. The process says that it is ready before it is given anything: one that ends or keeps silent until then says
nothing of any file. It is started once more, and then `ConfigError` is raised: that is a matter of the machine. What a
library prints, warns or logs may quote a patient, so it goes nowhere once the process is ready, and no core file is left.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from ssl_core.core_files import leave_no_core_file
from ssl_core.data.pipe import received, send
from ssl_core.errors import ConfigError

START_SECONDS = 60.0
LEAST_MEMORY = 256 << 20
"""Bytes without which not even the libraries that decode can be imported."""

_READY = b"ready"
_STARTS = 2

Work = Callable[[Connection], None]


class Child:
    """A process that runs `work(pipe)`, picklable, within `memory` bytes beyond what it starts with."""

    pipe: Connection

    def __init__(self, work: Work, memory: int) -> None:
        self._work, self._memory = work, memory
        self._failed = 0
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_run, args=(theirs, self._work, self._memory), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self.pipe.close()
            raise _cannot(error.strerror or "no process") from error
        finally:
            theirs.close()
        self._ready = False
        self._until = time.monotonic() + START_SECONDS

    def left(self) -> float:
        """Seconds until a process that is not ready is given up."""
        return self._until - time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Has the process not ended?"""
        return self._process.is_alive()

    def is_ready(self) -> bool:
        """Has it said so? Waits for nothing; starts a process anew that failed before, once, and raises `ConfigError` then."""
        if self._ready:
            return True
        try:
            if self.pipe.poll():
                self._ready = bytes(received(self.pipe, len(_READY)) or b"") == _READY
                failed = not self._ready
            else:
                failed = self.left() <= 0
        except (EOFError, OSError, ValueError):
            failed = True
        if self._ready:
            self._failed = 0
        elif failed:
            self._failed += 1
            # One that is ending by itself says more by its status than one that was killed.
            self._process.join(1.0)
            self.end()
            if self._failed == _STARTS:
                raise _cannot(_how(self._process.exitcode))
            self._start()
        return self._ready

    def restart(self) -> None:
        """End the process and start another one in its place."""
        self.end()
        self._start()

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _run(pipe: Connection, work: Work, memory: int) -> None:
    """What the process does."""
    _limit_memory(memory)
    leave_no_core_file()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    send(pipe, [_READY])
    work(pipe)


def _limit_memory(more: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as stream:
        whole, *_, data, _ = (int(pages) * resource.getpagesize() for pages in stream.read().split())
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = data + more if hard == resource.RLIM_INFINITY else min(data + more, hard)
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    room = most - data if space == resource.RLIM_INFINITY else min(most - data, space - whole)
    if room < min(more, LEAST_MEMORY):
        have = f"{max(0, room) >> 20} MiB"
        raise MemoryError(f"the machine's limits leave a process {have} more, {LEAST_MEMORY >> 20} MiB are needed")
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _how(status: int | None) -> str:
    return f"ended by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"


def _cannot(how: str) -> ConfigError:
    return ConfigError(
        "the processes that decode files cannot be started here; nothing is wrong with a file",
        field="workers",
        value=how,
        limit=f"ready within {START_SECONDS:.0f} s, {LEAST_MEMORY >> 20} MiB of memory for each",
        remedy="see what the process printed; raise the limits of memory and processes (ulimit -v, -d, -u) or install anew",
    )
