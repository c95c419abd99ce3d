"""Step 1 of 12: what a site declares about its files, as frozen models of the source TOML.

    kind = "table"                       kind = "npz"
    path = "reports.csv"                 path = "images.npz"
    format = "csv"                       image_field = "image"
    patient_column = "patient"           patient_field = "patient"
    text_column = "text"                 max_bad_share = 0.001
    record_column = "report"             cohort = "all"
    multiline = false

    kind = "signals"
    path = "ecg.npz"
    rate_hz = 500.0
    units = ["mV"]
    scale = [0.001]
    missing = -32768

    kind = "columns"
    path = "laboratory.csv"
    patient_column = "patient"
    missing = ["NA", "-9"]
    [columns]
    age = "AGE_YEARS"
    [units]
    age = "years"

    kind = "events"
    path = "events.parquet"
    format = "parquet"
    patient_column = "patient"
    time_column = "when"
    code_column = "code"
    record_column = "stay"

Of texts and columns, `time_column` brings a patient's records into the order of time, else of their ids, then of their rows;
`time_unit`: "iso" (ISO 8601), or the unit of a number ("seconds", "minutes", "hours"). A row without such a time is bad then.
Of events all of one patient and `record_column` are one record or, without it, all of one patient; by time, ISO 8601.
`format` may be "csv", "parquet" and, for kind "table", "jsonl"; a value gives the same record in each (parquet_rows.py).
`path` is one file or a list of files (tables, columns), relative to the folder of the TOML. `record_column` names the text
that a row belongs to: rows of one patient with an equal record id are one record, read once (one report, several images).
Of columns, and as `record_field` of an npz file, it is what labels of records name (record_units.py), and nothing else:
every row is read and trained on as without.
`rate_hz` and `units` must be the plan's. `scale` is for int16 alone: units per count; `missing`: the count that stands for
no sample. `units` and `scale` have one entry, or one a channel.
`columns` says under which header a column of the plan stands, where it is another than its name there; `units`: in what unit,
for every column for which the plan names one. Here `missing` holds cells, as written, that stand for no value, as an empty
one does.
`cohort` names the group of patients that this source holds (patients who came in 2025, say). The budget for life is each
cohort's own, and a patient stays in the first one for good: a source with a patient of another cohort is not approved.
A file may hold `largest_mib` (4,096): of an npz file the arrays that are read, inflated; of a Parquet file the columns that
are read, and their texts; else its bytes. A table's file may hold `max_rows` (10 million), however few bytes they take.
`split = "sites/split.csv"` and `part = "site-1"` restrict any kind of source to the patients of one part of a split file beside
the TOML (assignment.py, part.py); they stand above [image] and [text] of a source of pairs.
`multiline = true` says that quoted texts of a CSV file hold line breaks. Without it a record that spans several lines refuses
the file, whatever `max_bad_share` is: it is how a lost quote shows, which would otherwise swallow other patients' rows.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ssl_core.config import Name
from ssl_core.data.times import TimeUnit
from ssl_core.spec.data import Unit
from ssl_core.spec.strict import StrictModel


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError("a path must be relative and stay inside the folder of the source file")
    return path


Inside = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_inside)]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Declared(StrictModel):
    """What every kind of source declares."""

    kind: str
    max_bad_share: Share = 0.0
    cohort: Name = "all"
    split: Inside | None = None
    part: Column | None = None

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """What is read, as it is declared, in order."""

    @model_validator(mode="after")
    def _one_part(self) -> Self:
        if (self.split is None) != (self.part is None):
            raise ValueError("split and part go together: the file, and which of its parts is read")
        return self


class FilesSource(Declared):
    """A source whose files are named one by one."""

    path: Inside | Annotated[tuple[Inside, ...], Field(min_length=1)]
    largest_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 4096

    @property
    def largest(self) -> int:
        """Bytes that one file may hold."""
        return self.largest_mib << 20

    @property
    def paths(self) -> tuple[str, ...]:
        """The declared files, in order."""
        return (self.path,) if isinstance(self.path, str) else self.path


class LinesSource(FilesSource):
    """A source that may be a CSV file, whose quoted texts may hold line breaks."""

    format: str
    multiline: bool = False
    max_rows: Annotated[int, Field(ge=1, le=10**10)] = 10_000_000

    @model_validator(mode="after")
    def _lines(self) -> Self:
        if self.multiline and self.format != "csv":
            raise ValueError("multiline is for csv: a JSON line is one line, and a Parquet file has none")
        return self


class TimedSource(LinesSource):
    """A table of which one row is one record; it may have a time."""

    time_column: Column | None = None
    time_unit: TimeUnit = "iso"

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.time_column is None and self.time_unit != "iso":
            raise ValueError("time_unit goes with time_column")
        return self


class TableSource(TimedSource):
    """A table of texts: CSV with a header line, one JSON object a line, or Parquet. UTF-8, one row a record."""

    kind: Literal["table"]
    format: Literal["csv", "jsonl", "parquet"]
    patient_column: Column
    text_column: Column
    record_column: Column | None = None


class ColumnsSource(TimedSource):
    """A table of typed columns: CSV with a header line, UTF-8, or Parquet; one row a record; columns not named are not read."""

    kind: Literal["columns"]
    format: Literal["csv", "parquet"] = "csv"
    patient_column: Column
    record_column: Column | None = None
    columns: dict[str, Column] = Field(default_factory=dict)
    units: dict[str, Unit] = Field(default_factory=dict)
    missing: tuple[Annotated[str, Field(max_length=200)], ...] = ()


class EventsSource(LinesSource):
    """A table of events: CSV with a header line, UTF-8, or Parquet; one row an event, in any order."""

    kind: Literal["events"]
    format: Literal["csv", "parquet"] = "csv"
    patient_column: Column
    time_column: Column
    code_column: Column
    record_column: Column | None = None


class NpzSource(FilesSource):
    """One npz file: an image array [m, height, width] and a patient array [m] of texts or integers."""

    kind: Literal["npz"]
    path: Inside
    image_field: Column = "image"
    patient_field: Column = "patient"
    record_field: Column | None = None


class SignalSource(FilesSource):
    """One npz file: a signal array [m, channels, samples] and a patient array [m] of texts or integers."""

    kind: Literal["signals"]
    path: Inside
    rate_hz: Annotated[float, Field(gt=0, le=1e6)]
    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    scale: Annotated[tuple[Annotated[float, Field(gt=0, le=1e9)], ...], Field(min_length=1)] | None = None
    missing: Annotated[int, Field(ge=-(1 << 15), lt=1 << 15)] | None = None
    signal_field: Column = "signal"
    patient_field: Column = "patient"
    record_field: Column | None = None
