"""Step 1 of 12: what two label splits have in common, such as a training and a test file, and what labels and source have not.

Comes in: label CSV files, each one split, and a source's records. Goes out: findings: a patient who is in two splits, by
whichever records, and records of equal content whose patients are in two splits. Either makes a score look better than it is.
And labels of patients, or of records, that the source does not hold; of labels of records also how many records have none: ids
of records that are written in another way would show in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ssl_core.data.contents import Contents
from ssl_core.data.labels import label_units
from ssl_core.data.reading import Reading
from ssl_core.data.record_units import NAME_THEM, NAMELESS, names_records, patient_of, record_keys
from ssl_core.datacheck.findings import Finding, Weight


def leak_findings(
    splits: Sequence[Path], reading: Reading, contents: Contents, record_column: str | None = None
) -> list[Finding]:
    """What the splits share, pair by pair, and what has no partner; `record_column`: that of labels of records."""
    labelled = {path: label_units(path, record_column=record_column) for path in splits}
    units = {path: set(map(patient_of, found)) for path, found in labelled.items()}
    out = []
    if record_column is None:
        for path, patients in units.items():
            out += _strangers(path, patients, set(reading.owners), "patients")
    elif splits and not names_records(reading):
        out.append(Finding("labels", NAMELESS, NAME_THEM, 0, len(reading.owners)))
    elif splits:
        known = set(record_keys(reading))
        for path, records in labelled.items():
            out += _strangers(path, set(records), known, "records")
        bare = known.difference(*labelled.values())
        remedy = "nothing, if nobody has labelled them; else write record ids as the source does"
        if bare:
            out.append(Finding("labels", "records without a label", remedy, len(bare), len(known), weight=Weight.NOTE))
    owners = np.array(reading.owners)
    for one, two in combinations(splits, 2):
        both = units[one] & units[two]
        names = f"{one.name} and {two.name}"
        if both:
            remedy = "a patient belongs to one split, with all records: split anew, by patient"
            out.append(Finding("leaks", f"patients who are in both {names}", remedy, len(both), len(units[one] | units[two])))
        mine, other = (np.isin(owners, sorted(units[path] - both)) & (contents.same >= 0) for path in (one, two))
        same = np.intersect1d(contents.same[mine], contents.same[other])
        if len(same):
            remedy = "the same picture or text under two ids is likely one patient: join the ids, or keep both in one split"
            count = int((np.isin(contents.same, same) & (mine | other)).sum())
            out.append(Finding("leaks", f"records that are in {names} under different patients", remedy, count, len(owners)))
    return out


def _strangers(path: Path, labelled: set[str], known: set[str], what: str) -> list[Finding]:
    """Labels of patients, or records, that the source does not hold."""
    missing = len(labelled - known)
    if not missing:
        return []
    of = "who have no record" if what == "patients" else "that are not"
    remedy = f"nothing, if these lie elsewhere; else write ids of {what} alike in both files"
    weight = Weight.WARNING if missing == len(labelled) else Weight.NOTE
    return [Finding("labels", f"{what} of {path.name} {of} in the source", remedy, missing, len(labelled), weight=weight)]
