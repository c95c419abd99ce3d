"""Step 1 of 12: what is in one file, as numbers, for the eyes of the site's staff and for the search of text in pixels.

Comes in: a path. Goes out: float64 [height, width], [channels, samples] or [samples], or None for a format that has no such
picture. Raises what the format's library raises for a damaged file: it is called from a decoder (scan.py). A colour is its
mean; of frames or pages the first that a reader of `several` of them reads (picture.py), of a volume the middle one of the
slices that its reader reads, along the declared axis and turned as they are (nifti.py), in scaled units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.picture import evenly
from ssl_core.data.reading import Fault
from ssl_core.datacheck.formats import Format, format_of

_LARGEST = 256 << 20
Array = npt.NDArray[np.float64]


def raw_array(path: Path, several: int | None = None, volume: NiftiDecoder | None = None) -> Array | None:
    """The file's numbers; see the module docstring.

    Without `several`: the first frame or page of all; `volume`: how volumes are read, without which they have no picture.
    """
    found = format_of(path)
    load = None if found is None else LOADERS.get(found)
    if found is None or load is None or path.stat().st_size > _LARGEST:
        return None
    of_many: dict[Format, tuple[object, ...]] = {
        Format.DICOM: (several,), Format.TIFF: (several,), Format.NIFTI: (volume,)
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.asarray(load(path, *of_many.get(found, ())))
    return np.asarray(array, np.float64) if array.ndim in (1, 2) and array.size else None


def _part(count: int, several: int | None) -> int:
    return 0 if several is None else evenly(0, count, several)[0]


def _picture(path: Path, several: int | None = None) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        picture.seek(_part(getattr(picture, "n_frames", 1), several))
        return np.asarray(picture.convert("F" if picture.mode in ("I;16", "I", "F") else "L"))


def _dicom(path: Path, several: int | None = None) -> Any:
    from pydicom import dcmread

    dataset = dcmread(path)
    if "WaveformSequence" in dataset:
        return np.asarray(dataset.waveform_array(0)).T
    pixels = np.asarray(dataset.pixel_array, np.float64)
    if int(dataset.get("SamplesPerPixel", 1)) > 1:
        pixels = pixels.mean(axis=-1)
    return pixels[_part(len(pixels), several)] if pixels.ndim == 3 else pixels


def _nifti(path: Path, volume: NiftiDecoder | None) -> Any:
    picture = None if volume is None else volume.middle(path)
    return np.zeros(0) if picture is None or isinstance(picture, Fault) else picture


def _wfdb(path: Path) -> Any:
    import wfdb

    name = str(path.absolute().with_suffix(""))
    header = wfdb.rdheader(name)
    files = getattr(header, "file_name", None) or [""]
    # The reader says what a header may name (wfdb_files.py); for the eye what bears its own name is enough.
    if path.suffix != ".hea" or "::" in name or not all(Path(file).stem == path.stem for file in files):
        return np.zeros(0)
    return wfdb.rdrecord(name).p_signal.T


def _edf(path: Path) -> Any:
    from edfio import read_bdf, read_edf

    # Latin-1 reads every header, as the reader does.
    read = read_bdf if format_of(path) is Format.BDF else read_edf
    signals = [each.data for each in read(path, header_encoding="latin-1").signals]
    return np.stack([each for each in signals if len(each) == len(signals[0])])


def _sound(path: Path) -> Any:
    import soundfile

    return soundfile.read(path, always_2d=True)[0].T


LOADERS: dict[Format, Callable[..., Any]] = {
    Format.DICOM: _dicom,
    Format.PNG: _picture,
    Format.JPEG: _picture,
    Format.TIFF: _picture,
    Format.NIFTI: _nifti,
    Format.WFDB: _wfdb,
    Format.EDF: _edf,
    Format.BDF: _edf,
    Format.WAV: _sound,
    Format.FLAC: _sound,
}
"""Format -> what loads a path; of formats with frames, pages or slices, by how they are read, which one."""
