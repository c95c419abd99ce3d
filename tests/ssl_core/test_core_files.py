"""What is left of a process that ends by a fault."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_core.core_files import leave_no_core_file

SCRIPT = """
import os, resource
from ssl_core.core_files import leave_no_core_file
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
leave_no_core_file()
print(*resource.getrlimit(resource.RLIMIT_CORE), flush=True)
os.abort()
"""


def test_no_file_is_left_and_a_program_that_collects_cores_gets_none(tmp_path: Path) -> None:
    """The kernel gives such a program nothing of a process whose limit is 1, and everything where it is 0."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGABRT and ended.stdout.split() == ["1", "1"], ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_the_machine_allows_no_core_file_at_all_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def setrlimit(what: int, limits: tuple[int, int]) -> None:
        asked.append((what, limits))
        if limits > (0, 0):
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    leave_no_core_file()
    assert asked == [(resource.RLIMIT_CORE, (1, 1)), (resource.RLIMIT_CORE, (0, 0))]
