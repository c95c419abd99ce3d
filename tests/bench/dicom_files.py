"""Every file that pydicom and pydicom-data carry through the decoder of DICOM files: what is decoded, what refused, and why.

    python tests/bench/dicom_files.py [--all]

Prints a table of outcome, transfer syntax and number of files, as Markdown; with --all one line a file. Files that are no DICOM
(texts, a DICOMDIR's lists) are walked too: a folder holds such things. The largest file may take 512 MiB, as by default.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import data_store
import pydicom
from pydicom.errors import InvalidDicomError

from ssl_core.data.decoding import Bounds, decode_all
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Fault
from ssl_core.spec.data import ImageData

MODALITIES = ("CR", "CT", "MR", "NM", "OT", "RTDOSE", "SEG", "US")
"""Of all files there that hold pictures."""
FRAMES = 4
LARGEST = 512 << 20
DATA = ImageData(kind="image", height=32, width=32, fit="pad")
_FOLDERS = (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data")
_NO_FILE_OF_ITS_OWN = (".py", ".pyc")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A file, the transfer syntax that it names ("" if it is no DICOM file), records that were decoded, faults."""

    path: Path
    syntax: str
    decoded: int
    faults: tuple[Fault, ...]

    @property
    def what(self) -> str:
        """In a word, or the reason."""
        return "decoded" if not self.faults else self.faults[0].value


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--all", action="store_true", help="one line a file")
    outcomes = list(walk())
    if parser.parse_args().all:
        for each in outcomes:
            print(f"{each.what:60} {each.decoded:3} {each.syntax:40} {each.path.name}")
    print("\n".join(table(outcomes)))
    return 0


def walk() -> Iterator[Outcome]:
    """Every file, decoded in this process."""
    paths = [path for folder in _FOLDERS for path in sorted(folder.rglob("*"))]
    paths = [path for path in paths if path.is_file() and path.suffix not in _NO_FILE_OF_ITS_OWN]
    decoder = DicomDecoder(MODALITIES, FRAMES, LARGEST, DATA)
    listed = [Listed(path.name, path, None) for path in paths]
    for file, found in decode_all(listed, decoder, Bounds(LARGEST, 60.0), workers=0):
        records = [found] if isinstance(found, Fault) else [each.content for each in found]
        faults = tuple(record for record in records if isinstance(record, Fault))
        yield Outcome(file.path, _syntax(file.path), len(records) - len(faults), faults)


def table(outcomes: list[Outcome]) -> list[str]:
    """Markdown lines: what became of how many files of each transfer syntax."""
    counts = Counter((each.what, each.syntax or "no DICOM file") for each in outcomes)
    lines = ["| what became of it | transfer syntax | files |", "| --- | --- | --- |"]
    lines += [f"| {what} | {syntax} | {count} |" for (what, syntax), count in sorted(counts.items())]
    dicom = [each for each in outcomes if each.syntax]
    decoded = [each for each in dicom if not each.faults]
    records = sum(each.decoded for each in outcomes)
    return [*lines, "", f"{len(dicom)} DICOM files, {len(decoded)} decoded ({records} frames); {len(outcomes)} files in all."]


def _syntax(path: Path) -> str:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).file_meta
        except InvalidDicomError:
            # Data sets without the file format's mark.
            read = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"], force=True)
            return "none named" if "Modality" in read else ""
    return meta.TransferSyntaxUID.name if "TransferSyntaxUID" in meta else "none named"


if __name__ == "__main__":
    sys.exit(main())
