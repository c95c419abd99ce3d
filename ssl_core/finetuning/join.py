"""Step 13: labels joined to the units of a source, as the encoder and as the raw floor read them.

Comes in: a source TOML, the plan's data, and the units of a table of labels or outcomes: patients, or keys of records
(record_units.py). Goes out: `Joined`, with a count of what found no partner on either side. Whatever the units are, who is
apart from whom is decided by patient: in a draw, between fitting and testing, and where a penalty is chosen (probe.py). Raises
the errors of the readers, and `DataError` where too few patients are in both, or one is on both sides of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import Patients, matched
from ssl_core.data.record_units import owners, patient_of
from ssl_core.data.source import Source, load_accepted, load_patients, load_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.floor import floor_patients
from ssl_core.finetuning.good_records import without_padding
from ssl_core.spec.data import Data

_Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """How many labels name nothing in the source, and how many of the source's units have no label."""

    strangers: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Units with labels: their places int64 [j] in `all` and `all_raw`, and the table's row int64 [j] of each.

    all, all_raw: every unit of the source, as the encoder and as the floor read it.
    """

    all: Patients = field(repr=False)
    all_raw: Patients = field(repr=False)
    index: _Index = field(repr=False)
    rows: _Index = field(repr=False)
    match: Match

    def own(self) -> Patients:
        """The units with labels, as the encoder reads them."""
        return self.all.take(self.index)

    def raw(self) -> Patients:
        """The same, as the floor does."""
        return self.all_raw.take(self.index)

    def owners(self) -> _Index:
        """The number of each unit's patient, int64 [j], from 0."""
        return owners(self._units())

    def patients(self) -> set[str]:
        """Who they are, or whose."""
        return set(map(patient_of, self._units()))

    def of_patients(self, drawn: _Index) -> Joined:
        """All units of the patients with these numbers, in the order of the source."""
        kept = np.isin(self.owners(), drawn)
        return replace(self, index=self.index[kept], rows=self.rows[kept])

    def _units(self) -> list[str]:
        return [self.all.units[place] for place in self.index]


def check_files(out: Path, test_source: Path | None, test_labels: Path | None) -> None:
    """Refuse a folder that is there, and half a test."""
    if out.exists():
        raise ConfigError("folder exists and is not overwritten", field="out", value=out.name, remedy="name a new one")
    if (test_source is None) != (test_labels is None):
        raise ConfigError("a test needs its source and its labels", field="test_source", remedy="give both or neither")


def join(source_toml: Path, data: Data, units: Sequence[str], *, by_record: bool, least: int) -> Joined:
    """The units of the source that are among `units`; at least `least` patients must be, or have some.

    `DataError` where they are fewer, or more records of the source are bad than it declares.
    """
    source = read_source(source_toml)
    everything = without_padding(load_accepted(source, data, by_record=by_record), data)
    rows, index = matched(units, everything)
    match = Match(len(units) - len(rows), len(everything) - len(index))

    def load(source: Source, data: Data) -> Patients:
        return without_padding((load_records if by_record else load_patients)(source, data), data)

    joined = Joined(everything, floor_patients(source, everything, data, load), index, rows, match)
    if len(joined.patients()) < least:
        what = "the same ids of patients and of records" if by_record else "the same patient ids"
        raise DataError(
            "too few patients of the source have labels", field="labels", limit=least,
            remedy=f"use {what} in the label file and in the source",
        )  # fmt: skip
    return joined


def require_apart(fitted: Joined, tested: Joined) -> None:
    """`DataError` where a patient is on both sides, by whichever records."""
    if fitted.patients() & tested.patients():
        raise DataError("a patient is among those to fit on and to test on", field="test_source", remedy="split by patient")
