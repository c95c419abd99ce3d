"""PNG, JPEG and TIFF files against Pillow and numpy; what is no such file, or too large; pages; whose they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ssl_core.data.check import inspect_source
from ssl_core.data.decoding import Bounds, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.pictures import PictureDecoder
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_records, read_source
from ssl_core.errors import ConfigError
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=12)
MIB = 1 << 20
LUMA = np.array([0.299, 0.587, 0.114])
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}
"""By what Exif calls the orientation: where the first row and the first column of what is stored belong."""
SHIPPED = Path(matplotlib.get_data_path())


def drawn(kind: Any = np.uint8, colours: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(0, high, (8, 12, colours) if colours else (8, 12)).astype(kind)


def decoded(path: Path, data: ImageData = DATA, *, pages: int = 1, largest: int = MIB) -> list[Any]:
    decoder = PictureDecoder(pages, largest, data)
    ((_, found),) = decode_all([Listed("x", path, None)], decoder, Bounds(largest, 20.0), workers=0)
    if isinstance(found, Fault):
        return [found]
    assert {each.owner for each in found} == {None} and {each.name for each in found} == {""}
    return [each.content for each in found]


def same(content: Any, picture: Any) -> bool:
    picture = np.asarray(picture, np.float64)
    standard = (picture - picture.mean()) / picture.std()
    return isinstance(content, np.ndarray) and np.allclose(content, standard.ravel(), atol=1e-5)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_greys_are_kept_as_they_are_stored(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    for content in (drawn(), drawn(np.uint16, high=1 << 16), drawn(high=2).astype(bool)):
        Image.fromarray(content).save(path)
        assert same(decoded(path)[0], content)
    window = DATA.model_copy(update={"window": (1000.0, 30000.0)})
    Image.fromarray(drawn(np.uint16, high=1 << 16)).save(path)
    assert same(decoded(path, window)[0], np.clip(drawn(np.uint16, high=1 << 16), 1000, 30000))


def test_numbers_that_only_tiff_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    for content in (np.random.default_rng(1).standard_normal((8, 12)).astype(np.float32), drawn(np.int32) - 100):
        Image.fromarray(content).save(path)
        assert same(decoded(path)[0], content)
    for byte_order, kind in (("II", "<u2"), ("MM", ">u2")):
        for photometric in (0, 1):
            content = drawn(np.uint16, high=1 << 16)
            path.write_bytes(_tiff(byte_order, content.astype(kind).tobytes(), photometric))
            (found,) = decoded(path)
            # Pillow knows no big-endian page of 16 bits on which white is zero.
            expected = None if (byte_order, photometric) == ("MM", 0) else content if photometric else -content.astype(float)
            assert found is Fault.UNREADABLE if expected is None else same(found, expected), (byte_order, photometric)


def _tiff(order: str, content: bytes, photometric: int) -> bytes:
    """One strip of 8 x 12 numbers of 16 bits."""
    mark = "<" if order == "II" else ">"
    tags = [(256, 12), (257, 8), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 8), (279, len(content))]
    entries = b"".join(struct.pack(f"{mark}HHII", tag, 4, 1, value) for tag, value in tags)
    begin = struct.pack(f"{mark}HI", 42, 8 + len(content))
    return order.encode() + begin + content + struct.pack(f"{mark}H", len(tags)) + entries + bytes(4)


def test_colours_are_made_grey_by_fixed_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    colours = drawn(colours=3)
    Image.fromarray(colours).save(path)
    assert same(decoded(path)[0], colours @ LUMA)
    clear = drawn(colours=4)
    Image.fromarray(clear).save(path)
    assert same(decoded(path)[0], (clear[..., :3] @ LUMA) * (clear[..., 3] / 255.0))
    grey_and_clear = drawn(colours=2)
    Image.fromarray(grey_and_clear, "LA").save(path)
    assert same(decoded(path)[0], grey_and_clear[..., 0] * (grey_and_clear[..., 1] / 255.0))
    palette = np.random.default_rng(2).integers(0, 256, (256, 3)).astype(np.uint8)
    picture = Image.fromarray(drawn(), "P")
    picture.putpalette(palette.ravel().tolist())
    picture.save(path)
    assert same(decoded(path)[0], palette[drawn()] @ LUMA)
    picture.save(path, transparency=int(drawn()[0, 0]))
    assert same(decoded(path)[0], np.where(drawn() == drawn()[0, 0], 0.0, palette[drawn()] @ LUMA))
    ink = Image.fromarray(drawn(colours=4), "CMYK")
    ink.save(tmp_path / "x.tif")
    assert same(decoded(tmp_path / "x.tif")[0], np.asarray(ink.convert("RGB")) @ LUMA)
    for mode, content in (("RGB", colours), ("L", drawn()), ("CMYK", drawn(colours=4))):
        Image.fromarray(content, mode).save(tmp_path / "x.jpg")
        with Image.open(tmp_path / "x.jpg") as reopened:
            expected = np.asarray(reopened) if mode == "L" else np.asarray(reopened.convert("RGB")) @ LUMA
        assert same(decoded(tmp_path / "x.jpg")[0], expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_the_orientation_that_was_written_is_applied(tmp_path: Path, suffix: str, turned: int) -> None:
    path = tmp_path / f"x.{suffix}"
    content = drawn() if turned < 5 else drawn().reshape(12, 8)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(content).save(path, exif=exif)
    if suffix == "jpg":
        with Image.open(path) as reopened:
            content = np.asarray(reopened)
    upright = UPRIGHT[turned](content)
    assert same(decoded(path)[0], upright)
    if suffix == "tif":
        Image.fromarray(content).save(path, exif=exif, compression="tiff_lzw")
        assert same(decoded(path)[0], upright)


def test_pages_are_records_evenly_spaced_in_order(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.roll(drawn(), place)) for place in range(9)]
    pages[5] = pages[5].resize((5, 5))
    for how in (None, "tiff_deflate"):
        pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:], compression=how)
        assert same(decoded(tmp_path / "x.tif")[0], np.roll(drawn(), 4))
        found = decoded(tmp_path / "x.tif", pages=3)
        assert [same(each, np.roll(drawn(), place)) for each, place in zip(found, (1, 4, 7), strict=True)] == [True] * 3
        found = decoded(tmp_path / "x.tif", pages=50)
        assert len(found) == 9 and found[5] is Fault.SHAPE and same(found[8], np.roll(drawn(), 8))
    pages[0].save(tmp_path / "x.png", save_all=True, append_images=pages[1:5])
    assert len(decoded(tmp_path / "x.png", pages=3)) == 1


def test_what_is_no_such_file_is_of_another_kind_whatever_its_name(tmp_path: Path) -> None:
    for suffix in ("gif", "bmp", "webp", "ppm", "jp2"):
        Image.fromarray(drawn()).save(tmp_path / f"x.{suffix}")
        (tmp_path / f"x.{suffix}").rename(tmp_path / "x.png")
        assert decoded(tmp_path / "x.png") == [Fault.WRONG_KIND]
    for content in (b"no picture", b"\x89PN", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        (tmp_path / "x.png").write_bytes(content)
        assert decoded(tmp_path / "x.png") == [Fault.WRONG_KIND]
    Image.fromarray(drawn()).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert same(decoded(tmp_path / "x.jpg")[0], drawn())


def test_broken_files_are_unreadable(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "tif"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(np.tile(drawn(), (20, 20))).save(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        data = ImageData(kind="image", height=160, width=240)
        assert decoded(path, data) == [Fault.UNREADABLE]
        path.write_bytes(whole[:12])
        assert decoded(path, data) == [Fault.UNREADABLE]


def _png(width: int, height: int) -> bytes:
    """A picture of one grey, far larger than its file."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    deflater = zlib.compressobj()
    packed = b"".join(deflater.compress(bytes(width + 1)) for _ in range(height)) + deflater.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_is_too_large_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(_png(5000, 2000))
    assert path.stat().st_size < 50_000
    assert decoded(path) == [Fault.TOO_LARGE] and decoded(path, largest=64 * MIB) == [Fault.SHAPE]
    # Beyond what Pillow itself opens.
    path.write_bytes(_png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 60000, 60000), 1))
    assert decoded(path, largest=1 << 34)[0] in (Fault.TOO_LARGE, Fault.UNREADABLE)


def test_whose_a_picture_is_and_its_order_say_folder_and_name(tmp_path: Path) -> None:
    for name, place in {"p2/2.png": 1, "p1/b.PNG": 2, "p1/a.tif": 3, "p1/c.gif": 4, "lost.png": 5}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(drawn(), place)).save(tmp_path / name)
    (tmp_path / "p1" / "d.jpg").write_bytes(b"")
    text = 'kind = "pictures"\n'
    (tmp_path / "source.toml").write_text(text, encoding="utf-8")
    source = read_source(tmp_path / "source.toml")
    patients = load_patients(source, DATA, Effort(workers=1))
    assert patients.units == ("p1", "p2") and patients.counts().tolist() == [3, 1]
    for row, place in zip(patients.records, (3, 2, None, 1), strict=True):
        assert same(row, np.roll(drawn(), place)) if place is not None else not row.any()
    assert read_records(source, DATA, Effort(workers=0)).names == ["p1/a.tif", "p1/b.PNG", "p1/d.jpg", "p2/2.png"]
    (file,) = inspect_source(source, DATA, Effort(workers=0)).files
    assert file.faults == {Fault.NO_PATIENT: 1, Fault.EMPTY: 1}
    (tmp_path / "source.toml").write_text(text + 'patient_from = "header"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="patient_from"):
        read_source(tmp_path / "source.toml")


def test_pictures_of_a_shipped_package(tmp_path: Path) -> None:
    """Real files that this test did not write: matplotlib's own, with palettes, alpha and photographs."""
    paths = sorted(path for path in SHIPPED.rglob("*") if path.suffix in (".png", ".jpg"))
    read = 0
    for path in paths:
        with Image.open(path) as picture:
            if not (8 <= picture.width <= 512 and 8 <= picture.height <= 512):
                continue
            data = ImageData(kind="image", height=picture.height, width=picture.width)
            clear = np.asarray(picture.convert("RGBA"), np.float64)
        (found,), expected = decoded(path, data), clear[..., :3] @ LUMA * clear[..., 3] / 255
        # Black lines on nothing are black on black.
        assert same(found, expected) if expected.std() > 0 else found is Fault.BLANK, path.name
        read += 1
    assert read >= 10
