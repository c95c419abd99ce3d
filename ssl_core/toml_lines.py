"""The line of a TOML file in which a key stands, so that an error points at it.

Comes in: the text of a file that is valid TOML, and where in its content a fault lies (keys, and numbers of list entries).
Goes out: the line, counted from 1, of the deepest key or table header on that way; None where not even the first is written.
Keys inside an inline table or a list stand at the line where that begins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"^\s*\[(\[?)\s*({_KEYS})\s*\]")
_PAIR = re.compile(rf"^\s*({_KEYS})\s*=")
_PARTS = re.compile(_KEY)


def line_of(text: str, where: Sequence[str | int]) -> int | None:
    """The line of `where`; parts that are not in the file (a missing key, the tag of a choice) are passed over."""
    lines: dict[Path, int] = {}
    for path, line in _keys(text):
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], line)
    place: Path = ()
    for part in where:
        if (*place, part) in lines:
            place = (*place, part)
    return lines.get(place)


def _keys(text: str) -> Iterator[tuple[Path, int]]:
    """Every key and table header with its line."""
    table: Path = ()
    counts: Counter[Path] = Counter()
    quote: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        begins_inside = quote is not None
        quote = _open_quote(line, quote)
        if begins_inside:
            continue
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1]:
                table = (*table, counts[table])
                counts[table[:-1]] += 1
            yield table, number
        elif pair := _PAIR.match(line):
            yield (*table, *_parts(pair[1])), number


def _parts(keys: str) -> Path:
    return tuple(part.strip("\"'") for part in _PARTS.findall(keys))


def _open_quote(line: str, quote: str | None) -> str | None:
    """Which multi-line string is open after `line`, where `quote` was open before it."""
    for mark in re.findall(r'"""|\'\'\'', line):
        if quote is None:
            quote = mark
        elif quote == mark:
            quote = None
    return quote
