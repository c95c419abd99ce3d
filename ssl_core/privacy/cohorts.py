"""Before step 6: which cohort each patient of a site belongs to, for life (ruling 21).

A budget holds for the patients of one cohort, because none of them is in another. This table sees to that. Comes in: unit
tags uint8 [n, 16] of checked records, the ledger (the id of the site's chain) and the cohort that its staff declares.
Goes out: how many are new, known there, or known elsewhere (for the site's staff alone); after `include`, a digest that
the ledger keeps beside its reservation. A unit that is known in another cohort, or under an earlier ledger of the same
site, is refused: begun anew, its budget would be spent twice.

`units.db` (SQLite, mode 0600) holds for each unit BLAKE2b-128 of its tag under the site's secret `units.key`, and the
batch (ledger, cohort, study) that first included it: 30 to 40 bytes a unit, no id, no record, no coin, no sample. Whoever
has both files and a list of ids can recognise who was included. Batches are hash-chained, so that a table that was
edited, cut or replaced by an older one is known (`verify`). Raises `DataError`, `StateError`, `ChainError`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ChainError, DataError, StateError
from ssl_core.trust.identity import Secret, write_private

Tags = npt.NDArray[np.uint8]

_SCHEMA = 1
_FIRST = hashlib.sha256(b"choral/units/1").hexdigest()
_KEY_BYTES = 32
_TABLES = (
    "CREATE TABLE batch (number INTEGER PRIMARY KEY, ledger TEXT NOT NULL, cohort TEXT NOT NULL, study TEXT NOT NULL,"
    " digest TEXT NOT NULL) STRICT",
    "CREATE TABLE unit (hash BLOB PRIMARY KEY, batch INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    f"PRAGMA user_version={_SCHEMA}",
)


@dataclass(frozen=True, slots=True)
class Census:
    """Of the units of one source: new ones, known in this cohort, known in another cohort or ledger. Site-local."""

    new: int
    known: int
    elsewhere: int


class UnitTable:
    """The table of one site in `folder`, which outlives its state folder; `ledger` is the id of the chain in use."""

    def __init__(self, folder: Path, ledger: str) -> None:
        self._path = folder / "units.db"
        self._key_path = folder / "units.key"
        self._ledger = ledger

    @property
    def exists(self) -> bool:
        """Was any patient ever written down?"""
        return self._path.is_file()

    def census(self, cohort: str, tags: Tags) -> Census:
        """Where the units of `tags` stand; nothing is written."""
        if not self.exists:
            return Census(len(tags), 0, 0)
        with self._open() as table:
            self._ask(table, tags)
            return self._census(table, cohort)

    def include(self, cohort: str, study: str, tags: Tags) -> str:
        """Bind the new units to `cohort`, durably; the digest of the table. The same again changes nothing.

        Raises `DataError` where a unit belongs elsewhere; nothing is written then.
        """
        with self._open(create=True) as table:
            self._ask(table, tags)
            with _transaction(table):
                if self._census(table, cohort).elsewhere:
                    raise DataError(
                        "patients of this source belong to another cohort, or to an earlier ledger of this site, for life",
                        field="cohort",
                        value=cohort,
                        remedy="take their records out of the source, or declare the cohort that they belong to; a state "
                        "folder that was made anew never replaces the one with their ledger: restore that one",
                    )
                number, last = table.execute("SELECT number, digest FROM batch ORDER BY number DESC LIMIT 1").fetchone() or (
                    0,
                    _FIRST,
                )
                query = "SELECT hash FROM asked EXCEPT SELECT hash FROM unit ORDER BY hash"
                new = [row[0] for row in table.execute(query)]
                if not new:
                    return str(last)
                digest = _link(last, self._ledger, cohort, study, new)
                table.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (number + 1, self._ledger, cohort, study, digest))
                table.executemany("INSERT INTO unit VALUES (?, ?)", ((unit, number + 1) for unit in new))
                return digest

    def verify(self, digests: Iterable[str]) -> None:
        """Walk the whole table: every batch as it was written, and each of `digests` among them; `ChainError` else."""
        if not self.exists:
            raise _older("no table")
        known, last = {_FIRST}, _FIRST
        with self._open() as table:
            batches = {row[0]: row[1:] for row in table.execute("SELECT * FROM batch ORDER BY number")}
            rows = table.execute("SELECT batch, hash FROM unit ORDER BY batch, hash")
            for number, units in groupby(rows, key=itemgetter(0)):
                ledger, cohort, study, stored = batches.pop(number, ("", "", "", ""))
                last = _link(last, ledger, cohort, study, (unit for _, unit in units))
                if last != stored:
                    raise _older(f"batch {number} was edited")
                known.add(last)
            if batches:
                raise _older(f"batch {min(batches)} is empty")
        for digest in digests:
            if digest not in known:
                raise _older("batch of a study in the ledger")

    def _ask(self, table: sqlite3.Connection, tags: Tags) -> None:
        """A temporary table of the keyed hashes of `tags`, each once."""
        key = self._key().reveal()
        hashes = ((hashlib.blake2b(tag.tobytes(), digest_size=16, key=key, person=b"choral/unit").digest(),) for tag in tags)
        table.execute("CREATE TEMP TABLE asked (hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID")
        with _transaction(table):
            table.executemany("INSERT OR IGNORE INTO asked VALUES (?)", hashes)

    def _census(self, table: sqlite3.Connection, cohort: str) -> Census:
        asked = int(table.execute("SELECT count(*) FROM asked").fetchone()[0])
        found = table.execute(
            "SELECT batch.ledger = ? AND batch.cohort = ? AS here, count(*) FROM asked JOIN unit USING (hash)"
            " JOIN batch ON batch.number = unit.batch GROUP BY here",
            (self._ledger, cohort),
        )
        counts = {int(here): int(count) for here, count in found}
        known, elsewhere = counts.get(1, 0), counts.get(0, 0)
        return Census(asked - known - elsewhere, known, elsewhere)

    def _key(self) -> Secret:
        data = self._key_path.read_bytes()
        if len(data) != _KEY_BYTES:
            raise StateError("key of the table of patients is damaged", field="path", value=self._key_path.name)
        return Secret(data)

    @contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        if create:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.exists and not self._key_path.is_file():
            raise StateError(
                "key of the table of patients is missing: nobody in it can be recognised",
                field="path",
                value=str(self._key_path),
                remedy="restore it beside the table",
            )
        if create and not self._key_path.is_file():
            write_private(self._key_path, os.urandom(_KEY_BYTES))
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=60.0)) as table:
                table.execute("PRAGMA synchronous=FULL")
                table.execute("PRAGMA temp_store=MEMORY")
                os.chmod(self._path, 0o600)
                _prepare(table)
                yield table
        except sqlite3.DatabaseError as error:
            raise StateError("table of patients is not a readable SQLite file", field="path", value=str(self._path)) from error


def _prepare(table: sqlite3.Connection) -> None:
    with _transaction(table):
        version = table.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _TABLES:
                table.execute(statement)
        elif version != _SCHEMA:
            raise StateError("table of patients has another schema", field="version", value=version, limit=_SCHEMA)


@contextmanager
def _transaction(table: sqlite3.Connection) -> Iterator[None]:
    table.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        table.execute("ROLLBACK")
        raise
    table.execute("COMMIT")


def _link(previous: str, ledger: str, cohort: str, study: str, hashes: Iterable[bytes]) -> str:
    """The digest of the table after a batch of sorted `hashes`."""
    digest = hashlib.sha256(f"{previous}\n{ledger}\n{cohort}\n{study}\n".encode())
    for unit in hashes:
        digest.update(unit)
    return digest.hexdigest()


def _older(what: str) -> ChainError:
    return ChainError(
        "table of patients is not the one that the ledger knows: it was lost, edited, or replaced by an older one",
        field="units.db",
        value=what,
        remedy="restore the latest copy; without it no second cohort can be told from the first",
    )
