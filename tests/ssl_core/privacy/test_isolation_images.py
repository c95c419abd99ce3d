"""The isolation check with folders of images: it writes and reads such files itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_engines import IMAGE

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import source as source_module
from ssl_core.data.declared import Declared
from ssl_core.data.declared_images import NiftiSource
from ssl_core.data.source import MODELS, Source, load_patients
from ssl_core.errors import PrivacyError
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import ImageData

MakePlan = Callable[..., StudyPlan]
FITTED = {**IMAGE, "data": {**IMAGE["data"], "fit": "pad", "window": [-100, 300]}}
DECLARED: dict[str, dict[str, Any]] = {
    "dicom": {"kind": "dicom", "path": "archive", "modalities": ["CT", "MR"]},
    "dicom-folders": {"kind": "dicom", "modalities": ["CR"], "patient_from": "index", "index": "of.csv"},
    "pictures": {"kind": "pictures", "patient_from": "pattern", "patient_pattern": "^(?P<patient>.+)/"},
    "nifti": {"kind": "nifti", "axis": "coronal", "slices": 2, "first": 1, "last": 2, "volume": 1},
}


def declare(name: str) -> Declared:
    return parse(MODELS[DECLARED[name]["kind"]], DECLARED[name], "source")


@pytest.mark.parametrize("plan", [IMAGE, FITTED], ids=["exact", "fitted"])
@pytest.mark.parametrize("name", DECLARED)
def test_folders_of_images_are_read_as_the_site_declares_them(make_plan: MakePlan, name: str, plan: dict[str, Any]) -> None:
    report = check_isolation(make_plan(plan), speed=SpeedSpec(chunk=5), declared=declare(name))
    assert "not finite" in report.pairs and report.greatest_change <= TOLERANCE
    assert 0.9 < report.greatest_contribution <= 2.0


@pytest.mark.parametrize("name", DECLARED)
def test_the_files_hold_what_was_written(tmp_path: Path, name: str) -> None:
    data = ImageData(kind="image", height=8, width=12)
    content = np.random.default_rng(1).integers(0, 256, (8, 12)).astype(np.float32)
    declared = declare(name)
    written = WRITERS[declared.kind](tmp_path, declared, data, [("b", np.full((8, 12), np.nan, np.float32)), ("a", content)])
    patients = load_patients(Source(tmp_path, written), data)
    assert patients.units == ("a", "b") and not patients.records[patients.offsets[1] :].any()
    # The second slice of a volume is the row turned over by one line.
    expected = np.roll(content, 1, axis=0) if name == "nifti" else content
    expected = ((expected - expected.mean()) / expected.std()).ravel()
    assert np.allclose(patients.records[0], expected, atol=1e-5)


@pytest.mark.parametrize("cover", [False, True])
@pytest.mark.parametrize("plan", [IMAGE, FITTED], ids=["exact", "fitted"])
def test_patches_are_read_as_the_site_declares_them(
    make_plan: MakePlan, tmp_path: Path, plan: dict[str, Any], cover: bool
) -> None:
    size = [plan["data"]["height"], plan["data"]["width"]]
    patches = {"size": size, "stride": [3, 5], "margin": [2, 0], "cover": cover, "most": 4}
    declared = parse(NiftiSource, {"kind": "nifti", "slices": 2, "first": 1, "last": 2, "patches": patches}, "source")
    report = check_isolation(make_plan(plan), speed=SpeedSpec(chunk=5), declared=declared)
    assert "not finite" in report.pairs and report.greatest_change <= TOLERANCE
    assert 0.9 < report.greatest_contribution <= 2.0
    data = ImageData(kind="image", height=size[0], width=size[1])
    content = np.random.default_rng(1).integers(0, 256, size).astype(np.float32)
    written = WRITERS["nifti"](tmp_path, declared, data, [("a", content)])
    patients = load_patients(Source(tmp_path, written), data)
    # Of eight patches of two slices every second one: of the first slice the upper right one, then the lower right one.
    expected = np.roll(content, (1, -5), axis=(0, 1))
    assert patients.counts().tolist() == [4]
    assert np.allclose(patients.records[0], ((expected - expected.mean()) / expected.std()).ravel(), atol=1e-5)


def test_a_reader_that_centres_by_the_whole_folder_fails(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("pictures", "image")
    honest = source_module.READERS[key]

    def centring(*given: Any) -> Any:
        reading = honest(*given)
        reading.records[:] -= reading.records.mean()
        reading.records[:] += reading.records.max() * 1e-3
        return reading

    monkeypatch.setitem(source_module.READERS, key, centring)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_isolation(make_plan(IMAGE), speed=SpeedSpec(chunk=5), declared=declare("pictures"))
