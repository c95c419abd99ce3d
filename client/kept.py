"""The site's own copy of the records that one study trains on: written at approval, deleted with the last CLOSE.

Comes in: `Patients` as they were checked. Goes out: the same units at every round, whatever became of the declared files
(ruling 15; the format: ssl_core/data/kept.py). It stands beside the study's keys, mode 0600 in a folder of mode 0700
that backups must leave out: a backup would outlive the deletion. No file name tells of a patient.
Raises `StateError` where the copy cannot be written or read.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.journal import make_key_folder
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.patients import Patients
from ssl_core.errors import StateError
from ssl_core.spec.data import Data

_NAME = "patients.npz"


@dataclass(frozen=True, slots=True)
class Draft:
    """A complete copy, on disk under a name that nobody reads yet."""

    draft: Path
    final: Path

    def keep(self) -> None:
        """Give it its name, durably."""
        try:
            os.replace(self.draft, self.final)
        except OSError as error:
            raise _unwritten(error) from error
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class KeptRecords:
    """The copy in the key folder of one study."""

    folder: Path

    @property
    def kept(self) -> bool:
        """Is there a copy?"""
        return (self.folder / _NAME).is_file()

    @contextmanager
    def draft(self, patients: Patients) -> Iterator[Draft]:
        """Write a copy and fsync it; it is removed again unless the block calls `keep`."""
        make_key_folder(self.folder)
        self.drop_drafts()
        path = self.folder / f".{_NAME}.{os.getpid()}"
        with ExitStack() as stack:
            stack.callback(path.unlink, missing_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                stream = stack.enter_context(os.fdopen(descriptor, "w+b"))
                # Held to the end of the block: it tells a copy in the making from one that a kill left behind.
                fcntl.flock(stream, fcntl.LOCK_EX)
                write_kept(stream, patients)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError as error:
                raise _unwritten(error) from error
            yield Draft(path, self.folder / _NAME)

    def read(self, data: Data) -> Patients:
        """The units that were approved."""
        return read_kept(self.folder / _NAME, data)

    def drop(self) -> None:
        """Delete the copy; nothing happens where there is none."""
        (self.folder / _NAME).unlink(missing_ok=True)

    def drop_drafts(self) -> None:
        """Delete what a kill left of an approval; a draft that is being written now is left alone."""
        for path in self.folder.glob(f".{_NAME}.*"):
            try:
                with path.open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (BlockingIOError, FileNotFoundError):
                # Somebody is writing it, or gave it its name meanwhile.
                continue


def _unwritten(error: OSError) -> StateError:
    return StateError(
        "copy of the approved records could not be written",
        field="keys",
        value=error.strerror,
        remedy="make room in the site's folder, then approve again",
    )
