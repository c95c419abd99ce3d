"""Step 1 of 12: a site's SQLite file, opened as what it is: a file from anywhere, which may be damaged or made to do harm.

Comes in: the path that a URL holds and the folder of the TOML. Goes out: the file's path, a connection that can write nothing,
and the columns of a plain table. After sqlite.org/security.html, "Untrusted SQLite Database Files": no function or table of an
extension that its schema asks for, no memory map, cells checked as pages are read, a cell of at most `longest` bytes, an end
at `until` (seconds of `time.monotonic`) in the midst of a statement. What SQLite sorts, it sorts in memory: it would else write
patients' cells to a file of its own outside the state folder (docs/disk.md). A view, a virtual table or a computed column, all
of which can run for ever or join what belongs to several patients, is refused, and so is a damaged table. Raises `DataError`
without the path, `sqlite3.Error` for what is no database.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from ssl_core.errors import DataError

LONGEST_SCHEMA = 1 << 20
"""Bytes that a cell may always have: a statement of the schema is one."""

_STEPS = 20_000
_PRAGMAS = (
    "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON", "temp_store = MEMORY",
    # They are expressions of the file's own, and the check of a table would compute them.
    "ignore_check_constraints = ON",
)  # fmt: skip
# What a plain select of the declared columns does not need: limits.html.
_LIMITS = (
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_COMPUTED = (2, 3)


def file_of(folder: Path, written: str) -> Path:
    """The file that a URL names, resolved; `DataError` where it is none, or lies outside `folder`."""
    base = folder.resolve()
    try:
        path = (base / written).resolve()
        is_file = path.is_file()
        linked = any(path.with_name(f"{path.name}{end}").is_symlink() for end in ("-wal", "-shm", "-journal"))
    except (OSError, RuntimeError):
        # Links in a circle, a name that is too long, or that may not be looked at: the text would name the file.
        is_file = False
    if not is_file:
        raise DataError("the SQLite file of the database is missing", field="url", remedy="correct the path in the URL")
    if not path.is_relative_to(base) or linked:
        raise DataError(
            "the SQLite file of the database, or its log, lies outside the folder of the source file",
            field="url",
            remedy="replace the symbolic link by what it leads to, or move the source file beside the data",
        )
    return path


def opened(path: Path, longest: int, until: float) -> sqlite3.Connection:
    """A connection; see the module docstring."""
    # Of a database in WAL mode that nobody has open, SQLite would leave a log and an index beside it, even with mode=ro.
    alone = _is_wal(path) and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    # Transactions are begun by hand: the module's own begin with the first statement that writes.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        for limit, most in (*_LIMITS, (sqlite3.SQLITE_LIMIT_LENGTH, max(longest, LONGEST_SCHEMA))):
            connection.setlimit(limit, most)
        connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def plain_columns(connection: sqlite3.Connection, schema: str | None, table: str) -> set[str] | None:
    """The columns of a table, in small letters; None where it is missing; `DataError` where it is not plain, or not whole."""
    base = schema or "main"
    if base not in {row[1] for row in connection.execute("PRAGMA database_list")}:
        return None
    found = connection.execute(
        f"SELECT type, sql FROM \"{base}\".sqlite_master WHERE lower(name) = ? AND type IN ('table', 'view')",  # noqa: S608 - a name checked above
        [table],
    ).fetchall()
    if not found:
        return None
    # SQLite refuses a schema whose `type` is another than its `sql` makes, and itself writes the statement so.
    plain = all(kind == "table" and str(sql).startswith("CREATE TABLE ") for kind, sql in found)
    columns = connection.execute(f'PRAGMA "{base}".table_xinfo({table})').fetchall() if plain else []
    if not plain or any(column[6] in _COMPUTED for column in columns):
        raise DataError(
            f"{table!r} is a view, or a table that computes its columns", field="cdm_schema", value=base, limit="a plain table",
            remedy="write what it gives into a table of a new SQLite file, and read that",
        )  # fmt: skip
    if [row[0] for row in connection.execute(f'PRAGMA "{base}".quick_check({table})')] != ["ok"]:
        raise damaged()
    return {str(column[1]).lower() for column in columns}


def damaged() -> DataError:
    """What is wrong with a file that SQLite cannot read."""
    return DataError(
        "the SQLite file of the database is damaged, or none", field="url",
        remedy="export it anew; PRAGMA integrity_check, in SQLite's own program, says what is damaged",
    )  # fmt: skip


def _is_wal(path: Path) -> bool:
    """Byte 18 of the header is the version that may write: 2 for WAL (sqlite.org/fileformat2.html, 1.3)."""
    with path.open("rb") as stream:
        return stream.read(19)[18:] == b"\x02"
