"""Step 1 of 12: what in a text looks like a person, and names of files that do; counted, with places, never with the text.

Comes in: a text, or a `Source`. Goes out: kinds of patterns, findings. A pattern finds what is written in usual ways and
nothing else: no finding is no proof. Where the texts of a source are: notes.py.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.folder_files import list_files
from ssl_core.data.source import Source
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight

_LONGEST = 100_000
_ACROSS = 256
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

KINDS = tuple(kind for kind, _ in PATTERNS)


def kinds_in(text: str) -> tuple[str, ...]:
    """Which patterns are found in `text`, however long, in the order of PATTERNS."""
    found: set[str] = set()
    # A piece begins within the one before it: what lies across their border is whole in one of them.
    for begin in range(0, max(len(text), 1), _LONGEST):
        piece = text[max(0, begin - _ACROSS) : begin + _LONGEST]
        for kind, pattern in PATTERNS:
            piece, count = pattern.subn(" | ", piece)
            if count:
                found.add(kind)
    return tuple(kind for kind in KINDS if kind in found)


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
        found.add(re.sub(r"\d", "#", name), kinds_in(re.sub(r"[_\s]", " ", name)))
    remedy = "names never leave the site, but stand in its logs and backups: rename the files where your rules ask for it"
    return found.findings("file names", "names of files that look like", remedy, Weight.NOTE)


def _names(source: Source) -> list[str]:
    if isinstance(source.declared, PairsSource):
        return [name for part in source.declared.parts for name in _names(replace(source, declared=part))]
    if isinstance(source.declared, FolderSource):
        return [file.name for file in list_files(source.declared, source.folder)]
    return list(source.declared.paths)
