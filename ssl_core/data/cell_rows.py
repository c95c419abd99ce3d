"""Step 1 of 12: rows of a declared table, CSV or Parquet, as the cells of the columns that are asked for.

Comes in: a file, its declared name, its format, and the columns by the key of the source file that names each. Goes out, row by
row: cells, a `Fault`, or a `Span` of lines. Which rows are trusted and what a cell is: csv_rows.py, parquet_rows.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.parquet_rows import parquet_rows
from ssl_core.data.reading import Fault, Span


def cell_rows(
    path: Path, name: str, columns: Sequence[tuple[str, str]], *, form: Literal["csv", "parquet"], multiline: bool
) -> Iterator[list[str] | Fault | Span]:
    """Rows of one file; `multiline`: of a CSV file, quoted cells may hold line breaks."""
    if form == "parquet":
        yield from parquet_rows(path, name, columns)
        return
    with open_text(path, name) as stream:
        yield from csv_rows(stream, name, columns, multiline=multiline)
