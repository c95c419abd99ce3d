"""Synthetic patients as files in a site's declared format, read back by the site's own reader; for the isolation check.

Comes in: the plan's data and a declaration (any of declared.py). Goes out: `Patients`, as step 1 makes them of a folder
whose content is random, and of folders that differ from it in one patient or in size; of a source of one part, with records of
other parts' patients, which differ from folder to folder. Nothing here is private.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import cast

import numpy as np

from ssl_core.data.assignment import Assignment
from ssl_core.data.columns import LARGEST
from ssl_core.data.declared import ColumnsSource, Declared, EventsSource, NpzSource, SignalSource, TableSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_recordings import SoundSource
from ssl_core.data.patients import Patients
from ssl_core.data.reading import Effort
from ssl_core.data.source import Source, load_patients
from ssl_core.errors import PrivacyError
from ssl_core.privacy.synthetic import Kind, kinds, with_other_patient
from ssl_core.privacy.synthetic_rows import Array, Cells, Content, Events, Pair, Row
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import (
    Data,
    EventData,
    ImageData,
    ImageForm,
    PairData,
    SignalData,
    SoundData,
    TableData,
    TextData,
    TextForm,
)

_LONGEST = 200
_SPLIT = "split.csv"
_SECONDS_A_FILE = 600.0
_FIRST_TIME = datetime(1950, 1, 1)
_NO_NUMBERS = ("nan", "inf", "1e999", "-inf", "\u0661", "1,5")
_EXTREME_TEXT = '"quoted, with commas", ﬁ ß İ 0̈ ' + "x" * 2000 + " word" * 600


@dataclass(frozen=True, slots=True)
class SyntheticFolders:
    """Folders under `root`, each of the same patients but for what its name says."""

    root: Path
    data: Data
    declared: Declared
    count: int

    def base(self) -> Patients:
        """`count` patients of one to four records."""
        return self._read("base", self.rows())

    def without(self, unit: str) -> Patients:
        """All but one."""
        return self._read("removed", [row for row in self.rows() if row[0] != unit])

    def with_other(self, unit: str, kind: Kind) -> Patients:
        """The same units, one with other records, which stand first and last in the file."""
        others = [row for row in self.rows() if row[0] != unit]
        first, *rest = [(unit, content) for content in self._other(kind)]
        # As a site reads: in processes of their own. What they give is compared with what this one reads.
        return self._read(kind, [first, *others, *rest], Effort() if kind == "longest" else Effort(workers=0))

    def larger(self) -> Patients:
        """Twice as many; the new ones come first by name."""
        return self._read("larger", [*self.rows("another", seed=2), *self.rows()])

    def rows(self, name: str = "synthetic", seed: int = 0) -> list[Row]:
        """`count` patients with one to four records each, of random content."""
        generator = np.random.default_rng(seed)
        return [(unit, self._content(generator)) for unit in self._units(name) for _ in range(int(generator.integers(1, 5)))]

    def _strangers(self, name: str) -> list[Row]:
        """Records of patients of another part, others in every folder: none of them may leave a trace in what is read."""
        return self.rows("stranger", seed=zlib.crc32(name.encode()))[:8]

    @property
    def _split(self) -> Assignment:
        """One file for every folder, whoever of those that it names has records there."""
        named = {unit: "mine" for name in ("synthetic", "another") for unit in self._units(name)}
        return Assignment(named | dict.fromkeys(self._units("stranger"), "another's"), {})

    def _units(self, name: str) -> list[str]:
        return [f"{name}-{number:06d}" for number in range(self.count)]

    def _other(self, kind: Kind) -> list[Content]:
        generator = np.random.default_rng(1)
        records = [self._content(generator) for _ in range(_LONGEST if kind == "longest" else 3)]
        if isinstance(self.data, TableData):
            return [_spoilt_cells(self.data, kind) or record for record in records]
        if isinstance(self.data, EventData):
            return [_spoilt_events(self.data, kind) or record for record in records]
        if isinstance(self.data, PairData):
            pairs = cast("list[Pair]", records)
            return [(self._spoilt(kind, image), _spoilt_text(kind, text)) for image, text in pairs]
        if isinstance(self.data, TextData):
            return [_spoilt_text(kind, text) for text in cast("list[str]", records)]
        return [self._spoilt(kind, array) for array in cast("list[Array]", records)]

    def _spoilt(self, kind: Kind, content: Array) -> Array:
        """An image or a signal for one of `kind`."""
        counts = self._counts
        values = {"empty": (0.0, 0.0), "extreme": (-3e38, 3e38), "not finite": (np.nan, np.inf)}
        if counts:
            # Counts are finite; the declared count of a missing sample is what stands for one that is not.
            lowest = self.declared.missing if isinstance(self.declared, SignalSource) else None
            values |= {"extreme": (-32767, 32767), "not finite": (-32768 if lowest is None else lowest, 0)}
        if kind in values:
            whole = np.empty(content.shape, np.int16 if counts else np.float32)
            whole[:], whole[:, ::2] = values[kind]
            return whole
        return content

    @property
    def _counts(self) -> bool:
        """Are the records whole counts, which the declaration scales?"""
        return isinstance(self.declared, SignalSource) and self.declared.scale is not None

    def _content(self, generator: np.random.Generator) -> Content:
        if isinstance(self.data, SignalData):
            drawn = generator.standard_normal(self.data.shape)
            return (100 * drawn).astype(np.int16) if self._counts else drawn.astype(np.float32)
        if isinstance(self.data, PairData):
            return _picture(self.data.image, generator), _text(self.data.text, generator)
        if isinstance(self.data, SoundData):
            return generator.uniform(-1.0, 1.0, self.data.shape).astype(np.float32)
        if isinstance(self.data, ImageData):
            return _picture(self.data, generator)
        if isinstance(self.data, TableData):
            return _cells(self.data, generator)
        if isinstance(self.data, EventData):
            return _events(self.data, generator)
        return _text(self.data, generator)

    def _read(self, name: str, rows: Sequence[Row], effort: Effort | None = None) -> Patients:
        folder = self.root / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        if self.declared.split is not None:
            rows = [*self._strangers(name), *rows]
        declared = WRITERS[self.declared.kind](folder, self.declared, self.data, rows)
        if self.declared.split is not None:
            self._split.save(folder / _SPLIT)
            declared = declared.model_copy(update={"split": _SPLIT, "part": "mine"})
        if isinstance(declared, FolderSource):
            # The site's bound is one of its own files; one file of these may hold all patients.
            declared = declared.model_copy(update={"seconds_a_file": _SECONDS_A_FILE})
        return load_patients(Source(folder, declared), self.data, effort or Effort(workers=0))


def default_source(data: Data) -> Declared:
    """A declaration for `data` where the site has none."""
    if isinstance(data, SignalData):
        return SignalSource(kind="signals", path="records.npz", rate_hz=data.rate_hz, units=data.units)
    if isinstance(data, SoundData):
        return SoundSource(kind="sound")
    if isinstance(data, ImageData):
        return NpzSource(kind="npz", path="records.npz")
    if isinstance(data, TableData):
        units = {column.name: column.unit for column in data.numeric if column.unit is not None}
        # A header that no column of the plan has.
        patient = "patient" + "_" * (1 + max(len(column.name) for column in data.columns))
        return ColumnsSource(kind="columns", path="records.csv", patient_column=patient, units=units)
    if isinstance(data, EventData):
        return EventsSource(
            kind="events", path="records.csv", patient_column="patient", time_column="time", code_column="code",
            record_column="record",
        )  # fmt: skip
    texts = TableSource(kind="table", path="records.csv", format="csv", patient_column="patient", text_column="text")
    if isinstance(data, PairData):
        image, text = NpzSource(kind="npz", path="records.npz"), texts.model_copy(update={"record_column": "study"})
        return PairsSource(kind="pairs", image=image, text=text, study_from="field")
    return texts


def check_reader(folders: SyntheticFolders, base: Patients, victim: str) -> list[tuple[str, Patients]]:
    """Read every folder that differs in `victim`; refused where another patient's records differ from those of `base`."""
    others = [("removed", folders.without(victim))]
    others += [(kind, folders.with_other(victim, kind)) for kind in kinds(folders.data)]
    for what, patients in [*others, ("added, as many again", folders.larger())]:
        place = {unit: number for number, unit in enumerate(patients.units)}
        kept = [unit for unit in base.units if unit != victim]
        if not all(unit in place and _equal(base, unit, patients, place[unit]) for unit in kept):
            raise PrivacyError(
                "one patient's rows in a file change how another patient's are read",
                field=f"pair with one patient {what}",
                remedy="the reader couples patients; a study on it would not keep its guarantee",
            )
    return others


def every_pair(folders: SyntheticFolders, base: Patients, victim: str) -> list[tuple[str, Patients]]:
    """What differs in `victim`, and the patients then: in every folder, and in memory, where no reader came between."""
    pairs = check_reader(folders, base, victim)
    place, data = base.units.index(victim), folders.data
    # What no reader gives is tried too: whatever the records are, another patient's row is none of their business.
    beyond: tuple[Kind, ...] = ("extreme",) if isinstance(data, TextData | EventData) else ("extreme", "not finite")
    return [*pairs, *((f"{kind} in memory", with_other_patient(base, place, data, kind)) for kind in beyond)]


def _equal(base: Patients, unit: str, other: Patients, place: int) -> bool:
    mine = base.take(np.array([base.units.index(unit)], np.int64))
    theirs = other.take(np.array([place], np.int64))
    return bool((mine.tags == theirs.tags).all()) and mine.whole.tobytes() == theirs.whole.tobytes()


def _picture(form: ImageForm, generator: np.random.Generator) -> Array:
    # Within the window, or none of them would have a contrast.
    if form.window is not None:
        return generator.uniform(*form.window, form.shape).astype(np.float32)
    return generator.integers(0, 256, form.shape).astype(np.float32)


def _text(form: TextForm, generator: np.random.Generator) -> str:
    return " ".join(f"w{number}" for number in generator.integers(0, 5000, int(generator.integers(2, form.words + 2))))


def _spoilt_text(kind: Kind, text: str) -> str:
    return {"empty": "", "extreme": _EXTREME_TEXT}.get(kind, text)


def _cells(data: TableData, generator: np.random.Generator) -> Cells:
    """A row of a table: one cell in eight is empty, a level in eight is one that nobody declared."""
    kinds = generator.integers(0, 8, len(data.columns))
    numbers = [repr(float(c.centre + c.typical * generator.standard_normal())) for c in data.numeric]
    levels = [
        "?!" if kind == 1 else str(generator.choice(np.array(column.levels)))
        for kind, column in zip(kinds[len(numbers) :], data.categorical, strict=True)
    ]
    return tuple("" if kind == 0 else cell for kind, cell in zip(kinds, [*numbers, *levels], strict=True))


def _spoilt_cells(data: TableData, kind: Kind) -> Cells | None:
    """Cells of one patient's rows: all empty, at the bounds of what is read, or no numbers; None for a kind as any other."""
    if kind == "empty":
        return ("",) * len(data.columns)
    if kind == "extreme":
        numbers = [repr(float(c.centre + 0.9 * LARGEST * c.typical * (-1) ** n)) for n, c in enumerate(data.numeric)]
        return (*numbers, *(_EXTREME_TEXT for _ in data.categorical))
    if kind == "not finite":
        return tuple(cell for cell, _ in zip(cycle(_NO_NUMBERS), data.columns, strict=False))
    return None


def _events(data: EventData, generator: np.random.Generator) -> Events:
    """A record's events in no order: gaps of minutes to years; a code in eight is one that nobody declared."""
    count = int(generator.integers(2, 2 * data.events))
    hours = np.cumsum(10.0 ** generator.uniform(-2, 4, count)).clip(max=6e7)
    codes = [str(generator.choice(np.array(data.vocabulary))) if generator.random() > 1 / 8 else "?!" for _ in range(count)]
    found = [((_FIRST_TIME + timedelta(hours=float(h))).isoformat(), code) for h, code in zip(hours, codes, strict=True)]
    return tuple(found[place] for place in generator.permutation(count))


def _spoilt_events(data: EventData, kind: Kind) -> Events | None:
    """Events of one patient: none that is one, at the ends of the calendar; None for a kind as any other."""
    if kind == "empty":
        return (("no time", data.vocabulary[0]), ("2025-03-01", ""))
    if kind == "extreme":
        times = ("0001-01-01", "9999-12-31T23:59:59.999999", "0001-01-01T00:00:00+23:59")
        return tuple((when, _EXTREME_TEXT) for when in times for _ in range(data.events))
    return None
