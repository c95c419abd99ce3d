"""Step 1 of 12: what looks like a person in file names and notes; counted, with file and line, never with its text.

Comes in: a `Source`. Goes out: findings. A pattern finds what is written in usual ways and nothing else: no finding is no
proof. NOTES says where the notes of a kind of source are; a reader of another kind adds its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.declared import TableSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.folder_files import list_files
from ssl_core.data.source import Source
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.spec.data import Data, PairData

_LONGEST = 100_000
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez"
_TITLES = "Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Señor|Señora|Sr|Sra|Monsieur|Madame|Mme"

PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")),
    (
        "date",
        re.compile(
            r"(?<!\d)(?:(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:(?:19|20)\d\d|\d\d)"
            r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?!\d)"
            rf"|\b\d{{1,2}}(?:st|nd|rd|th|\.)? ?(?:{_MONTHS})[a-zä]{{0,6}}\.?,? ?(?:19|20)\d\d\b",
            re.IGNORECASE,
        ),
    ),
    ("telephone number", re.compile(r"(?<![\w.])(?=(?:\D{0,2}\d){8})\+?\(?\d{1,5}\)?(?:[ \-/]\(?\d{2,6}\)?){1,5}(?![\w.])")),
    ("long number", re.compile(r"(?<!\d)\d{6,}(?!\d)")),
    ("title with a name", re.compile(rf"\b(?:{_TITLES})\b\.? [A-ZÀ-Þ][\w'’-]+")),
)
"""What is looked for, in this order; what one has found the next ones do not see."""

Note = tuple[str, int, str]
"""File, line from 1, text."""


def kinds_in(text: str) -> Counter[str]:
    """How often each pattern is found in `text`."""
    found: Counter[str] = Counter()
    text = text[:_LONGEST]
    for kind, pattern in PATTERNS:
        text, count = pattern.subn(" | ", text)
        if count:
            found[kind] = count
    return found


@dataclass(slots=True)
class Places:
    """Where each kind was found, by things (files, notes) that hold it; the first few places are kept."""

    counts: Counter[str] = field(default_factory=Counter)
    places: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list), repr=False)
    looked: int = 0

    def add(self, place: str, kinds: Iterable[str]) -> None:
        """One more thing that was looked at."""
        self.looked += 1
        for kind in kinds:
            self.counts[kind] += 1
            if len(self.places[kind]) < MOST_PLACES:
                self.places[kind].append(place)

    def findings(self, topic: str, what: str, remedy: str, weight: Weight = Weight.WARNING) -> list[Finding]:
        """One finding a kind."""
        return [
            Finding(topic, f"{what}: {kind}", remedy, count, self.looked, tuple(self.places[kind]), weight)
            for kind, count in sorted(self.counts.items())
        ]


def name_findings(source: Source) -> list[Finding]:
    """Dates and long numbers in names of files; a digit is shown as #."""
    names = _names(source)
    found = Places()
    for name in names:
        found.add(re.sub(r"\d", "#", name), (kind for kind in kinds_in(re.sub(r"[_\s]", " ", name))))
    remedy = "names never leave the site, but stand in its logs and backups: rename the files where your rules ask for it"
    return found.findings("file names", "names of files that look like", remedy, Weight.NOTE)


def note_findings(source: Source, data: Data) -> list[Finding]:
    """What looks like a person in the notes that a study would read."""
    if isinstance(source.declared, PairsSource) and isinstance(data, PairData):
        return note_findings(replace(source, declared=source.declared.text), data.words)
    if data.kind != "text":
        return []
    notes = NOTES.get(source.declared.kind)
    if notes is None or getattr(source.declared, "format", None) not in (None, "csv", "jsonl"):
        what = "notes of this kind of source are not searched for names, dates and numbers"
        return [Finding("notes", what, "search them with your own tool", 0, 0, weight=Weight.NOTE)]
    found = Places()
    for file, line, text in notes(source):
        found.add(f"{file}, line {line}", kinds_in(text))
    remedy = "de-identify the notes with your own tool: the study's noise protects a patient, not a name that many notes hold"
    return found.findings("notes", "notes with what looks like", remedy)


def _names(source: Source) -> list[str]:
    if isinstance(source.declared, PairsSource):
        return [name for part in source.declared.parts for name in _names(replace(source, declared=part))]
    if isinstance(source.declared, FolderSource):
        return [file.name for file in list_files(source.declared, source.folder)]
    return list(source.declared.paths)


def _table_notes(source: Source) -> Iterator[Note]:
    declared = source.declared
    if not isinstance(declared, TableSource):
        raise TypeError("notes of a table are read from a table")
    for name, path in zip(declared.paths, source.files(), strict=True):
        with open_text(path, name) as stream:
            if declared.format == "jsonl":
                yield from _json_notes(declared, name, stream)
                continue
            counted = _Counted(stream)
            rows = csv_rows(counted, name, [("text_column", declared.text_column)], multiline=declared.multiline)  # type: ignore[arg-type]  # csv asks for lines alone
            yield from ((name, counted.line, row[0]) for row in rows if isinstance(row, list))


def _json_notes(declared: TableSource, name: str, stream: Iterable[str]) -> Iterator[Note]:
    for number, line in enumerate(stream, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # counted by the reader
        text = row.get(declared.text_column) if isinstance(row, dict) else None
        if isinstance(text, str):
            yield name, number, text


class _Counted:
    """Lines of a stream, and how many were taken: the last line of the row at hand."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.line = iter(lines), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        self.line += 1
        return text


NOTES: dict[str, Callable[[Source], Iterator[Note]]] = {"table": _table_notes}
"""Kind of a source -> its notes, with file and line."""
