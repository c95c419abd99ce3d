"""Step 1 of 12: tags of a sound file that may name a person: chunks of WAV and RF64 files, blocks of FLAC files.

Comes in: a path. Goes out: names of tags that are not empty, never their values. Formats: Microsoft and IBM, "Multimedia
Programming Interface and Data Specifications 1.0" (1991), RIFF; EBU Tech 3306 (RF64) and 3285 (bext); RFC 9639 (FLAC). Read
here and not by libsndfile, which tells of ten tags by name and of no other. No tag is read into memory but FLAC's comments, of
at most 16 MiB, which is the format's own bound. A file that ends within a chunk gives what stands before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_INFO = {
    b"INAM": "title", b"IART": "artist", b"ICMT": "comment", b"ISBJ": "subject", b"IKEY": "keywords", b"ICRD": "date",
    b"IENG": "engineer", b"ITCH": "technician", b"IARL": "archive", b"ICMS": "commissioned by", b"ISRC": "source",
    b"IPRD": "album", b"ICOP": "copyright", b"IGNR": "genre",
}  # fmt: skip
_CHUNKS = {
    b"bext": "broadcast description", b"iXML": "iXML", b"axml": "XML", b"_PMX": "XMP", b"id3 ": "ID3", b"ID3 ": "ID3",
}  # fmt: skip
# What wrote the file, how it is to be played.
_SOFTWARE = b"ISFT"
_OF_NOBODY = {"ENCODER", "ENCODER_SETTINGS", "ENCODER SETTINGS", "SOFTWARE", "TRACKNUMBER"}
_UNKNOWN = 0xFFFFFFFF
_COMMENTS, _PICTURE, _APPLICATION = 4, 6, 2


def wav_tags(path: Path) -> list[str]:
    """Tags of a RIFF or RF64 file, each once."""
    found: dict[str, None] = {}
    with path.open("rb") as stream:
        for name, size in _chunks(stream, 12, path.stat().st_size):
            if name in _CHUNKS and size:
                found[_CHUNKS[name]] = None
            if name != b"LIST" or size < 4:
                continue
            begin, kind = stream.tell(), stream.read(4)
            for part, length in _chunks(stream, begin + 4, begin + size):
                if kind == b"adtl" and part in (b"labl", b"note", b"ltxt"):
                    found["labels"] = None
                elif kind == b"INFO" and part != _SOFTWARE and stream.read(min(length, 1)).strip(b"\0 "):
                    found[_INFO.get(part, "other entries")] = None
    return list(found)


def _chunks(stream: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk between two places; the stream stands at its content. Of RF64, ds64 says the size of data."""
    of_data = 0
    while begin + 8 <= end:
        stream.seek(begin)
        head = stream.read(8)
        if len(head) < 8:
            return
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"ds64":
            of_data = int.from_bytes(stream.read(16)[8:], "little")
            stream.seek(begin + 8)
        elif name == b"data" and size == _UNKNOWN:
            size = of_data
        yield name, size
        begin += 8 + size + size % 2


def flac_tags(path: Path) -> list[str]:
    """Which kinds of tags a FLAC file has: comments, pictures, data of applications."""
    found: dict[str, None] = {}
    with path.open("rb") as stream:
        stream.seek(4)
        last = False
        while not last and len(head := stream.read(4)) == 4:
            last, kind = bool(head[0] & 0x80), head[0] & 0x7F
            size = int.from_bytes(head[1:], "big")
            if kind == _COMMENTS:
                if _says_something(stream.read(size)):
                    found["tags"] = None
                continue
            if kind in (_PICTURE, _APPLICATION) and size:
                found["picture" if kind == _PICTURE else "data of an application"] = None
            stream.seek(size, 1)
    return list(found)


def _says_something(block: bytes) -> bool:
    """Is there a comment "name=value" with a value, of a name that may be about somebody?"""
    place = 4 + int.from_bytes(block[:4], "little")
    left = int.from_bytes(block[place : place + 4], "little")
    place += 4
    while left > 0 and place + 4 <= len(block):
        size = int.from_bytes(block[place : place + 4], "little")
        name, sign, value = block[place + 4 : place + 4 + size].partition(b"=")
        value = value if sign else name
        if value.strip(b"\0 ") and name.decode("latin-1").upper() not in _OF_NOBODY:
            return True
        place, left = place + 4 + size, left - 1
    return False
