"""Step 1 of 12: rows of a Parquet file as the cells that a CSV file of the same values would hold.

Comes in: a file, its declared name, and the columns by the key of the source file that names each; no other column is read.
Goes out, row by row: one text a column. The rule, the same for every file: null is the empty cell; a text is itself; a whole
number its digits, a float Python's shortest text of the exact value (`nan` and `inf` too, which are no numbers to the readers),
a decimal its digits; true and false in lower case; a date 2025-03-01, a time stamp 2025-03-01T08:30:00 with microseconds
where it has any (finer digits are dropped), with Z after it where its column has a zone, in UTC. A dictionary (categorical)
column is read as its values. A patient's or record's id is a text or a whole number: a float has lost digits that tell two
patients apart. A text that is no UTF-8 comes out with lone surrogates (`is_clean`), a time stamp that no calendar has as a
`Fault`. Raises `DataError`, naming the file, where it is no Parquet, damaged or cut off, wherever in it that is found, for a
column that is missing or there twice, and for one of another type: lists, structs, maps, binary, durations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault
from ssl_core.errors import DataError

# Few: a cell may take megabytes where the file, compressed or with a dictionary, takes a few bytes for each.
ROWS_AT_ONCE = 256

_EPOCH = datetime(1970, 1, 1)
_IDS = ("patient_column", "record_column")


def parquet_rows(path: Path, name: str, columns: Sequence[tuple[str, str]]) -> Iterator[list[str] | Fault]:
    """Rows of a file; `columns`: pairs of a source file's key and the column that it names."""
    arrow, parquet = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    try:
        with parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            texts = [_column(arrow, schema, column, key, name) for key, column in columns]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column for _, column in columns], use_threads=False):
                cells = [text(batch.column(column)) for text, (_, column) in zip(texts, columns, strict=True)]
                for row in zip(*cells, strict=True):
                    yield Fault.UNREADABLE if None in row else list(row)
    except (arrow.ArrowException, OSError, MemoryError, OverflowError) as error:
        # What the library says may quote the file.
        raise DataError(
            f"file {name!r} cannot be read as Parquet",
            field="path",
            value=type(error).__name__,
            remedy="write it again; it is damaged, cut off, encrypted or of another format",
        ) from None


Texts = Callable[[Any], list[Any]]
"""An Arrow array to one text a value, or None where there is none that a calendar has."""


def _column(arrow: Any, schema: Any, column: str, key: str, name: str) -> Texts:
    if schema.names.count(column) != 1:
        what = "twice" if column in schema.names else "missing"
        raise DataError(f"column {column!r} is {what} in file {name!r}", field=key, value=column)
    kind, found = schema.field(column).type, None
    while arrow.types.is_dictionary(kind):
        kind = kind.value_type
    is_id = key in _IDS
    for fits, texts in _rules(arrow):
        if fits(kind):
            found = texts
            break
    if found is None or (is_id and not _may_name(arrow, kind)):
        raise DataError(
            f"column {column!r} of file {name!r} is of a type that is not read there",
            field=key,
            value=str(kind)[:80],
            limit="text or whole number" if is_id else "text, number, true or false, date, time stamp",
            remedy="write the column as text, or as numbers",
        )
    rule = found

    def plain(values: Any) -> list[Any]:
        while arrow.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return rule(values)

    return plain


def _may_name(arrow: Any, kind: Any) -> bool:
    is_text = any(fits(kind) for fits in _text_types(arrow))
    return is_text or arrow.types.is_integer(kind) or arrow.types.is_null(kind)


def _text_types(arrow: Any) -> tuple[Callable[[Any], bool], ...]:
    types = arrow.types
    return types.is_string, types.is_large_string, types.is_string_view


def _rules(arrow: Any) -> list[tuple[Callable[[Any], bool], Texts]]:
    types = arrow.types

    def texts(values: Any) -> list[Any]:
        # As bytes: a text that is no UTF-8 must not end the file.
        return [
            "" if v is None else v.decode("utf-8", "surrogateescape") for v in values.cast(arrow.large_binary()).to_pylist()
        ]

    def stamps(values: Any) -> list[Any]:
        zone = "" if values.type.tz is None else "Z"
        micros = values.cast(arrow.timestamp("us", values.type.tz), safe=False).cast(arrow.int64())
        return _each(micros, lambda value: _stamp(value, zone))

    def dates(values: Any) -> list[Any]:
        days = values.cast(arrow.date32(), safe=False).cast(arrow.int32())
        return _each(days, _day)

    rules: list[tuple[Callable[[Any], bool], Texts]] = [(fits, texts) for fits in _text_types(arrow)]
    return [
        *rules,
        (types.is_integer, lambda values: _each(values, str)),
        (types.is_floating, lambda values: _each(values, lambda value: repr(float(value)))),
        (types.is_decimal, lambda values: _each(values, str)),
        (types.is_boolean, lambda values: _each(values, lambda value: "true" if value else "false")),
        (types.is_null, lambda values: [""] * len(values)),
        (types.is_timestamp, stamps),
        (types.is_date, dates),
    ]


def _each(values: Any, text: Callable[[Any], str | None]) -> list[Any]:
    return ["" if value is None else text(value) for value in values.to_pylist()]


def _stamp(micros: int, zone: str) -> str | None:
    try:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat() + zone
    except OverflowError:
        return None


def _day(days: int) -> str | None:
    try:
        return (_EPOCH + timedelta(days=days)).date().isoformat()
    except OverflowError:
        return None
