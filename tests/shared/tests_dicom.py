"""DICOM files made for a test, and what the decoder makes of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Fault
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=12)
MIB = 1 << 20


def pixels(seed: int = 1, frames: int | None = None) -> np.ndarray:
    shape = (8, 12) if frames is None else (frames, 8, 12)
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def made(content: np.ndarray | None = None, **elements: Any) -> Dataset:
    content = pixels() if content is None else content
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.2"), UID("2.25.1")
    header.PatientID, header.Modality = "p1", "CT"
    header.Rows, header.Columns = content.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8 * content.itemsize
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(content.dtype.kind == "i")
    if content.ndim == 3:
        header.NumberOfFrames = len(content)
    header.PixelData = content.tobytes()
    for keyword, value in elements.items():
        if value is None:
            del header[keyword]
        else:
            with warnings.catch_warnings():
                # Some are written as they once were, or as they should never be.
                warnings.simplefilter("ignore")
                setattr(header, keyword, value)
    return header


def written(path: Path, header: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header["PixelData"].VR = "OW"
    header["PixelData"].is_undefined_length = UID(syntax).is_encapsulated
    header.save_as(path, enforce_file_format=True)
    return path


def decoded(path: Path, data: ImageData = DATA, *, frames: int = 1, largest: int = MIB) -> list[Found]:
    decoder = DicomDecoder(("CT", "US"), frames, largest, data)
    ((_, found),) = decode_all([Listed("x", path, None)], decoder, Bounds(largest, 20.0), workers=0)
    assert not isinstance(found, Fault)
    return list(found)


def only(path: Path, **how: Any) -> Any:
    (found,) = decoded(path, **how)
    return found.content


def standard(picture: Any) -> np.ndarray:
    picture = np.asarray(picture, np.float64)
    return ((picture - picture.mean()) / picture.std()).ravel()


def same(content: Any, picture: Any) -> bool:
    return isinstance(content, np.ndarray) and np.allclose(content, standard(picture), atol=1e-5)
