"""Step 12: a folder, or a file, that is there whole or not at all: releases, closed rounds, a site's own models and scores.

`new_folder(target)` lends a draft beside `target`, mode 0700. When the block ends, its files get mode 0600 and are synced,
the draft is renamed to `target` and the folder that holds it is synced, so that a crash leaves a whole folder or none
(rename(2) is atomic inside one file system). A block that raises leaves nothing; a kill leaves `.NAME.PID`, which no
reader takes for the folder. `new_file(target)` lends a stream of a draft, mode 0600, in the same way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ssl_core.errors import ConfigError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill the draft that is given; `ConfigError` where `target` exists, at the beginning or by then."""
    _refuse(target, "folder")
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
        _refuse(target, "folder")
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync(target.parent)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Write the stream that is given; `ConfigError` where `target` exists, at the beginning or by then."""
    _refuse(target, "file")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            yield stream
        sync(draft)
        _refuse(target, "file")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    sync(target.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder: what it holds, or which names are in it, survives a crash from here on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(target: Path, what: str) -> None:
    if target.exists():
        raise ConfigError(
            f"{what} exists and is not overwritten", field=what, value=target.name, remedy="use it, or name another"
        )
