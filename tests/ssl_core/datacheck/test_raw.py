"""What is shown of one file, and which entries of its header may name a person; for every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests_recordings import waves, write_wfdb

from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.raw import raw_array

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


def test_volumes_give_their_middle_slice(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    found = raw_array(tmp_path / "v.nii.gz")
    assert found is not None and np.array_equal(found, np.rot90(volume[..., 3]))


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
