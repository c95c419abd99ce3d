"""DICOM files that are refused, each by its name: wrong, cut off, encrypted, without a codec, bombs, of another kind."""

from __future__ import annotations

import datetime
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)
from tests_dicom import DATA, MIB, decoded, made, only, pixels, same, written

from ssl_core.data import image_folders
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.reading import Fault
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("elements", "fault"),
    [
        ({"Modality": "MR"}, Fault.WRONG_KIND),
        ({"Modality": None}, Fault.WRONG_KIND),
        ({"PhotometricInterpretation": "HSV"}, Fault.WRONG_KIND),
        ({"Rows": 9}, Fault.UNREADABLE),
        ({"Rows": 0}, Fault.UNREADABLE),
        ({"Rows": None}, Fault.UNREADABLE),
        ({"Rows": 7}, Fault.SHAPE),
        ({"BitsAllocated": 13}, Fault.UNREADABLE),
        ({"NumberOfFrames": 2}, Fault.UNREADABLE),
        ({"NumberOfFrames": 10**9}, Fault.TOO_LARGE),
        ({"Rows": 65535, "Columns": 65535}, Fault.TOO_LARGE),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, Fault.BLANK),
    ],
)
def test_what_is_wrong_is_named_and_the_record_stays_its_patients(
    tmp_path: Path, elements: dict[str, Any], fault: Fault
) -> None:
    (found,) = decoded(written(tmp_path / "x", made(**elements)))
    assert found.content is fault and found.owner == "p1"


def test_pixels_that_are_missing_or_of_a_codec_that_is_missing(tmp_path: Path) -> None:
    whole = written(tmp_path / "x", made()).read_bytes()
    (tmp_path / "x").write_bytes(whole[:-40])
    assert only(tmp_path / "x") is Fault.UNREADABLE
    assert only(written(tmp_path / "x", made(PixelData=encapsulate([b"no codestream"])), JPEGLSLossless)) is Fault.UNREADABLE
    assert only(written(tmp_path / "x", made(PixelData=encapsulate([b"no codestream"])), JPEG2000Lossless)) is Fault.UNREADABLE
    assert only(written(tmp_path / "x", made(PixelData=encapsulate([b"mpeg"])), "1.2.840.10008.1.2.4.100")) is Fault.CODEC
    # Of a compressed file that ends too early its patient is still known.
    cut = written(tmp_path / "x", made(PixelData=encapsulate([bytes(400)])), JPEG2000Lossless)
    cut.write_bytes(cut.read_bytes()[:-200])
    (found_cut,) = decoded(cut)
    assert found_cut.content is Fault.UNREADABLE and found_cut.owner == "p1"
    # Where one frame is missing nobody knows which.
    found = decoded(written(tmp_path / "x", made(pixels(frames=2), NumberOfFrames=3)), frames=3)
    assert [each.content for each in found] == [Fault.UNREADABLE] * 3


def test_a_deflated_file_is_not_inflated_beyond_its_bound(tmp_path: Path) -> None:
    path = written(tmp_path / "x", made(np.zeros((8, 12), np.uint16) + pixels()), DeflatedExplicitVRLittleEndian)
    assert same(only(path), pixels())
    bomb = made(ImageComments="")
    bomb.add_new(0x00091010, "OB", bytes(40 * MIB))
    path = written(tmp_path / "x", bomb, DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 100_000 and only(path) is Fault.TOO_LARGE
    assert same(only(path, largest=64 * MIB), pixels())
    head = path.read_bytes()[: 144 + int.from_bytes(path.read_bytes()[140:144], "little")]
    path.write_bytes(head + zlib.compress(b"\x00" * 100)[2:-4][:-5])
    assert decoded(path)[0].content in (Fault.UNREADABLE, Fault.WRONG_KIND)


def test_an_encrypted_file_is_named_as_one(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "archive")])
    begin = datetime.datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=9000)).sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = written(tmp_path / "x", made()).read_bytes()
    sealed = pkcs7.PKCS7EnvelopeBuilder().set_data(plain).add_recipient(certificate)
    (tmp_path / "x").write_bytes(sealed.encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary]))
    assert only(tmp_path / "x") is Fault.ENCRYPTED


def test_reports_waveforms_and_directories_are_of_another_kind() -> None:
    for name in ("test-SR.dcm", "waveform_ecg.dcm", "DICOMDIR", "rtplan.dcm"):
        path = get_testdata_file(name)
        assert path is not None
        assert [each.content for each in DicomDecoder(("SR", "ECG", "CT", "RTPLAN"), 1, MIB, DATA)(Path(str(path)))] == [
            Fault.WRONG_KIND
        ]


@pytest.mark.parametrize(
    ("line", "field"),
    [("", "modalities"), ("modalities = []", "modalities"), ('modalities = ["ct"]', "modalities"),
     ('modalities = ["CT"]\nframes = 0', "frames"), ('modalities = ["CT"]\nwindow_from_file = true', "window_from_file")],
)  # fmt: skip
def test_what_a_declaration_lacks_is_named(tmp_path: Path, line: str, field: str) -> None:
    (tmp_path / "source.toml").write_text(f'kind = "dicom"\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=field):
        read_source(tmp_path / "source.toml")


def test_a_library_that_is_missing_is_named_before_a_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, purpose: str) -> Any:
        raise DataError("missing", value=module)

    monkeypatch.setattr(image_folders, "needed", missing)
    (tmp_path / "source.toml").write_text('kind = "dicom"\nmodalities = ["CT"]\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"pydicom"):
        load_patients(read_source(tmp_path / "source.toml"), DATA)
