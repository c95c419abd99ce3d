"""Step 1 of 12: a read-only transaction on a site's database, whose URL is a secret.

Comes in: a declared source and the folder of its TOML. Goes out: an open SQLAlchemy connection in one transaction that can
write nothing (PostgreSQL: READ ONLY, REPEATABLE READ, so that all tables are of one moment; SQLite: opened with mode=ro), and
streams of rows that are never held whole (server-side cursors). Raises `DataError`: no URL, a URL that cannot be read or of
another database, a file that others may read, a missing driver or SQLite file, a database that is down or refuses, a table or
column that is missing. No message holds the URL, a statement or a cell: a driver's own text may quote them.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.folder_files import inside
from ssl_core.data.optional import needed
from ssl_core.errors import DataError

ROWS_AT_ONCE = 1000
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


@contextmanager
def connected(declared: OmopSource, folder: Path) -> Iterator[Any]:
    """The connection of one transaction; see the module docstring."""
    alchemy = needed("sqlalchemy", "databases")
    engine = _engine(alchemy, _url(alchemy, declared, folder), folder)
    try:
        with _reached(alchemy, engine) as connection:
            yield connection
    except alchemy.exc.SQLAlchemyError as error:
        raise DataError(
            "the database broke off, or refused a query, while it was read",
            field="url",
            value=_code(error),
            remedy="look at the database's own log; its user needs SELECT on the tables of the source, nothing more",
        ) from None
    finally:
        engine.dispose()


def stream(connection: Any, statement: Any) -> Iterator[Any]:
    """Rows of `statement`, a few at a time."""
    result = connection.execute(statement, execution_options={"stream_results": True, "yield_per": ROWS_AT_ONCE})
    try:
        yield from result
    finally:
        result.close()


def check_table(connection: Any, schema: str | None, table: str, columns: Sequence[str]) -> None:
    """Refuse a table, or a column of it, that the database does not have."""
    alchemy = needed("sqlalchemy", "databases")
    try:
        with warnings.catch_warnings():
            # Of types that SQLAlchemy does not know, in columns that are not asked for.
            warnings.simplefilter("ignore")
            found = {str(column["name"]).lower() for column in alchemy.inspect(connection).get_columns(table, schema)}
    except alchemy.exc.NoSuchTableError:
        raise DataError(
            f"table {table!r} is missing in the database", field="cdm_schema", value=schema or "none declared",
            remedy="declare the schema that holds the OMOP tables, and let the user of the URL read them",
        ) from None  # fmt: skip
    for column in columns:
        if column not in found:
            raise DataError(
                f"column {column!r} of table {table!r} is missing in the database", field="cdm_schema",
                value=schema or "none declared", limit="OMOP CDM 5.3 or 5.4",
            )  # fmt: skip


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
        if path.stat().st_mode & 0o007:
            raise DataError(
                "others on this machine may read the file with the URL, which can hold a password", field="url_file",
                value=name, remedy=f"chmod 600 {name}",
            )  # fmt: skip
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DataError("the file with the URL cannot be read", field="url_file", value=name, remedy=error.strerror) from None
    except UnicodeDecodeError:
        raise DataError("the file with the URL is no UTF-8", field="url_file", value=name) from None


def _engine(alchemy: Any, url: Any, folder: Path) -> Any:
    common = {"hide_parameters": True, "poolclass": alchemy.pool.NullPool}
    if url.get_backend_name() == "sqlite":
        path = (folder / (url.database or "")).resolve()
        if not path.is_file():
            raise DataError("the SQLite file of the database is missing", field="url", remedy="correct the path in the URL")
        return alchemy.create_engine("sqlite://", creator=lambda: _sqlite(path), **common)
    if url.drivername == "postgresql":
        url = url.set(drivername=_DRIVERS["postgresql"])
    waiting = {} if "connect_timeout" in url.query else {"connect_timeout": 15}
    try:
        engine = alchemy.create_engine(url, connect_args=waiting, **common)
    except (ImportError, alchemy.exc.NoSuchModuleError):
        raise DataError(
            "the driver of the database is not installed here", field="url", value=url.drivername,
            remedy="pip install 'choral[formats]', and write postgresql:// in the URL",
        ) from None  # fmt: skip
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _sqlite(path: Path) -> sqlite3.Connection:
    # Of a database in WAL mode that nobody has open, SQLite would leave a log and an index beside it, even with mode=ro.
    alone = _is_wal(path) and not path.with_name(f"{path.name}-wal").exists()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro{'&immutable=1' if alone else ''}", uri=True)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


def _is_wal(path: Path) -> bool:
    """Byte 18 of the header is the version that may write: 2 for WAL (sqlite.org/fileformat2.html, 1.3)."""
    with path.open("rb") as stream:
        return stream.read(19)[18:] == b"\x02"


def _reached(alchemy: Any, engine: Any) -> Any:
    try:
        return engine.connect()
    except (alchemy.exc.DBAPIError, OSError) as error:
        raise DataError(
            "the database cannot be reached, or does not let this user in", field="url", value=_code(error),
            remedy="is it running? is the URL right? ask whoever runs it",
        ) from None  # fmt: skip


def _code(error: BaseException) -> str:
    """What kind of error a driver met: its class and, where there is one, the SQLSTATE."""
    met = getattr(error, "orig", None) or error
    state = getattr(met, "sqlstate", None)
    return f"{type(met).__name__} {state}" if state else type(met).__name__
