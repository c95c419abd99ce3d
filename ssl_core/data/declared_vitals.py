"""Step 1 of 12: what a site declares of a long table of measurements: patient, time, name, value; one row a measurement.

    kind = "vitals"
    path = "chartevents.csv"
    patient_column = "subject_id"
    record_column = "stay_id"
    time_column = "charttime"
    time_unit = "iso"
    name_column = "label"
    value_column = "valuenum"
    channels = ["Heart Rate", ["Temperature Celsius", "Temperature Fahrenheit"]]
    units = ["1/min", "°C"]
    cell = "mean"
    carry = [2, 8]
    windows = 4
    missing = ["NA"]
    [factors]
    "Temperature Fahrenheit" = 0.5555555555555556
    [offsets]
    "Temperature Fahrenheit" = -17.77777777777778

`channels` names, in the plan's order, what stands in `name_column` for each channel; all of several names are that channel.
`units` must be the plan's; a value in another unit enters as value * factor + offset, by its name. `time_unit`: "iso" (ISO
8601), or the unit of a number ("seconds", "minutes", "hours") since any moment that is the patient's own, or all patients'.
The grid begins at the first measurement of a patient or, with `record_column`, of each of his records; its cells are the
plan's 1 / rate_hz long. `cell`: of several values in one the mean, or the last (of one time the greatest). `carry`: into how
many cells without a value the one before is carried forward, one entry or one a channel; other cells are zero, the plan's
centre.
`windows`: how many pieces of the plan's length are records, at most: the first that a measurement falls into. `missing`: cells,
as written, that stand for no value and are no bad row; an empty one is, unless it is named here.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared import Column, LinesSource
from ssl_core.data.times import TimeUnit
from ssl_core.spec.data import Finite, Unit

Names = Annotated[tuple[Column, ...], Field(min_length=1)]


class VitalsSource(LinesSource):
    """A long table of measurements: CSV with a header line, UTF-8, or Parquet; one row a measurement, in any order."""

    kind: Literal["vitals"]
    format: Literal["csv", "parquet"] = "csv"
    patient_column: Column
    time_column: Column
    name_column: Column
    value_column: Column
    record_column: Column | None = None
    time_unit: TimeUnit = "iso"
    channels: Annotated[tuple[Column | Names, ...], Field(min_length=1)]
    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    factors: dict[Column, Annotated[float, Field(ge=1e-9, le=1e9)]] = Field(default_factory=dict)
    offsets: dict[Column, Finite] = Field(default_factory=dict)
    cell: Literal["mean", "last"] = "mean"
    carry: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 20)], ...], Field(min_length=1)] = (0,)
    windows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    missing: tuple[Annotated[str, Field(max_length=200)], ...] = ()

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of each channel."""
        return tuple((each,) if isinstance(each, str) else each for each in self.channels)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Key and header of the columns that are read: patient, time, name, value and, where there is one, record."""
        keys = ["patient_column", "time_column", "name_column", "value_column"]
        keys += ["record_column"] if self.record_column is not None else []
        return [(key, getattr(self, key)) for key in keys]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [name for each in self.names for name in each]
        if any(name != unicodedata.normalize("NFC", name).strip() or not name for name in names):
            raise ValueError("names of channels must be in Unicode NFC, without space around them")
        if len(set(names)) != len(names):
            raise ValueError("a name stands for one channel: each may be written once")
        for key, given in (("factors", self.factors), ("offsets", self.offsets)):
            if unknown := sorted(given.keys() - set(names)):
                raise ValueError(f"{key} names what is in no channel: {unknown[0]}")
        if len({header for _, header in self.columns}) != len(self.columns):
            raise ValueError(
                "patient, time, name, value and record stand in columns of their own; a patient id is never a value"
            )
        return self
