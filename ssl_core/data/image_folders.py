"""Step 1 of 12: readers of folders of images: DICOM files, pictures, NIfTI volumes.

Comes in: a source with such a declaration, and the plan's data. Goes out: a `Reading`, one record a frame, page or slice,
float32 [pixels]; `decode_images` gives them one by one. Raises `DataError` for what concerns the whole folder
(folder_files.py), and for a library that is missing, before a file is opened; what is wrong with a file is its fault in the
tally.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, PicturesSource
from ssl_core.data.decoding import Bounds, Decoder, Found, decode_all
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.folder_files import Listed, list_files
from ssl_core.data.gathering import gather
from ssl_core.data.grid import Grid
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.optional import needed
from ssl_core.data.pictures import PictureDecoder
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.spec.data import ImageData

if TYPE_CHECKING:
    # source.py lists these readers, so it cannot be imported first.
    from ssl_core.data.source import Source


Decoded = Iterator[tuple[Listed, Sequence[Found] | Fault]]
Study = Literal["StudyInstanceUID", "AccessionNumber"]


def read_images(source: Source, data: ImageData, effort: Effort) -> Reading:
    """The frames, pages or slices of all files."""
    declared = cast("FolderSource", source.declared)
    return gather(declared.path, decode_images(source, data, effort), data, effort.scratch)


def decode_images(
    source: Source,
    data: ImageData,
    effort: Effort,
    study: Study = "StudyInstanceUID",
    files: Sequence[Listed] | None = None,
) -> Decoded:
    """Every file with what was found in it, in order; `study`: the element of a DICOM header that names the examination.

    files: those to decode; without it, all of the declared folder.
    """
    declared = cast("FolderSource", source.declared)
    decoder, library = _decoder(declared, data, study)
    for module in (library, *([] if data.fit == "exact" else ["PIL.Image"])):
        needed(module, "files of this kind")
    files = list_files(declared, source.folder) if files is None else files
    return decode_all(files, decoder, Bounds.of(declared), workers=effort.workers)


def _decoder(declared: FolderSource, data: ImageData, study: Study) -> tuple[Decoder, str]:
    """What decodes a file of this declaration, and the library that it needs."""
    largest = declared.largest_mib << 20
    if isinstance(declared, DicomSource):
        return DicomDecoder(declared.modalities, declared.frames, largest, data, study, declared.record_from), "pydicom"
    if isinstance(declared, PicturesSource):
        return PictureDecoder(declared.pages, largest, data), "PIL.Image"
    return nifti_decoder(cast("NiftiSource", declared), data), "nibabel"


def nifti_decoder(declared: NiftiSource, data: ImageData) -> NiftiDecoder:
    """What decodes a volume of this declaration."""
    patches = declared.patches
    return NiftiDecoder(
        axis=declared.axis,
        slices=declared.slices,
        first=declared.first,
        last=declared.last,
        volume=declared.volume,
        largest=declared.largest_mib << 20,
        data=data,
        grid=None if patches is None else Grid(
            size=patches.size, stride=patches.stride or patches.size, margin=patches.margin, cover=patches.cover,
            most=patches.most,
        ),
    )  # fmt: skip
