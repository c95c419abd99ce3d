"""Step 1 of 12: what two label splits have in common, such as a training and a test file.

Comes in: label CSV files, each one split, and a source's records. Goes out: findings: a patient who is in two splits, and
records of equal content whose patients are in two splits. Either makes a score look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ssl_core.data.contents import Contents
from ssl_core.data.labels import label_units
from ssl_core.data.reading import Reading
from ssl_core.datacheck.findings import Finding, Weight


def leak_findings(splits: Sequence[Path], reading: Reading, contents: Contents) -> list[Finding]:
    """What the splits share, pair by pair, and labels of patients that the source does not hold."""
    units = {path: set(label_units(path)) for path in splits}
    known = set(reading.owners)
    out = []
    for path, labelled in units.items():
        if missing := len(labelled - known):
            out.append(
                Finding(
                    "labels",
                    f"patients of {path.name} who have no record in the source",
                    "nothing, if these records lie elsewhere; else write patient ids alike in both files",
                    missing,
                    len(labelled),
                    weight=Weight.WARNING if missing == len(labelled) else Weight.NOTE,
                )
            )
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
