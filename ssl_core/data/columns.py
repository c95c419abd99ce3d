"""Step 1 of 12: reader of tables with typed columns (CSV, Parquet); scales, levels and codes are the plan's, nothing is fitted.

Comes in: a declared table and its resolved files. Goes out: a `Reading` with float32 [m, 2 N + C] for N numeric and C
categorical columns: N values (x - centre) / typical, N codes, C codes, in the plan's order. Codes: 0 missing; a number that
is there 1, its value 0 where it is missing; a level that the plan does not declare 1, a declared one 2 and on.
An empty cell, or one that the source calls `missing`, is missing. A number is written as digits, with a point and an exponent
where there is one; nothing is guessed of a decimal comma, a sign such as "<", a date. A row with another text there, or a
number beyond a million times `typical`, is bad, as is one without any value: an all-zero record, in which all is missing.
Where the source names a column of times, a row without one is bad too, and a patient's rows stand in the order of theirs.
A level counts as written, in Unicode NFC, without space around it. Raises `DataError` for what concerns the whole source: a
file that cannot be opened, a column that is missing, units that are not the plan's. `check_levels`, before approval, refuses
a categorical column none of whose cells is a declared level: it is coded in another way than the plan says.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.declared import ColumnsSource
from ssl_core.data.numbers import number_of
from ssl_core.data.reading import Effort, Fault, Reading, Tally, is_clean, owned, row_id
from ssl_core.data.rows import Rows
from ssl_core.data.times import in_order, microseconds
from ssl_core.errors import DataError
from ssl_core.spec.data import NumericColumn, TableData

LARGEST = 1e6
"""Most of a scaled value; beyond it a number is no measurement but a slip."""


def read_columns(source: ColumnsSource, files: tuple[Path, ...], data: TableData, effort: Effort) -> Reading:
    """All rows of `files`; see the module docstring."""
    columns = _headers(source, data)
    levels = level_codes(data)
    missing = {"", *(unicodedata.normalize("NFC", cell).strip() for cell in source.missing)}
    owners: list[str] = []
    order: list[str] = []
    names: list[str] = []
    tallies = []
    with Rows(np.zeros(data.values, np.float32), effort.scratch) as rows:
        for name, path in zip(source.paths, files, strict=True):
            tally = Tally(name)
            tallies.append(tally)
            for owner, row in owned(cell_rows(source, path, name, columns, effort), tally):
                when = None if source.time_column is None else microseconds(row.pop(), source.time_unit)
                names.append("" if source.record_column is None else row_id(row.pop()) or "")
                record = when if isinstance(when, Fault) else table_record(row[1:], data, levels, missing)
                if isinstance(record, Fault):
                    tally.faults[record] += 1
                    record = np.zeros(data.values, np.float32)
                tally.undeclared += bool((record[2 * len(data.numeric) :] == 1).any())
                owners.append(owner)
                order.append("" if isinstance(when, Fault | None) else in_order(when))
                rows.add(record)
        return Reading(owners, order, rows.array(), tuple(tallies), names)


def level_codes(data: TableData) -> list[dict[str, int]]:
    """For each categorical column of the plan: level -> code."""
    return [{level: 2 + code for code, level in enumerate(column.levels)} for column in data.categorical]


def table_record(
    cells: Sequence[str], data: TableData, levels: Sequence[dict[str, int]], missing: set[str]
) -> npt.NDArray[np.float32] | Fault:
    """One row's cells, in the plan's order, to float32 [2 N + C]; `levels` as `level_codes` gives them."""
    whole = "".join(cells)
    if not is_clean(whole):
        return Fault.UNREADABLE
    texts = [cell.strip() for cell in cells]
    if not whole.isascii():
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    if all(text in missing for text in texts):
        return Fault.NO_VALUE
    count = len(data.numeric)
    out = np.zeros(data.values, np.float64)
    for place, (column, text) in enumerate(zip(data.numeric, texts[:count], strict=True)):
        if text not in missing:
            value = _scaled(text, column)
            if value is None:
                return Fault.NO_NUMBER
            out[place], out[count + place] = value, 1.0
    for place, (known, text) in enumerate(zip(levels, texts[count:], strict=True), start=2 * count):
        out[place] = 0.0 if text in missing else known.get(text, 1)
    return out.astype(np.float32)


def _scaled(text: str, column: NumericColumn) -> float | None:
    """The value of a cell in the plan's scale, or None where it is no number or one beyond all bounds."""
    number = number_of(text)
    if number is None:
        return None
    # An exponent of any size gives infinity here, which is beyond all bounds too.
    value = (number - column.centre) / column.typical
    return value if abs(value) <= LARGEST else None


def _headers(source: ColumnsSource, data: TableData) -> list[tuple[str, str]]:
    """Key and header of the patient column and of all columns of the plan; refused where names or units are not the plan's."""
    names = [column.name for column in data.columns]
    units = {column.name: column.unit for column in data.numeric}
    for field, given, known in (("columns", source.columns, names), ("units", source.units, units)):
        for name in given:
            if name not in known:
                raise DataError(
                    "the source names a column that the study does not have", field=field, value=name, remedy="remove it"
                )
    for name, unit in units.items():
        if source.units.get(name) != unit:
            raise DataError(
                f"column {name!r} is in another unit than the study asks for",
                field=f"units.{name}",
                value=source.units.get(name, "none declared"),
                limit=unit or "none",
                remedy="declare the unit of the file; where it is another, convert the file",
            )
    headers = [("patient_column", source.patient_column)]
    headers += [(f"columns.{name}", source.columns.get(name, name)) for name in names]
    headers += [("record_column", source.record_column)] if source.record_column is not None else []
    headers += [("time_column", source.time_column)] if source.time_column is not None else []
    if len({header for _, header in headers}) != len(headers):
        raise DataError(
            "two columns of the study, or one and the patient's, the record's or the time's, stand under one header",
            field="columns",
            remedy="give each column of the study a header of its own; a patient id is never a value",
        )
    return headers


def check_levels(records: npt.NDArray[np.int32] | npt.NDArray[np.float32], data: TableData) -> None:
    """Refuse a column in which there are cells but none that is a declared level; part of the check before approval."""
    for place, column in enumerate(data.categorical, start=2 * len(data.numeric)):
        codes = records[:, place]
        if (codes == 1).any() and not (codes > 1).any():
            raise DataError(
                f"no cell of column {column.name!r} is a level that the study declares",
                field=f"columns.{column.name}",
                limit=", ".join(column.levels[:20]),
                remedy="write the levels as the study does, or declare as missing what stands for no value",
            )
