"""This hospital's own labels for its own watch: watch.toml names a file, each look takes it for the neighbours probe.

Comes in: watch.toml in the state folder (`labels`, and `class_column` for classes instead of 0/1 columns), or what a person
gave to `choral site watch`; the patients that are looked at. Goes out: labels int8 [n, K] in their order, for watch.py alone,
or one line for people that says why there are none. Labels are of patients: the copy that a study trains on names no records.

Nothing here can stop, fail or change a round. The choice has a file of its own, so that no fault in it is one of site.toml;
the labels are read by the process that looks and by the command that approves, never by the daemon or by whoever answers
the server. No line holds an id or a cell, nor the name of a column, which in a file on its side is an id.
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
from ssl_core.config import read_toml
from ssl_core.data.labels import Labels, read_labels
from ssl_core.data.patients import Patients
from ssl_core.errors import ChoralError, DataError
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.random import unit_tag

_FILE = "watch.toml"
_T = TypeVar("_T")
Matrix = npt.NDArray[np.int8]


class WatchLabels(StrictModel):
    """watch.toml; a relative path begins at the state folder, as the source's does."""

    labels: Annotated[str, Field(min_length=1)]
    class_column: str | None = None


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A CSV of patients' labels: 0/1 columns or, where it is named, one column of classes."""

    path: Path
    class_column: str | None = None

    def check_there(self) -> None:
        """`DataError` where there is no such file; nothing of it is read."""
        if not self.path.is_file():
            raise DataError("label file is missing", field="labels", value=self.path.name)

    def read(self) -> Labels:
        """All of them; `DataError` by file, column and line."""
        self.check_there()
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
    """What watch.toml names, None without one; `ConfigError` for a file that is not valid."""
    path = home.root / _FILE
    if not path.exists():
        return None
    read = read_toml(WatchLabels, path, "watch")
    return LabelFile(home.root / read.labels, read.class_column)


def own_labels(root: Path, patients: Patients) -> tuple[Matrix | None, str | None]:
    """(labels, None), or (None, why not); (None, None) where no file is named. Read anew at each look; never raises."""

    def read() -> Matrix | None:
        given = declared(SiteHome(root))
        return None if given is None else given.of(patients)

    return _tried(read)


def labels_line(home: SiteHome, patients: Patients | None = None) -> str | None:
    """For the start of the daemon, which reads no label, and, with a study's `patients`, its approval: will there be a probe?

    None where no file is named. Never raises.
    """

    def read() -> str | None:
        given = declared(home)
        if given is None:
            return None
        if not home.policy.watch:
            return f"labels are named in {_FILE}, but policy.toml says watch = false: nobody looks"
        if patients is None:
            given.check_there()
        else:
            given.of(patients)
        return f"after each round the neighbours probe takes the labels of {given.path.name}; they stay here"

    line, why = _tried(read)
    if why is None:
        return line
    return f"no neighbours probe: {why}. Studies train all the same. Correct the file, or {_FILE}"


def _tried(read: Callable[[], _T | None]) -> tuple[_T | None, str | None]:
    try:
        return read(), None
    except ChoralError as error:
        return None, error.problem.replace(f"column {error.value!r}", "a column")
    except Exception as error:
        # Whatever it is, the watch goes on without labels; of an error that is not ours the text may tell of patients.
        return None, f"the labels cannot be read ({type(error).__name__})"
