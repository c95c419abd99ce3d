"""Second decoder, floor 2: every message as one line of a table, and a strict parser and writer of them.

A message is its type and then its fields, each behind a four-byte big-endian length. The forms of a field:

    u1 u2 u4      unsigned integer of that many bytes, big endian     32 33 64     exactly that many bytes
    flag          one byte 0 or 1                                     0..512       bytes, so many at least and at most
    real          finite IEEE 754 double, big endian, no -0           text16       printable ASCII, 1 to 16 bytes
    HEADER        another message, whole                              [u2]         count u4, then items behind their lengths

To add a field to a message, add it to its line.
"""

from __future__ import annotations

import math
import re
import struct
from functools import cache

from tests_second_primitives import prefix

MOST_BYTES = 2**24
MOST_ITEMS = 1024

MESSAGES = {
    "MEMBER": "name:text40 identity:32 weight:u4",
    "PARAMS": "session:32 roster:32 members:[MEMBER] corrupt:u2 server:32 dimension:u4 update_range:real min_sites:u2"
    " max_rounds:u4 bits:u1 backup:flag max_churn:u2",
    "CONTEXT": "session:32 roster:32 params:32 keyset:32 round:u4 participants:[u2] model:32 previous:32",
    "SIGNED": "kind:text16 context:32 body:0..2^24 signature:64",
    "OFFER": "epoch:u4 site:u2 key:32",
    "KEYSET": "epoch:u4 offers:[0..512]",
    "START": "round:u4 participants:[u2] model:32 keyset:32 previous:32 close:0..2^23",
    "HEADER": "vector:32 parts:32 signature:64",
    "SEALED": "blob:0..2^16 commitment:32",
    "PACKET": "share:SEALED backup:SEALED",
    "PARTS": "agreement:64 commitments:[32] packets:[PACKET]",
    "UPLOAD": "context:32 header:HEADER parts:0..2^23 ack:0..512",
    "CONSENT": "round:u4 survivors:[u2] headers:[HEADER]",
    "AGREEMENT": "context:32 signature:64",
    "PROOF": "site:u2 signature:64",
    "UNMASK": "round:u4 recipient:u2 survivors:[u2] proof:[PROOF] shares:[SEALED]",
    "ANSWER": "context:32 values:[33] signature:64",
    "ANSWER-HEAD": "context:32 site:u2 shown:[32] marks:0..1024 digests:[32]",
    "BACKUP": "round:u4 recipient:u2 survivors:[u2] missing:[u2] backups:[SEALED]",
    "BACKUP-ANSWER": "context:32 missing:[u2] values:[1..2^16] signature:64",
    "BACKUP-HEAD": "context:32 site:u2 missing:[u2] shown:[32] marks:0..1024 digests:[32]",
    "CLOSE": "round:u4 count:u4 participants:[u2] survivors:[u2] headers:[HEADER] keyset:32 previous:32 start_model:32 total:32"
    " model:32 state:32",
    "ACK": "round:u4 transcript:32 model:32 state:32",
    "ACKED": "site:u2 ack:0..512",
    "CHECKPOINT": "close:0..2^23 acks:[ACKED]",
    "VOID": "round:u4",
    "ALARM": "party:32 kind:text16 first:0..2^22 second:0..2^22",
    "HEADER-OF": "context:32 header:HEADER",
    "AGREEMENT-OF": "round:CONTEXT survivors:[u2] signature:64",
    "HEAD-OF": "head:0..2^21 signature:64",
    "PACKET-OF": "context:32 header:HEADER leaves:[32] recipient:u2 packet:PACKET",
    "VAULT": "params:32 offer:0..512 pending_epoch:u4 pending:0..32 epoch:u4 keyset:0..32 index:u4 chains:[32] answer:0..2^23",
    "OFFERED": "epoch:u4",
    "EPOCH": "epoch:u4 keyset:32 offers:0..2^22",
    "STARTED": "context:32 participants:[u2] model:32 request:0..2^22",
    "AGREED": "survivors:[u2] request:0..2^22",
    "ANSWERED": "survivors:[u2] reply:32 request:0..2^22",
    "PLAIN-START": "round:u4 participants:[u2] model:32",
    "PLAIN-UPLOAD": "round:u4 vector:32",
    "PLAIN-SET": "round:u4 stage:u1 survivors:[u2]",
    "PLAIN-END": "round:u4 model:32",
}


class Malformed(ValueError):
    """Bytes that are no message, or another spelling of one."""


@cache
def fields(kind):
    """((name, form), ...) of a message type."""
    return tuple(tuple(word.split(":", 1)) for word in MESSAGES[kind].split())


def parse(kind, data):
    """{field: value} of a message of this type: integers, bytes, text, lists and further dictionaries."""
    if len(data) > MOST_BYTES:
        raise Malformed("message is too long")
    parts = _cut(data, 1 + len(fields(kind)))
    if parts[0] != kind.encode():
        raise Malformed("message is of another type")
    return {name: _read(form, part) for (name, form), part in zip(fields(kind), parts[1:], strict=True)}


def build(kind, /, **values):
    """The bytes of a message."""
    if set(values) != {name for name, _ in fields(kind)}:
        raise TypeError(f"{kind} has other fields than {sorted(values)}")
    return prefix(kind.encode(), *(_write(form, values[name]) for name, form in fields(kind)))


def parse_signed(kind, data):
    """(wrapper, body) of a signed message of this type; the signature is not checked."""
    wrapper = parse("SIGNED", data)
    if wrapper["kind"] != kind:
        raise Malformed("signed message is of another kind")
    return wrapper, parse(kind, wrapper["body"])


def plain(kind, values):
    """A parsed message as JSON has it: bytes as hex, a double in its exact spelling."""
    return {name: _plain(form, values[name]) for name, form in fields(kind)}


def _cut(data, count):
    parts, at = [], 0
    for _ in range(count):
        if at + 4 > len(data):
            raise Malformed("message is cut short")
        (size,) = struct.unpack_from(">I", data, at)
        at += 4 + size
        if at > len(data):
            raise Malformed("message is cut short")
        parts.append(data[at - size : at])
    if at != len(data):
        raise Malformed("message has bytes after its end")
    return parts


def _bounds(form):
    """(least, most) bytes of a field of plain bytes or text."""
    if form.startswith("text"):
        return 1, int(form[4:])
    least, _, most = form.partition("..")
    base, _, power = (most or least).partition("^")
    return int(least), int(base) ** int(power or 1)


def _fit(form, data):
    least, most = _bounds(form)
    if not least <= len(data) <= most:
        raise Malformed(f"{len(data)} bytes where {form} fits")
    return data


def _read(form, data):
    if form in MESSAGES:
        return parse(form, data)
    if form.startswith("["):
        if len(data) < 4:
            raise Malformed("list without a count")
        (count,) = struct.unpack_from(">I", data)
        if count > MOST_ITEMS:
            raise Malformed("list is too long")
        return [_read(form[1:-1], part) for part in _cut(data[4:], count)]
    if form.startswith("u"):
        return int.from_bytes(_fit(form[1:], data), "big")
    if form == "flag":
        if data not in (b"\x00", b"\x01"):
            raise Malformed("flag is not 0 or 1")
        return data == b"\x01"
    if form == "real":
        (value,) = struct.unpack(">d", _fit("8", data))
        if not math.isfinite(value) or data == b"\x80" + bytes(7):
            raise Malformed("number is not finite, or is minus zero")
        return value
    _fit(form, data)
    if form.startswith("text"):
        if not re.fullmatch(rb"[ -~]+", data):
            raise Malformed("text is not printable ASCII")
        return data.decode()
    return data


def _write(form, value):
    if form in MESSAGES:
        return build(form, **value)
    if form.startswith("["):
        return struct.pack(">I", len(value)) + prefix(*(_write(form[1:-1], item) for item in value))
    if form.startswith("u"):
        return value.to_bytes(int(form[1:]), "big")
    if form == "flag":
        return bytes([value])
    if form == "real":
        return struct.pack(">d", value)
    return _fit(form, value.encode() if form.startswith("text") else value)


def _plain(form, value):
    if form in MESSAGES:
        return plain(form, value)
    if form.startswith("["):
        return [_plain(form[1:-1], item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.hex() if form == "real" else value
