"""Step 1 of 12: the check before a site approves a study; the only place where a record is refused.

Comes in: a source and the plan's data. Goes out: `CheckReport`, for this site's staff (it has no message type and never
leaves), and the very `Patients` that were checked, from one reading of the files. `check_source` raises `DataError`
above the declared share of bad records, naming files and reasons, and where lines may have been swallowed, naming these,
without a number of records: the numbers stand in `inspect_source`'s report. Equal records of different patients are reported,
never dropped: dropping one would make a patient's records depend on another's (ruling 17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssl_core.data.columns import check_levels
from ssl_core.data.contents import contents_of
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.events import check_codes
from ssl_core.data.gathering import padding
from ssl_core.data.patients import Patients, group
from ssl_core.data.reading import Effort, Fault, Reading, Span
from ssl_core.data.source import Source, read_records, refuse_bad_share, refuse_hiding, share_of
from ssl_core.data.vitals import check_names
from ssl_core.errors import DataError
from ssl_core.spec.data import Data, EventData, TableData


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file: rows read, rows that repeat a record already read, bad rows by reason, the first lines to look at.

    `undeclared`: rows of a table with a level, or of events with a code, that the plan does not declare; they are no bad rows.
    `unpaired`: images without a report or reports without an image, which are left out. `hiding`: faults that may hide several
    patients, which no share of bad records excuses. `named`: of a folder, the first bad files of each reason.
    """

    file: str
    rows: int
    repeated: int
    faults: Mapping[Fault, int]
    spans: tuple[Span, ...] = ()
    undeclared: int = 0
    unpaired: int = 0
    hiding: int = 0
    named: tuple[tuple[str, Fault], ...] = field(default=(), repr=False)

    @property
    def lines(self) -> str:
        """Where to look for records that span several lines; empty where there is none."""
        return f"lines {', '.join(map(str, self.spans))}" if self.spans else ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the site's staff sees of a source. Site-local.

    `shared_records`: of a content that another patient has too. `repeated_records`: of one that the same patient has before.
    `left_out`, `absent`: of a source of one part, records of other parts' patients, and its patients without a record.
    """

    files: tuple[FileReport, ...]
    patients: int
    records: int
    shared_records: int
    max_bad_share: float
    repeated_records: int = 0
    left_out: int = 0
    absent: int = 0

    @property
    def bad_share(self) -> float:
        """Bad rows divided by rows, over all files; 0 where there is no row."""
        return share_of((file.rows, sum(file.faults.values())) for file in self.files)

    @property
    def accepted(self) -> bool:
        """Whether the source holds a patient, no fault that may hide several, and no more bad records than declared."""
        hiding = any(file.hiding for file in self.files)
        return self.patients > 0 and not hiding and self.bad_share <= self.max_bad_share

    @property
    def part(self) -> str:
        """What a source of one part leaves out and lacks; empty where it is neither."""
        if not self.left_out and not self.absent:
            return ""
        return (
            f"{self.left_out} records of other parts' patients left out, {self.absent} patients of this part without a record"
        )

    def lines(self) -> list[str]:
        """The report as text, one line a file and reason."""
        out = [f"{self.patients} patients, {self.records} records, {self.shared_records} equal to another patient's"]
        out += [f"{self.repeated_records} equal to an earlier record of the same patient"] if self.repeated_records else []
        out += [self.part] if self.part else []
        for file in self.files:
            out.append(f"{file.file}: {file.rows} rows, {file.repeated} repeated")
            out += [f"{file.file}: {count} {fault.value}" for fault, count in sorted(file.faults.items())]
            out += (
                [f"{file.file}: {file.undeclared} with a level or code that the study does not declare"]
                if file.undeclared
                else []
            )
            out += [f"{file.file}: {file.unpaired} of which the other half is missing, left out"] if file.unpaired else []
            out += (
                [f"{file.file}: {file.hiding} may hide several patients: refused whatever share is declared"]
                if file.hiding
                else []
            )
            out += [f"{file.file}: look at {file.lines}"] if file.spans else []
            out += [f"{file.file}: {fault.value}: {name!a}" for name, fault in file.named]
        out.append(f"bad share {self.bad_share:.4f}, declared at most {self.max_bad_share}")
        return out


@dataclass(frozen=True, slots=True)
class CheckedRecords:
    """What was read once: the report, and the units that it is about."""

    report: CheckReport
    patients: Patients = field(repr=False)


def inspect_source(source: Source, data: Data, effort: Effort | None = None) -> CheckReport:
    """Read everything once and count; `DataError` where no row of a file has a patient, or a file cannot be read."""
    return report_of(source, read_records(source, data, effort), data)


def check_source(source: Source, data: Data, effort: Effort | None = None) -> CheckReport:
    """`inspect_source`, refusing a source that `accepted` is not true of."""
    return _accept(source, read_records(source, data, effort), data)


def check_and_load(source: Source, data: Data, effort: Effort | None = None) -> CheckedRecords:
    """`check_source` and the units of that same reading: what is trained on is what was checked."""
    reading = read_records(source, data, effort)
    report = _accept(source, reading, data)
    scratch = effort.scratch if effort else None
    return CheckedRecords(report, group(reading.owners, reading.records, reading.order, scratch))


def report_of(source: Source, reading: Reading, data: Data) -> CheckReport:
    """What is counted of one reading; `DataError` where none of it can be used."""
    for place, tally in enumerate(reading.tallies):
        if tally.rows and tally.faults[Fault.NO_PATIENT] == tally.rows:
            declared = source.declared.parts[min(place, 1)] if isinstance(source.declared, PairsSource) else source.declared
            if isinstance(declared, FolderSource):
                raise DataError(
                    "no file of the folder belongs to a patient",
                    field="patient_from",
                    value=declared.patient_from,
                    remedy="declare another rule: header, folder, pattern or index",
                )
            column = getattr(declared, "patient_column", None) or getattr(declared, "patient_field", None)
            raise DataError(f"patient column {column!r} is empty in file {tally.file!r}", field="patient_column", value=column)
    if isinstance(source.declared, PairsSource) and not reading.owners:
        raise DataError(
            "no image has a report of its patient and its study",
            field="study_from",
            value=source.declared.study_from,
            remedy="compare the study of an image with record_column of the reports, and their patient ids",
        )
    if isinstance(data, TableData):
        check_levels(reading.records, data)
    if isinstance(data, EventData):
        check_codes(reading.records, data)
    if isinstance(source.declared, VitalsSource):
        check_names(reading, source.declared)
    contents = contents_of(reading.records, padding(data))
    return CheckReport(
        files=tuple(
            FileReport(
                t.file, t.rows, t.repeated, dict(+t.faults), tuple(t.spans), t.undeclared, t.unpaired, t.hiding, tuple(t.named)
            )
            for t in reading.tallies
        ),
        patients=len(set(reading.owners)),
        records=len(reading.owners),
        shared_records=int(contents.shared(reading.owners).sum()),
        max_bad_share=source.declared.max_bad_share,
        repeated_records=int(contents.repeated(reading.owners).sum()),
        left_out=reading.left_out,
        absent=reading.absent,
    )


def _accept(source: Source, reading: Reading, data: Data) -> CheckReport:
    report = report_of(source, reading, data)
    refuse_hiding(source, reading)
    refuse_bad_share(source, reading)
    if not report.patients:
        raise DataError("the source holds no patient", field="path", value=", ".join(source.declared.paths))
    return report
