"""Tags of sounds: each is found by its name, as soundfile wrote it and as other programs do; no value comes out."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.sound_tags import flac_tags, wav_tags

SECRET = "Jane SECRET Doe"  # noqa: S105 - a name that nothing may show


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes) -> bytes:
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 1000, 2000, 2, 16))
    body = b"WAVE" + form + b"".join(chunks) + chunk(b"data", bytes(200))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(*comments: bytes, vendor: bytes = b"made by hand") -> bytes:
    texts = b"".join(struct.pack("<I", len(each)) + each for each in comments)
    block = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(comments)) + texts
    return b"fLaC" + b"\x00" + (34).to_bytes(3, "big") + bytes(34) + b"\x84" + len(block).to_bytes(3, "big") + block


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "FLAC"])
def test_what_soundfile_writes_and_reads_is_found(tmp_path: Path, form: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    tags = ("title", "artist", "comment", "date", "album", "genre", "copyright")
    for name in ("", *tags):
        path = tmp_path / f"{name}.{'flac' if form == 'FLAC' else 'wav'}"
        with soundfile.SoundFile(path, "w", samplerate=1000, channels=1, format=form, subtype="PCM_16") as file:
            if name:
                setattr(file, name, SECRET)
            file.write(np.sin(np.arange(101)))
        with soundfile.SoundFile(path) as file:
            assert file.copy_metadata() == ({name: SECRET} if name else {})
        assert header_identifiers(path) == ([] if not name else ["tags"] if form == "FLAC" else [name])


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ([chunk(b"LIST", b"INFO" + chunk(b"ITCH", SECRET.encode()))], ["technician"]),
        ([chunk(b"LIST", b"INFO" + chunk(b"IXYZ", SECRET.encode()) + chunk(b"IABC", b""))], ["other entries"]),
        ([chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf58") + chunk(b"IART", b"\0\0") + chunk(b"INAM", b"x"))], ["title"]),
        ([chunk(b"LIST", b"adtl" + chunk(b"labl", b"\1\0\0\0" + SECRET.encode()))], ["labels"]),
        ([chunk(b"bext", SECRET.encode().ljust(602, b"\0")), chunk(b"id3 ", b"ID3")], ["broadcast description", "ID3"]),
        ([chunk(b"iXML", b"<BWFXML/>"), chunk(b"_PMX", b"<x/>")], ["iXML", "XMP"]),
        ([chunk(b"fact", bytes(4)), chunk(b"LIST", b"")], []),
    ],
)
def test_other_chunks_of_other_programs(tmp_path: Path, chunks: list[bytes], found: list[str]) -> None:
    (tmp_path / "a.wav").write_bytes(wav(*chunks))
    assert header_identifiers(tmp_path / "a.wav") == found


@pytest.mark.parametrize(
    ("comments", "found"),
    [
        ([b"PATIENT=" + SECRET.encode()], ["tags"]),
        ([b"encoder=Lavf58", b"ARTIST=", b"tracknumber=3"], []),
        ([b"encoder=Lavf58", SECRET.encode()], ["tags"]),
        ([], []),
    ],
)
def test_any_comment_of_a_flac_file_with_a_value_is_a_tag(tmp_path: Path, comments: list[bytes], found: list[str]) -> None:
    (tmp_path / "a.flac").write_bytes(flac(*comments))
    assert header_identifiers(tmp_path / "a.flac") == found


@settings(deadline=None)
@given(st.binary(max_size=120), st.integers(0, 400))
def test_no_bytes_make_them_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("sound") / "a"
    for head in (
        b"RIFF\0\0\0\0WAVE",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"fLaC",
        wav(chunk(b"LIST", b"INFO"))[:cut],
        flac(b"A=b")[:cut],
    ):
        path.write_bytes(head + content)
        for read in (wav_tags, flac_tags):
            assert all(name.isprintable() and len(name) < 30 for name in read(path))
