"""Step 1 of 12: everything that a site's staff should know of a source before a study is approved; from one reading of it.

Comes in: a source, the plan's data, label splits. Goes out: `Look`: the check's report, findings with what to do, what reading
costs in time and room, and one record before and after; what training costs is put beside it (training_cost.py). It has no
message type: nothing of it leaves the site, and nothing of it changes what a study does (ruling 15). Raises `DataError` where
the source as a whole cannot be read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_core.data.check import CheckReport, report_of
from ssl_core.data.contents import Contents, contents_of
from ssl_core.data.gathering import padding
from ssl_core.data.reading import Effort, Reading
from ssl_core.data.source import Source, read_records
from ssl_core.datacheck.findings import Finding, Weight, first, remedy_of
from ssl_core.datacheck.identifiers import name_findings
from ssl_core.datacheck.leaks import leak_findings
from ssl_core.datacheck.notes import note_findings
from ssl_core.datacheck.outliers import outlier_findings
from ssl_core.datacheck.scan import scan_findings
from ssl_core.datacheck.shown import Shown, show
from ssl_core.spec.data import Data

if TYPE_CHECKING:
    # It loads torch, which a look without it does not need.
    from ssl_core.datacheck.training_cost import TrainingCost

_BINS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 1 << 40))


@dataclass(frozen=True, slots=True)
class Cost:
    """What this reading took, and what a study will: `seconds` to read anew, `kept` bytes on disk, where it reads them."""

    seconds: float
    record_bytes: int
    kept: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a source. Site-local. `histogram`: records a patient -> patients; `training`: where it was looked at."""

    kind: str
    data: str
    report: CheckReport
    files: int
    histogram: tuple[tuple[str, int], ...]
    findings: tuple[Finding, ...]
    cost: Cost
    shown: Shown | None = field(default=None, repr=False)
    training: TrainingCost | None = None

    def with_training(self, found: TrainingCost | Finding) -> Look:
        """This look and what training takes here, or why it cannot be done."""
        if isinstance(found, Finding):
            return replace(self, findings=_worst_first([*self.findings, found]))
        return replace(self, training=found)

    def weigh(self, weight: Weight) -> list[Finding]:
        """The findings of one weight."""
        return [finding for finding in self.findings if finding.weight is weight]

    @property
    def exit_code(self) -> int:
        """0: nothing, or notes alone; 1: warnings; 2: an approval would be refused."""
        return 2 if self.weigh(Weight.REFUSED) else int(bool(self.weigh(Weight.WARNING)))

    def to_json(self) -> dict[str, object]:
        """For scripts at the site; no record is in it."""
        report = self.report
        return {
            "source": self.kind, "data": self.data, "files": self.files, "patients": report.patients,
            "records": report.records, "bad_share": report.bad_share, "max_bad_share": report.max_bad_share,
            "records_per_patient": dict(self.histogram), "findings": [finding.to_json() for finding in self.findings],
            "seconds": round(self.cost.seconds, 3), "record_bytes": self.cost.record_bytes, "kept_bytes": self.cost.kept,
            "file_bytes": self.cost.file_bytes, "training": None if self.training is None else self.training.to_json(),
            "stays_here": True,
        }  # fmt: skip


def look_at(
    source: Source,
    data: Data,
    effort: Effort,
    *,
    labels: Sequence[Path] = (),
    record_column: str | None = None,
    patient: str | None = None,
    picture: bool = False,
) -> Look:
    """Read the source once and say what is in it; `picture`: of which `shown` is wanted, for `patient` or the first.

    record_column: that of the label files, where each row is a record's.
    """
    files = source.files()
    begun = time.monotonic()
    reading = read_records(source, data, effort)
    seconds = time.monotonic() - begun
    report = report_of(source, reading, data)
    contents = contents_of(reading.records, padding(data))
    findings = [
        *_verdict(report),
        *_faults(report),
        *_duplicates(reading, contents),
        *leak_findings(labels, reading, contents, record_column),
        *outlier_findings(reading, data),
        *note_findings(source, data, effort, labels),
        *scan_findings(source, data, effort),
        *name_findings(source),
    ]
    return Look(
        kind=source.declared.kind,
        data=data.kind,
        report=report,
        files=len(files),
        histogram=_histogram(reading),
        findings=_worst_first(findings),
        cost=Cost(seconds, reading.records[:1].nbytes, reading.records.nbytes, sum(map(_bytes, files))),
        shown=show(source, data, reading, patient, effort) if picture and reading.owners else None,
    )


def _bytes(path: Path) -> int:
    """How long a file is; 0 for one that cannot be looked at, such as a link that leads nowhere, which is a bad file by now."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = list(Weight)
    return tuple(sorted(findings, key=lambda finding: -order.index(finding.weight)))


def _verdict(report: CheckReport) -> list[Finding]:
    if report.accepted:
        return []
    rows = sum(file.rows for file in report.files)
    bad = sum(sum(file.faults.values()) for file in report.files)
    if not report.patients:
        remedy = "correct the source file: path, files, and whose a record is"
        return [Finding("records", "the source holds no patient", remedy, 0, rows, weight=Weight.REFUSED)]
    hiding = sum(file.hiding for file in report.files)
    if hiding:
        what = "faults may hide several patients, which no declared share allows"
        return [
            Finding(
                "records", what, "mend the files that are named below, or take them out", hiding, rows, weight=Weight.REFUSED
            )
        ]
    remedy = "correct what is named below, or declare the share that is known and accepted: max_bad_share"
    what = f"more records are bad than the source declares (max_bad_share = {report.max_bad_share:g})"
    return [Finding("records", what, remedy, bad, rows, weight=Weight.REFUSED)]


def _faults(report: CheckReport) -> list[Finding]:
    """Bad records by reason; what the source declares as known is a note."""
    rows = sum(file.rows for file in report.files)
    counts = sum((Counter(dict(file.faults)) for file in report.files), Counter())
    weight = Weight.NOTE if report.accepted else Weight.WARNING
    out = []
    for fault, count in sorted(counts.items()):
        named = [f"{name!a}" for file in report.files for name, kind in file.named if kind is fault]
        spans = [f"{file.file} lines {span}" for file in report.files for span in file.spans if span.fault is fault]
        whole = [f"{file.file}: {file.faults[fault]}" for file in report.files if file.faults.get(fault)]
        out.append(Finding("bad records", str(fault), remedy_of(fault), count, rows, first(named or spans or whole), weight))
    repeated = sum(file.repeated for file in report.files)
    if repeated:
        what, remedy = "rows that repeat a record id of the same patient, read once", "nothing, if one record has several rows"
        out.append(Finding("duplicates", what, remedy, repeated, rows, weight=Weight.NOTE))
    return out


def _duplicates(reading: Reading, contents: Contents) -> list[Finding]:
    out = []
    count = len(reading.owners)
    within = int(contents.repeated(reading.owners).sum())
    if within:
        what = "records equal to an earlier one of the same patient"
        remedy = "harmless to privacy: all of a patient counts as one; leave copies out if they came by mistake"
        out.append(Finding("duplicates", what, remedy, within, count, weight=Weight.NOTE))
    shared = int(contents.shared(reading.owners).sum())
    if shared:
        what = "records equal to one of another patient"
        remedy = (
            "one person under two ids has twice the share of one patient in the study: join the ids; short texts and "
            "rows of few columns may be equal by chance"
        )
        out.append(Finding("duplicates", what, remedy, shared, count))
    return out


def _histogram(reading: Reading) -> tuple[tuple[str, int], ...]:
    counts = list(Counter(reading.owners).values())
    named = [(str(low) if low == high else f"{low}-{high}" if high < 1 << 40 else f"{low} or more") for low, high in _BINS]
    found = [sum(low <= count <= high for count in counts) for low, high in _BINS]
    last = max((place for place, number in enumerate(found) if number), default=-1)
    return tuple(zip(named[: last + 1], found[: last + 1], strict=True))
