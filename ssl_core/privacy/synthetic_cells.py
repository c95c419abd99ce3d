"""Rows of cells written as a CSV or a Parquet file; for the isolation check.

Comes in: a path, the format, the header and the rows. Goes out: the file. Nothing here is private.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ssl_core.data.optional import needed


def write_cells(path: Path, form: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One file; `form`: "csv" or "parquet"."""
    if form == "parquet":
        write_parquet(path, header, rows)
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def write_parquet(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of texts, in row groups so small that one patient's rows and another's stand in several."""
    arrow, parquet = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    columns = [arrow.array([row[place] for row in rows], arrow.string()) for place in range(len(header))]
    parquet.write_table(arrow.Table.from_arrays(columns, list(header)), path, row_group_size=7)
