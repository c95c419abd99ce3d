"""Ctrl-C while commands run at several sites at once: nothing of the federation is waited for or begun any more."""

import os
import sys
import threading
from pathlib import Path

import pytest

from deploy.loopback import Loopback
from deploy.supervisor import Supervisor
from ssl_core.errors import StateError

LATE = (sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(3600)")


@pytest.mark.timeout(60)
def test_ctrl_c_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    runs, asked, ended = tmp_path / "runs", list[str](), threading.Event()

    with Supervisor(tmp_path / "run", grace_s=0.5) as supervisor:
        loopback = Loopback(tmp_path / "federation", [], supervisor)
        loopback.at_once = 2

        def run(name: str) -> None:
            asked.append(name)
            if name != "interrupted":
                assert supervisor.run((*LATE, str(runs)), os.environ, timeout_s=3600).exit_code != 0
                return ended.set()
            while not runs.exists():
                ended.wait(0.01)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loopback.together(run, ["interrupted", *map(str, range(100))])
        assert ended.is_set() and len(asked) < 10
        with pytest.raises(StateError, match="no other begins"):
            supervisor.run(LATE, os.environ, timeout_s=3600)


def test_what_each_gives_comes_in_order_and_a_failure_is_told(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "run") as supervisor:
        loopback = Loopback(tmp_path / "federation", [], supervisor)
        assert loopback.together(lambda number: number * number, range(20)) == [number * number for number in range(20)]
        with pytest.raises(ZeroDivisionError):
            loopback.together(lambda number: 1 // number, range(2))
        assert supervisor.run((sys.executable, "-c", "print(1)"), os.environ, timeout_s=60).stdout == "1\n"
