"""Synthetic texts as XML reports; for the isolation check.

Comes in: a folder, a declaration, the plan's data and rows. Goes out: files of the study's texts, and the declaration that
reads them. A path that is declared for files of any shape cannot be turned round into a file; so here a text stands in an
element of its own, and the paths are replaced. With `record`, several texts, of several patients, stand in one file; else one
in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ssl_core.data.declared import Declared
from ssl_core.data.declared_xml import XmlSource
from ssl_core.privacy.synthetic_rows import Row, numbered

_A_FILE = 3


def write_xml(folder: Path, declared: XmlSource, data: object, rows: Sequence[Row]) -> Declared:
    """Write `<unit>-<number>.xml`, or `<place>.xml` of several texts each."""
    reports = []
    for unit, number, content in numbered(rows):
        report = ElementTree.Element("report", {"patient": unit})
        ElementTree.SubElement(report, "text").text = str(content)
        reports.append((f"{unit}-{number:06d}.xml", report))
    where = {
        "path": ".", "files": ("*.xml",), "text": ("text",), "patient_from": "header", "patient_path": "@patient",
        "patient_pattern": None, "index": None,
    }  # fmt: skip
    if declared.record is None:
        for name, report in reports:
            ElementTree.ElementTree(report).write(folder / name, "utf-8", xml_declaration=True)
        return declared.model_copy(update=where)
    for begin in range(0, len(reports), _A_FILE):
        root = ElementTree.Element("reports")
        root.extend(report for _, report in reports[begin : begin + _A_FILE])
        ElementTree.ElementTree(root).write(folder / f"{begin:06d}.xml", "utf-8", xml_declaration=True)
    return declared.model_copy(update={**where, "record": "report"})
