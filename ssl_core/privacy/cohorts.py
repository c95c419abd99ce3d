"""Before step 6: which cohort each patient of a site belongs to, for life (ruling 21).

A budget holds for the patients of one cohort, because none of them is in another. This table sees to that. Comes in: unit
tags uint8 [n, 16] of checked records and, as long, of their ids without what an export changes by itself (`folded_id`);
the ledger (the id of the site's chain) and the cohort that its staff declares. Goes out: how many are new, known there,
known elsewhere, or spelled like another (for the site's staff alone); after `include`, a digest that the ledger keeps
beside its reservation. A unit that is known in another cohort, or under an earlier ledger of the same site, is refused:
begun anew, its budget would be spent twice. A unit is who has one id: written otherwise, a patient is another one here.
So ids that are new and spelled like another are refused too, until a person has said that they are different people.

`units.db` (SQLite, mode 0600) holds for each unit BLAKE2b-128 of its tag and of its folded one under the site's secret
`units.key`, and the batch (ledger, cohort, study) that first included it: about 70 bytes a unit, no id, no record, no coin,
no sample. Whoever has both files and a list of ids can recognise who was included. Batches are hash-chained, so that a
table that was edited, cut or replaced by an older one is known (`verify`). A table of an older version has no folded
hashes: those of its units come with the next study that includes them. Raises `DataError`, `StateError`, `ChainError`.
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
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ChainError, DataError, StateError
from ssl_core.trust.identity import Secret, write_private

Tags = npt.NDArray[np.uint8]

_SCHEMA = 2
_WITHOUT_SPELLINGS = 1
_FIRST = hashlib.sha256(b"choral/units/1").hexdigest()
_KEY_BYTES = 32
_HASH_BYTES = 16
_SPELLING = "TABLE spelling (folded BLOB, hash BLOB, batch INTEGER NOT NULL, PRIMARY KEY (folded, hash)) STRICT, WITHOUT ROWID"
_TABLES = (
    "CREATE TABLE batch (number INTEGER PRIMARY KEY, ledger TEXT NOT NULL, cohort TEXT NOT NULL, study TEXT NOT NULL,"
    " digest TEXT NOT NULL) STRICT",
    "CREATE TABLE unit (hash BLOB PRIMARY KEY, batch INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    f"CREATE {_SPELLING}",
    f"PRAGMA user_version={_SCHEMA}",
)
_ASKED = (
    "CREATE TEMP TABLE asked (hash BLOB PRIMARY KEY, folded BLOB) STRICT, WITHOUT ROWID",
    "CREATE INDEX temp.asked_folded ON asked (folded)",
    # Whose spelling is not written down yet: what a person said of the others holds.
    "CREATE TEMP VIEW fresh AS SELECT folded, hash FROM asked"
    " WHERE NOT EXISTS (SELECT 1 FROM spelling WHERE spelling.folded = asked.folded AND spelling.hash = asked.hash)",
)
_ALIKE_HERE = (
    "SELECT count(*) FROM fresh"
    " WHERE EXISTS (SELECT 1 FROM asked WHERE asked.folded = fresh.folded AND asked.hash <> fresh.hash)"
)
_ALIKE_BEFORE = (
    "SELECT count(*) FROM fresh WHERE EXISTS (SELECT 1 FROM spelling WHERE spelling.folded = fresh.folded"
    " AND spelling.hash NOT IN (SELECT hash FROM asked))"
)
_UNCOMPARED = (
    "SELECT count(*) FROM unit WHERE hash NOT IN (SELECT hash FROM asked) AND hash NOT IN (SELECT hash FROM spelling)"
    " AND EXISTS (SELECT 1 FROM fresh)"
)
_ROWS = "SELECT batch, 0 AS kind, hash, x'' FROM unit UNION ALL SELECT batch, 1, folded, hash FROM spelling ORDER BY 1, 2, 3, 4"
Row = tuple[int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Census:
    """Of the units of one source: new ones, known in this cohort, known in another cohort or ledger. Site-local.

    alike_here, alike_before: whose id, met for the first time, differs in spelling alone from another of the source, and from
        that of a unit which was included before and is not in the source.
    uncompared: units that a version without spellings included, and that are not in the source: no id that is met for the first
        time was compared with theirs. 0 where none is.
    others: was anybody ever included in another cohort, or under an earlier ledger?
    """

    new: int
    known: int
    elsewhere: int
    alike_here: int = 0
    alike_before: int = 0
    uncompared: int = 0
    others: bool = False

    @property
    def alike(self) -> bool:
        """Must a person say whether ids that are spelled alike are different people?"""
        return self.alike_here + self.alike_before > 0

    @property
    def strangers(self) -> bool:
        """Is nobody known, though other cohorts are?"""
        return self.others and self.known + self.elsewhere == 0


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

    def census(self, cohort: str, tags: Tags, folded: Tags) -> Census:
        """Where the units of `tags` stand; `folded`: tags of their folded ids, in the same order. Nothing is written."""
        if not self.exists:
            counts = np.unique(folded, axis=0, return_counts=True)[1]
            return Census(len(tags), 0, 0, alike_here=int(counts[counts > 1].sum()))
        with self._open() as table:
            self._ask(table, tags, folded)
            return self._census(table, cohort)

    def include(self, cohort: str, study: str, tags: Tags, folded: Tags, *, different_people: bool = False) -> str:
        """Bind the new units to `cohort`, durably; the digest of the table. The same again changes nothing.

        different_people: a person said that ids which differ in spelling alone are of different people. Raises `DataError`
        where nobody did and there are such, or where a unit belongs elsewhere; no unit is written then.
        """
        with self._open(create=True) as table:
            self._ask(table, tags, folded)
            with _transaction(table):
                found = self._census(table, cohort)
                if found.elsewhere:
                    raise DataError(
                        "patients of this source belong to another cohort, or to an earlier ledger of this site, for life",
                        field="cohort",
                        value=cohort,
                        remedy="take their records out of the source, or declare the cohort that they belong to; a state "
                        "folder that was made anew never replaces the one with their ledger: restore that one",
                    )
                if found.alike and not different_people:
                    raise DataError(
                        "patients' ids differ from others in spelling alone: one person under two ids has two budgets",
                        field="patient ids",
                        remedy="write each id as in the first export; if they are different people, a person says so: answer "
                        "the question of choral site approve (or pretrain), or give --different-people",
                    )
                number, last = table.execute("SELECT number, digest FROM batch ORDER BY number DESC LIMIT 1").fetchone() or (
                    0,
                    _FIRST,
                )
                query = "SELECT hash FROM asked EXCEPT SELECT hash FROM unit ORDER BY hash"
                new: list[Row] = [(0, row[0], b"") for row in table.execute(query)]
                fresh: list[Row] = [(1, *row) for row in table.execute("SELECT folded, hash FROM fresh ORDER BY folded, hash")]
                if not new and not fresh:
                    return str(last)
                number += 1
                digest = _link(last, self._ledger, cohort, study, [*new, *fresh])
                table.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (number, self._ledger, cohort, study, digest))
                table.executemany("INSERT INTO unit VALUES (?, ?)", ((unit, number) for _, unit, _ in new))
                table.executemany("INSERT INTO spelling VALUES (?, ?, ?)", ((*row, number) for _, *row in fresh))
                return digest

    def verify(self, digests: Iterable[str]) -> None:
        """Walk the whole table: every batch as it was written, and each of `digests` among them; `ChainError` else."""
        if not self.exists:
            raise _older("no table")
        known, last = {_FIRST}, _FIRST
        with self._open() as table:
            batches = {row[0]: row[1:] for row in table.execute("SELECT * FROM batch ORDER BY number")}
            for number, rows in groupby(table.execute(_ROWS), key=itemgetter(0)):
                ledger, cohort, study, stored = batches.pop(number, ("", "", "", ""))
                last = _link(last, ledger, cohort, study, _whole(number, rows))
                if last != stored:
                    raise _older(f"batch {number} was edited")
                known.add(last)
            if batches:
                raise _older(f"batch {min(batches)} is empty")
        for digest in digests:
            if digest not in known:
                raise _older("batch of a study in the ledger")

    def _ask(self, table: sqlite3.Connection, tags: Tags, folded: Tags) -> None:
        """A temporary table of the keyed hashes of both, each unit once."""
        key = self._key().reveal()
        units, others = (
            (hashlib.blake2b(tag.tobytes(), digest_size=_HASH_BYTES, key=key, person=person).digest() for tag in side)
            for side, person in ((tags, b"choral/unit"), (folded, b"choral/folded"))
        )
        with _transaction(table):
            for statement in _ASKED:
                table.execute(statement)
            table.executemany("INSERT OR IGNORE INTO asked VALUES (?, ?)", zip(units, others, strict=True))

    def _census(self, table: sqlite3.Connection, cohort: str) -> Census:
        asked = int(table.execute("SELECT count(*) FROM asked").fetchone()[0])
        found = table.execute(
            "SELECT batch.ledger = ? AND batch.cohort = ? AS here, count(*) FROM asked JOIN unit USING (hash)"
            " JOIN batch ON batch.number = unit.batch GROUP BY here",
            (self._ledger, cohort),
        )
        counts = {int(here): int(count) for here, count in found}
        known, elsewhere = counts.get(1, 0), counts.get(0, 0)
        here, before, uncompared = (
            int(table.execute(query).fetchone()[0]) for query in (_ALIKE_HERE, _ALIKE_BEFORE, _UNCOMPARED)
        )
        query = "SELECT EXISTS (SELECT 1 FROM batch WHERE NOT (ledger = ? AND cohort = ?))"
        others = bool(table.execute(query, (self._ledger, cohort)).fetchone()[0])
        return Census(asked - known - elsewhere, known, elsewhere, here, before, uncompared, others)

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
                _prepare(table, create)
                yield table
        except sqlite3.DatabaseError as error:
            raise StateError("table of patients is not a readable SQLite file", field="path", value=str(self._path)) from error


def _prepare(table: sqlite3.Connection, write: bool) -> None:
    """A table of an older version is brought to the present one by the first writing; till then it is read as it is."""
    with _transaction(table):
        version = table.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _TABLES:
                table.execute(statement)
        elif version == _WITHOUT_SPELLINGS:
            table.execute(f"CREATE {'' if write else 'TEMP '}{_SPELLING}")
            if write:
                table.execute(f"PRAGMA user_version={_SCHEMA}")
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


def _link(previous: str, ledger: str, cohort: str, study: str, rows: Iterable[Row]) -> str:
    """The digest of the table after a batch of `rows`: sorted units (0, hash, b""), then sorted spellings (1, folded, hash)."""
    units, spellings, spelled = hashlib.sha256(f"{previous}\n{ledger}\n{cohort}\n{study}\n".encode()), hashlib.sha256(), False
    for kind, first, second in rows:
        (spellings if kind else units).update(first + second)
        spelled = spelled or bool(kind)
    if not spelled:
        # As versions without spellings did.
        return units.hexdigest()
    return hashlib.sha256(f"spellings\n{units.hexdigest()}\n{spellings.hexdigest()}".encode()).hexdigest()


def _whole(number: int, rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    """Rows of batch `number`, as they were read; of other lengths they could run together to the same digest."""
    for _, kind, first, second in rows:
        values = (first, second) if kind else (first,)
        if not all(isinstance(value, bytes) and len(value) == _HASH_BYTES for value in values):
            raise _older(f"batch {number} was edited")
        yield kind, first, second


def _older(what: str) -> ChainError:
    return ChainError(
        "table of patients is not the one that the ledger knows: it was lost, edited, or replaced by an older one",
        field="units.db",
        value=what,
        remedy="restore the latest copy; without it no second cohort can be told from the first",
    )
