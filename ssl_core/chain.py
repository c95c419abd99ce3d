"""The one durable log: append-only, hash-chained, in SQLite. Ledger, journal, receipts and approvals are views of it.

Entry i stores kind, canonical JSON body, and hash_i = SHA-256(hash_{i-1} | i | kind | body). Every append is one
immediate transaction in WAL mode with synchronous=FULL, so it is on disk before the call returns. Beside the file stands
`<name>.head` (sequence and hash of the last entry); an anchor of the same form may stand outside the state folder.
Refused at opening (`ChainError`): a broken link, a gap, a head or anchor that is newer than the log (ruling 20). Refused at
each transaction: a head or anchor of another log, such as a copy of this one that went on since.
Not detected: a roll-back of the whole machine, anchor included; an entry each of two copies in the same instant, before either
has written the anchor (the loser stops at its next). An anchor that is gone is warned of and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.errors import ChainError, StateError

_LOG = logging.getLogger("choral.chain")
_SCHEMA = 1
_GENESIS = hashlib.sha256(b"choral/chain/1").hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log; `sequence` counts from 1."""

    sequence: int
    kind: str
    body: dict[str, Any]
    hash: str


class Chain:
    """An open log, for the thread that opened it. Several processes may hold it open; SQLite orders their transactions."""

    def __init__(self, path: Path, *, anchor: Path | None = None, create: bool = False) -> None:
        if not create and not path.is_file():
            raise ChainError(
                "log is missing",
                field="path",
                value=path.name,
                remedy="restore it; a site never starts a second log",
            )
        if create and (path.exists() or (anchor is not None and anchor.exists())):
            raise StateError("log or its anchor exists", field="path", value=path.name, remedy="use an empty folder")
        self.path = path
        self._head_path = path.with_name(path.name + ".head")
        self._anchor_path = anchor
        self._thread = threading.get_ident()
        # The collector may run, and close, in any thread; what would mix two threads' entries is refused in `transaction`.
        self._database = sqlite3.connect(path, isolation_level=None, timeout=60.0, check_same_thread=False)
        try:
            self._open(create)
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ChainError("log is not a readable SQLite file", field="path", value=path.name) from error
        except ChainError:
            self._database.close()
            raise

    def _open(self, create: bool) -> None:
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        if create:
            os.chmod(self.path, 0o600)
            with self.transaction():
                self._database.execute(
                    "CREATE TABLE log (sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL,"
                    " hash TEXT NOT NULL) STRICT"
                )
                self._database.execute(f"PRAGMA user_version={_SCHEMA}")
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version != _SCHEMA:
            raise ChainError("log has another schema", field="version", value=version, limit=_SCHEMA)
        self.verify()

    def verify(self) -> None:
        """Walk the whole log; raises `ChainError` at the first edit, gap or roll-back."""
        # Heads are read first: another process may append meanwhile, and a head is never ahead of its log.
        heads = self._heads()
        hashes = {0: _GENESIS}
        last = 0
        for sequence, kind, body, stored in self._database.execute(
            "SELECT sequence, kind, body, hash FROM log ORDER BY sequence"
        ):
            if sequence != last + 1 or stored != _link(hashes[last], sequence, kind, body):
                raise ChainError(
                    "log was edited or truncated",
                    field="entry",
                    value=sequence,
                    remedy="stop this site and tell the authority; restore nothing by hand",
                )
            last = sequence
            hashes[last] = stored
        for what, (sequence, stored) in heads:
            if hashes.get(sequence) != stored:
                raise ChainError(
                    f"log is older than its {what}: it was rolled back, truncated or replaced",
                    field=f"{what} entry",
                    value=last,
                    limit=sequence,
                    remedy="stop this site and tell the authority",
                )
        if last and self._anchor_path is not None and not self._anchor_path.exists():
            _LOG.warning("the log's anchor outside the state folder is missing: a roll-back would not have been seen")
        self._write_heads(last, hashes[last])

    @contextmanager
    def transaction(self) -> Iterator[Chain]:
        """Reads and appends inside see and change one state; nothing is kept if the block raises."""
        if threading.get_ident() != self._thread:
            raise StateError("log is open in another thread", field="path", value=self.path.name, remedy="open it here, too")
        if self._database.in_transaction:
            yield self
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._check_heads()
            yield self
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        row = self._last()
        if row is not None:
            self._write_heads(*row)

    def _check_heads(self) -> None:
        """Head and anchor are of this log still: a copy of it, open since before they were written, may go on no more."""
        for what, (sequence, stored) in self._heads():
            row = self._database.execute("SELECT hash FROM log WHERE sequence = ?", (sequence,)).fetchone()
            if (row or (_GENESIS if sequence == 0 else None,)) != (stored,):
                raise ChainError(
                    f"log is not the one that its {what} is of: another copy of it has gone on",
                    field=f"{what} entry",
                    value=sequence,
                    remedy="stop this site, both copies of its folder, and tell the authority",
                )

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add one entry and return it once it is durable."""
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        with self.transaction():
            sequence, previous = self._last() or (0, _GENESIS)
            link = _link(previous, sequence + 1, kind, text)
            self._database.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (sequence + 1, kind, text, link))
        return Entry(sequence + 1, kind, json.loads(text), link)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries in order, or those of one kind."""
        query = "SELECT sequence, kind, body, hash FROM log"
        rows = (
            self._database.execute(query + " ORDER BY sequence")
            if kind is None
            else self._database.execute(query + " WHERE kind = ? ORDER BY sequence", (kind,))
        )
        return [Entry(sequence, kind_, json.loads(body), link) for sequence, kind_, body, link in rows]

    def close(self) -> None:
        """Close the file; further use raises."""
        self._database.close()

    def __del__(self) -> None:
        # A command opens its log and ends: Python 3.13 warns of a connection that is collected open.
        if hasattr(self, "_database"):
            self._database.close()

    def _heads(self) -> list[tuple[str, tuple[int, str]]]:
        return [
            (what, _read_head(path))
            for path, what in ((self._head_path, "head"), (self._anchor_path, "anchor"))
            if path is not None and path.exists()
        ]

    def _last(self) -> tuple[int, str] | None:
        row = self._database.execute("SELECT sequence, hash FROM log ORDER BY sequence DESC LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def _write_heads(self, sequence: int, link: str) -> None:
        if not self._behind(sequence):
            return
        # Looked at and written under the log's lock: the slower of two writers would else set back what the other wrote.
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for path in self._behind(sequence):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_durably(path, f"{sequence} {link}\n".encode())
        finally:
            self._database.execute("ROLLBACK")

    def _behind(self, sequence: int) -> list[Path]:
        """Head and anchor that are missing, or of an earlier entry than `sequence`."""
        paths = [path for path in (self._head_path, self._anchor_path) if path is not None]
        return [path for path in paths if not path.exists() or _read_head(path)[0] < sequence]


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` (mode 0600) so that a crash leaves the old or the new bytes: write, fsync, rename, fsync the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Made here and now: a link, or a file of another's, that waited under this name would be written through.
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _link(previous: str, sequence: int, kind: str, body: str) -> str:
    text = f"{previous}\n{sequence}\n{kind}\n{body}".encode()
    return hashlib.sha256(text).hexdigest()


def _read_head(path: Path) -> tuple[int, str]:
    try:
        sequence, link = path.read_text().split()
        return int(sequence), link
    except ValueError as error:
        raise ChainError("head file is not readable", field="path", value=path.name) from error
