"""Step 1 of 12: one thing that a hospital's staff should know of its data, and what to do about it.

A finding says how many of how many, and where to look: a file, a line, a column, never a text of a patient. Findings stay at
the site. Their weight decides the exit code of `choral site data check`: a refusal is what an approval would refuse too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ssl_core.data.reading import Fault

MOST_PLACES = 8


class Weight(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` of `of` things; `places`: the first where they are."""

    topic: str
    what: str
    remedy: str
    count: int
    of: int
    places: tuple[str, ...] = field(default=(), repr=False)
    weight: Weight = Weight.WARNING

    def to_json(self) -> dict[str, object]:
        """For scripts at the site."""
        return {
            "weight": str(self.weight),
            "topic": self.topic,
            "what": self.what,
            "count": self.count,
            "of": self.of,
            "places": list(self.places),
            "remedy": self.remedy,
        }


def first(places: Iterable[str]) -> tuple[str, ...]:
    """The first few places."""
    out = []
    for place in places:
        out.append(place)
        if len(out) == MOST_PLACES:
            break
    return tuple(out)


_LOOK = "look at these files; leave out what does not belong, or declare the share that is known: max_bad_share"

REMEDIES: dict[Fault, str] = {
    Fault.UNREADABLE: (
        "texts must be UTF-8: export them so; copy another file again from where it came; one that stays damaged does not "
        "belong in the folder"
    ),
    Fault.EMPTY: "copy the file again from where it came",
    Fault.TWO_PATIENTS: "export the files again so that each address names one patient, or with identifiers in each resource",
    Fault.OUTSIDE: "put the file itself into the folder, in place of the link",
    Fault.ENCRYPTED: "export it without encryption, onto the site's own encrypted disk",
    Fault.WRONG_KIND: "narrow `files` in the source file, or move these files elsewhere",
    Fault.CODEC: "export it uncompressed, or in a transfer syntax that is read here",
    Fault.TOO_LARGE: "if such files are right, raise largest_mib in the source file",
    Fault.TOO_SLOW: "if such files are right, raise seconds_a_file in the source file",
    Fault.CRASHED: "leave the file out, and tell whoever wrote it: it breaks its reader",
    Fault.RATE: "resample these files to the study's rate or spacing, or leave them out: nothing is resampled unasked",
    Fault.UNITS: "convert these files to the study's units, or leave them out",
    Fault.CHANNELS: "name the channels in the source file as these files do, or leave the files out",
    Fault.LINES: "correct the quotes at these lines, or declare multiline = true where cells hold line breaks",
    Fault.QUOTES: "correct the quotes at these lines: one is missing, or one too many",
    Fault.SHAPE: (
        "rows with more or fewer fields than the first line: correct them. Pictures of another size than the plan's: ask the "
        f"operator for a plan whose [data] says fit, such as pad (docs/data-images.md); else {_LOOK}"
    ),
    Fault.NO_PATIENT: "correct the rule patient_from, or the patient column; a record without a patient is left out",
}


def remedy_of(fault: Fault) -> str:
    """What to do about a kind of bad record."""
    return REMEDIES.get(fault, _LOOK)
