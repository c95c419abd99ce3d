"""Step 13: a draw as a person asks for it: of all patients of a source or of a label file, by what the label file says of them.

Comes in: `Asked`, patient ids, a `LabelTable` of one row a patient or one row a record. Goes out: `Drawn`: the `Assignment` (by
splits.py), with the column that it is by among its parameters, and the patients of each class in each part. A patient without a
row, or with empty cells alone, is of class `NONE`, and has no domain. Raises `DataError` naming file, column and line, never a
cell: for a patient of two classes, for a column of more than 100 different cells, or of long ones, or of ids (label_table.py),
and for a part that has nobody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ssl_core.data.assignment import Assignment
from ssl_core.data.label_table import LabelTable
from ssl_core.data.splits import dirichlet_sites, domain_sites, sized_sites, split_patients
from ssl_core.errors import DataError

PATIENT = "patient"
"""The column of patients in a file of labels."""
NONE = "(none)"
"""The class of patients who have none."""
_MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is drawn: parts of `shares` by a hash under `key`, or sites by label, by size or by domain.

    column: of the label file; by label and by domain it must be there, for parts it is what they are stratified by.
    """

    by: Literal["parts", "label", "size", "domain"]
    column: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    sites: int = 0
    alpha: float = 0.0
    sigma: float = 0.0
    seed: int = 0
    least: int = 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """The parts; of classes, where the draw is by some: part -> class -> patients. Site-local."""

    assignment: Assignment
    classes: Mapping[str, Mapping[str, int]] | None


def draw(asked: Asked, units: Sequence[str], table: LabelTable | None = None) -> Drawn:
    """The draw; see the module docstring."""
    if table is None or asked.column is None:
        return Drawn(_of_units(asked, units), None)
    if set(units).isdisjoint(labelled(table)):
        raise DataError(
            "no patient of the label file has a record in the source", field="labels", value=table.name,
            remedy="write patient ids alike in both files",
        )  # fmt: skip
    if asked.by == "domain":
        made = domain_sites(_domains(table, asked.column, units), least=asked.least)
        return Drawn(_told(made, asked.column), None)
    classes = _classes(table, asked.column, units)
    if asked.by == "label":
        made = dirichlet_sites(classes, sites=asked.sites, alpha=asked.alpha, seed=asked.seed, least=asked.least)
    else:
        made = split_patients(units, asked.shares, key=asked.key, strata=classes)
        made = _complete(asked, made, "take a column of fewer classes")
    return Drawn(_told(made, asked.column), _count(made, classes))


def labelled(table: LabelTable) -> list[str]:
    """The patients of a label file, each once, sorted."""
    return sorted(set(table.ids(PATIENT)))


def _of_units(asked: Asked, units: Sequence[str]) -> Assignment:
    if asked.by == "size":
        return sized_sites(units, sites=asked.sites, sigma=asked.sigma, seed=asked.seed, least=asked.least)
    if asked.by != "parts":
        raise DataError("there is no label file to draw by", field="labels", remedy="give one, and a column of it")
    return _complete(asked, split_patients(units, asked.shares, key=asked.key), "stratify by a column")


def _complete(asked: Asked, made: Assignment, remedy: str) -> Assignment:
    """A part that the hash gave nobody would be missing without a word."""
    if empty := [name for name in asked.shares if name not in made.names]:
        raise DataError(
            "parts have no patient", field="parts", value=", ".join(empty), remedy=f"take larger shares, or {remedy}"
        )
    return made


def _told(made: Assignment, column: str) -> Assignment:
    return replace(made, parameters={**made.parameters, "column": column})


def _classes(table: LabelTable, column: str, units: Sequence[str]) -> dict[str, str]:
    """The class of each of the `units`."""
    found: dict[str, str] = {}
    for place, (unit, cell) in enumerate(zip(table.ids(PATIENT), _few(table, column), strict=True)):
        if cell and found.setdefault(unit, cell) != cell:
            raise table.fault(column, place, "gives a patient another class than a row before")
    return {unit: found.get(unit, NONE) for unit in units}


def _domains(table: LabelTable, column: str, units: Sequence[str]) -> dict[str, list[str]]:
    """The domains of each of the `units`, one a row that has any."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for unit, cell in zip(table.ids(PATIENT), _few(table, column), strict=True):
        if cell:
            found[unit].append(cell)
    return {unit: found[unit] for unit in units}


def _few(table: LabelTable, column: str) -> list[str]:
    cells = table.classes(column, PATIENT)
    if len(set(cells)) > _MOST:
        raise DataError(
            f"column {column!r} of file {table.name!r} has too many different cells", field="column", value=column, limit=_MOST,
            remedy="name a column of classes or of domains, not of numbers, texts or ids",
        )  # fmt: skip
    return cells


def _count(made: Assignment, classes: Mapping[str, str]) -> dict[str, dict[str, int]]:
    counts = {part: Counter[str]() for part in made.names}
    for unit, part in made.parts.items():
        counts[part][classes[unit]] += 1
    return {part: dict(sorted(held.items())) for part, held in counts.items()}
