"""One guard process for each supervised process: when the guarded process or the supervisor ends, nothing survives.

Comes in: `python -I -S guard.py LIFELINE_FD GRACE_S LOCK_FD PROGRAM ARGUMENTS...` in a session of its own.
Goes out: the exit code of PROGRAM (128 + signal number if a signal ended it), after its whole tree has ended.

The lifeline is the reading end of a pipe whose only writing end is in the supervisor: the kernel closes it however the
supervisor dies, SIGKILL included. PR_SET_PDEATHSIG alone would not do: it fires when the *thread* that forked ends,
and it does not reach grandchildren (flower-superexec starts the ServerApp). So the guard is a child subreaper
(prctl(2)): every orphan of the tree becomes its child, and it ends only when it has no descendant left. Between guard
and program, where the forking thread is the guard's only thread, PR_SET_PDEATHSIG holds: a guard that is killed takes
its program with it. LOCK_FD (or -1) is the supervisor's lock on its state folder: holding it keeps the folder locked
until the last process that may write there has ended.

Standard library only, no package imports: it starts in some 30 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_PATIENCE_S = 5.0


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def descendants(root: int) -> list[int]:
    """Process ids of the tree below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                text = stat.read()
        except OSError:
            continue  # it ended between listing and reading
        # The second field is the command in brackets and may contain anything; the fields after it are plain.
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(0), [])
        found += below
        pending += below
    return found


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it ended first


def _reap(program: int, status: int | None) -> int | None:
    """Collect every ended child; returns the program's wait status once known."""
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == program:
            status = ended


def _spawn(argv: list[str]) -> int:
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(127)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"guard: cannot start {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def _end_tree(program: int, status: int | None, grace_s: float) -> int | None:
    """TERM to the whole tree, KILL to what is left after `grace_s`."""
    number, deadline = signal.SIGTERM, time.monotonic() + grace_s
    told: set[int] = set()
    while True:
        status = _reap(program, status)
        below = descendants(os.getpid())
        if not below:
            return status
        if time.monotonic() > deadline:
            if number == signal.SIGKILL:
                return status
            number, deadline, told = signal.SIGKILL, time.monotonic() + _KILL_PATIENCE_S, set()
        _signal_all([pid for pid in below if pid not in told], number)
        told.update(below)
        time.sleep(0.02)


def main(arguments: list[str]) -> int:
    """Run and guard one program; returns the exit code to report."""
    lifeline, grace_s, lock, argv = int(arguments[0]), float(arguments[1]), int(arguments[2]), arguments[3:]
    for descriptor in (lifeline, lock):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked = False

    def on_term(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = os.getppid()
    program = _spawn(argv)
    status: int | None = None
    while status is None and not asked:
        # The parent check covers a lifeline that someone else inherited by forking without exec.
        readable, _, _ = select.select([lifeline, wake_read], [], [], 1.0)
        if lifeline in readable or os.getppid() != supervisor:
            break
        if wake_read in readable:
            os.read(wake_read, 512)
        status = _reap(program, status)
    status = _end_tree(program, status, grace_s)
    if status is None:
        return 128 + signal.SIGKILL
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
