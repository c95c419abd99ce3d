"""Synthetic patients in a study's declared format, for the isolation check and tests. Nothing here is private.

Goes out: `Patients` with one to four records each, and sets that differ from a given one in one patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ssl_core.data.columns import LARGEST
from ssl_core.data.gathering import padding
from ssl_core.data.patients import Patients, group
from ssl_core.spec.data import Data, EventData, PairData, TableData, TextData

Kind = Literal["changed", "empty", "longest", "extreme", "not finite"]
Records = npt.NDArray[np.int32] | npt.NDArray[np.float32]

_LONGEST = 200


def kinds(data: Data) -> tuple[Kind, ...]:
    """The ways in which one patient can differ; codes of words and events are whole numbers, so they are always finite."""
    common: tuple[Kind, ...] = ("changed", "empty", "longest", "extreme")
    return common if isinstance(data, TextData | EventData) else (*common, "not finite")


def synthetic_patients(data: Data, count: int, *, seed: int = 0) -> Patients:
    """`count` patients of one to four random records."""
    generator = np.random.default_rng(seed)
    return _gather(
        [f"synthetic-{number:06d}" for number in range(count)],
        [_records(data, generator, int(generator.integers(1, 5))) for _ in range(count)],
    )


def with_other_patient(patients: Patients, place: int, data: Data, kind: Kind) -> Patients:
    """The same units, but that at `place` has other records: random, empty, very many, extreme, not finite."""
    records = [patients.records[a:b] for a, b in zip(patients.offsets[:-1], patients.offsets[1:], strict=True)]
    records[place] = _other(data, kind)
    return _gather(patients.units, records)


def _gather(units: Sequence[str], records: Sequence[Records]) -> Patients:
    owners = [unit for unit, own in zip(units, records, strict=True) for _ in own]
    joined: Records = np.concatenate(records)  # type: ignore[assignment]  # all of one dtype
    return group(owners, joined)


def _other(data: Data, kind: Kind) -> Records:
    generator = np.random.default_rng(1)
    records = _records(data, generator, _LONGEST if kind == "longest" else 3)
    if kind == "empty":
        records[:] = padding(data)
    elif kind == "extreme" and isinstance(data, TableData):
        count = len(data.numeric)
        records[:, :count] = LARGEST * np.sign(records[:, :count])
        records[:, 2 * count :] = np.array(data.codes[count:]) - 1
    elif kind == "extreme" and isinstance(data, PairData):
        records[:, : data.shape[0]], records[:, data.shape[0] :] = 1e30, data.text.buckets - 1
    elif kind == "extreme" and isinstance(data, EventData):
        records[:] = data.codes - 1, data.gaps - 1
    elif kind == "extreme":
        records[:] = data.buckets - 1 if isinstance(data, TextData) else 1e30
    elif kind == "not finite":
        records[:, ::2], records[:, 1::2] = np.nan, np.inf
    return records


def _records(data: Data, generator: np.random.Generator, count: int) -> Records:
    if isinstance(data, TableData):
        drawn, numbers = generator.integers(0, data.codes, (count, len(data.codes))), len(data.numeric)
        values = generator.standard_normal((count, numbers)) * drawn[:, :numbers]
        return np.hstack([values, drawn]).astype(np.float32)
    if isinstance(data, PairData):
        reports = _records(data.words, generator, count).reshape(count, data.shape[1])
        return np.hstack([_records(data.pixels, generator, count), reports]).astype(np.float32)
    if isinstance(data, EventData):
        events = generator.integers(0, (data.codes, data.gaps), (count, *data.shape)).astype(np.int32)
        events[:, 0, 1] = 0
        events[np.arange(data.events) >= generator.integers(2, data.events + 1, count)[:, None]] = -1
        return events
    if not isinstance(data, TextData):
        return generator.standard_normal((count, data.values)).astype(np.float32)
    codes = generator.integers(0, data.buckets, (count, data.words, data.codes)).astype(np.int32)
    lengths = generator.integers(2, data.words + 1, count)
    codes[np.arange(data.words) >= lengths[:, None]] = -1
    return codes
