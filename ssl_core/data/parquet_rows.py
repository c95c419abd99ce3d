"""Step 1 of 12: rows of a Parquet file as the cells that a CSV file of the same values would hold.

Comes in: a file, its declared name, and the columns by the key of the source file that names each; no other column is read. A
file may lie about its sizes, so it is parsed in a worker process with limits of time and memory (row_stream.py); `workers=0`
parses it in this one, without them: for files that this program made itself.
Goes out, row by row: one text a column. The rule, the same for every file: null is the empty cell; a text is itself; a whole
number its digits, a float Python's shortest text of the exact value (`nan` and `inf` too, which are no numbers to the readers),
a decimal its digits; true and false in lower case; a date 2025-03-01, a time stamp 2025-03-01T08:30:00 with microseconds
where it has any (finer digits are dropped), with Z after it where its column has a zone, in UTC. A dictionary (categorical)
column is read as its values. A patient's or record's id is a text or a whole number: a float has lost digits that tell two
patients apart. A text that is no UTF-8 comes out with lone surrogates (`is_clean`), a time stamp that no calendar has as a
`Fault`. Raises `DataError`, naming the file, where it is no Parquet, damaged or cut off, wherever in it that is found, for a
column that is missing or there twice, and for one of another type: lists, structs, maps, binary, durations; for more rows, or
bytes of these columns, than allowed, by the file's own figures before a page is read, and by the texts that come of it (equal
values that a dictionary or a codec holds once are as many texts as rows); for a row longer than one of a CSV file may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from ssl_core.data.csv_rows import LONGEST
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault
from ssl_core.data.row_stream import Broken, streamed
from ssl_core.errors import DataError

# Few: a cell may take megabytes where the file, compressed or with a dictionary, takes a few bytes for each.
ROWS_AT_ONCE = 256
MEMORY = 3 << 29
"""Bytes that the worker may allocate: a page as writers make them takes a few MiB."""
SECONDS = 60.0
"""For each `ROWS_AT_ONCE` rows."""

_FRAME = 16 * LONGEST
_BUFFER = 1 << 20
_EPOCH = datetime(1970, 1, 1)
_IDS = ("patient_column", "record_column")

Columns = Sequence[tuple[str, str]]


class _Refused(Exception):
    """The file is not read: why, at which column, and what was found there."""

    def __init__(self, why: str, place: int = 0, found: str = "") -> None:
        super().__init__(why)
        self.why, self.place, self.found = why, place, found


def parquet_rows(
    path: Path, name: str, columns: Columns, *, largest: int, max_rows: int, workers: int
) -> Iterator[list[str] | Fault]:
    """Rows of a file; `columns`: pairs of a source file's key and the column that it names; `largest` in bytes."""
    needed("pyarrow", "Parquet files")
    work = partial(_told, path, tuple(columns), largest, max_rows)
    parts = streamed(partial(_alone, work), memory=MEMORY, seconds=SECONDS, most=_FRAME) if workers else work()
    try:
        for part in parts:
            for row in zip(*_batch(part, len(columns)), strict=True):
                yield Fault.UNREADABLE if None in row else list(row)
    except _Refused as refused:
        raise _error(refused, name, columns, largest, max_rows) from None
    except Broken as broken:
        raise _error(_Refused("ended", found=broken.fault.value), name, columns, largest, max_rows) from None


def _batch(part: Any, count: int) -> list[list[Any]]:
    """A column's texts for each column; raises what the part says of the file, and `Broken` for what `_told` does not say."""
    match part:
        case ["rows", [*texts]] if len(texts) == count and all(isinstance(column, list) for column in texts):
            if len({len(column) for column in texts}) == 1 and all(isinstance(t, str | None) for c in texts for t in c):
                return texts
        case ["refused", str(why), int(place), str(found)] if why in _WHY and 0 <= place < count:
            raise _Refused(why, place, found[:80] if found.isprintable() else "")
    raise Broken(Fault.CRASHED)


def _alone(work: Callable[[], Iterator[list[Any]]]) -> Iterator[list[Any]]:
    """In the worker: memory comes straight from the system, whose limit then says no at once."""
    import pyarrow

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    return work()


def _told(path: Path, columns: Columns, largest: int, max_rows: int) -> Iterator[list[Any]]:
    """["rows", texts of each column], batch after batch; ["refused", why, column, what was found] ends them."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            rules = [_column(arrow, schema, column, key, place) for place, (key, column) in enumerate(columns)]
            names = [column for _, column in columns]
            _check_figures(file.metadata, set(names), largest, max_rows)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=names, use_threads=False):
                texts = [text(batch.column(column)) for text, column in zip(rules, names, strict=True)]
                sizes = [sum(len(text or "") for text in row) for row in zip(*texts, strict=True)]
                largest -= sum(sizes)
                if largest < 0:
                    raise _Refused("bytes")
                if max(sizes, default=0) > LONGEST:
                    raise _Refused("row")
                # A part is bounded whatever the rows are.
                step = len(sizes) if sum(sizes) <= LONGEST else 1
                for begin in range(0, len(sizes), step):
                    yield ["rows", [column[begin : begin + step] for column in texts]]
    except _Refused as refused:
        yield ["refused", refused.why, refused.place, refused.found]
    except MemoryError:
        yield ["refused", "memory", 0, ""]
    except (arrow.ArrowException, OSError, OverflowError) as error:
        # What the library says may quote the file.
        yield ["refused", "damaged", 0, type(error).__name__]


def _check_figures(figures: Any, names: set[str], largest: int, max_rows: int) -> None:
    """What the file's own metadata say of its size."""
    if figures.num_rows > max_rows:
        raise _Refused("rows")
    for place in range(figures.num_row_groups):
        group = figures.row_group(place)
        chunks = (group.column(number) for number in range(group.num_columns))
        largest -= sum(max(0, chunk.total_uncompressed_size) for chunk in chunks if chunk.path_in_schema in names)
        if largest < 0:
            raise _Refused("bytes")


_OF_FILE = "write it again; it is damaged, cut off, encrypted or of another format"
_OF_PAGES = "write it again, with pages of a few MiB and rows of short texts"
_WHY: dict[str, tuple[str, str | None]] = {
    "missing": ("column {column!r} is missing in file {name!r}", "name the column as the file does, capitals and all"),
    "twice": ("column {column!r} is twice in file {name!r}", "give each column a name of its own"),
    "type": (
        "column {column!r} of file {name!r} is of a type that is not read there",
        "write the column as text, or as numbers",
    ),
    "damaged": ("file {name!r} cannot be read as Parquet", _OF_FILE),
    "ended": ("file {name!r} cannot be read as Parquet", _OF_PAGES),
    "memory": ("file {name!r} takes too much memory to be read", _OF_PAGES),
    "row": ("a row of file {name!r} is too long", "leave out columns of files and pictures; shorten the texts"),
    "rows": ("file {name!r} holds more rows than the source allows", "divide the file, or declare a larger max_rows"),
    "bytes": ("file {name!r} is larger than the source allows", "divide the file, or declare a larger largest_mib"),
}
"""Why a file is not read: what is said, and the remedy."""


def _error(refused: _Refused, name: str, columns: Columns, largest: int, max_rows: int) -> DataError:
    key, column = columns[refused.place]
    what, remedy = _WHY[refused.why]
    of_column = refused.why in ("missing", "twice", "type")
    kinds = "text or whole number" if key in _IDS else "text, number, true or false, date, time stamp"
    limits = {
        "type": kinds, "memory": f"{MEMORY >> 20} MiB", "ended": f"{MEMORY >> 20} MiB, {SECONDS:.0f} s for {ROWS_AT_ONCE} rows",
        "row": f"{LONGEST} characters", "rows": max_rows, "bytes": f"{largest >> 20} MiB",
    }  # fmt: skip
    return DataError(
        what.format(column=column, name=name),
        field=key if of_column else {"rows": "max_rows", "bytes": "largest_mib"}.get(refused.why, "path"),
        value=refused.found or (column if of_column else None),
        limit=limits.get(refused.why),
        remedy=remedy,
    )


Texts = Callable[[Any], list[Any]]
"""An Arrow array to one text a value, or None where there is none that a calendar has."""


def _column(arrow: Any, schema: Any, column: str, key: str, place: int) -> Texts:
    if schema.names.count(column) != 1:
        raise _Refused("twice" if column in schema.names else "missing", place)
    kind, found = schema.field(column).type, None
    while arrow.types.is_dictionary(kind):
        kind = kind.value_type
    for fits, texts in _rules(arrow):
        if fits(kind):
            found = texts
            break
    if found is None or (key in _IDS and not _may_name(arrow, kind)):
        raise _Refused("type", place, str(kind))
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
