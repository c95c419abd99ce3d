"""Step 1 of 12: what a site declares of a folder of images: DICOM files, pictures, NIfTI volumes.

    kind = "dicom"                       kind = "pictures"                    kind = "nifti"
    path = "archive"                     path = "xray"                        path = "brains"
    modalities = ["CT"]                  patient_from = "folder"              patient_from = "pattern"
    frames = 8                           pages = 1                            patient_pattern = "^sub-(?P<patient>[^/_]+)"
    max_bad_share = 0.01                                                      axis = "axial"
                                                                              slices = 16

`modalities` are DICOM's own (CT, MR, CR, DX, US, ...); a file of another one is of the wrong kind. At most `frames` of a file
of many frames are read, `pages` of a TIFF of many pages, `slices` of a volume: evenly spaced, by their number alone. `first`
and `last` narrow the slices of a volume to those from `first` to `last`, counted from 0, from the left, the back or the feet on
(so that the air above the head is left out); a volume that has not all of them is a bad record. `volume`: which one of a file
of several. How values are windowed and sizes made equal is the study's to say, not the site's. `record_from` says by what a
label of a record names it: `instance`, SOPInstanceUID; `study`, StudyInstanceUID, whose images are one record then; `file`, the
file's name below `path`, as of pictures and volumes. What is trained on does not depend on it.

    [patches]                            margin = [0, 0]
    size = [64, 64]                      cover = false
    stride = [64, 64]                    most = 64

With `patches` a record is not a slice but a patch of one, in voxels (down, across), of the chosen slices as they are shown (for
axial ones down is from front to back, across from left to right): a grid of `size` every `stride`, at most `most` of a volume,
evenly spaced by number (grid.py). `margin` is left out on each side; with `cover` the last patch ends at the edge.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared_folder import FolderSource, PatientFrom, Patterns
from ssl_core.spec.strict import StrictModel

Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}\z")]
Many = Annotated[int, Field(ge=1, le=1024)]
NameSays = Literal["folder", "pattern", "index"]


class DicomSource(FolderSource):
    """A folder of DICOM files; whose a file is, its PatientID says unless another rule is declared."""

    kind: Literal["dicom"]
    patient_from: PatientFrom = "header"
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    frames: Many = 1
    record_from: Literal["instance", "study", "file"] = "instance"


class PicturesSource(FolderSource):
    """A folder of PNG, JPEG and TIFF files."""

    kind: Literal["pictures"]
    files: Patterns = ("*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff")
    patient_from: NameSays = "folder"
    pages: Many = 1


Side = Annotated[int, Field(ge=1, le=1 << 12)]
Margin = Annotated[int, Field(ge=0, le=1 << 12)]


class Patches(StrictModel):
    """A grid of patches of each chosen slice, (down, across) in voxels; without `stride` one beside the other."""

    size: tuple[Side, Side]
    stride: tuple[Side, Side] | None = None
    margin: tuple[Margin, Margin] = (0, 0)
    cover: bool = False
    most: Many = 64


class NiftiSource(FolderSource):
    """A folder of NIfTI volumes, each in one file; a record is one slice, or one patch of a slice."""

    kind: Literal["nifti"]
    files: Patterns = ("*.nii", "*.nii.gz")
    patient_from: NameSays = "folder"
    axis: Literal["sagittal", "coronal", "axial"] = "axial"
    slices: Many = 16
    first: Annotated[int, Field(ge=0, lt=1 << 15)] = 0
    last: Annotated[int, Field(ge=0, lt=1 << 15)] | None = None
    volume: Annotated[int, Field(ge=0, lt=1 << 15)] = 0
    patches: Patches | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError("last must not be before first")
        return self
