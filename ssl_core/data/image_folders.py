"""Step 1 of 12: readers of folders of images: DICOM files, pictures, NIfTI volumes.

Comes in: a source with such a declaration, and the plan's data. Goes out: a `Reading`, one record a frame, page or slice,
float32 [pixels]. Raises `DataError` for what concerns the whole folder (folder_files.py), and for a library that is missing,
before a file is opened; what is wrong with a file is its fault in the tally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, PicturesSource
from ssl_core.data.decoding import Decoder
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.gathering import gather_folder
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.optional import needed
from ssl_core.data.pictures import PictureDecoder
from ssl_core.data.reading import Effort, Reading
from ssl_core.spec.data import ImageData

if TYPE_CHECKING:
    # source.py lists these readers, so it cannot be imported first.
    from ssl_core.data.source import Source


def read_dicom(source: Source, data: ImageData, effort: Effort) -> Reading:
    """The frames of all files of a `DicomSource`."""
    declared = cast("DicomSource", source.declared)
    decoder = DicomDecoder(declared.modalities, declared.frames, declared.largest_mib << 20, data)
    return _read(source, declared, decoder, data, effort, "pydicom")


def read_pictures(source: Source, data: ImageData, effort: Effort) -> Reading:
    """The pages of all files of a `PicturesSource`."""
    declared = cast("PicturesSource", source.declared)
    decoder = PictureDecoder(declared.pages, declared.largest_mib << 20, data)
    return _read(source, declared, decoder, data, effort, "PIL.Image")


def read_nifti(source: Source, data: ImageData, effort: Effort) -> Reading:
    """The slices of all volumes of a `NiftiSource`."""
    declared = cast("NiftiSource", source.declared)
    decoder = NiftiDecoder(
        axis=declared.axis,
        slices=declared.slices,
        first=declared.first,
        last=declared.last,
        volume=declared.volume,
        largest=declared.largest_mib << 20,
        data=data,
    )
    return _read(source, declared, decoder, data, effort, "nibabel")


def _read(source: Source, declared: FolderSource, decoder: Decoder, data: ImageData, effort: Effort, library: str) -> Reading:
    for module in (library, *([] if data.fit == "exact" else ["PIL.Image"])):
        needed(module, "files of this kind")
    return gather_folder(declared, source.folder, decoder, data, effort)
