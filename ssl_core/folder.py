"""Step 12: a folder that is there whole or not at all: releases, closed rounds, a site's own models.

`new_folder(target)` lends a draft beside `target`, mode 0700. When the block ends, its files get mode 0600 and are synced,
the draft is renamed to `target` and the folder that holds it is synced, so that a crash leaves a whole folder or none
(rename(2) is atomic inside one file system). A block that raises leaves nothing; a kill leaves `.NAME.PID`, which no
reader takes for the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_core.errors import ConfigError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill the draft that is given; `ConfigError` where `target` exists, at the beginning or by then."""
    _refuse(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        yield draft
        for path in draft.iterdir():
            path.chmod(0o600)
            sync(path)
        sync(draft)
        _refuse(target)
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync(target.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder: what it holds, or which names are in it, survives a crash from here on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(target: Path) -> None:
    if target.exists():
        raise ConfigError(
            "folder exists and is not overwritten", field="folder", value=target.name, remedy="use it, or name another"
        )
