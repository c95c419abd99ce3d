"""Step 1 of 12: what a site declares of images and the reports that were written about them.

    kind = "pairs"                        kind = "pairs"                       kind = "pairs"
    study_from = "accession"              study_from = "pattern"               study_from = "index"
                                          study_pattern = "_(?P<study>[0-9]+)_" study_column = "examination"
    [image]
    kind = "dicom"                        [image]                              [image]
    path = "archive"                      kind = "pictures"                    kind = "nifti"
    modalities = ["CR", "DX"]             path = "xray"                        patient_from = "index"
                                                                               index = "index.csv"
    [text]
    kind = "table"                        [text] as on the left                [text] as on the left
    path = "reports.csv"
    format = "csv"
    patient_column = "patient"
    record_column = "accession"
    text_column = "text"

[image] and [text] are sources of one kind of data each, as they would stand in a file of their own; `cohort`,
`max_bad_share`, `split` and `part` stand above them, for both. An image belongs to the report whose `record_column` holds the
study of the image and whose patient is the image's: one report may have several images. `study_from` says where the study of
an image stands: `uid` (StudyInstanceUID) or `accession` (AccessionNumber) in a DICOM header; the group `study` of
`study_pattern` on a file's name below the folder; `study_column` of the image's index; `field`: the array `study_field` of an
npz file.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared import Column, Declared, NpzSource, TableSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, PicturesSource

ImageSource = Annotated[DicomSource | PicturesSource | NiftiSource | NpzSource, Field(discriminator="kind")]
StudyFrom = Literal["uid", "accession", "pattern", "index", "field"]


class PairsSource(Declared):
    """Images of one source, reports of another, linked by the study within a patient."""

    kind: Literal["pairs"]
    image: ImageSource
    text: TableSource
    study_from: StudyFrom
    study_pattern: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    study_column: Column = "study"
    study_field: Column = "study"

    @property
    def paths(self) -> tuple[str, ...]:
        """The images' folder or file, then the reports' files."""
        return (*self.image.paths, *self.text.paths)

    @property
    def parts(self) -> tuple[ImageSource, TableSource]:
        """The two sources, each as it would stand alone."""
        return self.image, self.text

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, part in (("image", self.image), ("text", self.text)):
            for key in ("cohort", "max_bad_share", "split", "part"):
                if key in part.model_fields_set:
                    raise ValueError(f"{key} is of images and reports together: write it above [{name}], not in it")
        if self.text.record_column is None:
            raise ValueError("[text] needs record_column: the study that a report is about")
        if self.text.time_column is not None:
            raise ValueError("[text] has no time_column: a pair stands in the order of its image")
        return self

    @model_validator(mode="after")
    def _link(self) -> Self:
        if self.study_from in ("uid", "accession") and not isinstance(self.image, DicomSource):
            raise ValueError(f"study_from = {self.study_from!r} is for DICOM files")
        if (self.study_from == "field") != isinstance(self.image, NpzSource):
            raise ValueError("study_from = 'field' goes with an image of kind npz, and with it alone")
        if self.study_from == "index" and not (isinstance(self.image, FolderSource) and self.image.index is not None):
            raise ValueError("study_from = 'index' needs the index of [image], which patient_from = 'index' names")
        if (self.study_from == "pattern") != (self.study_pattern is not None):
            raise ValueError("study_pattern goes with study_from = 'pattern', and with it alone")
        if self.study_pattern is not None:
            try:
                groups = re.compile(self.study_pattern).groupindex
            except re.error as error:
                raise ValueError(f"study_pattern is no regular expression: {error}") from error
            if "study" not in groups:
                raise ValueError("study_pattern has no group (?P<study>...)")
        return self
