"""A labelled array of records -> five sites by a keyed hash of the patient: what images.py and signals.py have in common.

Comes in: patients text [m], labels text [m], and how some rows of the array are written. Goes out: `DemoSites`. Patients with
a label of `classes` are split by patient into pool and test; the test patients never pretrain (`DataError` otherwise),
everybody else does with all records, the label pool included. A patient can have records of several classes, so what is
labelled is the part of a patient with one label, named "patient/label", with all its records; the split stays by patient.
Two classes give one 0/1 column, the first class's; more give one column each. These sites are hospitals by hash, not by
machine: the table must say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from deploy.demo_data.sites import SITES, DemoSites, Sizes, new_folder, require_disjoint, site_at, write_labels
from ssl_core.data.assignment import keyed
from ssl_core.errors import DataError

_POOL_SHARE = 0.6
_SOURCE = "{kind} array {file}. Five sites by a keyed hash of the patient, not by hospital."
_TERMS = "The array's own terms hold."

Texts = npt.NDArray[np.str_]
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Whose each record of the array is and its label, text [m]; `kind`, `file` and `key` name the demo and its split."""

    kind: Literal["images", "signals"]
    file: str
    key: bytes
    patient: Texts
    label: Texts


def write_by_hash(
    labelled: Labelled,
    folder: Path,
    write: Callable[[Path, str, Rows, Texts], None],
    *,
    nominal_sizes: Sizes,
    classes: tuple[str, ...] | None,
) -> DemoSites:
    """Write five sites under `folder`; `write` gets a folder, "source", "pool" or "test", rows bool [m], their patients."""
    present = sorted(set(labelled.label.tolist()))
    wanted = tuple(present) if classes is None else classes
    missing = [name for name in wanted if name not in present]
    if missing or len(set(wanted)) < 2:
        raise DataError(
            "classes to evaluate must be at least two labels of the array",
            field="classes",
            value=", ".join(missing or wanted),
            limit=", ".join(present),
        )
    columns = wanted[:1] if len(wanted) == 2 else wanted
    patient, label = labelled.patient, labelled.label
    counted = np.isin(label, wanted)
    site = np.array([keyed(labelled.key, b"site", name) % SITES for name in patient.tolist()])
    in_pool = np.array([keyed(labelled.key, b"pool", name) < _POOL_SHARE * 2.0**64 for name in patient.tolist()])
    tested = np.isin(patient, np.unique(patient[counted & ~in_pool]))
    examined = np.char.add(np.char.add(patient, "/"), label)
    names = [f"site-{number + 1}" for number in range(SITES)]
    with new_folder(folder) as draft:
        groups: list[list[str]] = []
        for number, name in enumerate(names):
            mine = site == number
            place = draft / name
            place.mkdir()
            training = mine & ~tested
            write(place, "source", training, patient[training])
            for part, rows in (("pool", mine & counted & ~tested), ("test", mine & counted & tested)):
                write(place, part, rows, examined[rows])
            pairs = sorted(set(zip(examined[mine & counted].tolist(), label[mine & counted].tolist(), strict=True)))
            write_labels(place, columns, ((who, [int(found == column) for column in columns]) for who, found in pairs))
            groups += [patient[training].tolist(), patient[mine & tested].tolist()]
        require_disjoint(groups)
    return DemoSites(
        kind=labelled.kind,
        folder=folder,
        sites=tuple(site_at(folder, name, size) for name, size in zip(names, nominal_sizes, strict=True)),
        label_names=columns,
        source=_SOURCE.format(kind=labelled.kind.removesuffix("s").capitalize(), file=labelled.file),
        terms=_TERMS,
        citation="",
    )


def texts(name: str, column: npt.NDArray[np.generic], count: int) -> Texts:
    """An array's column of one text a record; `DataError` otherwise."""
    if column.dtype.kind != "U" or column.shape != (count,):
        raise DataError("one text per record is needed", field=name, value=f"{column.dtype} {column.shape}")
    return column.astype(np.str_)
