"""A parcel survives its plain form exactly; whatever is not a parcel is refused; only allowed kinds leave a site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssl_core.errors import ProtocolError
from ssl_core.parcel import (
    DECLINED,
    IncomingKind,
    OutgoingKind,
    Parcel,
    check_incoming,
    check_outgoing,
    from_plain,
    to_plain,
)

VECTOR = np.arange(5, dtype=np.uint32)
vectors = st.none() | st.sampled_from([np.uint32, np.uint16, np.float32]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.integers(1, 50), elements={"allow_nan": False} if dtype is np.float32 else None)
)


@given(kind=st.from_regex(r"[A-Z][A-Z_]{0,31}", fullmatch=True), body=st.binary(max_size=200), vector=vectors)
def test_round_trip(kind: str, body: bytes, vector: np.ndarray | None) -> None:
    parcel = Parcel(kind, body, vector)
    fields, arrays = to_plain(parcel)
    assert all(type(value) in (str, bytes) for value in fields.values())
    again = from_plain(fields, arrays)
    assert again == parcel
    assert vector is None or (again.vector is not None and again.vector.dtype == vector.dtype)


def test_equality_sees_every_part() -> None:
    parcel = Parcel("START", b"x", VECTOR)
    assert parcel == Parcel("START", b"x", VECTOR.copy())
    for other in (
        Parcel("CLOSE", b"x", VECTOR),
        Parcel("START", b"y", VECTOR),
        Parcel("START", b"x"),
        Parcel("START", b"x", VECTOR + np.uint32(1)),
        Parcel("START", b"x", VECTOR.astype(np.float32)),
        "START",
    ):
        assert parcel != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(parcel)


def test_repr_shows_no_content() -> None:
    assert repr(Parcel("START", b"secret", VECTOR)) == "Parcel(kind='START', body=6 bytes, vector=uint32[5])"


@pytest.mark.parametrize("kind", ["", "start", "A" * 33, "_X", "A-B", "É", 3, None])
def test_bad_kinds(kind: object) -> None:
    with pytest.raises(ProtocolError, match="kind"):
        Parcel(kind, b"")


@pytest.mark.parametrize(
    "vector",
    [
        VECTOR.astype(np.int32),
        VECTOR.astype(np.uint64),
        VECTOR.astype(">u4"),
        VECTOR.astype(">u2"),
        VECTOR.astype(np.int16),
        VECTOR.astype(np.uint8),
        VECTOR.astype(object),
        VECTOR.reshape(1, 5),
        np.array(3, dtype=np.uint32),
        VECTOR[:0],
        [1, 2],
        b"\0\0\0\0",
    ],
)
def test_bad_vectors(vector: object) -> None:
    with pytest.raises(ProtocolError, match="vector"):
        Parcel("START", b"", vector)


@pytest.mark.parametrize(
    ("fields", "arrays"),
    [
        ({"kind": "START"}, {}),
        ({"kind": "START", "body": b"", "loss": 1.0}, {}),
        ({"kind": "START", "body": "text"}, {}),
        ({"kind": b"START", "body": b""}, {}),
        ({"kind": "START", "body": b""}, {"weights": VECTOR}),
        ({"kind": "START", "body": b""}, {"vector": VECTOR, "more": VECTOR}),
    ],
)
def test_unknown_or_wrong_plain_forms(fields: dict[str, object], arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ProtocolError):
        from_plain(fields, arrays)


def test_incoming_list() -> None:
    assert check_incoming(Parcel("START", b"")) is IncomingKind.START
    for kind in ("APPROVAL", "UPLOAD", "DECLINED", "EXEC"):
        with pytest.raises(ProtocolError, match=kind):
            check_incoming(Parcel(kind, b""))


def test_the_outgoing_list_is_this_and_no_longer() -> None:
    """A new kind is a new way out of a hospital: whoever adds one must change this test on purpose."""
    assert set(OutgoingKind) == {
        "APPROVAL",
        "OFFER",
        "KEYS_ACK",
        "UPLOAD",
        "CONSENT",
        "UNMASK",
        "BACKUP",
        "CLOSE_ACK",
        "VOID_ACK",
        "DECLINED",
    }


def test_each_question_has_one_kind_of_answer() -> None:
    allowed = {
        (question, answer)
        for question in IncomingKind
        for answer in OutgoingKind
        if _leaves(question, Parcel(answer, b"x", VECTOR if answer is OutgoingKind.UPLOAD else None))
    }
    pairs = {("INVITE", "APPROVAL"), ("KEYS", "KEYS_ACK"), ("START", "UPLOAD"), ("CLOSE", "CLOSE_ACK")}
    pairs |= {("OFFER", "OFFER"), ("CHECKPOINT", "CLOSE_ACK"), ("VOID", "VOID_ACK")}
    pairs |= {("CONSENT", "CONSENT"), ("UNMASK", "UNMASK"), ("BACKUP", "BACKUP")}
    assert allowed == pairs | {(question, "DECLINED") for question in IncomingKind}


def test_no_other_vector_leaves() -> None:
    assert _leaves(IncomingKind.INVITE, DECLINED)
    assert not _leaves(IncomingKind.START, Parcel("UPLOAD", b""))
    assert not _leaves(IncomingKind.START, Parcel("UPLOAD", b"", VECTOR.astype(np.float32)))
    assert _leaves(IncomingKind.START, Parcel("UPLOAD", b"", VECTOR.astype(np.uint16)))
    assert not _leaves(IncomingKind.CLOSE, Parcel("CLOSE_ACK", b"", VECTOR.astype(np.uint16)))
    assert not _leaves(IncomingKind.CONSENT, Parcel("CONSENT", b"", VECTOR))
    assert not _leaves(IncomingKind.START, Parcel("DECLINED", b"", VECTOR))
    assert not _leaves(IncomingKind.START, Parcel("METRICS", b""))


def _leaves(question: IncomingKind, answer: Parcel) -> bool:
    try:
        check_outgoing(question, answer)
    except ProtocolError:
        return False
    return True
