"""Marks for processes: whatever a test starts carries a value in its environment, by which leftovers are found."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_NAME = "CHORAL_TEST_MARK"


def marked_environment() -> tuple[dict[str, str], str]:
    """An environment with a fresh mark, and the mark."""
    mark = uuid.uuid4().hex
    return os.environ | {_NAME: mark, "OMP_NUM_THREADS": "1"}, mark


def alive(mark: str) -> list[str]:
    """Command lines of the processes that carry the mark; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = f"{_NAME}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if marked and command:
            found.append(command.replace(b"\0", b" ").decode())
    return found
