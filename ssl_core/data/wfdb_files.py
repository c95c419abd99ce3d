"""Step 1 of 12: reader of WFDB records (.hea and the signal files that it names), from this disk alone, with wfdb.

Comes in: a declared folder and the plan's signals. Goes out: a `Reading` with float32 [m, channels * samples] in the plan's
scale. Formats: those of wfdb (8 to 32 bits, 212, 310, 311, FLAC); records of several segments, of fixed and variable layout;
what a segment lacks is missing. A channel with several samples a frame has that many times the record's rate.

A header names other files, so it is read here too, before wfdb sees it: each name must be a plain one, of a file that lies
beside the header and nowhere else (`OUTSIDE`), which, where the folder does not say whose the files are, begins as the
header's own name does (`_belongs`) and is not nearer to another header's: no record is ever made of another patient's file.
A header whose segment is another patient's, by the rule, by its own comment or as nearer to another header's name, is `OUTSIDE`
too, and stays a bad record of its own patient: how many records he has does not depend on another's files. Sizes of all count
against `largest_mib`. A header that another one of the same patient names as its segment is no record by itself. A signal whose
header gives no gain has no units. wfdb opens names through fsspec, which would take "://" and "::" for a network address: a
path with these is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_core.data.declared_recordings import WfdbSource
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import Listed, list_files
from ssl_core.data.gathering import gather
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.recordings import Channel, check_meaning, chosen, most_samples, records
from ssl_core.spec.data import SignalData

if TYPE_CHECKING:
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import Source

_LONGEST_HEADER = 1 << 20
# wfdb's patterns take time with the square of a line's length.
_LONGEST_LINE = 1000
_OTHER_PLACE = re.compile(r"[/\\:]|\.\.")
_UNCALIBRATED = re.compile(r"[+-]?0*\.?0*(?:e[+-]?\d*)?(?:[(/].*)?", re.ASCII)


def read_wfdb(source: Source, data: SignalData, effort: Effort) -> Reading:
    """All records of the declared folder; see the module docstring."""
    declared = source.declared
    if not isinstance(declared, WfdbSource):
        raise TypeError(type(declared).__name__)
    needed("wfdb", "files of this kind")
    check_meaning(declared, data)
    files = _without_segments(list_files(declared, source.folder), declared)
    decoded = decode_all(files, WfdbDecoder(declared, data), Bounds.of(declared), workers=effort.workers)
    return gather(declared.path, decoded, data, effort.scratch, ending=".hea")


@dataclass(frozen=True, slots=True)
class WfdbDecoder:
    """A header's path -> the records of its recording."""

    source: WfdbSource
    data: SignalData

    def __call__(self, path: Path) -> Sequence[Found]:
        """See the module docstring; the header says whose the record is where the declaration asks it."""
        # wfdb would open the file of that ending, which may be another one.
        lines = _lines(path) if path.suffix == ".hea" else Fault.UNREADABLE
        if isinstance(lines, Fault):
            return [Found(None, "", lines)]
        owner = _comment(lines, self.source.patient_comment)
        heads = self._heads(path, lines)
        if isinstance(heads, Fault):
            return [Found(owner, "", heads)]
        whole, parts = heads
        start = whole.base_datetime
        name = "" if start is None else start.isoformat(timespec="microseconds")
        channels = self._channels(path, whole, parts)
        if isinstance(channels, Fault):
            return [Found(owner, name, channels)]
        return records(channels, self.source, self.data, owner=owner, start=name)

    def rates(self, path: Path) -> Sequence[float]:
        """The rates in Hz of the wanted channels, as the headers say them; none where there is no such channel."""
        lines = _lines(path) if path.suffix == ".hea" else Fault.UNREADABLE
        heads = lines if isinstance(lines, Fault) else self._heads(path, lines)
        if isinstance(heads, Fault) or not heads[1]:
            return []
        whole, (part, *_) = heads
        places = chosen([{name} if name else set() for name in part.sig_name], self.source.names)
        return [] if isinstance(places, Fault) else [float(whole.fs * part.samps_per_frame[place]) for place in places]

    def _heads(self, path: Path, lines: Sequence[str]) -> tuple[Any, list[Any]] | Fault:
        """wfdb's header of the record and those of its segments (of itself, where it has none), all files checked."""
        import wfdb

        if _names_another_place(lines):
            return Fault.OUTSIDE
        total, parts = path.stat().st_size, []
        whole = wfdb.rdheader(_plain(path))
        segments = getattr(whole, "seg_name", None)
        for name in [None] if segments is None else dict.fromkeys(name for name in segments if name != "~"):
            head, texts = path, lines
            if name is not None:
                head = path.with_name(f"{name}.hea")
                fault = self._beside(path, head)
                found = fault or _lines(head)
                if isinstance(found, Fault):
                    return found
                total, texts = total + head.stat().st_size, found
                if _comment(texts, self.source.patient_comment) not in (None, _comment(lines, self.source.patient_comment)):
                    return Fault.OUTSIDE
                if self._is_of_another(head, path):
                    return Fault.TWO_PATIENTS
            if _names_another_place(texts):
                return Fault.OUTSIDE
            part = whole if name is None else wfdb.rdheader(_plain(head))
            if getattr(part, "seg_name", None) is not None or not part.n_sig:
                return Fault.UNREADABLE
            for file in {file for file in part.file_name if file != "~"}:
                fault = self._beside(path, path.with_name(file))
                if fault is not None:
                    return fault
                if self._is_of_another(path.with_name(file), head):
                    return Fault.TWO_PATIENTS
                total += path.with_name(file).stat().st_size
            part.uncalibrated = [_no_gain(line) for line in _signal_lines(texts)]
            parts.append(part)
            if total > self.source.largest_mib << 20 or self._samples(part) > most_samples(self.source):
                return Fault.TOO_LARGE
        length = whole.sig_len or 0
        if segments is not None and (length != sum(whole.seg_len) or length * whole.n_sig > most_samples(self.source)):
            return Fault.UNREADABLE if length != sum(whole.seg_len) else Fault.TOO_LARGE
        return whole, parts

    def _beside(self, header: Path, file: Path) -> Fault | None:
        """None where `file` is one that `header` may name."""
        if not file.is_file():
            return Fault.UNREADABLE
        real = file.resolve()
        if real.parent != header.parent.resolve() or not _belongs(real.name, header.stem, self.source):
            return Fault.OUTSIDE
        return None

    def _is_of_another(self, file: Path, header: Path) -> bool:
        """Is there a header whose name is a longer beginning of the file's name? A link's name is that of its target."""
        if self.source.patient_from == "folder":
            return False
        name = file.resolve().name
        # A header is no segment of itself.
        longest = len(file.resolve().stem) if file.suffix == header.suffix else len(name)
        stems = (name[:end] for end in range(len(header.stem) + 1, longest))
        return any(_belongs(name, stem, self.source) and header.with_name(f"{stem}.hea").is_file() for stem in stems)

    @staticmethod
    def _samples(part: Any) -> int:
        """Values that wfdb makes of a segment, all channels; a length that is not written is that of the files."""
        frames = (part.sig_len or 0) + max((skew or 0 for skew in part.skew), default=0)
        return int(frames * sum(part.samps_per_frame))

    def _channels(self, path: Path, whole: Any, parts: Sequence[Any]) -> list[Channel] | Fault:
        """The wanted channels, in the plan's order."""
        import wfdb

        # The first header of a variable layout names all channels; of a fixed one, any header does.
        if not parts:
            return Fault.EMPTY
        places = chosen([{name} if name else set() for name in parts[0].sig_name], self.source.names)
        if isinstance(places, Fault):
            return places
        names = [parts[0].sig_name[place] for place in places]
        units = [_unit(name, parts[1:] if getattr(whole, "layout", "") == "variable" else parts) for name in names]
        # Read in the order of the file, which wfdb keeps, and put into the plan's.
        read = wfdb.rdrecord(_plain(path), channels=sorted(places), physical=True, smooth_frames=False)
        rank = [sorted(places).index(place) for place in places]
        if [read.sig_name[i] for i in rank] != names:
            return Fault.UNREADABLE
        return [
            Channel(np.asarray(read.e_p_signal[i], np.float64), unit, float(read.fs * read.samps_per_frame[i]))
            for i, unit in zip(rank, units, strict=True)
        ]


def _unit(name: str, parts: Sequence[Any]) -> str:
    """The unit that all segments give a channel; "" where they differ or one gives no gain."""
    found = {
        "" if part.uncalibrated[i] else part.units[i]
        for part in parts
        for i, each in enumerate(part.sig_name)
        if each == name and part.file_name[i] != "~"
    }
    return found.pop() if len(found) == 1 else ""


def _plain(path: Path) -> str:
    """The record's path as wfdb takes it."""
    text = str(path.absolute().with_suffix(""))
    if "::" in text or "://" in text:
        raise ValueError("a path that a library would take for an address")
    return text


def _lines(path: Path) -> list[str] | Fault:
    """All lines of a header that are not empty; bytes that are no UTF-8 stay marked."""
    with path.open("rb") as stream:
        whole = stream.read(_LONGEST_HEADER + 1)
    if len(whole) > _LONGEST_HEADER:
        return Fault.TOO_LARGE
    lines = [line.strip() for line in re.split(r"[\r\n]", whole.decode("utf-8", "surrogateescape"))]
    if any(len(line) > _LONGEST_LINE for line in lines):
        return Fault.UNREADABLE
    return [line for line in lines if line]


def _signal_lines(lines: Sequence[str]) -> list[str]:
    """The lines after the record's own, comments left out."""
    return [line for line in lines if not line.startswith("#")][1:]


def _names_another_place(lines: Sequence[str]) -> bool:
    """Is there a file or segment whose name is no plain one? wfdb would call the whole header unreadable."""
    return any(_OTHER_PLACE.search(line.split()[0]) for line in _signal_lines(lines))


def _no_gain(line: str) -> bool:
    """Is there no gain in a signal line, or zero, which stands for none?"""
    cells = line.split()
    return len(cells) < 3 or _UNCALIBRATED.fullmatch(cells[2]) is not None


def _comment(lines: Sequence[str], key: str | None) -> str | None:
    """What the one comment "key: value" says; None where there is none, or several that differ."""
    if key is None:
        return None
    comments = [line.lstrip("# \t").partition(":") for line in lines if line.startswith("#")]
    found = {value.strip() for name, colon, value in comments if colon and name.strip().casefold() == key.casefold()}
    return found.pop() if len(found) == 1 else None


def _belongs(name: str, stem: str, source: WfdbSource) -> bool:
    """May the header `stem` name this file? Where the folder is the patient's, yes; else if it is stem + something else."""
    if source.patient_from == "folder":
        return True
    rest = name.removeprefix(stem)
    ends, begins = stem[-1:], rest[:1]
    # p1 is not the beginning of p10, nor a that of ab.
    return (
        rest != name and rest != "" and not (ends.isdigit() and begins.isdigit()) and not (ends.isalpha() and begins.isalpha())
    )


def _without_segments(files: Sequence[Listed], source: WfdbSource) -> list[Listed]:
    """All headers but those that another one of the same patient names as its segments; who names another's reads nothing.

    Where headers say whose they are, the decoder refuses the other's segment: it knows whose the blank record is, too.
    """
    owners = {file.path: file.owner for file in files if file.inside}
    segments: set[Path] = set()
    stolen: set[Path] = set()
    for file in files:
        for name in _segments(file) if file.inside else ():
            if _OTHER_PLACE.search(name):
                # The decoder refuses the file; a path cannot be made of the name.
                continue
            part = file.path.with_name(f"{name}.hea")
            if part == file.path or part not in owners or not _belongs(part.name, file.path.stem, source):
                continue
            mine, theirs = owners[file.path] or _said(file.path, source), owners[part] or _said(part, source)
            if mine == theirs or (source.patient_from == "header" and theirs is None):
                segments.add(part)
            elif theirs is not None and source.patient_from != "header":
                stolen.add(file.path)
    kept = (file for file in files if file.path not in segments)
    return [replace(file, inside=False) if file.path in stolen else file for file in kept]


def _said(path: Path, source: WfdbSource) -> str | None:
    """Whom a header's comment names, where the declaration asks it."""
    try:
        lines = _lines(path) if source.patient_comment is not None else Fault.EMPTY
    except OSError:
        return None
    return None if isinstance(lines, Fault) else _comment(lines, source.patient_comment)


def _segments(file: Listed) -> list[str]:
    """The segments that a header names; none where it is of one segment, or cannot be read."""
    try:
        lines = _lines(file.path)
    except OSError:
        return []
    if isinstance(lines, Fault):
        return []
    first = next((line for line in lines if not line.startswith("#")), "")
    return [line.split()[0] for line in _signal_lines(lines)] if re.match(r"[-\w]+/\d", first) else []
