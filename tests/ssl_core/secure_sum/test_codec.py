"""One value, one encoding: whatever else is refused with `ProtocolError`, at bounded cost."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import codec, evidence, journal, messages, params, plain_site, vault
from ssl_core.secure_sum.codec import Blob, Fixed, Flag, Hidden, Listing, Message, Nested, Real, Text, UInt, decode, encode
from ssl_core.trust.identity import Secret

FORMS = sorted(
    {
        value
        for module in (messages, params, journal, vault, plain_site, evidence)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and is_dataclass(value)
    }
    - {params.SumParams},
    key=lambda form: form.TAG,
)


def values(wire):
    match wire:
        case UInt(size):
            return st.integers(0, 2 ** (8 * size) - 1)
        case Real():
            return st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
        case Fixed(size):
            return st.binary(min_size=size, max_size=size)
        case Blob(limit):
            return st.binary(max_size=min(limit, 40))
        case Hidden(least, limit):
            return st.binary(min_size=least, max_size=min(limit, 40)).map(Secret)
        case Flag():
            return st.booleans()
        case Text(limit):
            return st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=limit)
        case Listing(item, limit):
            return st.lists(values(item), max_size=min(limit, 4)).map(tuple)
        case Nested(form):
            return instances(form)
    raise AssertionError(wire)


def instances(form):
    return st.builds(form, **{name: values(wire) for name, wire in codec._forms(form)})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_message_comes_back(data):
    form = data.draw(st.sampled_from(FORMS))
    message = data.draw(instances(form))
    again = decode(form, encode(message))
    assert type(again) is form and encode(again) == encode(message)
    assert [f.name for f in fields(form)] == [name for name, _ in codec._forms(form)]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_are_refused_or_are_another_message(data):
    """Cut, grown or changed: never the same message from other bytes, and never another error."""
    form = data.draw(st.sampled_from(FORMS))
    whole = encode(data.draw(instances(form)))
    at = data.draw(st.integers(0, len(whole)))
    kind = data.draw(st.sampled_from(["cut", "insert", "change", "swap"]))
    extra = data.draw(st.binary(min_size=1, max_size=6))
    changed = {
        "cut": whole[:at],
        "insert": whole[:at] + extra + whole[at:],
        "change": whole[:at] + extra + whole[at + len(extra) :],
        "swap": whole[at:] + whole[:at],
    }[kind]
    try:
        message = decode(form, changed)
    except ProtocolError:
        return
    assert encode(message) == changed


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), st.binary(max_size=200))
def test_noise_is_refused(form, noise):
    with pytest.raises(ProtocolError):
        decode(form, noise)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.TAG)
def test_every_prefix_of_a_message_is_refused(form):
    whole = encode(sample(form))
    for end in range(len(whole)):
        with pytest.raises(ProtocolError, match="cut short"):
            decode(form, whole[:end])
    with pytest.raises(ProtocolError, match="bytes after its end"):
        decode(form, whole + b"\x00")


def sample(form):
    return form(**{name: smallest(wire) for name, wire in codec._forms(form)})


def smallest(wire):
    match wire:
        case UInt():
            return 1
        case Real():
            return 1.5
        case Flag():
            return True
        case Fixed(size):
            return b"x" * size
        case Blob():
            return b"blob"
        case Hidden(least, limit):
            return Secret(b"s" * max(least, min(limit, 32)))
        case Text():
            return "text"
        case Listing(item, _):
            return (smallest(item), smallest(item))
        case Nested(form):
            return sample(form)
    raise AssertionError(wire)


def test_tags_are_distinct():
    tags = [form.TAG for form in FORMS]
    assert len(set(tags)) == len(tags) == len(FORMS) >= 20


def test_message_of_another_type_is_refused():
    with pytest.raises(ProtocolError, match="another type"):
        decode(messages.Ack, encode(messages.Void(round=1)) + codec.prefix([b"x" * 32] * 3))


@dataclass(frozen=True, slots=True)
class Lax(codec.Wire):
    """A form with two spellings, which the comparison must catch."""

    def write(self, value, field):
        return value.encode()

    def read(self, data, field):
        return data.decode().lower()


@dataclass(frozen=True, slots=True)
class Loose(Message):
    TAG: ClassVar[str] = "LOOSE"
    value: Annotated[str, Lax()]


def test_second_spelling_is_refused_by_the_comparison():
    assert decode(Loose, codec.prefix([b"LOOSE", b"abc"])).value == "abc"
    with pytest.raises(ProtocolError, match="not in canonical form"):
        decode(Loose, codec.prefix([b"LOOSE", b"aBc"]))


def test_list_of_a_thousand_million_is_refused_within_its_own_length():
    count = (10**9).to_bytes(4, "big")
    for listing in (count, count + bytes(1000), (1024).to_bytes(4, "big") + bytes(4)):
        data = codec.prefix([b"AGREED", listing, b""])
        tracemalloc.start()
        with pytest.raises(ProtocolError):
            decode(journal.Agreed, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


def test_too_long_a_message_is_refused():
    with pytest.raises(ProtocolError, match="too long"):
        decode(messages.Void, bytes(codec.MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (UInt(2), 1 << 16),
        (UInt(2), -1),
        (UInt(2), True),
        (UInt(2), 1.0),
        (Real(), 1),
        (Real(), float("nan")),
        (Real(), float("inf")),
        (Real(), -0.0),
        (Flag(), 1),
        (Flag(), b"\x01"),
        (Fixed(3), b"ab"),
        (Fixed(3), "abc"),
        (Fixed(3), bytearray(b"abc")),
        (Blob(3), b"abcd"),
        (Hidden(2, 3), b"abc"),
        (Hidden(2, 3), Secret(b"a")),
        (Text(3), ""),
        (Text(3), "abcd"),
        (Text(3), "é"),
        (Text(3), "a\n"),
        (Text(3), b"abc"),
        (Listing(UInt(1), 2), (1, 2, 3)),
        (Listing(UInt(1), 2), [1, 2]),
        (Listing(UInt(1), 2), (256,)),
        (Nested(messages.Void), messages.Proof(site=1, signature=bytes(64))),
    ],
)
def test_value_that_does_not_fit_is_not_encoded(wire, value):
    with pytest.raises(ProtocolError, match="does not fit its form"):
        wire.write(value, "field")


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (UInt(2), b"\x00"),
        (Real(), bytes(7)),
        (Flag(), b""),
        (Flag(), b"\x02"),
        (Flag(), b"\x00\x00"),
        (Fixed(3), b"abcd"),
        (Blob(3), b"abcd"),
        (Hidden(2, 3), b"a"),
        (Text(3), b""),
        (Text(3), b"\xff"),
        (Listing(UInt(1), 2), b"\x00\x00\x00"),
        (Listing(UInt(1), 2), b"\x00\x00\x00\x03" + b"\x00\x00\x00\x01\x01" * 3),
    ],
)
def test_content_that_does_not_fit_is_not_decoded(wire, data):
    with pytest.raises(ProtocolError, match="does not fit its form"):
        wire.read(data, "field")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_joined_parts_are_never_confused(one, other):
    assert (codec.join("tag", *one) == codec.join("tag", *other)) == (one == other)
    assert codec.join("tag", *one) != codec.join("tag2", *one)
