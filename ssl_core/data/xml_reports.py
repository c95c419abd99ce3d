"""Step 1 of 12: reader of reports as XML.

Comes in: a declared folder (declared_xml.py). Goes out: a `Reading`, int32 [m, words, codes], one record a file or, where
`record` is declared, one a found element. A record without any of the declared elements, or without a word in them, is bad; a
file with a document type declaration or an entity, or that is not well-formed, is unreadable (xml_files.py). A record in which
the declared path names several patients is nobody's: it holds texts of each. One that holds another record is bad. Where a file
holds many records and names their patients, a file that cannot be read and a record within another refuse the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ssl_core.data.declared_xml import XmlSource, split_attribute
from ssl_core.data.decoding import Found
from ssl_core.data.gathering import gather_folder
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.data.table import words_of
from ssl_core.data.words import encode
from ssl_core.data.xml_files import parse_xml, text_of
from ssl_core.spec.data import TextData


def read_xml(declared: XmlSource, folder: Path, data: TextData, effort: Effort) -> Reading:
    """Every report of the folder; see the module docstring."""
    several = declared.patient_from == "header" and declared.record is not None
    return gather_folder(declared, folder, XmlDecoder(declared, data), data, effort, several=several)


def records_in(root: ElementTree.Element, declared: XmlSource) -> list[ElementTree.Element]:
    """The records of a document, in its order."""
    return [root] if declared.record is None else list(root.iterfind(declared.record))


def text_in(record: ElementTree.Element, declared: XmlSource) -> str:
    """What the declared elements of a record say."""
    return "\n".join(text_of(each) for path in declared.text for each in record.iterfind(path))


def owner_of(record: ElementTree.Element, declared: XmlSource) -> str | None:
    """Whose a record is, by the declared path."""
    return None if declared.patient_path is None else _named(record, declared.patient_path)


def id_of(record: ElementTree.Element, declared: XmlSource) -> str | None:
    """By what labels name a record: by the declared path or, where a file is a record, by the file's name (None)."""
    if declared.id_path is None:
        return None if declared.record is None else ""
    return _named(record, declared.id_path) or ""


def _named(record: ElementTree.Element, written: str) -> str | None:
    """The one id that stands at a path; None where there is none, or several."""
    path, attribute = split_attribute(written)
    elements = record.findall(path)
    texts = map(text_of, elements) if attribute is None else (element.get(attribute, "") for element in elements)
    names = {unit_id(text) for text in texts} - {""}
    return names.pop() if len(names) == 1 else None


@dataclass(frozen=True)
class XmlDecoder:
    """One file to one `Found` a record."""

    declared: XmlSource
    data: TextData

    def __call__(self, path: Path) -> Sequence[Found]:
        """The reports of a file."""
        try:
            root = parse_xml(path.read_bytes())
        except ValueError:
            return [Found(None, "", Fault.UNREADABLE)]
        if self.declared.record is None:
            # Named by its file: records of a patient come in the order of the files' names.
            return [self._found(root, "")]
        records = records_in(root, self.declared)
        known = set(records)
        return [
            Found(owner_of(each, self.declared), name, Fault.SHAPE, record=id_of(each, self.declared))
            if any(inner in known for inner in each.iter() if inner is not each)
            else self._found(each, name)
            for each, name in ((each, f"{path.name} {place:09d}") for place, each in enumerate(records))
        ]

    def _found(self, record: ElementTree.Element, name: str) -> Found:
        words = words_of(text_in(record, self.declared))
        content = words if isinstance(words, Fault) else encode([words], self.data)[0]
        return Found(owner_of(record, self.declared), name, content, record=id_of(record, self.declared))
