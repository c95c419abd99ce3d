"""A SuperNode whose heartbeat has ended would be taken for offline for good: the whole process ends instead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

HEARTBEAT = """
import httpx, time
from flwr.supercore.heartbeat import HeartbeatSender
from client.supernode import end_with_any_thread

def beat():
    if {error}:
        raise httpx.HTTPStatusError("500", request=httpx.Request("POST", "https://a"), response=httpx.Response(500))
    return True

end_with_any_thread()
HeartbeatSender(beat).start()
time.sleep({seconds})
"""


def run(*, error: bool, seconds: float) -> subprocess.CompletedProcess[str]:
    code = HEARTBEAT.format(error=error, seconds=seconds)
    return subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=False)


def test_flowers_heartbeat_ends_on_an_unknown_status_and_the_process_with_it() -> None:
    done = run(error=True, seconds=120.0)
    assert done.returncode == -signal.SIGTERM
    assert "a thread of the SuperNode ended by HTTPStatusError" in done.stderr


def test_a_heartbeat_that_succeeds_ends_nothing() -> None:
    assert run(error=False, seconds=0.5).returncode == 0
