"""Step 13: who belongs to which part: training, test, simulated site; saved as a CSV that says how it was made.

Comes in: patient -> part, and the parameters of the draw. Goes out: `Assignment`, every patient once, and a file:

    # {"alpha": 0.5, "made by": "dirichlet_sites", "seed": 1, "sites": 3}
    patient,part
    p0001,site-2

Raises `DataError` for a patient in two parts, an empty part or file, or a file of another form; never with a patient's id.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ssl_core.chain import write_durably
from ssl_core.data.label_table import read_label_table
from ssl_core.data.patients import unit_id
from ssl_core.errors import DataError

Parameter = str | int | float
_HEADER = ["patient", "part"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Each patient's part, by patient id, sorted; `parameters` say how it was made."""

    parts: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if list(self.parts) != sorted(self.parts):
            object.__setattr__(self, "parts", dict(sorted(self.parts.items())))
        if not all(unit and unit == unit_id(unit) and part for unit, part in self.parts.items()):
            raise DataError("a patient or a part has no name", field="patient")

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, sorted."""
        return tuple(sorted(set(self.parts.values())))

    def units(self, part: str) -> tuple[str, ...]:
        """The patients of one part, sorted."""
        return tuple(unit for unit, name in self.parts.items() if name == part)

    def sizes(self) -> dict[str, int]:
        """Patients of each part. Of real patients, these numbers stay at the site."""
        return {name: len(self.units(name)) for name in self.names}

    def save(self, path: Path) -> None:
        """Write the CSV (mode 0600), whole or not at all."""
        write_durably(path, self._written())

    @property
    def digest(self) -> str:
        """SHA-256 of the file that `save` writes, as hex. Who has a list of the ids can recognise it."""
        return hashlib.sha256(self._written()).hexdigest()

    def _written(self) -> bytes:
        text = io.StringIO()
        text.write(f"# {json.dumps(dict(self.parameters), sort_keys=True)}\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerows(self.parts.items())
        return text.getvalue().encode()


def read_assignment(path: Path) -> Assignment:
    """Read what `save` wrote, or a person: without the first line the parameters are empty."""
    table = read_label_table(path, "split file", commented=True)
    try:
        told = json.loads(table.comment[1:] or "{}")
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(isinstance(value, str | int | float) for value in told.values()):
        raise DataError(f"split file {path.name!r} does not say how it was made", field="parameters", value=path.name)
    if list(table.header) != _HEADER:
        raise DataError(f"split file {path.name!r} has no rows of patient,part", field="path", value=path.name)
    parts = table.cells("part")
    for place, part in enumerate(parts):
        if not part:
            raise table.fault("part", place, "is empty")
    return Assignment(dict(zip(table.units("patient"), parts, strict=True)), told)


def require_disjoint(groups: Mapping[str, Iterable[str]]) -> None:
    """`DataError` where a patient is in two of the groups, by the groups' names."""
    seen: dict[str, str] = {}
    for name, units in groups.items():
        for unit in set(units):
            if seen.setdefault(unit, name) != name:
                raise DataError(
                    f"a patient is in {seen[unit]!r} and in {name!r}", field="split", value=name,
                    remedy="a patient belongs to one split, with all records",
                )  # fmt: skip


def keyed(key: bytes, purpose: bytes, text: str) -> int:
    """A 64-bit number from a keyed hash: assignment to sites and splits without random state or file order."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=key, person=purpose).digest()
    return int.from_bytes(digest, "big")
