"""Step 1 of 12: a quick look into a file for `describe`: names, shapes, modalities; no value of a patient.

Comes in: paths. Goes out: the header of a CSV file, columns of a Parquet file, paths of the elements of an XML file that hold
text, names, shapes and types of an npz file's arrays without loading them, modalities of DICOM files, which are opened in a
worker with bounds of time and memory (decoding.py). Raises `DataError` where a file cannot be read as what its name says.
"""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_core.data.csv_rows import open_text
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.npz_arrays import FAULTS
from ssl_core.data.optional import needed
from ssl_core.data.reading import Fault
from ssl_core.data.xml_files import parse_xml
from ssl_core.errors import DataError

_LONGEST_LINE = 1 << 20
_LARGEST_XML = 16 << 20
_MOST_PATHS = 12
_BOUNDS = Bounds(512 << 20, 20.0)


def csv_header(path: Path) -> list[str]:
    """The cells of the first line."""
    with open_text(path, path.name) as stream:
        try:
            return next(csv.reader(iter(lambda: stream.readline(_LONGEST_LINE), "")), [])
        except csv.Error as error:
            raise DataError(f"file {path.name!r} cannot be read as CSV", field="path", value=path.name) from error


def array_fields(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> shape and kind of type ("U" text, "u" and "i" whole, "f" real) of each array that is no pickled object."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(stream)
                if not dtype.hasobject:
                    found[name.removesuffix(".npy")] = (shape, dtype.kind)
    except (MemoryError, *FAULTS) as error:
        raise DataError(f"file {path.name!r} cannot be read as npz", field="path", value=path.name) from error
    return found


def modalities(paths: Sequence[Path]) -> tuple[Counter[str], int]:
    """How many files are of each modality, and how many hold waveforms."""
    kinds: Counter[str] = Counter()
    waves = 0
    for _, found in decode_all([Listed(path.name, path, None) for path in paths], _Modality(), _BOUNDS, workers=1):
        kinds["not readable" if isinstance(found, Fault) else found[0].name] += 1
        waves += not isinstance(found, Fault) and bool(np.any(found[0].content))
    return kinds, waves


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns."""
    arrow, parquet = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    try:
        return [str(name) for name in parquet.read_schema(path).names]
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise DataError(f"file {path.name!r} cannot be read as Parquet", field="path", value=path.name) from error


def xml_paths(path: Path) -> list[str]:
    """Paths of the elements that hold text, from the root, each once, at most `_MOST_PATHS`; names alone."""
    try:
        with path.open("rb") as stream:
            root = parse_xml(stream.read(_LARGEST_XML))
    except (OSError, ValueError) as error:
        raise DataError(f"file {path.name!r} cannot be read as XML", field="path", value=path.name) from error
    found: dict[str, None] = {}
    left = [(child, child.tag) for child in root]
    while left and len(found) < _MOST_PATHS:
        element, name = left.pop(0)
        if (element.text or "").strip():
            found[name] = None
        left += [(child, f"{name}/{child.tag}") for child in element]
    return list(found)


@dataclass(frozen=True, slots=True)
class _Modality:
    """Decoder: a file's modality as the name, 1 where it holds waveforms."""

    def __call__(self, path: Path) -> Sequence[Found]:
        from pydicom import dcmread

        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "WaveformSequence"])
        waves = np.array(["WaveformSequence" in dataset], np.float32)
        return [Found(None, str(dataset.get("Modality", "") or "none"), waves)]
