"""Commands from one process that loaded the libraries once end as those from a shell do."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import preloaded
from deploy.flower_env import program
from deploy.loopback_ports import wait_for
from deploy.preloaded import NAME, Preloaded
from deploy.supervisor import Supervisor
from ssl_core.errors import StateError

MODULE = """
import os, signal, subprocess, sys, threading
what = sys.argv[1]
print("said", *sys.argv, flush=True)
if what == "grandchild":
    subprocess.run([sys.executable, "-c", "print('from below'); raise SystemExit(0)"], check=True)
elif what == "words":
    sys.exit("in words")
elif what == "raise":
    raise KeyError("lost")
elif what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "late":
    import time; time.sleep(600)
elif what == "pid":
    print(os.getpid(), os.getppid(), threading.active_count(), len(os.environ["OMP_NUM_THREADS"]))
sys.exit(3 if what == "three" else 0)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Preloaded, Supervisor, Path]]:
    folder = tmp_path_factory.mktemp("a" * 100)
    (folder / "some_module.py").write_text(MODULE)
    path = os.pathsep.join([str(folder), str(Path(preloaded.__file__).parents[1])])
    with Supervisor(folder / "run") as supervisor:
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "NO_COLOR": "1"}
        made = Preloaded(supervisor, folder / "commands", env)
        wait_for(lambda: made.ready, timeout_s=120.0, what="the libraries")
        yield made, supervisor, folder


@pytest.mark.parametrize("arguments", [["site", "--help"], ["site", "status", "--home", "/no/such/home"], ["site", "nothing"]])
def test_choral_says_and_ends_as_in_a_shell(commands: tuple[Preloaded, Supervisor, Path], arguments: list[str]) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(preloaded.__file__).parents[1]), "COLUMNS": "160", "NO_COLOR": "1"}
    shell = subprocess.run([program("choral"), *arguments], env=env, capture_output=True, text=True, check=False)
    done = commands[0].run("choral", arguments, timeout_s=60)
    assert (done.exit_code, done.stdout, done.stderr) == (shell.returncode, shell.stdout, shell.stderr)


def test_a_module_ends_as_the_interpreter_would_end_it(commands: tuple[Preloaded, Supervisor, Path]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        done = commands[0].run("some_module", arguments, timeout_s=60)
        return done.exit_code, done.stdout, done.stderr

    code, out, err = run("three", "a b")
    assert (code, err) == (3, "") and out.endswith("three a b\n") and "some_module.py" in out
    assert run("grandchild")[1].endswith("from below\n")
    assert run("words")[::2] == (1, "in words\n")
    code, _, err = run("raise")
    assert code == 1 and err.startswith("Traceback") and err.endswith("KeyError: 'lost'\n")
    first, second = (run("pid")[1].split()[-4:] for _ in range(2))
    assert first[0] != second[0] and first[1:] == second[1:] and first[2:] == ["1", "1"], "a process each, of one thread"


def test_a_command_that_is_killed_or_does_not_end_is_an_error(commands: tuple[Preloaded, Supervisor, Path]) -> None:
    with pytest.raises(StateError, match="was killed"):
        commands[0].run("some_module", ["killed"], timeout_s=60)
    with pytest.raises(StateError, match="did not end"):
        commands[0].run("some_module", ["late"], timeout_s=0.2)
    assert commands[0].run("some_module", ["fine"], timeout_s=60).exit_code == 0


def test_libraries_that_start_threads_are_refused() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with pytest.raises(StateError, match="has started threads"):
            preloaded._check_one_thread()
    finally:
        end.set()
        thread.join()


def test_commands_end_with_their_supervisor(tmp_path: Path) -> None:
    (tmp_path / "some_module.py").write_text(MODULE)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(preloaded.__file__).parents[1])])}
    with Supervisor(tmp_path / "run", grace_s=0.5) as supervisor:
        made = Preloaded(supervisor, tmp_path / "commands", env | {"OMP_NUM_THREADS": "1"})
        wait_for(lambda: made.ready, timeout_s=120.0, what="the libraries")
        ended: list[str] = []

        def run() -> None:
            try:
                made.run("some_module", ["late"], timeout_s=60)
            except StateError as error:
                ended.append(str(error))

        waiting = threading.Thread(target=run)
        waiting.start()
        pid = supervisor.pid(NAME)
        while not Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            time.sleep(0.01)
        supervisor.stop(NAME)
        waiting.join()
    assert len(ended) == 1 and "was killed" in ended[0]
    with pytest.raises(StateError, match="has ended"):
        made.run("some_module", ["fine"], timeout_s=5)
    killed_before_it_reads(tmp_path / "commands", made)


def killed_before_it_reads(folder: Path, made: Preloaded) -> None:
    """A request that lies unread when its process ends comes back as a reset, not as an end of file."""
    (folder / "socket").unlink()
    with socket.socket(socket.AF_UNIX) as listener, preloaded._short_path(folder) as path:
        listener.bind(path)
        listener.listen()

        def end() -> None:
            connection, _ = listener.accept()
            connection.recv(1, socket.MSG_PEEK)
            connection.close()

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(StateError, match="was killed"):
            made.run("some_module", ["fine"], timeout_s=60)
        ending.join()
