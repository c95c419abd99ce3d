"""What was answered, once and for all: the durable store of the secure sum at one site, for one study.

The log is a typed view of the site's one chain; chain keys and the open round's answer stand in `secrets.bin`, masked
vectors in `vector-<round>.u32` or `.u16` and sealed parts in `parts-<round>.bin`, all in one folder of mode 0700 that
backups must leave out (ruling 7); beside them lie the study's copy of the records (kept.py) and, where its plan keeps
one, the optimizer's state (study.py). Every method that changes something returns when the change is on disk; only then
is a message handed to Flower.
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from ssl_core.chain import Chain, Entry, write_durably
from ssl_core.secure_sum.journal import Record, RoundState
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import little_endian, read_signed

# CACHEDIR.TAG is the convention by which backup programs skip a folder (bford.info/cachedir).
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Keys of one study: a backup of them would undo their erasure.\n"


class SiteJournal:
    """A `SiteStore` (ssl_core/secure_sum/journal.py) over `chain` and `folder`."""

    def __init__(self, chain: Chain, folder: Path, session: str) -> None:
        self._chain = chain
        self._folder = folder
        self._session = session
        self._kind = f"sum/{session}"
        make_key_folder(folder)
        # A kill inside a write leaves its temporary file, whose keys would outlive their erasure.
        for name in (".secrets.bin.*", ".vector-*", ".parts-*", ".optimizer.npz.*"):
            for left in folder.glob(name):
                left.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return "SiteJournal(redacted)"

    def read_secrets(self) -> bytes | None:
        """The secret file, None before the first write."""
        path = self._folder / "secrets.bin"
        return path.read_bytes() if path.is_file() else None

    def write_secrets(self, data: bytes) -> None:
        """Replace the secret file as a whole."""
        write_durably(self._folder / "secrets.bin", data)

    def append(self, record: Record) -> None:
        """Add one line to the chain."""
        body = base64.b64encode(record.body).decode()
        self._chain.append(self._kind, {"round": record.round, "event": record.kind, "body": body})

    def records(self, round: int) -> list[Record]:
        """The lines of one round, in order."""
        return records_of(self._chain, self._session, round)

    def latest(self, kind: str) -> Record | None:
        """The last line of one kind."""
        return latest_record(self._chain, self._session, kind)

    def write_parts(self, round: int, parts: bytes) -> None:
        """Keep an upload's sealed parts for resending; older ones of the same round are replaced."""
        write_durably(self._folder / f"parts-{round}.bin", parts)

    def read_parts(self, round: int) -> bytes | None:
        """The parts of a round, None when there are none."""
        path = self._folder / f"parts-{round}.bin"
        return path.read_bytes() if path.is_file() else None

    def write_vector(self, round: int, vector: Words) -> None:
        """Keep a masked vector [P] for resending; an older one of the same round is replaced."""
        write_durably(self._vector(round, vector.itemsize), little_endian(vector).view(np.uint8).data)
        self._vector(round, 6 - vector.itemsize).unlink(missing_ok=True)

    def read_vector(self, round: int) -> Words | None:
        """The vector of a round, None when there is none."""
        for size in (4, 2):
            path = self._vector(round, size)
            if path.is_file():
                return np.fromfile(path, f"<u{size}").astype(f"u{size}", copy=False)
        return None

    def drop_vectors(self, before: int) -> None:
        """Forget the vectors and parts of all rounds below `before`."""
        for path in (*self._folder.glob("vector-*.u*"), *self._folder.glob("parts-*.bin")):
            if int(path.stem.rpartition("-")[2]) < before:
                path.unlink()

    def _vector(self, round: int, size: int) -> Path:
        return self._folder / f"vector-{round}.u{8 * size}"


def latest_record(chain: Chain, session: str, kind: str) -> Record | None:
    """The last line of one kind of one study: for reading the log beside a running site, whose files stay untouched."""
    found = [entry for entry in chain.entries(f"sum/{session}") if entry.body["event"] == kind]
    return _record(found[-1]) if found else None


def records_of(chain: Chain, session: str, round: int) -> list[Record]:
    """The lines of one round of one study; the files of a running site stay untouched."""
    return [_record(entry) for entry in chain.entries(f"sum/{session}") if entry.body["round"] == round]


def make_key_folder(folder: Path) -> None:
    """A folder of mode 0700 whose tag tells backup programs to leave it out."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "CACHEDIR.TAG").exists():
        write_durably(folder / "CACHEDIR.TAG", _TAG)


def _record(entry: Entry) -> Record:
    return Record(entry.body["round"], entry.body["event"], base64.b64decode(entry.body["body"]))


def closed_rounds(chain: Chain, session: str) -> int:
    """How many rounds of the study had closed with the last CLOSE that this site took."""
    record = latest_record(chain, session, RoundState.CLOSED.value)
    return 0 if record is None else read_signed(Close, record.body)[1].count
