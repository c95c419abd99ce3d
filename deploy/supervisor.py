"""Starts, watches and ends the processes of one machine's role: an operator, a site, or the whole demo (ruling 32).

Comes in: `ProcessSpec`s (program, environment, log file, readiness check, restart rule) and a state folder.
Goes out: running processes, each under its own guard (see guard.py) in its own session; `poll()` reports what died and
restarts what its rule says; `stop()` ends everything, last started first. If the supervisor itself is killed, every
guard ends its tree. Linux only (prctl, /proc).

A process that does not get ready, and a state folder that another daemon holds, raise StateError.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from deploy import guard
from ssl_core.errors import StateError

_POLL_S = 0.05
_SPAWN_PATIENCE_S = 5.0
LOCK_NAME = "daemon.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRule:
    """When a process that ended on its own is started again.

    `quick_s` after an exit code in `quick_codes`, `slow_s` after any other end. Flower keeps a SuperNode that was
    killed "online" for 60 s and refuses it until then, hence 65.
    """

    quick_s: float = 1.0
    slow_s: float = 65.0
    quick_codes: frozenset[int] = frozenset({0})
    at_most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One program to run. `env` is its whole environment; `ready` is asked every 50 ms until it says True."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log_path: Path
    ready: Callable[[], bool] | None = None
    restart: RestartRule | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended without being asked; `restart_in_s` is None when it will not be started again."""

    name: str
    exit_code: int
    log_path: Path
    restart_in_s: float | None


@dataclass(slots=True)
class _Running:
    spec: ProcessSpec
    wave: int
    process: subprocess.Popen[bytes] | None
    restart_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ran to its end, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


class StateLock:
    """An exclusive flock on `<folder>/daemon.lock`; the file names the process id that took it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / LOCK_NAME
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self.fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self.fd)
            raise StateError(
                f"another daemon, or the last processes of one, uses the state folder {folder}",
                field="pid",
                value=holder,
                remedy="stop that daemon first; after a crash its processes end within 15 s",
            ) from None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let go; the guards' copies keep the lock until their trees have ended."""
        os.close(self.fd)


class Supervisor:
    """Owner of processes; use as a context manager, call `poll()` about once a second from one thread."""

    def __init__(self, state_folder: Path | None = None, *, grace_s: float = 5.0) -> None:
        self._lock = StateLock(state_folder) if state_folder is not None else None
        self._grace_s = grace_s
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._running: dict[str, _Running] = {}
        self._wave = 0
        self._closed = False

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, *specs: ProcessSpec, timeout_s: float = 60.0) -> None:
        """Start all of `specs` at once and wait until each is ready; on failure ends them and raises StateError."""
        for spec in specs:
            if spec.name in self._running:
                raise StateError("a process of this name runs already", field="name", value=spec.name)
        self._wave += 1
        for spec in specs:
            self._running[spec.name] = _Running(spec, self._wave, self._spawn(spec))
        try:
            self._await_ready(specs, timeout_s)
        except BaseException:
            self._end([self._running.pop(spec.name) for spec in specs])
            raise

    def poll(self) -> list[Death]:
        """Report processes that ended since the last call, and start those whose restart is due."""
        deaths: list[Death] = []
        now = time.monotonic()
        for name, entry in list(self._running.items()):
            if entry.process is None:
                if entry.restart_at is not None and now >= entry.restart_at:
                    entry.process, entry.restart_at = self._spawn(entry.spec), None
                    entry.restarts += 1
                continue
            code = entry.process.poll()
            if code is None:
                continue
            self._sweep(entry.process)
            entry.process = None
            wait_s = self._restart_delay(entry, code)
            entry.restart_at = None if wait_s is None else now + wait_s
            if wait_s is None:
                del self._running[name]
            deaths.append(Death(name, code, entry.spec.log_path, wait_s))
        return deaths

    def pid(self, name: str) -> int:
        """Process id of the program itself (not of its guard)."""
        entry = self._running.get(name)
        if entry is None or entry.process is None:
            raise StateError("no such process runs", field="name", value=name)
        # Between its own start and that of its program a guard has no child yet.
        deadline = time.monotonic() + _SPAWN_PATIENCE_S
        while entry.process.poll() is None and time.monotonic() < deadline:
            below = guard.descendants(entry.process.pid)
            if below:
                return below[0]
            time.sleep(_POLL_S)
        raise StateError("the process has just ended", field="name", value=name)

    def names(self) -> tuple[str, ...]:
        """Names of the processes that run or wait for their restart."""
        return tuple(self._running)

    def run(self, argv: tuple[str, ...], env: Mapping[str, str], *, timeout_s: float) -> Finished:
        """Run one program to its end under a guard, so that it too dies with the supervisor; safe in threads."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._guarded(argv, env, out.fileno(), err.fileno(), lock=False)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise StateError("a command did not end", field="program", value=argv[0], limit=f"{timeout_s:g} s") from None
            finally:
                if process.poll() is None:
                    self._end_processes([process])
            return Finished(process.returncode, _text(out), _text(err))

    def stop(self, *names: str) -> None:
        """End the named processes and forget them; without names, all of them, the last started wave first."""
        chosen = names or tuple(self._running)
        entries = [self._running.pop(name) for name in chosen if name in self._running]
        for wave in sorted({entry.wave for entry in entries}, reverse=True):
            self._end([entry for entry in entries if entry.wave == wave])

    def close(self) -> None:
        """End everything and release the state folder; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self.stop()
        finally:
            os.close(self._lifeline_write)
            os.close(self._lifeline_read)
            if self._lock is not None:
                self._lock.release()

    def _spawn(self, spec: ProcessSpec) -> subprocess.Popen[bytes]:
        spec.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(spec.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return self._guarded(spec.argv, spec.env, log, log, lock=True)
        finally:
            os.close(log)

    def _guarded(
        self, argv: tuple[str, ...], env: Mapping[str, str], out: int, err: int, *, lock: bool
    ) -> subprocess.Popen[bytes]:
        if self._closed:
            raise StateError("every process here was ended, and no other begins", field="program", value=argv[0])
        held = self._lock.fd if lock and self._lock is not None else -1
        command = [sys.executable, "-I", "-S", guard.__file__, str(self._lifeline_read), str(self._grace_s), str(held)]
        return subprocess.Popen(
            [*command, *argv],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            pass_fds=[fd for fd in (self._lifeline_read, held) if fd >= 0],
        )

    def _await_ready(self, specs: tuple[ProcessSpec, ...], timeout_s: float) -> None:
        waiting = list(specs)
        deadline = time.monotonic() + timeout_s
        while True:
            for spec in specs:
                process = self._running[spec.name].process
                if process is not None and process.poll() is not None:
                    raise StateError(
                        f"{spec.name} ended while starting with exit code {process.returncode}",
                        remedy=f"read {spec.log_path}",
                    )
            waiting = [spec for spec in waiting if spec.ready is not None and not spec.ready()]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise StateError(
                    f"{', '.join(spec.name for spec in waiting)} did not get ready",
                    limit=f"{timeout_s:g} s",
                    remedy=f"read {waiting[0].log_path}",
                )
            time.sleep(_POLL_S)

    def _restart_delay(self, entry: _Running, code: int) -> float | None:
        rule = entry.spec.restart
        if rule is None or (rule.at_most is not None and entry.restarts >= rule.at_most):
            return None
        return rule.quick_s if code in rule.quick_codes else rule.slow_s

    def _end(self, entries: list[_Running]) -> None:
        self._end_processes([entry.process for entry in entries if entry.process is not None])

    def _end_processes(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        # A guard needs its grace, then a short while to see the killed tree end; beyond that the guard itself is stuck.
        deadline = time.monotonic() + self._grace_s + 10.0
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._sweep(process)

    @staticmethod
    def _sweep(process: subprocess.Popen[bytes]) -> None:
        """A guard that was killed leaves its session; nothing is in it after an ordinary end."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")
