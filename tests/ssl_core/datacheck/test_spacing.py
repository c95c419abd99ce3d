"""Distances of pixels: as the files' headers say them, and a finding where they differ."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from tests_dicom import made, written

from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck.findings import Weight
from ssl_core.datacheck.scan import scan_findings
from ssl_core.datacheck.spacing import spacing_findings, spacing_of
from ssl_core.spec.data import ImageData


def test_it_is_what_the_header_says(tmp_path: Path) -> None:
    assert spacing_of(Path(str(get_testdata_file("CT_small.dcm")))) == pytest.approx((0.661468, 0.661468))
    assert spacing_of(written(tmp_path / "a", made())) is None
    assert spacing_of(written(tmp_path / "b", made(ImagerPixelSpacing=[0.2, 0.3]))) == (0.2, 0.3)
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.5]
    groups.PixelMeasuresSequence = [measures]
    assert spacing_of(written(tmp_path / "c", made(SharedFunctionalGroupsSequence=[groups]))) == (0.5, 0.5)
    assert spacing_of(written(tmp_path / "d", made(PixelSpacing=[0.0, 0.5]))) is None
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "e.nii")
    assert spacing_of(tmp_path / "e.nii") == (2.0, 3.0)
    (tmp_path / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert spacing_of(tmp_path / "f.png") is None


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    alike = {"a": (0.5, 0.5), "b": (0.51, 0.51)}
    assert spacing_findings({}, 3) == [] == spacing_findings(alike, 2)
    (near,) = spacing_findings(alike | {"c": (0.6, 0.6)}, 3)
    assert near.weight is Weight.NOTE and near.places == ("c",) and "0.5 to 0.6 mm" in near.what
    (far,) = spacing_findings(alike | {"c": (2.0, 2.0)}, 3)
    assert far.weight is Weight.WARNING and far.count == 1
    (tmp_path / "archive").mkdir()
    for name, spacing in (("x", [0.5, 0.5]), ("y", [0.5, 0.5]), ("z", [1.5, 1.5])):
        written(tmp_path / "archive" / name, made(PatientID=name, PixelSpacing=spacing))
    (tmp_path / "source.toml").write_text('kind = "dicom"\npath = "archive"\nmodalities = ["CT"]\n')
    found = scan_findings(read_source(tmp_path / "source.toml"), ImageData(kind="image", height=8, width=12), Effort(workers=1))
    (mixed,) = [each for each in found if each.topic == "spacing"]
    assert mixed.places == ("z",) and mixed.weight is Weight.WARNING
