"""Step 1 of 12: a read-only transaction on a site's database, whose URL is a secret, within bounds of time and size.

Comes in: a declared source and the folder of its TOML. Goes out: an open SQLAlchemy connection in one transaction that can
write nothing (PostgreSQL: READ ONLY, REPEATABLE READ, so that all tables are of one moment; SQLite: sqlite_file.py), and
streams of rows that are never held whole (server-side cursors). All of it ends after the declared `seconds`: SQLite stops in
the midst of a statement, PostgreSQL is told by statement_timeout (a shorter one of its own stays), and between two rows this
side looks itself; a statement that begins at the end may take PostgreSQL as long again. Raises `DataError`: no URL, a URL that
cannot be read or of another database, a file that others may read, a missing driver or SQLite file, one that lies elsewhere or
is damaged, a database that is down or refuses, a table or column that is missing or no plain one, too many rows, too late. No
message holds the URL, a statement or a cell: a driver's own text may quote them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.folder_files import inside
from ssl_core.data.optional import needed
from ssl_core.data.sqlite_file import damaged, file_of, opened, plain_columns
from ssl_core.errors import DataError

ROWS_AT_ONCE = 1000
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_LONGEST_URL = 1 << 14
# Unless the URL says otherwise, in libpq's words (postgresql.org/docs, 34.1.2): a server that does not answer at all is given
# up, and texts come as UTF-8, also of a server that knows no encoding and would send bytes.
_PARAMETERS = {
    "connect_timeout": 15, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4, "client_encoding": "utf8",
}  # fmt: skip
_LATE = ("SQLITE_INTERRUPT", "57014")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")


@dataclass(frozen=True, slots=True)
class Base:
    """An open connection, what is declared of it, and when its time is over (`time.monotonic`)."""

    connection: Any
    declared: OmopSource
    until: float

    @property
    def is_sqlite(self) -> bool:
        """A file, and no server?"""
        return bool(self.connection.dialect.name == "sqlite")

    def size_of(self, column: Any) -> Any:
        """The expression of a column's bytes, None where it is NULL."""
        alchemy = needed("sqlalchemy", "databases")
        # SQLite has octet_length from 3.43 on, and its length() of a text ends at a zero.
        return (
            alchemy.func.length(alchemy.cast(column, alchemy.LargeBinary))
            if self.is_sqlite
            else alchemy.func.octet_length(column)
        )


@contextmanager
def connected(declared: OmopSource, folder: Path) -> Iterator[Base]:
    """The connection of one transaction; see the module docstring."""
    alchemy = needed("sqlalchemy", "databases")
    until = time.monotonic() + declared.seconds
    engine = _engine(alchemy, declared, folder, until)
    try:
        with _reached(alchemy, engine, declared) as connection:
            base = Base(connection, declared, until)
            _begin(alchemy, base)
            yield base
    except (alchemy.exc.SQLAlchemyError, sqlite3.Error, UnicodeDecodeError) as error:
        raise _refused(error, engine, declared) from None
    finally:
        engine.dispose()


def stream(base: Base, statement: Any, at_once: int = ROWS_AT_ONCE) -> Iterator[Any]:
    """Rows of `statement`, a few at a time, not more than declared."""
    left = base.declared.max_rows
    result = base.connection.execute(statement, execution_options={"stream_results": True, "yield_per": at_once})
    try:
        for row in result:
            left -= 1
            if left < 0:
                raise too_many(base.declared)
            if time.monotonic() > base.until:
                raise _late(base.declared)
            yield row
    finally:
        result.close()


def check_table(base: Base, table: str, columns: Sequence[str]) -> None:
    """Refuse a table, or a column of it, that the database does not have, and one of SQLite that is not plain or not whole."""
    schema = base.declared.cdm_schema
    found = (
        plain_columns(base.connection.connection.dbapi_connection, schema, table)
        if base.is_sqlite
        else _server_columns(base.connection, schema, table)
    )
    if found is None:
        raise DataError(
            f"table {table!r} is missing in the database", field="cdm_schema", value=schema or "none declared",
            remedy="declare the schema that holds the OMOP tables, and let the user of the URL read them",
        )  # fmt: skip
    for column in columns:
        if column not in found:
            raise DataError(
                f"column {column!r} of table {table!r} is missing in the database", field="cdm_schema",
                value=schema or "none declared", limit="OMOP CDM 5.3 or 5.4",
            )  # fmt: skip


def table_of(base: Base, name: str, columns: Sequence[str]) -> Any:
    """The columns of a table to select from. SQLite reads none from an index, which may say another person than the row."""
    alchemy = needed("sqlalchemy", "databases")
    schema = base.declared.cdm_schema
    if not base.is_sqlite:
        return alchemy.table(name, *map(alchemy.column, columns), schema=schema)
    whole = f'SELECT {", ".join(columns)} FROM "{schema or "main"}".{name} NOT INDEXED'  # noqa: S608 - names of our own, and one of letters
    return alchemy.text(whole).columns(*map(alchemy.column, columns)).subquery(name)


def check_sortable(base: Base, statement: Any, most: int) -> None:
    """Refuse what SQLite would have to sort in memory: over max_rows rows, or of over `most` bytes each on average."""
    if not base.is_sqlite:
        return
    alchemy = needed("sqlalchemy", "databases")
    asked = statement.subquery("asked")
    sizes = [alchemy.func.coalesce(base.size_of(column), 0) for column in asked.c]
    counted = alchemy.select(alchemy.func.count(), alchemy.func.total(sum(sizes[1:], sizes[0]))).select_from(asked)
    rows, size = base.connection.execute(counted).one()
    if rows > base.declared.max_rows or size > most * base.declared.max_rows:
        raise too_many(base.declared)


def too_many(declared: OmopSource) -> DataError:
    """How many rows there are is a count of patients' records, and stays out of the message."""
    return DataError(
        "the database gives more rows, or larger ones, than the source allows", field="max_rows", limit=declared.max_rows,
        remedy="ask for fewer concepts, or declare a larger max_rows where the machine has the memory",
    )  # fmt: skip


def _late(declared: OmopSource) -> DataError:
    return DataError(
        "the database was not read in the time that the source allows", field="seconds", limit=declared.seconds,
        remedy="see whether it is busy, or locked; declare more seconds where its size needs them",
    )  # fmt: skip


def _begin(alchemy: Any, base: Base) -> None:
    if base.is_sqlite:
        base.connection.exec_driver_sql("BEGIN")
        return
    # In milliseconds; 0 is none.
    base.connection.execute(
        alchemy.text(
            "SELECT set_config(name, CAST(CASE WHEN CAST(setting AS bigint) BETWEEN 1 AND :own THEN CAST(setting AS bigint) "
            "ELSE :own END AS text), true) FROM pg_settings WHERE name = 'statement_timeout'"
        ),
        {"own": max(1, int(base.declared.seconds * 1000))},
    )


def _server_columns(connection: Any, schema: str | None, table: str) -> set[str] | None:
    alchemy = needed("sqlalchemy", "databases")
    try:
        with warnings.catch_warnings():
            # Of types that SQLAlchemy does not know, in columns that are not asked for.
            warnings.simplefilter("ignore")
            return {str(column["name"]).lower() for column in alchemy.inspect(connection).get_columns(table, schema)}
    except alchemy.exc.NoSuchTableError:
        return None


def _url(alchemy: Any, declared: OmopSource, folder: Path) -> Any:
    if declared.url_variable is not None:
        field, text = "url_variable", os.environ.get(declared.url_variable, "").strip()
    else:
        field, text = "url_file", _from_file(folder, str(declared.url_file))
    if not text:
        raise DataError("the URL of the database is not set", field=field, value=getattr(declared, field))
    try:
        if "\0" in text:
            raise ValueError("a URL has no such character")
        url = alchemy.engine.make_url(text)
    except (alchemy.exc.ArgumentError, ValueError):
        raise DataError(
            "the URL of the database cannot be read", field=field, value=getattr(declared, field),
            limit="sqlite:///cdm.db or postgresql://user:password@host/name", remedy="escape special characters of a password",
        ) from None  # fmt: skip
    if url.get_backend_name() not in _DRIVERS:
        raise DataError("the database is of another kind", field=field, value=url.get_backend_name(), limit=", ".join(_DRIVERS))
    return url


def _from_file(folder: Path, name: str) -> str:
    path = inside(folder, name, "url_file")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError("the file with the URL is no file", field="url_file", value=name)
        if found.st_mode & 0o007:
            raise DataError(
                "others on this machine may read the file with the URL, which can hold a password", field="url_file",
                value=name, remedy=f"chmod 600 {name}",
            )  # fmt: skip
        with path.open("rb") as stream:
            return stream.read(_LONGEST_URL).decode("utf-8").strip()
    except OSError as error:
        raise DataError("the file with the URL cannot be read", field="url_file", value=name, remedy=error.strerror) from None
    except UnicodeDecodeError:
        raise DataError("the file with the URL is no UTF-8", field="url_file", value=name) from None


def _engine(alchemy: Any, declared: OmopSource, folder: Path, until: float) -> Any:
    url = _url(alchemy, declared, folder)
    common = {"hide_parameters": True, "poolclass": alchemy.pool.NullPool}
    if url.get_backend_name() == "sqlite":
        path = file_of(folder, url.database or "")
        return alchemy.create_engine("sqlite://", creator=lambda: opened(path, 2 * declared.largest, until), **common)
    if url.drivername == "postgresql":
        url = url.set(drivername=_DRIVERS["postgresql"])
    given = {word: value for word, value in _PARAMETERS.items() if word not in url.query}
    try:
        engine = alchemy.create_engine(url, connect_args=given, **common)
    except (ImportError, alchemy.exc.NoSuchModuleError):
        raise DataError(
            "the driver of the database is not installed here", field="url", value=url.drivername,
            remedy="pip install 'choral[formats]', and write postgresql:// in the URL",
        ) from None  # fmt: skip
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _reached(alchemy: Any, engine: Any, declared: OmopSource) -> Any:
    try:
        return engine.connect()
    except (alchemy.exc.DBAPIError, sqlite3.Error, UnicodeDecodeError, OSError) as error:
        if _code(error).endswith(_LATE) or _is_damage(error, engine):
            raise _refused(error, engine, declared) from None
        raise DataError(
            "the database cannot be reached, or does not let this user in", field="url", value=_code(error),
            remedy="is it running? is the URL right? ask whoever runs it",
        ) from None  # fmt: skip


def _is_damage(error: BaseException, engine: Any) -> bool:
    """Is it what a damaged SQLite file brings about? Its messages quote names that may be no UTF-8 any more."""
    unquotable = isinstance(error, UnicodeDecodeError) and engine.dialect.name == "sqlite"
    return unquotable or any(word in _code(error) for word in _DAMAGED)


def _refused(error: BaseException, engine: Any, declared: OmopSource) -> DataError:
    """The line of its own for what a driver met."""
    code = _code(error)
    if code.endswith(_LATE):
        return _late(declared)
    if _is_damage(error, engine):
        return damaged()
    if code.endswith("SQLITE_TOOBIG"):
        return DataError(
            "a cell of the database is larger than the source allows", field="largest_mib", limit=f"{declared.largest_mib} MiB",
            remedy="declare a larger largest_mib where such texts are right",
        )  # fmt: skip
    return DataError(
        "the database broke off, or refused a query, while it was read",
        field="url",
        value=code,
        remedy="look at the database's own log; its user needs SELECT on the tables of the source, nothing more",
    )


def _code(error: BaseException) -> str:
    """What kind of error a driver met: its class and, where there is one, the SQLSTATE or SQLite's name of it."""
    met = getattr(error, "orig", None) or error
    state = getattr(met, "sqlstate", None) or getattr(met, "sqlite_errorname", None)
    return f"{type(met).__name__} {state}" if state else type(met).__name__
