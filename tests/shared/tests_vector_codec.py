"""Every message of the secure sum in bytes: two of each type, made from the forms of its fields; and what is refused.

The messages are found in the package, so that a new type or field stands in the next codec.json by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import struct

from tests_vector_themes import filled, study_params

import ssl_core.secure_sum
from ssl_core.secure_sum import codec
from ssl_core.secure_sum.messages import Close, Header, Offer, Signed, Start
from ssl_core.secure_sum.params import Member, SumParams
from ssl_core.trust.identity import Secret


def messages():
    """The file codec.json."""
    samples = []
    for form in message_types():
        for size in (0, 2):
            value = study_params() if form is SumParams else sample(codec.Nested(form), form.TAG, size)
            samples.append({"type": form.TAG, "fields": plain(value), "bytes": codec.encode(value).hex()})
            if form is SumParams:
                break
    return {
        "what": "Every message that is sent, signed, hashed or kept: its type, then its fields, each behind a four-byte "
        "big-endian length; two of each type, one with empty lists and byte strings. refused: bytes that are no message of the "
        "type, or a second spelling of one.",
        "messages": samples,
        "refused": [{"type": kind, "why": why, "bytes": data.hex()} for kind, why, data in malformed()],
    }


def message_types():
    """All forms of the package, by tag."""
    found = {}
    for module in pkgutil.iter_modules(ssl_core.secure_sum.__path__, "ssl_core.secure_sum."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, codec.Message) and value is not codec.Message:
                if found.setdefault(value.TAG, value) is not value:
                    raise AssertionError(f"two messages are called {value.TAG}")
    return [found[tag] for tag in sorted(found)]


def sample(wire, name, size):
    """A value that fits a field: the least one for size 0."""
    match wire:
        case codec.UInt():
            return int.from_bytes(filled(name, wire.size), "big") if size else 0
        case codec.Flag():
            return bool(size)
        case codec.Real():
            return 0.1 * size
        case codec.Fixed():
            return filled(name, wire.size) if size else bytes(wire.size)
        case codec.Blob():
            return filled(name, min(3 * size, wire.limit))
        case codec.Hidden():
            return Secret(filled(name, max(wire.least, min(3 * size, wire.limit))))
        case codec.Text():
            return "Az ~09"[: max(1, 3 * size)]
        case codec.Listing():
            return tuple(sample(wire.item, f"{name}.{at}", min(size, 1)) for at in range(size))
        case codec.Nested():
            forms = codec._forms(wire.form)
            return wire.form(**{field: sample(inner, f"{name}.{field}", size) for field, inner in forms})
    raise AssertionError(f"no sample of {wire}")


def plain(message):
    """The fields as JSON has them."""
    return {name: _plain(getattr(message, name)) for name, _ in codec._forms(type(message))}


def _plain(value):
    if isinstance(value, codec.Message):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Secret):
        return value.reveal().hex()
    return value.hex() if isinstance(value, bytes | float) else value


def malformed():
    """(type, why, bytes): what no reader may take."""
    header = sample(codec.Nested(Header), "h", 2)
    offer = codec.encode(Offer(epoch=1, site=2, key=filled("key")))
    params = codec.encode(study_params())
    signed = codec.encode(Signed(kind="VOID", context=filled("c"), body=b"", signature=filled("s", 64)))
    start = codec.encode(sample(codec.Nested(Start), "start", 2))
    yield "OFFER", "empty", b""
    yield "OFFER", "a byte too few", offer[:-1]
    yield "OFFER", "a byte too many", offer + b"\x00"
    yield "OFFER", "a field too few", codec.prefix([b"OFFER", bytes(4), bytes(2)])
    yield "OFFER", "a field too many", codec.prefix([b"OFFER", bytes(4), bytes(2), bytes(32), b""])
    yield "OFFER", "another type", codec.prefix([b"OFFERS", bytes(4), bytes(2), bytes(32)])
    yield "OFFER", "type in small letters", codec.prefix([b"offer", bytes(4), bytes(2), bytes(32)])
    yield "OFFER", "a length beyond the end", offer[:-36] + struct.pack(">I", 0xFFFFFFFF) + offer[-32:]
    yield "OFFER", "an integer of three bytes", codec.prefix([b"OFFER", bytes(3), bytes(2), bytes(32)])
    yield "OFFER", "an integer of five bytes", codec.prefix([b"OFFER", bytes(5), bytes(2), bytes(32)])
    yield "OFFER", "a key of 31 bytes", codec.prefix([b"OFFER", bytes(4), bytes(2), bytes(31)])
    yield "SIGNED", "an empty text", signed.replace(struct.pack(">I", 4) + b"VOID", struct.pack(">I", 0))
    yield "SIGNED", "a text of 17 bytes", signed.replace(struct.pack(">I", 4) + b"VOID", struct.pack(">I", 17) + b"V" * 17)
    for why, text in (("a line break", b"VOI\n"), ("a zero byte", b"VOI\x00"), ("a letter beyond ASCII", b"VO\xc3\x9f")):
        yield "SIGNED", f"a text with {why}", signed.replace(b"VOID", text)
    yield "START", "an item more than is there", start.replace(struct.pack(">II", 2, 2), struct.pack(">II", 3, 2))
    yield "START", "an item fewer than is there", start.replace(struct.pack(">II", 2, 2), struct.pack(">II", 1, 2))
    fixed = [bytes(32)] * 3
    for why, listed in (
        ("a list without a count", b""),
        ("a list with half a count", b"\x00\x00"),
        ("a list of 2^32 - 1 items", b"\xff\xff\xff\xff"),
        ("a list of 1025 items", struct.pack(">I", 1025) + codec.prefix([bytes(2)] * 1025)),
        ("a list with a byte after its end", struct.pack(">I", 1) + codec.prefix([bytes(2)]) + b"\x00"),
        ("a list with an item of one byte", struct.pack(">I", 1) + codec.prefix([b"\x00"])),
    ):
        yield "START", why, codec.prefix([b"START", bytes(4), listed, *fixed, b""])
    yield (
        "KEYSET",
        "an offer of 513 bytes",
        codec.prefix([b"KEYSET", bytes(4), struct.pack(">I", 1) + codec.prefix([bytes(513)])]),
    )
    yield "UPLOAD", "another message in the header's place", codec.prefix([b"UPLOAD", bytes(32), offer, b""])
    yield "UPLOAD", "a header cut short", codec.prefix([b"UPLOAD", bytes(32), codec.encode(header)[:-1], b""])
    for why, form, value in (("a flag of 2", ">B", 2), ("an empty flag", "", None)):
        yield "PARAMS", why, replaced(params, SumParams, "backup", b"" if value is None else struct.pack(form, value))
    for why, number in (("minus zero", -0.0), ("infinity", float("inf")), ("no number", float("nan"))):
        yield "PARAMS", f"a range of {why}", replaced(params, SumParams, "update_range", struct.pack(">d", number))
    yield "PARAMS", "a range in four bytes", replaced(params, SumParams, "update_range", struct.pack(">f", 1.0))
    member = codec.prefix([b"MEMBER", b"n" * 41, bytes(32), bytes(4)])
    yield Member.TAG, "a name of 41 bytes", member
    yield Close.TAG, "the bytes of START", start


def replaced(data, form, field, content):
    """The encoding with one field's content exchanged."""
    parts = codec._split(data, 1 + len(codec._forms(form)), form.TAG)
    place = 1 + [name for name, _ in codec._forms(form)].index(field)
    return codec.prefix([*parts[:place], content, *parts[place + 1 :]])
