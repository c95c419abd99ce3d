"""Step 1 of 12: rows of a declared table, CSV or Parquet, as the cells of the columns that are asked for; what a file may hold.

Comes in: the declaration of a table, one of its files with its declared name, and the columns by the key of the source file
that names each. Goes out, row by row: cells, a `Fault`, or a `Span` of lines. Which rows are trusted and what a cell is:
csv_rows.py, parquet_rows.py. Raises `DataError` for a file that holds more bytes or rows than is declared, as soon as it shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.declared import LinesSource
from ssl_core.data.parquet_rows import parquet_rows
from ssl_core.data.reading import Effort, Fault, Span
from ssl_core.errors import DataError

RowT = TypeVar("RowT")


def cell_rows(
    source: LinesSource, path: Path, name: str, columns: Sequence[tuple[str, str]], effort: Effort
) -> Iterator[list[str] | Fault | Span]:
    """Rows of one file."""
    if source.format == "parquet":
        found = parquet_rows(
            path, name, columns, largest=source.largest, max_rows=source.max_rows, workers=effort.workers
        )  # fmt: skip
        yield from at_most(source, name, found)
        return
    with open_text(path, name) as stream:
        check_size(source, stream, name)
        yield from at_most(source, name, csv_rows(stream, name, columns, multiline=source.multiline))


def check_size(source: LinesSource, stream: TextIO, name: str) -> None:
    """Refuse a file of more bytes than declared."""
    if os.fstat(stream.fileno()).st_size > source.largest:
        raise DataError(
            f"file {name!r} is larger than the source allows",
            field="largest_mib",
            limit=f"{source.largest_mib} MiB",
            remedy="divide the file, or declare a larger largest_mib",
        )


def at_most(source: LinesSource, name: str, rows: Iterable[RowT]) -> Iterator[RowT]:
    """The rows of a file, refused when they are more than declared; a span counts as its lines."""
    left = source.max_rows
    for row in rows:
        left -= len(row) if isinstance(row, Span) else 1
        if left < 0:
            # How many there are is a count of patients' records, and stays out of the message.
            raise DataError(
                f"file {name!r} holds more rows than the source allows",
                field="max_rows",
                limit=source.max_rows,
                remedy="divide the file, or declare a larger max_rows",
            )
        yield row
