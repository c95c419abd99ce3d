"""Step 10 of 12: the sealed backups of the open round on disk: 32 n^2 bytes a site that memory need not hold.

Comes in: a dealer's sealed backups, one for each participant. Goes out: any one of them. The files stand in the study's
`open/` folder, which goes when the round is over; after a restart the uploads come again and write them anew, so none is
synced. Raises `StateError` where the disk is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_core.errors import StateError


class FileShelf:
    """A `Shelf` (ssl_core/secure_sum/shelf.py) in `folder`, one file a dealer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lengths: dict[int, tuple[int, ...]] = {}

    def put(self, dealer: int, blobs: Sequence[bytes]) -> None:
        """Keep a dealer's sealed backups."""
        try:
            self._folder.mkdir(exist_ok=True)
            with self._path(dealer).open("wb") as stream:
                stream.writelines(blobs)
        except OSError as error:
            raise StateError(
                "sealed backups cannot be written",
                field="folder",
                value=error.strerror,
                remedy="make room in the operator's folder, then launch the study again",
            ) from error
        self._lengths[dealer] = tuple(len(blob) for blob in blobs)

    def get(self, dealer: int, at: int) -> bytes:
        """The backup for the holder at this place."""
        lengths = self._lengths[dealer]
        with self._path(dealer).open("rb") as stream:
            stream.seek(sum(lengths[:at]))
            return stream.read(lengths[at])

    def _path(self, dealer: int) -> Path:
        return self._folder / f"backups-{dealer}.bin"
