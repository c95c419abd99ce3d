"""Step 1 of 12: tags of a PNG, JPEG or TIFF file that may name a person: comments, EXIF, XMP, IPTC, text chunks, thumbnails.

Comes in: a path, its format. Goes out: names of tags that are not blank, each once, never their values: of EXIF and TIFF as the
standards have them ("UserComment"), of a PNG text by its registered keyword. Raises what Pillow raises for a damaged file. PNG
specification, third edition, 11.3; CIPA DC-008 (EXIF 2.32); TIFF 6.0. PNG chunks are read here: Pillow tells of those behind
the pixels only when the pixels are decoded. Of a TIFF file at most `_MOST_PAGES` pages; more are an entry of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageSequence, TiffTags

from ssl_core.datacheck.formats import Format

_LARGEST = 16 << 20
_MOST_PAGES = 64
# What wrote the file, how it is to be shown. Of PNG, EXIF and TIFF.
_OF_NOBODY = frozenset({"Software", "ProcessingSoftware", "InteropIndex", "InkNames", "TargetPrinter"})
_PNG_KEYWORDS = frozenset(
    {"Title", "Author", "Description", "Copyright", "Creation Time", "Disclaimer", "Warning", "Source", "Comment", "Collection"}
)
_BYTES = {
    0x9286: "UserComment", 0x927C: "MakerNote", 0x9C9B: "XPTitle", 0x9C9C: "XPComment", 0x9C9D: "XPAuthor",
    0x9C9E: "XPKeywords", 0x9C9F: "XPSubject", 0x02BC: "XMP", 0x83BB: "IPTC", 0x8649: "Photoshop or IPTC data",
}  # fmt: skip
_CHARSETS = (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"UNICODE\0", bytes(8))
_SEGMENTS = (
    (b"http://ns.adobe.com/xap/", "XMP"),
    (b"http://ns.adobe.com/xmp/", "XMP"),
    (b"Photoshop", "Photoshop or IPTC data"),
)
# JFIF and its thumbnail, EXIF (read by itself), colours, other pictures in the file, Adobe's colour transform.
_TECHNICAL = (b"JFIF\0", b"Exif\0", b"ICC_PROFILE\0", b"MPF\0", b"Adobe")


def picture_tags(path: Path, form: Format) -> list[str]:
    """Names of tags; see the module docstring."""
    if form is Format.PNG:
        return list(dict.fromkeys(_png(path)))
    with Image.open(path) as picture:
        return list(dict.fromkeys(_jpeg(picture) if form is Format.JPEG else _tiff(picture)))


def _png(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            end = stream.tell() + size + 4
            if kind in (b"tEXt", b"zTXt", b"iTXt"):
                yield from _text_chunk(stream.read(min(size, _LARGEST)))
            elif kind == b"eXIf":
                exif = Image.Exif()
                exif.load(b"Exif\0\0" + stream.read(min(size, _LARGEST)))
                yield from _exif(exif)
            elif kind == b"tIME":
                yield "time of the last change"
            stream.seek(end)


def _text_chunk(content: bytes) -> Iterator[str]:
    """By the registered keyword: another one could itself be somebody's."""
    keyword, _, value = content.partition(b"\0")
    name = keyword.decode("latin-1")
    if name in _OF_NOBODY or not value.strip(b"\0 "):
        return
    if name == "XML:com.adobe.xmp":
        yield "XMP"
    elif name.startswith("Raw profile type "):
        yield "EXIF, IPTC or XMP as text"
    else:
        yield name if name in _PNG_KEYWORDS else "text chunks"


def _jpeg(picture: Image.Image) -> Iterator[str]:
    segments: list[tuple[str, bytes]] = getattr(picture, "applist", [])
    for name, content in segments:
        known = next((said for begin, said in _SEGMENTS if content.startswith(begin)), None)
        if known is not None:
            yield known
        elif name == "COM":
            if content.strip(b"\0 "):
                yield "comment"
        elif content.startswith(b"JFXX\0"):
            yield "thumbnail"
        elif content and not content.startswith(_TECHNICAL):
            yield "data of an application"
    yield from _exif(picture.getexif())


def _tiff(picture: Image.Image) -> Iterator[str]:
    for place, page in enumerate(ImageSequence.Iterator(picture)):
        if place == _MOST_PAGES:
            yield f"pages beyond the first {_MOST_PAGES}, not looked at"
            return
        yield from _exif(page.getexif())


def _exif(exif: Image.Exif) -> Iterator[str]:
    yield from _directory(dict(exif))
    yield from _directory(dict(exif.get_ifd(ExifTags.IFD.Exif)))
    if exif.get_ifd(ExifTags.IFD.GPSInfo):
        yield "place (GPS)"
    # A small copy of the picture, in which nothing was blanked.
    if ExifTags.Base.JpegIFOffset in exif.get_ifd(ExifTags.IFD.IFD1):
        yield "thumbnail"


def _directory(entries: dict[int, Any]) -> Iterator[str]:
    """Every text, and of bytes those that hold what somebody wrote."""
    for tag, value in entries.items():
        if tag in _BYTES:
            if _says_something(value):
                yield _BYTES[tag]
        elif any(isinstance(each, str) and each.strip("\0 :0") for each in (value if isinstance(value, tuple) else (value,))):
            name = ExifTags.TAGS.get(tag) or TiffTags.lookup(tag).name
            if name not in _OF_NOBODY:
                yield "tags outside the standard" if name == "unknown" else name


def _says_something(value: Any) -> bool:
    """Of bytes, the text behind the code of its alphabet, which EXIF puts before a comment."""
    content = value if isinstance(value, bytes) else str(value).encode()
    if content[:8] in _CHARSETS:
        content = content[8:]
    return bool(content.strip(b"\0 "))
