"""Step 1 of 12: what a site declares of a folder of reports as XML, one or many a file.

    kind = "xml"                                   record = "eCitation"
    path = "reports"                               patient_from = "header"
    files = ["*.xml"]                              patient_path = "uId/@id"
                                                   id_path = "MedlineCitation/PMID"
    text = ["MedlineCitation/Article/Abstract/AbstractText[@Label='FINDINGS']", ".//AbstractText[@Label='IMPRESSION']"]

`text`: the elements whose text, with that of all elements inside, is joined in this order; each path may find several, in the
order of the file. A path is relative to a record: the root or, where `record` is declared, each element that it finds. Paths
are those of Python's xml.etree: names, `*`, `.//`, `[@name='value']`, `[name]`, `[2]`; a namespace as {address}name.
`patient_path` goes with patient_from = "header" and may end in /@attribute; so may `id_path`, by which labels name a record.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ssl_core.data.declared_folder import FolderSource, Patterns
from ssl_core.data.xml_files import is_path

_ATTRIBUTE = re.compile(r"(?P<path>.*?)/?@(?P<name>[^/@\[\]'\"]+)")


def _checked(path: str) -> str:
    if not is_path(path):
        raise ValueError("no path that xml.etree understands")
    return path


def split_attribute(path: str) -> tuple[str, str | None]:
    """Path of an element, and the attribute of it that is meant, or None for its text."""
    match = _ATTRIBUTE.fullmatch(path)
    return (match["path"] or ".", match["name"]) if match else (path, None)


def _checked_id(path: str) -> str:
    _checked(split_attribute(path)[0])
    return path


ElementPath = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_checked)]
IdPath = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_checked_id)]


class XmlSource(FolderSource):
    """Reports as XML files."""

    kind: Literal["xml"]
    files: Patterns = ("*.xml",)
    text: Annotated[tuple[ElementPath, ...], Field(min_length=1, max_length=50)]
    record: ElementPath | None = None
    patient_path: IdPath | None = None
    id_path: IdPath | None = None
    largest_mib: Annotated[int, Field(ge=1, le=1 << 14)] = 16

    @model_validator(mode="after")
    def _header(self) -> Self:
        if (self.patient_from == "header") != (self.patient_path is not None):
            raise ValueError("patient_path goes with patient_from = 'header', and with it alone")
        return self
