"""What is shown of one file, and which entries of its header may name a person; for every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tests_recordings import waves, write_wfdb

from ssl_core.data.declared_images import NiftiSource
from ssl_core.data.image_folders import nifti_decoder
from ssl_core.data.nifti import AXES, NiftiDecoder
from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.raw import raw_array
from ssl_core.datacheck.scan import scan_findings
from ssl_core.spec.data import ImageData

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
WAVE = np.sin(np.arange(2000) / 20)


def test_pictures_of_8_and_16_bits_and_in_colour(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = grey.astype(np.uint16) * 200
    for name, pixels in (("a.png", grey), ("b.tif", deep), ("c.png", deep)):
        Image.fromarray(pixels).save(tmp_path / name)
        found = raw_array(tmp_path / name)
        assert found is not None and np.array_equal(found, pixels)
    Image.new("RGB", (4, 8), (10, 10, 10)).save(tmp_path / "d.jpg")
    found = raw_array(tmp_path / "d.jpg")
    assert found is not None and found.shape == (8, 4)
    (tmp_path / "e.txt").write_text("no picture")
    assert raw_array(tmp_path / "e.txt") is None and header_identifiers(tmp_path / "e.txt") == []


def test_dicom_pixels_waveforms_and_headers() -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    def path(name: str) -> Path:
        found = get_testdata_file(name)
        assert found is not None
        return Path(found)

    scan = raw_array(path("CT_small.dcm"))
    assert scan is not None and scan.shape == (128, 128)
    lead = raw_array(path("waveform_ecg.dcm"))
    assert lead is not None and lead.shape == (12, 10_000)
    assert {"PatientName", "StudyDate", "private tags"} <= set(header_identifiers(path("CT_small.dcm")))


def test_a_damaged_dicom_file_raises_for_the_decoder_to_count(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    from ssl_core.data.decoding import Bounds, decode_all
    from ssl_core.data.folder_files import Listed
    from ssl_core.data.reading import Fault
    from ssl_core.datacheck.scan import _Lines

    whole = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: len(whole) // 2])
    ((_, found),) = decode_all([Listed("a.dcm", tmp_path / "a.dcm", None)], _Lines(), Bounds(1 << 24, 20.0), workers=0)
    assert found is Fault.UNREADABLE


def turned(path: Path, body: np.ndarray, codes: str, **header: float) -> Path:
    """A volume of which `body` is what a reader that turns to right, front and top sees, stored as `codes` say."""
    nibabel = pytest.importorskip("nibabel")
    of = nibabel.orientations
    to = of.ornt_transform(of.axcodes2ornt("RAS"), of.axcodes2ornt(codes))
    image = nibabel.Nifti1Image(np.asarray(of.apply_orientation(body, to)), of.inv_ornt_aff(to, body.shape))
    image.header.set_slope_inter(header.get("slope", 1.0), header.get("inter", 0.0))
    nibabel.save(image, path)
    return path


def reader(axis: str, slices: int, largest: int = 1 << 24, **how: Any) -> NiftiDecoder:
    source = NiftiSource.model_validate({"kind": "nifti", "path": "x", "axis": axis, "slices": slices, **how})
    decoder = nifti_decoder(source, ImageData(kind="image", height=8, width=8, fit="stretch"))
    return replace(decoder, largest=largest)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize(("axis", "name"), list(enumerate(AXES)))
def test_of_a_volume_the_middle_slice_that_is_read_is_shown(tmp_path: Path, axis: int, name: str, codes: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    body = np.random.default_rng(axis).integers(0, 200, (10, 11, 13)).astype(np.int16)
    path = turned(tmp_path / "v.nii.gz", body, codes)
    seen = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    assert np.array_equal(seen, body)
    for how in ({"slices": 1}, {"slices": 4}, {"slices": 99}, {"slices": 3, "first": 2, "last": 8}):
        decoder = reader(name, **how)
        found = raw_array(path, volume=decoder)
        read = list(decoder.pictures(path))
        assert found is not None and np.array_equal(found, read[len(read) // 2])
        # By nibabel alone: which slice of the axis it is, with front or top up.
        same = [np.array_equal(found, plane.T[::-1]) for plane in np.moveaxis(seen, axis, 0)]
        first, last = how.get("first", 0), how.get("last", body.shape[axis] - 1)
        assert sum(same) == 1 and abs(same.index(True) - (first + last) / 2) <= (last - first) / 4
        # Of patches, the slice that they are cut from.
        cut = reader(name, **how, patches={"size": (4, 4)})
        assert np.array_equal(raw_array(path, volume=cut), found)  # type: ignore[arg-type]


def test_the_values_of_a_volume_are_scaled_and_a_volume_of_several_is_the_declared_one(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    body = np.random.default_rng(0).integers(0, 200, (8, 9, 10)).astype(np.int16)
    image = nibabel.Nifti1Image(np.stack([body, body[::-1]], axis=3), np.eye(4))
    nibabel.save(image, tmp_path / "v.nii")
    whole = bytearray((tmp_path / "v.nii").read_bytes())
    whole[112:120] = np.array([0.5, -20.0], np.float32).tobytes()
    (tmp_path / "v.nii").write_bytes(whole)
    found = raw_array(tmp_path / "v.nii", volume=reader("axial", 1, volume=1))
    assert found is not None and np.array_equal(found, nibabel.load(tmp_path / "v.nii").get_fdata()[:, :, 5, 1].T[::-1])
    for decoder in (reader("axial", 1, volume=2), reader("axial", 1, first=10), reader("axial", 1, largest=999), None):
        assert raw_array(tmp_path / "v.nii", volume=decoder) is None


def test_text_in_pixels_is_looked_for_along_the_declared_axis(tmp_path: Path) -> None:
    """Letters lie in sagittal slices, whichever way the volume is stored; other slices cut them into stripes."""
    picture = Image.new("L", (256, 240), 0)
    ImageDraw.Draw(picture).text((8, 8), "DOE JANE 1961", fill=255, font=ImageFont.truetype(FONT, 16))
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(256, 240)), 20)
    film = 20 + 150 * (smooth - smooth.min()) / np.ptp(smooth)
    # A picture, [down, across], to the body's [right, front, top]: the same in every slice from left to right.
    body = np.repeat(np.maximum(film, np.asarray(picture)[::-1].T)[None], 100, axis=0).astype(np.uint8)
    (tmp_path / "x" / "ann").mkdir(parents=True)
    for codes in ("RAS", "PIR"):
        turned(tmp_path / "x" / "ann" / "v.nii", body, codes)
        for axis, count in (("sagittal", 1), ("coronal", 0), ("axial", 0)):
            (tmp_path / "s.toml").write_text(f'kind = "nifti"\npath = "x"\naxis = "{axis}"\n')
            data = ImageData(kind="image", height=32, width=32, fit="stretch")
            found = scan_findings(read_source(tmp_path / "s.toml"), data, Effort(0))
            assert [each.count for each in found if each.topic == "burnt-in text"] == [1] * count, (codes, axis)


def test_recordings_and_sounds(tmp_path: Path) -> None:
    for name in ("wfdb", "edfio", "soundfile"):
        pytest.importorskip(name)
    import edfio
    import soundfile

    counts = np.round(np.stack([WAVE, -WAVE], axis=1) * 1000).astype("<i2")
    (tmp_path / "rec.dat").write_bytes(counts.tobytes())
    lines = [f"rec.dat 16 1000(0)/mV 16 0 {counts[0, lead]} 0 0 {name}" for lead, name in enumerate(("I", "II"))]
    (tmp_path / "rec.hea").write_text("\n".join(["rec 2 100 2000", *lines]) + "\n")
    edfio.Edf([edfio.EdfSignal(WAVE, 100, label="I")], patient=edfio.Patient(name="SECRET")).write(tmp_path / "a.edf")
    soundfile.write(tmp_path / "a.wav", WAVE, 1000)
    soundfile.write(tmp_path / "a.flac", WAVE, 1000)
    for name, channels in (("rec.hea", 2), ("a.edf", 1), ("a.wav", 1), ("a.flac", 1)):
        found = raw_array(tmp_path / name)
        assert found is not None and found.shape == (channels, 2000), name
        assert np.allclose(found[0], WAVE, atol=1e-3)
    assert "patient" in header_identifiers(tmp_path / "a.edf")
    edfio.Edf([edfio.EdfSignal(WAVE, 100, label="I")]).write(tmp_path / "b.edf")
    assert "patient" not in header_identifiers(tmp_path / "b.edf")


def test_a_wfdb_header_that_names_other_files_is_not_shown(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        write_wfdb(tmp_path, name, waves())
    assert raw_array(tmp_path / "p1.hea") is not None
    (tmp_path / "p1.hea").write_text((tmp_path / "p1.hea").read_text().replace("p1.dat", "p2.dat"))
    assert raw_array(tmp_path / "p1.hea") is None
