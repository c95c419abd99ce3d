"""Step 9 of 12: the one thing that travels inside a Flower message, in both directions.

Comes in: a kind (upper-case name), a body (canonical bytes of a protocol message) and at most one vector: 1-D uint32 or
uint16 (masked integers, sums), 1-D float32 (weights) or 1-D float64 (a checkpoint's weights and moments). Goes out: the
same as plain fields and arrays, which the two Flower apps wrap in a ConfigRecord and an ArrayRecord, and back. Everything
else is refused with ProtocolError: unknown or missing fields, other types, dtypes or shapes.

The two enumerations are the allow-list of ruling 26: a site sends no other kind, answers each kind of question with
its one kind of answer or with DECLINED, and only an UPLOAD carries a vector out of a hospital.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ssl_core.errors import ProtocolError

_KIND = re.compile(r"[A-Z][A-Z_]{0,31}")
_FIELDS = frozenset({"kind", "body"})
_VECTOR = "vector"
_WORDS = (np.dtype("<u4"), np.dtype("<u2"))
_DTYPES = (*_WORDS, np.dtype("<f4"), np.dtype("<f8"))


class IncomingKind(StrEnum):
    """What a site accepts from the server."""

    INVITE = "INVITE"
    OFFER = "OFFER"
    KEYS = "KEYS"
    START = "START"
    CONSENT = "CONSENT"
    UNMASK = "UNMASK"
    BACKUP = "BACKUP"
    CLOSE = "CLOSE"
    CHECKPOINT = "CHECKPOINT"
    VOID = "VOID"


class OutgoingKind(StrEnum):
    """What may leave a site."""

    APPROVAL = "APPROVAL"
    OFFER = "OFFER"
    KEYS_ACK = "KEYS_ACK"
    UPLOAD = "UPLOAD"
    CONSENT = "CONSENT"
    UNMASK = "UNMASK"
    BACKUP = "BACKUP"
    CLOSE_ACK = "CLOSE_ACK"
    VOID_ACK = "VOID_ACK"
    DECLINED = "DECLINED"


_ANSWER = {
    IncomingKind.INVITE: OutgoingKind.APPROVAL,
    IncomingKind.OFFER: OutgoingKind.OFFER,
    IncomingKind.KEYS: OutgoingKind.KEYS_ACK,
    IncomingKind.START: OutgoingKind.UPLOAD,
    IncomingKind.CONSENT: OutgoingKind.CONSENT,
    IncomingKind.UNMASK: OutgoingKind.UNMASK,
    IncomingKind.BACKUP: OutgoingKind.BACKUP,
    IncomingKind.CLOSE: OutgoingKind.CLOSE_ACK,
    IncomingKind.CHECKPOINT: OutgoingKind.CLOSE_ACK,
    IncomingKind.VOID: OutgoingKind.VOID_ACK,
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Parcel:
    """One protocol message and its vector. The vector is not copied: its owner must not change it afterwards."""

    kind: str
    body: bytes
    vector: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or _KIND.fullmatch(self.kind) is None:
            raise ProtocolError("a parcel's kind must be a short upper-case name", field="kind")
        if not isinstance(self.body, bytes):
            raise ProtocolError("a parcel's body must be bytes", field="body", value=type(self.body).__name__)
        if self.vector is None:
            return
        if not isinstance(self.vector, np.ndarray):
            raise ProtocolError("a parcel's vector must be an array", field=_VECTOR, value=type(self.vector).__name__)
        if self.vector.dtype not in _DTYPES:
            raise ProtocolError(
                "a parcel's vector has a wrong type",
                field=_VECTOR,
                value=self.vector.dtype,
                limit="uint32, uint16, float32 or float64",
            )
        if self.vector.ndim != 1 or self.vector.size == 0:
            raise ProtocolError(
                "a parcel's vector has a wrong shape", field=_VECTOR, value=self.vector.shape, limit="[P], P > 0"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parcel):
            return NotImplemented
        if (self.kind, self.body, self.vector is None) != (other.kind, other.body, other.vector is None):
            return False
        if self.vector is None or other.vector is None:
            return True
        return self.vector.dtype == other.vector.dtype and np.array_equal(self.vector, other.vector)

    def __repr__(self) -> str:
        vector = "None" if self.vector is None else f"{self.vector.dtype}[{self.vector.size}]"
        return f"Parcel(kind={self.kind!r}, body={len(self.body)} bytes, vector={vector})"


DECLINED = Parcel(OutgoingKind.DECLINED, b"")
"""The refusal without a reason: which of a site's limits was met is the site's own business (ruling 15)."""


def to_plain(parcel: Parcel) -> tuple[dict[str, str | bytes], dict[str, np.ndarray]]:
    """Fields for a ConfigRecord and named arrays (none or one) for an ArrayRecord."""
    arrays = {} if parcel.vector is None else {_VECTOR: np.ascontiguousarray(parcel.vector)}
    return {"kind": str(parcel.kind), "body": parcel.body}, arrays


def from_plain(fields: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> Parcel:
    """Inverse of `to_plain`; refuses whatever `to_plain` cannot have made."""
    if set(fields) != _FIELDS:
        raise ProtocolError("a parcel has unknown or missing fields", limit=", ".join(sorted(_FIELDS)))
    if not set(arrays) <= {_VECTOR}:
        raise ProtocolError("a parcel has an unknown array", limit=_VECTOR)
    kind, body = fields["kind"], fields["body"]
    if not isinstance(kind, str) or not isinstance(body, bytes):
        raise ProtocolError("a parcel's fields have wrong types", limit="kind: text, body: bytes")
    return Parcel(kind, body, arrays.get(_VECTOR))


def check_incoming(parcel: Parcel) -> IncomingKind:
    """The kind of question, or ProtocolError."""
    try:
        return IncomingKind(parcel.kind)
    except ValueError:
        raise ProtocolError("a site does not answer this kind of message", field="kind", value=parcel.kind) from None


def check_outgoing(question: IncomingKind, answer: Parcel) -> None:
    """ProtocolError unless `answer` may leave the site in reply to `question`."""
    try:
        kind = OutgoingKind(answer.kind)
    except ValueError:
        raise ProtocolError("this kind of message may not leave a site", field="kind", value=answer.kind) from None
    if kind not in (_ANSWER[question], OutgoingKind.DECLINED):
        raise ProtocolError(f"{question} is not answered by this kind", field="kind", value=kind)
    # To numpy, None is float64: a dtype is compared with dtypes alone.
    carries = None if answer.vector is None else answer.vector.dtype
    fits = carries is None if kind is not OutgoingKind.UPLOAD else carries is not None and carries in _WORDS
    if not fits:
        limit = "uint32 or uint16" if kind is OutgoingKind.UPLOAD else "none"
        raise ProtocolError(f"{kind} may not leave with this vector", field=_VECTOR, value=carries, limit=limit)
