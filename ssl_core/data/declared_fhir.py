"""Step 1 of 12: what a site declares of a folder of FHIR resources (release 4, JSON): bundles, or one resource a line.

    kind = "fhir"                                   [numbers.sodium]
    path = "export"                                 codes = ["http://loinc.org|2951-2"]
    files = ["*.ndjson"]                            ucum = "mmol/L"
    patient_identifier = "https://a.example/mrn"    unit = "mmol/L"
    rows = "encounter"                              [levels.smoking]
    [reports]                                       codes = ["http://loinc.org|72166-2"]
    codes = ["http://loinc.org|18748-4"]            [levels.smoking.values]
                                                    never = ["http://snomed.info/sct|266919005"]

A code stands as system|code. `reports`, for text data: the codes of the DiagnosticReports that are read; none for all. For
tables each column of the plan stands under `numbers` or `levels`: the codes of the Observations, or of their components, that
hold it; of a number the only UCUM unit in which it is read, and the plan's name for that unit; of levels what each is written
as: system|code of a concept, or a text, `true` or `false`. A row is an encounter, or a day; what belongs to no encounter is a
row of its day. Both are made within one file.
`patient_from = "header"`, the default: the patient that a resource's subject refers to, by the id of the Patient or, where
`patient_identifier` is declared, by his identifier of that system.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared_folder import FolderSource, PatientFrom, Patterns
from ssl_core.spec.data import Shown, Unit
from ssl_core.spec.strict import StrictModel

Token = Annotated[str, Field(pattern=r"^[^|\s]{1,300}\|[^|]{1,100}$")]
Tokens = Annotated[tuple[Token, ...], Field(max_length=1000)]
SomeTokens = Annotated[Tokens, Field(min_length=1)]
Written = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=400)], ...], Field(min_length=1, max_length=1000)]


class Reports(StrictModel):
    """Which reports are read; empty for all."""

    codes: Tokens = ()


class Quantity(StrictModel):
    """A numeric column: which observations, and their only unit."""

    codes: SomeTokens
    ucum: Annotated[str, Field(min_length=1, max_length=60)]
    unit: Unit | None = None


class Levels(StrictModel):
    """A column of levels: which observations, and what each level is written as."""

    codes: SomeTokens
    values: Annotated[dict[Shown, Written], Field(min_length=1)]


class FhirSource(FolderSource):
    """DiagnosticReports as texts, Observations as wide rows."""

    kind: Literal["fhir"]
    files: Patterns = ("*.json", "*.ndjson")
    patient_from: PatientFrom = "header"
    patient_identifier: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    rows: Literal["encounter", "day"] = "encounter"
    reports: Reports = Reports()
    numbers: dict[str, Quantity] = Field(default_factory=dict)
    levels: dict[str, Levels] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        codes = [code for number in self.numbers.values() for code in number.codes]
        codes += [code for column in self.levels.values() for code in column.codes]
        if len(set(codes)) != len(codes):
            raise ValueError("a code stands under two columns, or twice")
        for name, column in self.levels.items():
            written = [text for texts in column.values.values() for text in texts]
            if len(set(written)) != len(written):
                raise ValueError(f"levels.{name}: one text or concept means two levels")
        if self.numbers.keys() & self.levels.keys():
            raise ValueError("a column stands under numbers and levels")
        return self
