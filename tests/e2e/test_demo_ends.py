from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_marks import alive, marked_environment


def hear_ctrl_c() -> None:
    """As in a terminal: what a shell starts in the background, tests too, is deaf to it, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started_demo(out: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A demo on generated data whose daemons run."""
    env, mark = marked_environment()
    choral = Path(sys.executable).parent / "choral"
    with (out.parent / "demo.log").open("wb") as log:
        demo = subprocess.Popen(
            [str(choral), "demo", "--procedural", "--out", str(out)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=hear_ctrl_c,
        )
    deadline = time.monotonic() + 150
    while sum("client.executor" in command for command in alive(mark)) < 5:
        assert demo.poll() is None and time.monotonic() < deadline, (out.parent / "demo.log").read_text()[-2000:]
        time.sleep(0.3)
    return demo, mark


def wait_until_gone(mark: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alive(mark) == []


@pytest.mark.timeout(300)
def test_a_demo_that_is_killed_leaves_no_child_after_15_seconds(tmp_path: Path) -> None:
    demo, mark = started_demo(tmp_path / "out")
    demo.kill()
    demo.wait()
    wait_until_gone(mark, 15.0)


@pytest.mark.timeout(300)
def test_ctrl_c_ends_everything_and_says_where_the_logs_are(tmp_path: Path) -> None:
    demo, mark = started_demo(tmp_path / "out")
    demo.send_signal(signal.SIGINT)
    assert demo.wait(120) == 130
    assert alive(mark) == []
    said = (tmp_path / "demo.log").read_text()
    assert "Interrupted" in said and "logs" in said
