"""Step 1 of 12: what every later step sees of a site's data: units (patients) with all their records.

Comes in: one patient id per record and the records as one array. Goes out: `Patients`, sorted by patient id, so that
neither the order of files nor that of rows is left in it. A unit holds every record of one patient: whatever is sampled
of a patient falls into one clipped row, and the guarantee is the patient's, not the record's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.kept_rows import KeptRows
from ssl_core.data.rows import Values, in_order
from ssl_core.errors import DataError
from ssl_core.trust.random import unit_tag

_LOST = "\N{REPLACEMENT CHARACTER}"
_WHOLE_FLOAT = re.compile(r"(\d+)\.0+")
_LEADING_ZEROS = re.compile(r"^0+(?=[^\W_])")
_BETWEEN_DIGITS = re.compile(r"((?<=\d)-+(?=\d))|-+")

Records = Values | KeptRows
"""Of a kept copy, the records stay in their file: `records[index]` reads those and no other."""


@dataclass(frozen=True, slots=True)
class Patients:
    """n units and their m records.

    units: patient ids, sorted, distinct; of a kept copy (kept.py) the tags as hex, in the same order.
    tags: uint8 [n, 16], `unit_tag` of each id.
    offsets: int64 [n + 1]; unit i owns records[offsets[i] : offsets[i + 1]], at least one.
    records: text int32 [m, words, codes], -1 where there is no word; events int32 [m, events, 2], -1 where there is none;
        image float32 [m, pixels], standardised per image; signal float32 [m, channels * samples], scaled by the plan's
        constants; table float32 [m, values] (columns.py); sound float32 [m, mels * frames] (sounds.py); image with report
        float32 [m, pixels + words * codes] (pair_rows.py).
    """

    units: tuple[str, ...] = field(repr=False)
    tags: npt.NDArray[np.uint8] = field(repr=False)
    offsets: npt.NDArray[np.int64] = field(repr=False)
    records: Records = field(repr=False)

    def __post_init__(self) -> None:
        n = len(self.units)
        if self.tags.shape != (n, 16) or self.offsets.shape != (n + 1,):
            raise DataError("tags or offsets do not fit the units", field="offsets", value=self.offsets.shape)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.records) or (np.diff(self.offsets) < 1).any():
            raise DataError("offsets do not divide the records into units of at least one record", field="offsets")

    def __len__(self) -> int:
        return len(self.units)

    @property
    def whole(self) -> Values:
        """All records in memory as one array; for what a site does with a few, never for training."""
        return self.records[:] if isinstance(self.records, KeptRows) else self.records

    def counts(self) -> npt.NDArray[np.int64]:
        """Records of each unit, int64 [n]."""
        return np.diff(self.offsets)

    def take(self, index: npt.NDArray[np.int64]) -> Patients:
        """The units at `index` (int64 [k], each once) with all their records, in that order."""
        counts = self.counts()[index]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        rows = np.repeat(self.offsets[index] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Patients(tuple(self.units[i] for i in index), self.tags[index], offsets, self.records[rows])

    def mean_by_unit(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mean of per-record `values` float32 [m, F] over each unit's records, float32 [n, F]."""
        if len(values) != len(self.records):
            raise DataError("one row per record is needed", field="values", value=len(values), limit=len(self.records))
        if not len(self):
            return np.zeros((0, values.shape[1]), np.float32)
        sums = np.add.reduceat(values.astype(np.float64), self.offsets[:-1], axis=0)
        return (sums / self.counts()[:, None]).astype(np.float32)


def matched(units: Sequence[str], patients: Patients) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions int64 [j] in `units` and in `patients` of all that are in both, in the order of `patients`."""
    row = {unit: place for place, unit in enumerate(units)}
    pairs = [(row[unit], place) for place, unit in enumerate(patients.units) if unit in row]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def unit_id(cell: str) -> str:
    """A patient id as it is compared: Unicode NFC, without space around it. Empty where there is none.

    One in which a character stands for those that could not be decoded is none: two patients' ids may have become equal. Nor is
    one with a character that nobody sees (control, zero width, direction): one patient's ids may have become two.
    """
    text = unicodedata.normalize("NFC", cell).strip()
    hidden = not text.isprintable() and any(unicodedata.category(char) in ("Cc", "Cf") for char in text)
    return "" if hidden or _LOST in text else text


def folded_id(unit: str) -> str:
    """What is left of a `unit_id` without what an export changes by itself: by this no patient is known, but warned of.

    Unicode NFKC (full-width digits), case folding, no blanks and hyphens within but one between two digits (1-11 is not 11-1),
    a whole number written as 123.0 without its fraction, no leading zeros. Different people may have one; only "" is empty.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", unit).casefold())
    text = "".join("-" if char.isspace() or unicodedata.category(char) == "Pd" else char for char in text)
    text = _BETWEEN_DIGITS.sub(lambda found: "-" if found[1] else "", text)
    whole = _WHOLE_FLOAT.fullmatch(text)
    text = text if whole is None else whole[1]
    return _LEADING_ZEROS.sub("", text) or unit


def group(
    owners: Sequence[str],
    records: npt.NDArray[np.int32] | npt.NDArray[np.float32],
    order: Sequence[str] | None = None,
    scratch: Path | None = None,
) -> Patients:
    """`Patients` from one owner per record [m]; records of a unit by `order` (record ids, [m]), else as they came.

    scratch: where records that lie in a file are written in their order.
    """
    keys = list(zip(owners, order, strict=True)) if order is not None else [(owner, "") for owner in owners]
    rows = sorted(range(len(keys)), key=keys.__getitem__)
    units: list[str] = []
    starts: list[int] = []
    for position, row in enumerate(rows):
        if not units or owners[row] != units[-1]:
            units.append(owners[row])
            starts.append(position)
    tags = np.frombuffer(b"".join(map(unit_tag, units)), np.uint8).reshape(len(units), 16)
    offsets = np.array([*starts, len(rows)], np.int64)
    index = np.array(rows, np.int64)
    return Patients(tuple(units), tags, offsets, in_order(records, index, scratch))
