"""Distances of pixels: as the files' headers say them, and a finding where they differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from tests_dicom import made, written

from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import read_source
from ssl_core.datacheck.findings import Weight
from ssl_core.datacheck.scan import scan_findings
from ssl_core.datacheck.spacing import spacing_findings, spacing_of
from ssl_core.spec.data import ImageData


def pixels(path: Path) -> tuple[float, ...]:
    """Between rows and columns, where no slices are."""
    found = spacing_of(path)
    assert found is not None and math.isnan(found[2])
    return found[:2]


def test_it_is_what_the_header_says(tmp_path: Path) -> None:
    assert spacing_of(Path(str(get_testdata_file("CT_small.dcm"))))[:2] == pytest.approx((0.661468, 0.661468))
    assert spacing_of(written(tmp_path / "a", made())) is None
    assert pixels(written(tmp_path / "b", made(ImagerPixelSpacing=[0.2, 0.3]))) == (0.2, 0.3)
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.5]
    groups.PixelMeasuresSequence = [measures]
    assert pixels(written(tmp_path / "c", made(SharedFunctionalGroupsSequence=[groups]))) == (0.5, 0.5)
    assert spacing_of(written(tmp_path / "d", made(PixelSpacing=[0.0, 0.5]))) is None
    (tmp_path / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert spacing_of(tmp_path / "f.png") is None


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAR", "PIL", "IPR"])
@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
def test_of_a_volume_they_are_those_of_the_pictures_that_the_reader_makes(tmp_path: Path, code: str, axis: Any) -> None:
    """However it is stored: 4 x 5 x 6 voxels to the right, front and top, and as many millimetres of each."""
    straight = nibabel.Nifti1Image(np.arange(120, dtype=np.float32).reshape(4, 5, 6), np.diag([4.0, 5.0, 6.0, 1.0]))
    towards = nibabel.orientations.axcodes2ornt(code)
    nibabel.save(straight.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(straight.affine), towards)),
                 tmp_path / "a.nii")  # fmt: skip
    decoder = NiftiDecoder(
        axis=axis, slices=1, first=0, last=None, volume=0, largest=1 << 20, data=ImageData(kind="image", height=8, width=8)
    )
    pictures = decoder.pictures(tmp_path / "a.nii")
    assert not isinstance(pictures, Fault)
    rows, columns, slices = spacing_of(tmp_path / "a.nii", axis) or (0, 0, 0)
    assert next(pictures).shape == (rows, columns) and slices == {"sagittal": 4, "coronal": 5, "axial": 6}[axis]


def test_other_units_a_plane_and_volumes_in_time(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))
    for unit, factor in (("mm", 1.0), ("micron", 1e-3), ("meter", 1e3), (None, 1.0)):
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / "a.nii.gz")
        assert spacing_of(tmp_path / "a.nii.gz") == pytest.approx((2 * factor, factor, 3 * factor))
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5), np.float32), np.diag([2.0, 3.0, 1.0, 1.0])), tmp_path / "b.nii")
    assert pixels(tmp_path / "b.nii") == (3.0, 2.0)
    content = bytearray(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)).to_bytes())
    content[280:328] = bytes(48)
    (tmp_path / "c.nii").write_bytes(content)
    assert spacing_of(tmp_path / "c.nii") is None, "of a volume that lies nowhere, as for its reader"


@pytest.mark.parametrize(
    ("axis", "topics"),
    [("coronal", {"spacing"}), ("axial", {"slice distance"}), ("sagittal", {"spacing"})],
)
def test_thick_and_thin_slices_of_one_source_are_named(tmp_path: Path, axis: str, topics: set[str]) -> None:
    """Slices of 1 and 6 mm from foot to head: along another axis they are the heights of pixels."""
    for number, height in enumerate((1.0, 1.0, 1.0, 6.0)):
        (tmp_path / "mr" / f"p{number}").mkdir(parents=True)
        volume = nibabel.Nifti1Image(np.random.default_rng(number).random((4, 5, 6)), np.diag([1.0, 1.0, height, 1.0]))
        nibabel.save(volume, tmp_path / "mr" / f"p{number}" / "a.nii")
    (tmp_path / "source.toml").write_text(f'kind = "nifti"\npath = "mr"\naxis = "{axis}"\nslices = 2\n')
    found = scan_findings(read_source(tmp_path / "source.toml"), ImageData(kind="image", height=8, width=8), Effort(workers=1))
    mixed = [each for each in found if each.topic in ("spacing", "slice distance")]
    assert {each.topic for each in mixed} == topics
    for each in mixed:
        assert each.places == ("p3/a.nii",) and each.weight is Weight.WARNING and "1 to 6 mm" in each.what and each.of == 4


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    none = math.nan
    alike = {"a": (0.5, 0.5, none), "b": (0.51, 0.51, none)}
    assert spacing_findings({}, 3) == [] == spacing_findings(alike, 2)
    (near,) = spacing_findings(alike | {"c": (0.6, 0.6, none)}, 3)
    assert near.weight is Weight.NOTE and near.places == ("c",) and "0.5 to 0.6 mm" in near.what
    (far,) = spacing_findings(alike | {"c": (2.0, 2.0, none)}, 3)
    assert far.weight is Weight.WARNING and far.count == 1
    (oblong,) = spacing_findings(alike | {"c": (0.5, 0.6, none)}, 3)
    assert oblong.places == ("c",)
    (thick,) = spacing_findings({"a": (0.5, 0.5, 1.0), "b": (0.5, 0.5, 1.2), "c": (0.5, 0.5, none)}, 3)
    assert thick.topic == "slice distance" and thick.weight is Weight.NOTE and "1 to 1.2 mm" in thick.what
    (tmp_path / "archive").mkdir()
    for name, spacing in (("x", [0.5, 0.5]), ("y", [0.5, 0.5]), ("z", [1.5, 1.5])):
        written(tmp_path / "archive" / name, made(PatientID=name, PixelSpacing=spacing))
    (tmp_path / "source.toml").write_text('kind = "dicom"\npath = "archive"\nmodalities = ["CT"]\n')
    found = scan_findings(read_source(tmp_path / "source.toml"), ImageData(kind="image", height=8, width=12), Effort(workers=1))
    (mixed,) = [each for each in found if each.topic == "spacing"]
    assert mixed.places == ("z",) and mixed.weight is Weight.WARNING
