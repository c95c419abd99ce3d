"""Tags of PNG, JPEG and TIFF files that Pillow wrote; names of tags, and none of their text anywhere in the report."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck import picture_tags
from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.look import look_at
from ssl_core.spec.data import ImageData

SECRET = "Jane SECRET Doe"  # noqa: S105 - a name that nothing may show
XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
DATA = ImageData(kind="image", height=8, width=8)
Tag = ExifTags.Base


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16)).astype(np.uint8))


def exif(**parts: Any) -> Image.Exif:
    out = Image.Exif()
    out.update(parts.get("base", {}))
    out.get_ifd(ExifTags.IFD.Exif).update(parts.get("more", {}))
    out.get_ifd(ExifTags.IFD.GPSInfo).update(parts.get("gps", {}))
    return out


def saved(path: Path, **how: Any) -> list[str]:
    picture().save(path, **how)
    return header_identifiers(path)


def test_a_plain_picture_of_each_kind_gives_nothing(tmp_path: Path) -> None:
    assert saved(tmp_path / "a.png", dpi=(96, 96)) == saved(tmp_path / "a.jpg", dpi=(96, 96)) == []
    for packed in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        assert saved(tmp_path / "a.tif", compression=packed, dpi=(96, 96)) == []


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_texts_dates_place_and_bytes_of_exif(tmp_path: Path, name: str) -> None:
    base = {Tag.ImageDescription: SECRET, Tag.Artist: SECRET, Tag.DateTime: "2024:03:05 08:30:00", Tag.Software: "SECRET 1.0"}
    more = {Tag.UserComment: b"ASCII\0\0\0" + SECRET.encode(), Tag.MakerNote: SECRET.encode(), Tag.BodySerialNumber: "SECRET",
            Tag.DateTimeOriginal: "2024:03:05 08:30:00"}  # fmt: skip
    gps = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 2.0)}
    # Of TIFF, Pillow writes the directories below the first from `tiffinfo` alone.
    tiff = {"tiffinfo": base | {ExifTags.IFD.Exif: more, ExifTags.IFD.GPSInfo: gps}}
    found = saved(tmp_path / name, **(tiff if name == "a.tif" else {"exif": exif(base=base, more=more, gps=gps)}))
    assert set(found) == {
        "ImageDescription", "Artist", "DateTime", "UserComment", "MakerNote", "BodySerialNumber", "DateTimeOriginal",
        "place (GPS)",
    }  # fmt: skip
    blank = {Tag.ImageDescription: " ", Tag.DateTime: "0000:00:00 00:00:00"}
    assert saved(tmp_path / name, exif=exif(base=blank, more={Tag.UserComment: b"ASCII\0\0\0    "})) == []


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_xmp(tmp_path: Path, name: str) -> None:
    if name == "a.png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        assert saved(tmp_path / name, pnginfo=info) == ["XMP"]
    else:
        assert saved(tmp_path / name, **({"xmp": XMP} if name == "a.jpg" else {"tiffinfo": {700: XMP}})) == ["XMP"]
        with Image.open(tmp_path / name) as again:
            assert SECRET.encode() in again.info["xmp"]


def test_comments_iptc_and_applications_of_a_jpeg(tmp_path: Path) -> None:
    assert saved(tmp_path / "a.jpg", comment=SECRET) == ["comment"]
    assert saved(tmp_path / "b.jpg", comment=b" \0") == []
    whole = (tmp_path / "b.jpg").read_bytes()
    # A blank comment behind another one: Pillow's own `info` holds the last alone.
    (tmp_path / "c.jpg").write_bytes(whole[:2] + segment(0xFE, SECRET.encode()) + whole[2:])
    assert header_identifiers(tmp_path / "c.jpg") == ["comment"]
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", 20) + b"\x1c\x02\x50\0\x0f" + SECRET.encode()
    (tmp_path / "d.jpg").write_bytes(whole[:2] + segment(0xED, iptc) + segment(0xE9, SECRET.encode()) + whole[2:])
    assert header_identifiers(tmp_path / "d.jpg") == ["Photoshop or IPTC data", "data of an application"]
    thumb = exif()
    thumb.get_ifd(ExifTags.IFD.IFD1).update({Tag.JpegIFOffset: 200, Tag.JpegIFByteCount: 10})
    assert "thumbnail" in list(picture_tags._exif(thumb))


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def test_texts_of_a_png_before_and_behind_the_pixels(tmp_path: Path) -> None:
    info = PngInfo()
    for keyword in ("Author", "Comment", "Software", SECRET):
        info.add_text(keyword, SECRET, zip=keyword == "Comment")
    info.add_itxt("Title", SECRET)
    info.add_text("Description", "  ")
    info.add_text("Raw profile type iptc", "SECRET")
    assert saved(tmp_path / "a.png", pnginfo=info) == [
        "Author", "Comment", "text chunks", "Title", "EXIF, IPTC or XMP as text",
    ]  # fmt: skip
    assert saved(tmp_path / "b.png") == []
    whole = (tmp_path / "b.png").read_bytes()
    end = len(whole) - 12
    (tmp_path / "b.png").write_bytes(whole[:end] + chunk(b"tEXt", b"Author\0" + SECRET.encode()) + chunk(b"tIME", bytes(7)))
    assert header_identifiers(tmp_path / "b.png") == ["Author", "time of the last change"]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_every_page_of_a_tiff_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[315], tags[33723], tags[50999] = SECRET, b"\x1c\x02\x50\0\x0f" + SECRET.encode(), SECRET
    tags.tagtype[33723], tags.tagtype[50999] = 7, 2
    second = picture(1)
    second.encoderinfo = {"tiffinfo": tags}
    picture().save(path, save_all=True, append_images=[second, picture(2)])
    assert header_identifiers(path) == ["Artist", "tags outside the standard", "IPTC"]
    monkeypatch.setattr(picture_tags, "_MOST_PAGES", 1)
    assert header_identifiers(path) == ["pages beyond the first 1, not looked at"]


def test_the_check_names_the_tags_and_no_text_of_them(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    info = PngInfo()
    info.add_text(SECRET, SECRET)
    picture(0).save(tmp_path / "x" / "a.png", pnginfo=info)
    picture(1).save(tmp_path / "x" / "b.jpg", comment=SECRET, xmp=XMP, exif=exif(base={Tag.Artist: SECRET}))
    picture(2).save(tmp_path / "x" / "c.tif", tiffinfo={270: SECRET})
    (tmp_path / "s.toml").write_text(
        'kind = "pictures"\npath = "x"\npatient_from = "pattern"\npatient_pattern = "(?P<patient>[abc])"\n'
    )
    look = look_at(read_source(tmp_path / "s.toml"), DATA, Effort(0))
    (finding,) = [each for each in look.findings if each.topic == "headers"]
    assert (finding.count, finding.of, finding.places) == (3, 3, ("a.png", "b.jpg", "c.tif"))
    for name in ("text chunks", "comment", "XMP", "Artist", "ImageDescription"):
        assert f"{name} (1)" in finding.what
    assert "SECRET" not in json.dumps(look.to_json()) and "SECRET" not in repr(look)
