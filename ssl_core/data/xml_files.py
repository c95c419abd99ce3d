"""Step 1 of 12: an XML file parsed without anything that a document can ask of its reader.

Comes in: the bytes of a file. Goes out: its root element. A document type declaration, and with it every entity that is not
one of XML's own five, is refused before it is acted upon, so nothing is expanded and no other file or address is opened; depth
and number of elements are bounded. Encodings are expat's: UTF-8, UTF-16, ISO-8859-1, ASCII, and those of one byte a character
that Python knows. Raises `ValueError` for all that is refused or not well-formed. Why not xml.etree alone: it expands entities
that the document defines; see "XML vulnerabilities" in Python's documentation of its xml package.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

MOST_ELEMENTS = 1_000_000
DEEPEST = 200
_PIECE = 1 << 16


def parse_xml(raw: bytes) -> ElementTree.Element:
    """The root of a document; see the module docstring."""
    builder = ElementTree.TreeBuilder()
    depth = count = 0

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > DEEPEST or count > MOST_ELEMENTS:
            raise ValueError("too many elements, or too deep")
        builder.start(_clark(tag), {_clark(name): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_clark(tag))

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = builder.data
    for name in ("StartDoctypeDeclHandler", "EntityDeclHandler", "UnparsedEntityDeclHandler", "ExternalEntityRefHandler"):
        setattr(parser, name, _refuse)
    parser.SkippedEntityHandler = _refuse
    try:
        for begins in range(0, len(raw), _PIECE):
            parser.Parse(raw[begins : begins + _PIECE], False)
        parser.Parse(b"", True)
        return builder.close()
    except (expat.ExpatError, LookupError, AssertionError) as error:
        raise ValueError("not well-formed") from error


def is_path(path: str) -> bool:
    """Whether xml.etree understands a path."""
    try:
        ElementTree.Element("a").findall(path)
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


def text_of(element: ElementTree.Element) -> str:
    """All text inside an element."""
    return "".join(element.itertext())


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name


def _refuse(*_: Any) -> None:
    raise ValueError("a document type declaration or an entity")
