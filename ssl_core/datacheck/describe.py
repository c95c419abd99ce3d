"""Step 1 of 12: a first version of a source TOML, from a look at a folder; what a person must decide is a comment in it.

Comes in: a folder. Goes out: TOML text: a kind for what most of its files are, where they lie, whose they seem to be. Nothing
is decided that bears on meaning: units, rates, windows and codes for missing stand there as questions. Raises `DataError` for a
folder that cannot be read or holds nothing that is known. GUESSES holds one function a format; a reader adds its own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

import tomli_w

from ssl_core.data.csv_rows import no_utf8, other_separator
from ssl_core.data.folder_files import evenly
from ssl_core.data.reading import is_clean
from ssl_core.datacheck.files_seen import array_fields, csv_header, modalities, parquet_columns, xml_paths
from ssl_core.datacheck.formats import Format, format_of
from ssl_core.errors import DataError

_MOST_FILES = 100_000
_MOST_OPENED = 400
_PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "pid", "person_id", "mrn", "id")
_TEXT = ("text", "report", "findings", "note", "note_text", "impression")
_TIME = ("time", "charttime", "datetime", "timestamp", "when", "measured_at", "date", "hours", "minutes", "seconds")
_NAME = ("name", "label", "parameter", "variable", "vital", "measurement", "item", "itemid")
_VALUE = ("valuenum", "value", "result")
_NAMES = {
    Format.PNG: ["*.png"], Format.JPEG: ["*.jpg", "*.jpeg"], Format.TIFF: ["*.tif", "*.tiff"], Format.WAV: ["*.wav"],
    Format.FLAC: ["*.flac"],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """Files of one format below `root`, by name, evenly drawn; `all`: how many files there are in the folder, of any format."""

    root: Path = field(repr=False)
    formats: Counter[Format]
    names: tuple[str, ...] = field(repr=False)
    all: int

    @property
    def path(self) -> Path:
        """The first of them."""
        return self.root / self.names[0]


@dataclass(frozen=True, slots=True)
class Draft:
    """Keys of a TOML, and what a person must decide, one line each."""

    keys: dict[str, object]
    decide: tuple[str, ...]


def describe(folder: Path) -> str:
    """The TOML text; see the module docstring."""
    seen = _look(folder)
    main = seen.formats.most_common(1)[0][0]
    draft = GUESSES[main](seen)
    lines = [
        "# A first version, made by looking; nothing is certain until you have read it.",
        f"# {seen.all:,} files: {_told(seen)}.",
    ]
    # What a file's own names hold must not end the comment that it stands in.
    lines += [f"# Decide: {''.join(char if char.isprintable() else '?' for char in line)}" for line in draft.decide]
    lines.append("# Then: choral site data check --source THIS_FILE --plan PLAN")
    return "\n".join(lines) + "\n\n" + tomli_w.dumps(draft.keys)


def _look(folder: Path) -> Seen:
    if not folder.is_dir():
        raise DataError("there is no such folder", field="FOLDER", value=str(folder))
    names = sorted(islice(_walk(folder), _MOST_FILES))
    opened = evenly(names, _MOST_OPENED)
    formats = {name: found for name in opened if (found := format_of(folder / name)) in GUESSES and found is not None}
    if not formats:
        raise DataError(
            "the folder holds no file of a known format", field="FOLDER", value=f"{len(names)} files",
            limit=", ".join(sorted(set(GUESSES))), remedy="convert the files; docs/data.md names what is read",
        )  # fmt: skip
    main = Counter(formats.values()).most_common(1)[0][0]
    mine = tuple(name for name, found in formats.items() if found is main)
    return Seen(folder, Counter(formats.values()), mine, len(names))


def _walk(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    # To open what is no file, a pipe, could take for ever.
    return [name for name in found if is_clean(name) and os.path.isfile(folder / name)]


def _told(seen: Seen) -> str:
    return ", ".join(f"{count} {found}" for found, count in seen.formats.most_common()) + " among those that were opened"


def _owner(seen: Seen, *, header: bool = False) -> tuple[dict[str, object], list[str]]:
    """The rule that says whose a file is, as far as names tell."""
    if header:
        return {"patient_from": "header"}, ["patient_from: is the patient id still in the headers, one for each patient?"]
    deep = [len(PurePosixPath(name).parts) > 1 for name in seen.names]
    if all(deep):
        folders = len({PurePosixPath(name).parts[0] for name in seen.names})
        what = f"patient_from: is each of the {folders} first folders one patient? Else a pattern on the name, or an index"
        return {"patient_from": "folder"}, [what]
    pattern = r"^(?P<patient>[^_\-./]+)"
    return (
        {"patient_from": "pattern", "patient_pattern": pattern},
        ["patient_pattern: is what stands before the first _ - . or / of a name one patient? Else an index"],
    )


def _folder(kind: str, *questions: str, header: bool = False, **keys: object) -> Callable[[Seen], Draft]:
    """A kind of folder without further looking."""

    def guess(seen: Seen) -> Draft:
        rule, ask = _owner(seen, header=header)
        return Draft({"kind": kind, "path": ".", **keys, **rule}, (*ask, *questions))

    return guess


def _pictures(seen: Seen) -> Draft:
    patterns = [name for found in seen.formats if found in _NAMES for name in _NAMES[found]]
    return _folder("pictures", "do names or dates stand in the pixels? choral site data check looks for them", files=patterns)(
        seen
    )


def _dicom(seen: Seen) -> Draft:
    kinds, waves = modalities([seen.root / name for name in seen.names[:100]])
    told = ", ".join(f"{count} {name}" for name, count in kinds.most_common()) or "none"
    if waves > sum(kinds.values()) / 2:
        return _recording("dicom-waveform", header=True)(seen)
    keys: dict[str, object] = {"modalities": [kinds.most_common(1)[0][0]]}
    suffixes = {PurePosixPath(name).suffix.lower() for name in seen.names}
    if "" not in suffixes:
        # Else this very TOML would be one of the files.
        keys["files"] = [f"*{suffix}" for suffix in sorted(suffixes)]
    asked = f"modalities: of {min(len(seen.names), 100)} files these were found: {told}"
    return _folder("dicom", asked, header=True, **keys)(seen)


def _recording(kind: str, *, header: bool = False, **keys: object) -> Callable[[Seen], Draft]:
    ask = (
        "channels: the file's names of the plan's channels, in the plan's order",
        "units: those of the plan, one or one a channel",
    )
    return _folder(kind, *ask, header=header, channels=["WRITE NAMES HERE"], units=["mV"], **keys)


def _npz(seen: Seen) -> Draft:
    fields = array_fields(seen.path)
    patient = next((name for name, (shape, kind) in fields.items() if len(shape) == 1 and kind in "Uui"), "patient")
    content = next((name for name, (shape, kind) in fields.items() if len(shape) in (2, 3) and kind in "uif"), None)
    told = "; ".join(f"{name} {list(shape)}" for name, (shape, _) in fields.items())
    path = seen.names[0]
    asked = [f"the file's arrays are: {told}. patient_field: is it the patient, not the record?"]
    if content is None:
        raise DataError("the npz file holds no array of images or signals", field="path", value=path, limit=told)
    shape, letter = fields[content]
    if len(shape) == 3 and shape[1] >= 8 and shape[2] < 4 * shape[1]:
        return Draft({"kind": "npz", "path": path, "image_field": content, "patient_field": patient}, tuple(asked))
    asked += ["rate_hz and units: of the file; they must be the plan's"]
    keys: dict[str, object] = {"kind": "signals", "path": path, "rate_hz": 1.0, "units": ["mV"]}
    if letter == "i":
        keys |= {"scale": [1.0]}
        asked += ["scale: units for each count; missing: the count that stands for no sample, if there is one"]
    return Draft(keys | {"signal_field": content, "patient_field": patient}, tuple(asked))


def _csv(seen: Seen) -> Draft:
    return _table(seen, csv_header, "csv")


def _parquet(seen: Seen) -> Draft:
    return _table(seen, parquet_columns, "parquet")


def _table(seen: Seen, columns_of: Callable[[Path], list[str]], form: str) -> Draft:
    header = columns_of(seen.path)
    parted = other_separator(header)
    said = "no UTF-8" if no_utf8(header) else None if parted is None else f"parted by {parted}"
    if said is not None:
        raise DataError(
            f"the first line of a file is {said}", field="path", value=seen.names[0],
            remedy="export such files as UTF-8, parted by commas",
        )  # fmt: skip
    lower = {name.strip().lower(): name for name in reversed(header)}
    patient, text, when, named, value = (
        next((lower[name] for name in names if name in lower), None) for names in (_PATIENT, _TEXT, _TIME, _NAME, _VALUE)
    )
    same = [name for name in seen.names if columns_of(seen.root / name) == header]
    path: object = same[0] if len(same) == 1 else same
    asked = [f"patient_column: {'is it the patient, not the record?' if patient else 'no column looks like it; name it'}"]
    keys: dict[str, object] = {"path": path, "patient_column": patient or "WRITE THE COLUMN HERE"}
    if text is not None:
        asked += ["text_column; record_column, where rows share a text; multiline, where quoted texts hold breaks"]
        return Draft({"kind": "table", "format": form, **keys, "text_column": text}, tuple(asked))
    if when is not None and named is not None and value is not None:
        return _vitals({"kind": "vitals", **({} if form == "csv" else {"format": form}), **keys}, asked, when, named, value)
    others = ", ".join(repr(name) for name in header if name != patient)
    asked += [f"[columns]: under which header each column of the plan stands, where it is another. The file has {others}"]
    asked += ["[units]: of every column for which the plan names one; missing: cells that stand for no value"]
    return Draft({"kind": "columns", **({} if form == "csv" else {"format": form}), **keys}, tuple(asked))


def _vitals(keys: dict[str, object], asked: list[str], when: str, named: str, value: str) -> Draft:
    unit = when.strip().lower()
    keys |= {"time_column": when, "time_unit": unit if unit in ("hours", "minutes", "seconds") else "iso"}
    keys |= {"name_column": named, "value_column": value, "channels": ["WRITE NAMES HERE"], "units": ["1/min"]}
    asked += [
        "time_unit: iso, or seconds, minutes, hours where times are numbers; record_column, where a stay has times of its own",
        f"channels: what stands in {named!r} for the plan's channels, in the plan's order; units: those of the plan",
        "[factors], [offsets]: what brings a name's values into the plan's unit; missing: cells that stand for no value",
        "carry: into how many cells without a value one is carried forward; cell: mean or last; windows: records of a patient",
    ]
    return Draft(keys, tuple(asked))


def _jsonl(seen: Seen) -> Draft:
    keys: dict[str, object] = {"kind": "table", "format": "jsonl", "path": seen.names[0]}
    keys |= {"patient_column": "patient", "text_column": "text"}
    return Draft(keys, ('patient_column, text_column: the keys of each line\'s object; FHIR lines are kind = "fhir"',))


def _fhir(seen: Seen) -> Draft:
    ask = ("reports, for texts: codes of the DiagnosticReports; numbers and levels, for tables: codes of the Observations",)
    return _folder("fhir", *ask, header=True, files=["*.json"])(seen)


def _xml(seen: Seen) -> Draft:
    paths = xml_paths(seen.path)
    ask = (
        "text: the paths of the elements that hold the report, in order. The first file has " + ", ".join(paths),
        "record: the path of one report, where a file holds several",
    )
    return _folder("xml", *ask, files=["*.xml"], text=["WRITE PATHS HERE"])(seen)


def _sqlite(seen: Seen) -> Draft:
    keys: dict[str, object] = {"kind": "omop", "url_file": "omop.url"}
    ask = (
        f'url_file: a file beside the TOML, mode 0600, with the line sqlite:///{seen.names[0]} (or "postgresql+psycopg://...")',
        "notes, for texts: their types and classes; measurements and conditions, for tables: concepts and units of each column",
    )
    return Draft(keys, ask)


GUESSES: dict[Format, Callable[[Seen], Draft]] = {
    Format.DICOM: _dicom,
    Format.PNG: _pictures,
    Format.JPEG: _pictures,
    Format.TIFF: _pictures,
    Format.NIFTI: _folder(
        "nifti", "axis and slices: which slices become records, or [patches] of them; first and last, to leave out air"
    ),
    Format.WFDB: _recording("wfdb"),
    Format.EDF: _recording("edf", header=True),
    Format.BDF: _recording("edf", header=True),
    Format.WAV: _folder("sound", "resample: may a file at another rate be brought to the plan's?", files=["*.wav", "*.flac"]),
    Format.FLAC: _folder("sound", "resample: may a file at another rate be brought to the plan's?", files=["*.wav", "*.flac"]),
    Format.NPZ: _npz,
    Format.CSV: _csv,
    Format.JSONL: _jsonl,
    Format.JSON: _fhir,
    Format.XML: _xml,
    Format.PARQUET: _parquet,
    Format.SQLITE: _sqlite,
}
"""Format -> what a source of such files may be declared as."""
