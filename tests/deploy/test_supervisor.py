"""Processes start together, are watched, restarted and ended with their whole tree, however the supervisor ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.loopback_ports import answers, held_ports, wait_for
from deploy.supervisor import ProcessSpec, RestartRule, StateLock, Supervisor
from ssl_core.errors import StateError, TransportError

ROOT = Path(__file__).resolve().parents[2]

# A program with a child that ignores TERM and a grandchild in a session of its own: what a tree can do to escape.
GRANDCHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
open(sys.argv[1], "a").write(f"{os.getpid()} ")
time.sleep(300)
"""
CHILD = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}, sys.argv[1]])
open(sys.argv[1], "a").write(f"{{os.getpid()}} ")
time.sleep(300)
"""
TREE = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[1]])
open(sys.argv[1], "a").write(f"{{os.getpid()}} ")
time.sleep(300)
"""
LISTENER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(300)
"""


def spec(name: str, folder: Path, code: str, *arguments: str, **more: object) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-c", code, *arguments),
        env=dict(os.environ),
        log_path=folder / f"{name}.log",
        **more,
    )


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as told:
            return told.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def noted(note: Path, count: int) -> list[int]:
    wait_for(lambda: note.exists() and len(note.read_text().split()) == count, timeout_s=20, what="the tree")
    return [int(word) for word in note.read_text().split()]


def eventually(check: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return check()


def test_stop_ends_the_whole_tree(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with Supervisor(grace_s=0.5) as supervisor:
        supervisor.start(spec("tree", tmp_path, TREE, str(note)))
        pids = noted(note, 3)
        assert all(alive(pid) for pid in pids)
        assert supervisor.pid("tree") in pids
        assert stat.S_IMODE((tmp_path / "tree.log").stat().st_mode) == 0o600, "what a process says is its owner's alone"
        supervisor.stop()
        assert not any(alive(pid) for pid in pids)
        assert supervisor.names() == ()


def test_killed_supervisor_leaves_no_process_and_keeps_the_lock_until_then(tmp_path: Path) -> None:
    note, state = tmp_path / "pids", tmp_path / "state"
    script = f"""
import sys, time
from pathlib import Path
from deploy.supervisor import ProcessSpec, Supervisor
supervisor = Supervisor(Path({str(state)!r}), grace_s=2.0)
for name in ("one", "two"):
    supervisor.start(ProcessSpec(name=name, argv=(sys.executable, "-c", {TREE!r}, {str(note)!r}),
                                 env={{}}, log_path=Path({str(tmp_path)!r}) / name))
time.sleep(300)
"""
    demo = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        pids = noted(note, 6)
        with pytest.raises(StateError, match=rf"{state}.*pid.*{demo.pid}"):
            StateLock(state)
    finally:
        demo.kill()
        demo.wait()
    # TERM is ignored in the tree, so for the length of the grace something may still write to the state folder.
    with pytest.raises(StateError):
        StateLock(state)
    assert eventually(lambda: not any(alive(pid) for pid in pids), 15)
    assert eventually(lambda: _lockable(state), 5)


def _lockable(state: Path) -> bool:
    try:
        StateLock(state).release()
    except StateError:
        return False
    return True


def test_killed_guard_takes_its_program_along(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with Supervisor(grace_s=0.5) as supervisor:
        supervisor.start(spec("tree", tmp_path, TREE, str(note)))
        program = supervisor.pid("tree")
        pids = noted(note, 3)
        with open(f"/proc/{program}/stat", encoding="ascii") as stat:
            guard = int(stat.read().rpartition(")")[2].split()[1])
        os.kill(guard, signal.SIGKILL)
        assert eventually(lambda: [death.name for death in supervisor.poll()] == ["tree"], 5)
        assert eventually(lambda: not alive(program), 5)
        # Only a process that left the session can outlive guard and sweep; end this test's own.
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


def test_death_is_reported_once_with_its_exit_code(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start(spec("short", tmp_path, "import sys; print('words'); sys.exit(7)"))
        deaths = []
        assert eventually(lambda: bool(deaths.extend(supervisor.poll()) or deaths), 10)
        assert [(death.name, death.exit_code, death.restart_in_s) for death in deaths] == [("short", 7, None)]
        assert supervisor.poll() == []
        assert (tmp_path / "short.log").read_text() == "words\n"


def test_leftovers_of_a_program_that_ended_are_ended(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = TREE.removesuffix("time.sleep(300)\n") + "time.sleep(1)\n"
    with Supervisor(grace_s=0.3) as supervisor:
        supervisor.start(spec("tree", tmp_path, code, str(note)))
        pids = noted(note, 3)
        assert eventually(lambda: [death.exit_code for death in supervisor.poll()] == [0], 15)
        assert not any(alive(pid) for pid in pids)


def test_restart_delays_follow_the_rule(tmp_path: Path) -> None:
    rule = RestartRule(quick_s=0.1, slow_s=65.0, quick_codes=frozenset({75}))
    with Supervisor() as supervisor:
        supervisor.start(
            spec("quick", tmp_path, "import sys; sys.exit(75)", restart=rule),
            spec("slow", tmp_path, "import time; time.sleep(300)", restart=rule),
        )
        os.kill(supervisor.pid("slow"), signal.SIGKILL)
        seen: list[tuple[str, int, float | None]] = []

        def both() -> bool:
            seen.extend((death.name, death.exit_code, death.restart_in_s) for death in supervisor.poll())
            return {name for name, _, _ in seen} == {"quick", "slow"} and len(seen) >= 4

        assert eventually(both, 20)
        assert ("slow", 137, 65.0) in seen
        assert seen.count(("quick", 75, 0.1)) >= 3
        assert set(supervisor.names()) == {"quick", "slow"}


def test_restart_at_most(tmp_path: Path) -> None:
    rule = RestartRule(quick_s=0.05, quick_codes=frozenset({1}), at_most=2)
    with Supervisor() as supervisor:
        supervisor.start(spec("frail", tmp_path, "import sys; sys.exit(1)", restart=rule))
        waits: list[float | None] = []
        assert eventually(lambda: bool(waits.extend(d.restart_in_s for d in supervisor.poll()) or None in waits), 10)
        assert waits == [0.05, 0.05, None]


def test_start_waits_until_ready_and_names_what_is_not(tmp_path: Path) -> None:
    with held_ports(2) as ports, Supervisor() as supervisor:
        supervisor.start(spec("server", tmp_path, LISTENER, str(ports[0]), ready=answers(ports[0])))
        assert answers(ports[0])()
        assert not answers(ports[1])()
        with pytest.raises(StateError, match=r"deaf did not get ready.*deaf\.log"):
            supervisor.start(spec("deaf", tmp_path, "import time; time.sleep(300)", ready=lambda: False), timeout_s=0.3)
        with pytest.raises(StateError, match=r"dead ended while starting with exit code 3.*dead\.log"):
            supervisor.start(spec("dead", tmp_path, "import sys; sys.exit(3)", ready=lambda: False))
        assert supervisor.names() == ("server",)
        with pytest.raises(StateError, match="server"):
            supervisor.start(spec("server", tmp_path, "pass"))


def test_program_that_does_not_exist(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        missing = ProcessSpec(
            name="missing", argv=("/nonexistent/program",), env={}, log_path=tmp_path / "log", ready=lambda: False
        )
        with pytest.raises(StateError, match="exit code 127"):
            supervisor.start(missing)
    assert "cannot start /nonexistent/program" in (tmp_path / "log").read_text()


def test_second_daemon_on_one_state_folder(tmp_path: Path) -> None:
    first = Supervisor(tmp_path)
    with pytest.raises(StateError, match=rf"{tmp_path}.*{os.getpid()}"):
        Supervisor(tmp_path)
    first.close()
    Supervisor(tmp_path).close()


def test_held_ports_are_free_different_and_bindable() -> None:
    import socket

    with held_ports(20) as ports:
        assert len(set(ports)) == 20
        assert 9094 not in ports
        with socket.socket() as intruder, pytest.raises(OSError, match="in use"):
            intruder.bind(("127.0.0.1", ports[0]))
        with socket.create_server(("127.0.0.1", ports[0])):
            assert answers(ports[0])()


def test_wait_for_names_what_is_missing() -> None:
    with pytest.raises(TransportError, match=r"the SuperLink did not answer.*0\.2 s"):
        wait_for(lambda: False, timeout_s=0.2, what="the SuperLink")
