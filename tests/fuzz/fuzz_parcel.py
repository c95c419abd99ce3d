"""Target: what arrives as plain fields and arrays. Property: `ProtocolError`, or a parcel that travels both ways the same."""

from __future__ import annotations

import numpy as np

from ssl_core.errors import ProtocolError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel, check_incoming, check_outgoing, from_plain, to_plain

_KEYS = ("kind", "body", "vector", "extra", "")
_DTYPES = ("<u4", "<u2", "<f4", ">u4", "<i4", "<f8", "<u8", "?", "S3", "O", "<f2", "V4")


class Reader:
    """Choices and pieces out of bytes; zeros where they end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        """The next byte."""
        first, self._data = self._data[:1], self._data[1:]
        return first[0] if first else 0

    def piece(self) -> bytes:
        """A length in one byte, and as many bytes."""
        size = self.byte()
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def seeds() -> list[bytes]:
    """Every kind as it travels, with and without a vector."""
    found = []
    for kind in {*map(str, IncomingKind), *map(str, OutgoingKind), "lower", "A" * 33}:
        for vector in (b"", b"\x01\x00\x00\x01\x04", b"\x01\x00\x02\x01\x03", b"\x02\x00\x00\x02\x02\x02\x03\x00\x01\x01"):
            named = bytes([2, 0, 0, len(kind)]) + kind.encode() + b"\x01\x01\x04body"
            found.append(named + (vector or b"\x00"))
    return found


def _value(reader: Reader) -> object:
    which, piece = reader.byte() % 8, reader.piece()
    values = (
        piece.decode("latin-1"),
        piece,
        piece.decode("utf-8", "surrogateescape"),
        len(piece),
        None,
        [piece],
        bytearray(piece),
        1.5,
    )
    return values[which]


def _array(reader: Reader) -> object:
    dtype = _DTYPES[reader.byte() % len(_DTYPES)]
    shape = tuple(reader.byte() % 9 for _ in range(reader.byte() % 4))
    return None if shape == (8, 8, 8) else np.zeros(shape, dtype)


def run(data: bytes) -> None:
    """One input."""
    reader = Reader(data)
    fields = {_KEYS[reader.byte() % len(_KEYS)]: _value(reader) for _ in range(reader.byte() % 4)}
    arrays = {("vector", "other")[reader.byte() % 2]: _array(reader) for _ in range(reader.byte() % 3)}
    try:
        parcel = from_plain(fields, arrays)
    except ProtocolError as error:
        assert len(str(error)) < 400
        return
    assert from_plain(*to_plain(parcel)) == parcel
    _decides(parcel)


def _decides(parcel: Parcel) -> None:
    try:
        check_incoming(parcel)
    except ProtocolError:
        assert parcel.kind not in set(IncomingKind)
    for question in IncomingKind:
        try:
            check_outgoing(question, parcel)
        except ProtocolError:
            continue
        vector = parcel.vector
        assert vector is None or (parcel.kind == OutgoingKind.UPLOAD and vector.dtype in (np.dtype("<u4"), np.dtype("<u2")))
