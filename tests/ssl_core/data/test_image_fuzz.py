"""Damaged real files through the three decoders of images: each ends, with records of the study's form or faults."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from ssl_core.data.decoding import Bounds, Decoder, Found, decode_all
from ssl_core.data.dicom import DicomDecoder
from ssl_core.data.folder_files import Listed
from ssl_core.data.grid import Grid
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.pictures import PictureDecoder
from ssl_core.data.reading import Fault
from ssl_core.spec.data import ImageData

LARGEST = 8 << 20
DATA = ImageData(kind="image", height=8, width=8, fit="pad", window=(-200.0, 3000.0))
Damage = list[tuple[str, float, int]]
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "drop", "repeat", "fill"]),
        # Most of what can be got wrong stands at the beginning.
        st.one_of(st.floats(0, 1), st.floats(0, 0.05)),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def damaged(whole: bytes, damage: Damage) -> bytes:
    content = bytearray(whole)
    for kind, share, value in damage:
        place = int(share * (len(content) - 1)) if content else 0
        if not content:
            return b"\x00"
        if kind == "flip":
            content[place] ^= 1 << (value % 8)
        elif kind == "set":
            content[place] = value
        elif kind == "cut":
            del content[place:]
        elif kind == "drop":
            del content[place : place + 1 + value]
        elif kind == "repeat":
            content[place:place] = content[place : place + 1 + value]
        else:
            content[place : place + 8] = bytes([value]) * len(content[place : place + 8])
    return bytes(content)


def check(decoder: Decoder, whole: bytes, damage: Damage) -> None:
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(damaged(whole, damage) or b"\x00")
        stream.flush()
        listed = Listed("x", Path(stream.name), None)
        ((_, found),) = decode_all([listed], decoder, Bounds(LARGEST, 20.0), workers=0)
    assert isinstance(found, Fault) or len(found) <= 3
    for each in [] if isinstance(found, Fault) else found:
        assert isinstance(each, Found) and isinstance(each.owner, str | None) and isinstance(each.name, str)
        if not isinstance(each.content, Fault):
            assert each.content.shape == (64,) and each.content.dtype == np.float32 and np.isfinite(each.content).all()


def test_damaged_codestreams_end_no_process_but_their_worker(tmp_path: Path) -> None:
    """GDCM parses in C++; only a worker, whose memory is limited, ever runs it on a hospital's file."""
    names = ("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "emri_small_jpeg_ls_lossless.dcm")
    rng = np.random.default_rng(0)
    listed = []
    for number in range(90):
        whole = bytearray(Path(str(get_testdata_file(names[number % 3]))).read_bytes())
        begin = whole.rindex(b"\xff\xd8\xff") if number % 2 else 200
        for _ in range(1 + number % 5):
            whole[int(rng.integers(begin, min(len(whole), begin + 400 + 50 * number)))] = int(rng.integers(256))
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(whole)
        listed.append(Listed(path.name, path, None))
    decoder = DicomDecoder(("MR", "OT", "US"), 2, LARGEST, DATA)
    results = [found for _, found in decode_all(listed, decoder, Bounds(LARGEST, 20.0), workers=1)]
    assert len(results) == len(listed) and any(not isinstance(found, Fault) for found in results)


def _dicom() -> list[bytes]:
    names = (
        "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "SC_rgb_small_odd_jpeg.dcm",
        "MR_small_jp2klossless.dcm", "examples_palette.dcm", "rtdose.dcm", "SC_rgb_rle_2frame.dcm", "no_meta.dcm",
    )  # fmt: skip
    return [Path(str(get_testdata_file(name))).read_bytes() for name in names]


def _pictures() -> list[bytes]:
    shipped = Path(matplotlib.get_data_path())
    real = [path.read_bytes() for path in sorted(shipped.rglob("*.png"))[:3] + sorted(shipped.rglob("*.jpg"))[:2]]
    with tempfile.TemporaryDirectory() as folder:
        for how in (None, "tiff_lzw", "jpeg", "group4"):
            drawn = np.random.default_rng(1).integers(0, 256, (20, 30)).astype(np.uint8)
            pages = [Image.fromarray(drawn > 99 if how == "group4" else drawn)] * 3
            pages[0].save(Path(folder, "x.tif"), save_all=True, append_images=pages[1:], compression=how)
            real.append(Path(folder, "x.tif").read_bytes())
    return real


def _volumes() -> list[bytes]:
    shipped = Path(nibabel.__file__).parent / "tests" / "data"
    names = ("anatomical.nii", "functional.nii", "standard.nii.gz", "example_nifti2.nii.gz")
    whole = [(shipped / name).read_bytes() for name in names]
    return [*whole, gzip.compress((shipped / "functional.nii").read_bytes())]


KINDS: dict[str, tuple[Callable[[], list[bytes]], Decoder]] = {
    "dicom": (_dicom, DicomDecoder(("CT", "MR", "US", "OT", "RTDOSE"), 3, LARGEST, DATA)),
    "pictures": (_pictures, PictureDecoder(3, LARGEST, DATA)),
    "nifti": (
        _volumes, NiftiDecoder(axis="coronal", slices=3, first=0, last=None, volume=0, largest=LARGEST, data=DATA),
    ),
    "patches": (
        _volumes,
        NiftiDecoder(
            axis="coronal", slices=3, first=0, last=None, volume=0, largest=LARGEST, data=DATA,
            grid=Grid(size=(2, 3), stride=(2, 2), margin=(0, 0), cover=True, most=3),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_decoded(kind: str, tmp_path: Path) -> None:
    files, decoder = KINDS[kind]
    read = 0
    for number, content in enumerate(files()):
        (tmp_path / str(number)).write_bytes(content)
        read += sum(not isinstance(each.content, Fault) for each in decoder(tmp_path / str(number)))
    assert read >= 8


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_records_or_faults(kind: str) -> None:
    files, decoder = KINDS[kind]
    whole: Any = st.sampled_from(files())

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(whole, DAMAGE)
    def run(content: bytes, damage: Damage) -> None:
        check(decoder, content, damage)

    run()
