"""Step 10 of 12: one round loop at a time works on a study.

Comes in: a study folder. Goes out: the lock on it, held while the block runs and released however its process ends.

Flower can give up on a ServerApp that still lives, one that was frozen or cut off for a minute; `launch` then starts the
study again. Two round loops over one folder would overwrite each other's open round, so the later one waits for the
earlier: Flower refuses the next request of a ServerApp that it gave up, which ends it. `StateError` names the holder when
patience is over.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.supervisor import LOCK_NAME, StateLock
from ssl_core.errors import StateError

_LOOK_S = 0.2


@contextmanager
def working_on(folder: Path, *, patience_s: float) -> Iterator[None]:
    """Hold the study in `folder` (an existing one); waits at most `patience_s` seconds for another holder."""
    lock = _take(folder, time.monotonic() + patience_s, patience_s)
    try:
        yield
    finally:
        lock.release()


def worked_on(folder: Path) -> bool:
    """Whether a process holds the study in `folder` just now; changes nothing there."""
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _take(folder: Path, deadline: float, patience_s: float) -> StateLock:
    while True:
        try:
            return StateLock(folder)
        except StateError as error:
            if time.monotonic() >= deadline:
                raise StateError(
                    "another process works on this study",
                    field="pid",
                    value=error.value,
                    limit=f"waited {patience_s:g} s",
                    remedy="choral operator stop ends it; then launch again",
                ) from None
        time.sleep(_LOOK_S)
