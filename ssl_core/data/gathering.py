"""Step 1 of 12: records as they are decoded to one `Reading`; what does not fit in memory lies in a file without a name.

Comes in: the files of a folder with what was found in each (decoding.py), in order. Goes out: `Reading`, with one tally for the
folder. A record that the declared rule gives no patient (rule `header`: whose file names none) is left out and counted, and so
is one of another kind; a bad record of a known patient is a record of padding. Where a file may hold several patients, a fault
that may hide some of them is counted as `hiding` too: one patient's damage must not take another's records away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.decoding import Bounds, Decoder, Found, decode_all
from ssl_core.data.folder_files import Listed, list_files
from ssl_core.data.pair_rows import padding_row
from ssl_core.data.reading import Effort, Fault, Reading, Tally, row_id
from ssl_core.data.rows import Rows, Values
from ssl_core.spec.data import Data, EventData, PairData, TextData


def padding(data: Data) -> Values:
    """The record that stands for one that could not be read: -1 for texts and events, zeros for others; pairs have both."""
    if isinstance(data, PairData):
        return padding_row(data)
    if isinstance(data, TextData | EventData):
        return np.full(data.shape, -1, np.int32)
    return np.zeros(data.values, np.float32)


def gather_folder(
    source: FolderSource,
    folder: Path,
    decoder: Decoder,
    data: Data,
    effort: Effort,
    *,
    several: bool = False,
    nothing_is_fine: bool = False,
) -> Reading:
    """All files of a declared folder, decoded and gathered.

    several: a file may hold records of several patients; nothing_is_fine: a file without a record is no bad file.
    """
    decoded = decode_all(list_files(source, folder), decoder, Bounds.of(source), workers=effort.workers)
    kept = (pair for pair in decoded if isinstance(pair[1], Fault) or len(pair[1]) or not nothing_is_fine)
    return gather(source.path, kept, data, effort.scratch, several=several)


def gather(
    name: str,
    decoded: Iterable[tuple[Listed, Sequence[Found] | Fault]],
    data: Data,
    scratch: Path | None = None,
    *,
    several: bool = False,
    ending: str = "",
) -> Reading:
    """Everything that was decoded; `name`: of the folder, for the report. `scratch`: where records may lie meanwhile.

    ending: what a file's name ends in that is no part of its record's id.
    """
    tally = Tally(name)
    owners: list[str] = []
    order: list[str] = []
    names: list[str] = []
    blank = padding(data)
    with Rows(blank, scratch) as rows:
        for file, result in decoded:
            tally.hiding += several and isinstance(result, Fault)
            for found in found_in(result):
                tally.rows += 1
                tally.hiding += found.content is Fault.TWO_PATIENTS or (
                    several and not isinstance(result, Fault) and _hides(found)
                )
                owner = owner_of(file, found)
                bad = isinstance(found.content, Fault)
                if bad or owner is None:
                    tally.add_bad_file(file.name, found.content if isinstance(found.content, Fault) else Fault.NO_PATIENT)
                if owner is None or found.content is Fault.WRONG_KIND:
                    continue
                owners.append(owner)
                order.append(found.name or file.name)
                names.append(record_of(file, found, ending))
                rows.add(blank if isinstance(found.content, Fault) else found.content)
        return Reading(owners, order, rows.array(), (tally,), names)


def found_in(result: Sequence[Found] | Fault) -> Sequence[Found]:
    """The records of a file; a bad one, of nobody by itself, stands for a file that has none."""
    if isinstance(result, Fault):
        return [Found(None, "", result)]
    return result or [Found(None, "", Fault.EMPTY)]


def owner_of(file: Listed, found: Found) -> str | None:
    """Whose a record is: by the declared rule; what the file says counts only where the rule is `header`."""
    return file.owner or (row_id(found.owner) if file.says else None)


def record_of(file: Listed, found: Found, ending: str = "") -> str:
    """By what id labels name a record: what the file says or, where it is silent, the file's name; "" for none."""
    return row_id(file.name.removesuffix(ending) if found.record is None else found.record) or ""


def _hides(found: Found) -> bool:
    """May there be several patients behind a bad record: a line that cannot be parsed, a record within another?"""
    if found.content is Fault.UNREADABLE:
        return found.owner is None
    return found.content is Fault.SHAPE
