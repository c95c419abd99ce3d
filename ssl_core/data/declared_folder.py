"""Step 1 of 12: what a site declares of a folder of files, each of one patient.

    path = "xray"                      files = ["*.png"]
    patient_from = "folder"            patient_pattern = "^(?P<patient>[^_]+)_"
    index = "index.csv"                file_column = "file"       patient_column = "patient"
    largest_mib = 512                  seconds_a_file = 20.0

`path` is a folder, relative to that of the TOML ("." for the same); all files below it whose name, in lower case, matches
one of `files` are read. `patient_from` says whose a file is: `header`, what the file itself says; `folder`, the name of the
first folder below `path`; `pattern`, the group `patient` of a regular expression on the file's name below `path`; `index`, a
CSV file beside the TOML that names file and patient. A file may hold `largest_mib` and take `seconds_a_file` to be decoded.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared import Column, Declared, Inside

PatientFrom = Literal["header", "folder", "pattern", "index"]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)]
"""Names of files as a shell writes them."""


class FolderSource(Declared):
    """What all kinds of folders declare; each kind says which files are its own, and if their headers name a patient."""

    path: Inside = "."
    files: Patterns = ("*",)
    patient_from: PatientFrom = "folder"
    patient_pattern: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    index: Inside | None = None
    file_column: Column = "file"
    patient_column: Column = "patient"
    largest_mib: Annotated[int, Field(ge=1, le=1 << 14)] = 512
    seconds_a_file: Annotated[float, Field(gt=0, le=600)] = 20.0

    @property
    def paths(self) -> tuple[str, ...]:
        """The declared folder."""
        return (self.path,)

    @model_validator(mode="after")
    def _rule(self) -> Self:
        for name, field, value in (("pattern", "patient_pattern", self.patient_pattern), ("index", "index", self.index)):
            if (self.patient_from == name) != (value is not None):
                raise ValueError(f"{field} goes with patient_from = {name!r}, and with it alone")
        if self.patient_pattern is not None:
            try:
                groups = re.compile(self.patient_pattern).groupindex
            except re.error as error:
                raise ValueError(f"patient_pattern is no regular expression: {error}") from error
            if "patient" not in groups:
                raise ValueError("patient_pattern has no group (?P<patient>...)")
        return self
