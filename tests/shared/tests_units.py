"""The table of patients as a version without spellings left it, made from one of today."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path


def as_an_older_version_left_it(path: Path) -> str:
    """Schema 1: no spellings, each batch's digest over its sorted hashes, as that version had it; the last digest."""
    last = hashlib.sha256(b"choral/units/1").hexdigest()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE spelling")
        database.execute("PRAGMA user_version=1")
        for number, ledger, cohort, study in list(
            database.execute("SELECT number, ledger, cohort, study FROM batch ORDER BY 1")
        ):
            hashes = sorted(row[0] for row in database.execute("SELECT hash FROM unit WHERE batch = ?", (number,)))
            last = hashlib.sha256(f"{last}\n{ledger}\n{cohort}\n{study}\n".encode() + b"".join(hashes)).hexdigest()
            database.execute("UPDATE batch SET digest = ? WHERE number = ?", (last, number))
        database.commit()
    return last
