"""The one wire form of the secure sum: length-prefixed fields of frozen dataclasses; decode, encode again, compare.

A message is its tag and then its fields in order, each as a 4-byte big-endian length and that many bytes. A list is a
count and its items, each with its own length. A field's form stands in its annotation, as `Annotated[int, UInt(4)]`.
One value has one encoding, and `decode` refuses any other (`ProtocolError`); sizes are bounded before anything is
built, so that a hostile message costs at most its own length (ruling 14).
`join` and `digest` are the same prefixing for what is signed or hashed; each use has a tag of its own.
"""

from __future__ import annotations

import hashlib
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from ssl_core.errors import ProtocolError
from ssl_core.trust.identity import Secret

MAX_BYTES = 1 << 24
MAX_SITES = 1024
DOMAIN = "choral/sum/v1/"


class Message:
    """Base of everything that has a wire form; `TAG` keeps two forms apart."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    TAG: ClassVar[str]


MessageT = TypeVar("MessageT", bound=Message)


class Wire(ABC):
    """How one field becomes bytes and back; both ways refuse what does not fit."""

    @abstractmethod
    def write(self, value: Any, field: str) -> bytes:
        """The content of the field, without its length."""

    @abstractmethod
    def read(self, data: bytes, field: str) -> Any:
        """The value of a field's content."""


@dataclass(frozen=True, slots=True)
class UInt(Wire):
    """An unsigned integer of `size` bytes, big endian."""

    size: int

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not int or not 0 <= value < 1 << (8 * self.size):
            raise _misfit(field, value, f"0 to 2^{8 * self.size} - 1")
        return value.to_bytes(self.size, "big")

    def read(self, data: bytes, field: str) -> int:
        _need_length(data, field, self.size, self.size)
        return int.from_bytes(data, "big")


@dataclass(frozen=True, slots=True)
class Flag(Wire):
    """True or false, one byte 1 or 0."""

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not bool:
            raise _misfit(field, value, "true or false")
        return bytes([value])

    def read(self, data: bytes, field: str) -> bool:
        if data not in (b"\x00", b"\x01"):
            raise _misfit(field, f"{len(data)} bytes", "one byte 0 or 1")
        return data == b"\x01"


@dataclass(frozen=True, slots=True)
class Real(Wire):
    """A finite IEEE 754 double, big endian; negative zero is refused, so that equal numbers have equal bytes."""

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not float or not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
            raise _misfit(field, value, "a finite float64")
        return struct.pack(">d", value)

    def read(self, data: bytes, field: str) -> float:
        _need_length(data, field, 8, 8)
        value: float = struct.unpack(">d", data)[0]
        return value


@dataclass(frozen=True, slots=True)
class Fixed(Wire):
    """Exactly `size` bytes."""

    size: int

    def write(self, value: Any, field: str) -> bytes:
        return _need_bytes(value, field, self.size, self.size)

    def read(self, data: bytes, field: str) -> bytes:
        return _need_length(data, field, self.size, self.size)


@dataclass(frozen=True, slots=True)
class Blob(Wire):
    """At most `limit` bytes; empty stands for absent."""

    limit: int

    def write(self, value: Any, field: str) -> bytes:
        return _need_bytes(value, field, 0, self.limit)

    def read(self, data: bytes, field: str) -> bytes:
        return _need_length(data, field, 0, self.limit)


@dataclass(frozen=True, slots=True)
class Hidden(Wire):
    """A `Secret` of `least` to `limit` bytes: redacted in every repr, never pickled."""

    least: int
    limit: int

    def write(self, value: Any, field: str) -> bytes:
        if not isinstance(value, Secret):
            raise _misfit(field, type(value).__name__, "Secret")
        return _need_bytes(value.reveal(), field, self.least, self.limit)

    def read(self, data: bytes, field: str) -> Secret:
        return Secret(_need_length(data, field, self.least, self.limit))


@dataclass(frozen=True, slots=True)
class Text(Wire):
    """1 to `limit` bytes of printable ASCII."""

    limit: int

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not str or not value.isascii() or not value.isprintable():
            raise _misfit(field, type(value).__name__, "printable ASCII")
        return _need_bytes(value.encode("ascii"), field, 1, self.limit)

    def read(self, data: bytes, field: str) -> str:
        _need_length(data, field, 1, self.limit)
        if not data.isascii():
            raise _misfit(field, None, "printable ASCII")
        return data.decode("ascii")


@dataclass(frozen=True, slots=True)
class Listing(Wire):
    """A tuple of at most `limit` items of one form."""

    item: Wire
    limit: int = MAX_SITES

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not tuple or len(value) > self.limit:
            raise _misfit(field, type(value).__name__, f"a tuple of at most {self.limit}")
        return len(value).to_bytes(4, "big") + prefix([self.item.write(item, field) for item in value])

    def read(self, data: bytes, field: str) -> tuple[Any, ...]:
        _need_length(data, field, 4, MAX_BYTES)
        count = int.from_bytes(data[:4], "big")
        if count > self.limit:
            raise _misfit(field, count, self.limit)
        return tuple(self.item.read(part, field) for part in _split(data[4:], count, field))


@dataclass(frozen=True, slots=True)
class Nested(Wire):
    """Another message, whole."""

    form: type[Message]

    def write(self, value: Any, field: str) -> bytes:
        if type(value) is not self.form:
            raise _misfit(field, type(value).__name__, self.form.__name__)
        return encode(value)

    def read(self, data: bytes, field: str) -> Message:
        return decode(self.form, data)


def encode(message: Message) -> bytes:
    """The one encoding of `message`; `ProtocolError` when a field does not fit its form."""
    parts = [message.TAG.encode("ascii")]
    parts += [wire.write(getattr(message, name), f"{message.TAG}.{name}") for name, wire in _forms(type(message))]
    return prefix(parts)


def decode(form: type[MessageT], data: bytes) -> MessageT:
    """The message of type `form` in `data`; `ProtocolError` for any other type, size or spelling."""
    if len(data) > MAX_BYTES:
        raise ProtocolError("message is too long", field=form.TAG, value=len(data), limit=MAX_BYTES)
    forms = _forms(form)
    tag, *parts = _split(data, 1 + len(forms), form.TAG)
    if tag != form.TAG.encode("ascii"):
        raise ProtocolError("message is of another type", field="type", limit=form.TAG)
    message = form(**{name: wire.read(part, f"{form.TAG}.{name}") for (name, wire), part in zip(forms, parts, strict=True)})
    if encode(message) != data:
        raise ProtocolError("message is not in canonical form", field=form.TAG)
    return message


def prefix(parts: Sequence[bytes]) -> bytes:
    """Each part behind its 4-byte length: no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def join(tag: str, *parts: bytes) -> bytes:
    """What is signed or hashed for one use: the tag with our domain, then the parts, all length-prefixed."""
    return prefix([(DOMAIN + tag).encode("ascii"), *parts])


def digest(tag: str, *parts: bytes) -> bytes:
    """SHA-256 [32] of `join(tag, *parts)`."""
    return hashlib.sha256(join(tag, *parts)).digest()


_FORMS: dict[type[Message], tuple[tuple[str, Wire], ...]] = {}


def _forms(form: type[Message]) -> tuple[tuple[str, Wire], ...]:
    if form not in _FORMS:
        hints = get_type_hints(form, include_extras=True)
        names = [field.name for field in fields(form)]
        _FORMS[form] = tuple((name, hints[name].__metadata__[0]) for name in names)
    return _FORMS[form]


def _split(data: bytes, count: int, field: str) -> list[bytes]:
    parts, begin = [], 0
    for _ in range(count):
        end = begin + 4
        size = int.from_bytes(data[begin:end], "big")
        if end > len(data) or size > len(data) - end:
            raise ProtocolError("message is cut short", field=field)
        parts.append(data[end : end + size])
        begin = end + size
    if begin != len(data):
        raise ProtocolError("message has bytes after its end", field=field, value=len(data) - begin)
    return parts


def _need_bytes(value: Any, field: str, least: int, limit: int) -> bytes:
    if type(value) is not bytes:
        raise _misfit(field, type(value).__name__, "bytes")
    return _need_length(value, field, least, limit)


def _need_length(data: bytes, field: str, least: int, limit: int) -> bytes:
    if not least <= len(data) <= limit:
        raise _misfit(field, f"{len(data)} bytes", f"{least} to {limit} bytes")
    return data


def _misfit(field: str, value: object, limit: object) -> ProtocolError:
    return ProtocolError("field does not fit its form", field=field, value=value, limit=limit)
