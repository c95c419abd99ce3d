"""Every file of pydicom and pydicom-data: none raises, what becomes of each is pinned, values are pydicom's own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from tests_benches import bench_module

from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.dicom_pixels import grey_frame
from ssl_core.data.reading import Fault
from ssl_core.spec.data import ImageData

DOC = Path(__file__).resolve().parents[3] / "docs" / "data-images.md"
# Malformed, each in its own way: no value of a number, pixels cut off, none at all, a delimiter within a codestream.
UNREADABLE = {
    "badVR.dcm", "MR_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm", "JPEG2000-embedded-sequence-delimiter.dcm",
    "chrJapMulti.dcm", "chrJapMultiExplicitIR6.dcm", "chrKoreanMulti.dcm", "rtstruct.dcm", "ExplVR_BigEndNoMeta.dcm",
    "ExplVR_LitEndNoMeta.dcm",
}  # fmt: skip
NO_CODEC = {"JPEG-lossy.dcm", "JPGExtended.dcm"}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with bench_module("dicom_files") as module:
        yield module


@pytest.fixture(scope="module")
def outcomes(script: ModuleType) -> list[Any]:
    return list(script.walk())


def test_every_file_is_decoded_or_refused_for_a_reason(outcomes: list[Any]) -> None:
    dicom = [each for each in outcomes if each.syntax]
    assert len(dicom) == 259 and len(outcomes) == 273
    assert Counter(each.what for each in dicom) == {
        "decoded": 159, Fault.WRONG_KIND: 88, Fault.UNREADABLE: 10, Fault.CODEC: 2,
    }  # fmt: skip
    assert {each.path.name for each in dicom if each.what == Fault.UNREADABLE} == UNREADABLE
    assert {each.path.name for each in dicom if each.what == Fault.CODEC} == NO_CODEC
    assert {each.what for each in outcomes if not each.syntax} == {Fault.UNREADABLE}
    # Of a file of many frames either all that were asked for are decoded, or none.
    assert not [each.path.name for each in outcomes if each.faults and each.decoded]


def test_the_table_of_the_page_is_the_one_that_is_printed(script: ModuleType, outcomes: list[Any]) -> None:
    assert "\n".join(script.table(outcomes)) in DOC.read_text(encoding="utf-8")


def test_values_are_those_of_pydicom(script: ModuleType, outcomes: list[Any]) -> None:
    compared: Counter[str] = Counter()
    whole = 0
    for each in outcomes:
        if each.faults:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(each.path, force=True)
            header.file_meta.setdefault("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
            expected, place = _reference(header)
            grey = grey_frame(header, place)
            assert not isinstance(grey, Fault) and np.allclose(grey, expected, rtol=1e-5, atol=1e-5), each.path.name
            how = str(header.PhotometricInterpretation)
            compared[how] += 1
            if not (8 <= header.Rows <= 512 and 8 <= header.Columns <= 512):
                continue
            data = ImageData(kind="image", height=header.Rows, width=header.Columns)
            (found,) = DicomDecoder(script.MODALITIES, 1, script.LARGEST, data)(each.path)
        assert isinstance(found.content, np.ndarray) and found.owner == header.get("PatientID")
        standard = (expected - expected.mean()) / expected.std() * (-1 if how == "MONOCHROME1" else 1)
        assert np.allclose(found.content, standard.ravel(), atol=1e-4), each.path.name
        whole += 1
    assert compared == {
        "MONOCHROME2": 85, "RGB": 38, "PALETTE COLOR": 10, "YBR_FULL": 7, "YBR_FULL_422": 5, "MONOCHROME1": 11, "YBR_RCT": 2,
        "YBR_ICT": 1,
    }  # fmt: skip
    assert whole == 124


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm"),
    ],
)
def test_what_was_compressed_without_loss_has_the_values_of_the_file_that_was_not(compressed: str, plain: str) -> None:
    one, two = (pydicom.dcmread(str(get_testdata_file(name))) for name in (compressed, plain))
    for place in range(int(two.get("NumberOfFrames") or 1)):
        grey, expected = grey_frame(one, place), grey_frame(two, place)
        assert not isinstance(grey, Fault) and not isinstance(expected, Fault) and np.array_equal(grey, expected)


def _reference(header: Any) -> tuple[Any, int]:
    """The middle frame and its number, by pydicom's way over the whole file, which the decoder does not go."""
    colours = int(header.SamplesPerPixel) > 1
    count = int(header.get("NumberOfFrames") or 1)
    place = count // 2
    # A film of 120 frames would take as long as all others together.
    frames = header.pixel_array if count <= 100 else {place: pixel_array(header, index=place)}
    frame = frames if count == 1 else frames[place]
    if header.PhotometricInterpretation == "PALETTE COLOR":
        frame, colours = apply_color_lut(frame, header)[..., :3], True
    if colours:
        return frame.astype(np.float64) @ np.array([0.299, 0.587, 0.114]), place
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = [header.PerFrameFunctionalGroupsSequence[place], header.SharedFunctionalGroupsSequence[0]]
        for item in (
            group.PixelValueTransformationSequence[0] for group in groups if "PixelValueTransformationSequence" in group
        ):
            return frame * float(item.RescaleSlope) + float(item.RescaleIntercept), place
    return apply_modality_lut(frame, header).astype(np.float64), place
