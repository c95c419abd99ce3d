"""This hospital's own labels for its own watch: site.toml names a file, the daemon's looks take it for the neighbours probe.

Comes in: `[watch_labels]` of site.toml (`file`, and `class_column` for classes instead of 0/1 columns), or what a person gave
to `choral site watch`; the patients that are looked at. Goes out: labels int8 [n, K] in their order, for watch.py alone, or one
line for people that says why there are none. Labels are of patients: the copy that a study trains on names no records.

Nothing here can stop, fail or change a round. The table is taken as it stands and validated here, not with the rest of
site.toml; whoever answers the server reads none of it. No line holds an id or a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from client.home import SiteHome
from ssl_core.config import parse
from ssl_core.data.labels import Labels, read_labels
from ssl_core.data.patients import Patients
from ssl_core.errors import ChoralError, ConfigError, DataError
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.random import unit_tag

_TABLE = "watch_labels"
_T = TypeVar("_T")
Matrix = npt.NDArray[np.int8]


class WatchLabels(StrictModel):
    """`[watch_labels]` of site.toml; a relative path begins at the state folder, as the source's does."""

    file: Annotated[str, Field(min_length=1)]
    class_column: str | None = None


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A CSV of patients' labels: 0/1 columns or, where it is named, one column of classes."""

    path: Path
    class_column: str | None = None

    def read(self) -> Labels:
        """All of them; `DataError` by file, column and line."""
        if not self.path.is_file():
            raise DataError("label file is missing", field="labels", value=self.path.name)
        return read_labels(self.path, class_column=self.class_column)

    def of(self, patients: Patients) -> Matrix:
        """int8 [n, K], -1 for a patient without labels; `DataError` where none has any. A kept copy knows tags, not ids."""
        labels = self.read()
        row = {unit_tag(unit): values for unit, values in zip(labels.units, labels.values, strict=True)}
        none = np.full(len(labels.names), -1, np.int8)
        found = np.stack([row.get(bytes(tag), none) for tag in patients.tags])
        if not (found >= 0).any():
            raise DataError(
                "the labels name none of the patients that are looked at", field="labels", value=self.path.name,
                remedy="give labels of patients of this study, in the ids of its source",
            )  # fmt: skip
        return found


def declared(home: SiteHome) -> LabelFile | None:
    """What site.toml names; `ConfigError` for a table that is not valid."""
    table = home.config.watch_labels
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ConfigError(f"{_TABLE} of site.toml is not a table", field=_TABLE, remedy=f'write [{_TABLE}] and file = "..."')
    read = parse(WatchLabels, table, _TABLE)
    return LabelFile(home.root / read.file, read.class_column)


def own_labels(root: Path, patients: Patients) -> tuple[Matrix | None, str | None]:
    """(labels, None), or (None, why not); (None, None) where site.toml names no file. Read anew at each look; never raises."""

    def read() -> Matrix | None:
        given = declared(SiteHome(root))
        return None if given is None else given.of(patients)

    return _tried(read)


def labels_line(home: SiteHome, patients: Patients | None = None) -> str | None:
    """For the start of the daemon and, with a study's `patients`, its approval: will there be a probe?

    None where site.toml names no file. Never raises.
    """

    def read() -> str | None:
        given = declared(home)
        if given is None:
            return None
        if not home.policy.watch:
            return "labels are named in site.toml, but policy.toml says watch = false: nobody looks"
        if patients is None:
            given.read()
        else:
            given.of(patients)
        return f"after each round the neighbours probe takes the labels of {given.path.name}; they stay here"

    line, why = _tried(read)
    if why is None:
        return line
    return f"no neighbours probe: {why}. Studies train all the same. Correct the file, or {_TABLE} in site.toml"


def _tried(read: Callable[[], _T | None]) -> tuple[_T | None, str | None]:
    try:
        return read(), None
    except ChoralError as error:
        return None, error.problem
    except Exception as error:
        # Whatever it is, the watch goes on without labels; of an error that is not ours the text may tell of patients.
        return None, f"the labels cannot be read ({type(error).__name__})"
