"""Every message of the secure sum, as frozen dataclasses with their wire forms.

Server to site: START, CONSENT, UNMASK, CLOSE, VOID. Site to server: OFFER, UPLOAD, AGREEMENT, ANSWER, ACK. Sites are
named by their place in `SumParams.members`. What each is signed over stands in statements.py. What a site sends has a
length that depends on the number of participants alone (ruling 26).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ssl_core.secure_sum.codec import MAX_BYTES, Blob, Fixed, Hidden, Listing, Message, Nested, Text, UInt
from ssl_core.trust.identity import Secret

SEALED_BYTES = 12 + 32 + 16

Round = Annotated[int, UInt(4)]
Site = Annotated[int, UInt(2)]
Sites = Annotated[tuple[int, ...], Listing(UInt(2))]
Digest = Annotated[bytes, Fixed(32)]
Signature = Annotated[bytes, Fixed(64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Message):
    """What a round is; its hash stands in every message, mask and seal of the round."""

    TAG: ClassVar[str] = "CONTEXT"
    session: Digest
    roster: Digest
    params: Digest
    keyset: Digest
    round: Round
    participants: Sites
    model: Digest
    previous: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Message):
    """A body under its author's signature; the author is known from the conversation, never from the message."""

    TAG: ClassVar[str] = "SIGNED"
    kind: Annotated[str, Text(16)]
    context: Digest
    body: Annotated[bytes, Blob(MAX_BYTES)]
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Message):
    """Site -> server: its X25519 public key for one epoch. The context is the hash of the params."""

    TAG: ClassVar[str] = "OFFER"
    epoch: Annotated[int, UInt(4)]
    site: Site
    key: Annotated[bytes, Fixed(32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet(Message):
    """E: the signed offers of all members, in their order."""

    TAG: ClassVar[str] = "KEYSET"
    epoch: Annotated[int, UInt(4)]
    offers: Annotated[tuple[bytes, ...], Listing(Blob(512))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Message):
    """Server -> participants: a round begins. `close` is the last CLOSE, empty before the first."""

    TAG: ClassVar[str] = "START"
    round: Round
    participants: Sites
    model: Digest
    keyset: Digest
    previous: Digest
    close: Annotated[bytes, Blob(MAX_BYTES // 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Message):
    """The signed head of an upload: SHA-256 of the masked vector's bytes and of its parts."""

    TAG: ClassVar[str] = "HEADER"
    vector: Digest
    parts: Digest
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Message):
    """Agreement to "survivors = participants"; for each participant a sealed share and a commitment (own place: b)."""

    TAG: ClassVar[str] = "PARTS"
    agreement: Signature
    shares: Annotated[tuple[bytes, ...], Listing(Fixed(SEALED_BYTES))]
    commitments: Annotated[tuple[bytes, ...], Listing(Fixed(32))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Message):
    """Site -> server, beside the masked vector uint32 [P]."""

    TAG: ClassVar[str] = "UPLOAD"
    context: Digest
    header: Annotated[Header, Nested(Header)]
    parts: Annotated[bytes, Blob(MAX_BYTES // 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent(Message):
    """Server -> survivors: the proposed set, with every survivor's signed header."""

    TAG: ClassVar[str] = "CONSENT"
    round: Round
    survivors: Sites
    headers: Annotated[tuple[Header, ...], Listing(Nested(Header))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(Message):
    """Site -> server: its signature over the proposed survivors."""

    TAG: ClassVar[str] = "AGREEMENT"
    context: Digest
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof(Message):
    """One site's signature over the survivors."""

    TAG: ClassVar[str] = "PROOF"
    site: Site
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmask(Message):
    """Server -> one survivor: the survivors, who agreed, and the shares sealed to `recipient` in survivors' order."""

    TAG: ClassVar[str] = "UNMASK"
    round: Round
    recipient: Site
    survivors: Sites
    proof: Annotated[tuple[Proof, ...], Listing(Nested(Proof))]
    shares: Annotated[tuple[bytes, ...], Listing(Fixed(SEALED_BYTES))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer(Message):
    """Site -> server: for each participant j, 32 bytes: its share of b_j if j survives, else the pair element e_ij."""

    TAG: ClassVar[str] = "ANSWER"
    round: Round
    values: Annotated[tuple[Secret, ...], Listing(Hidden(32, 32))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Message):
    """Server -> all: what was summed. Its hash is the transcript that the next round's context binds."""

    TAG: ClassVar[str] = "CLOSE"
    round: Round
    participants: Sites
    survivors: Sites
    headers: Annotated[tuple[Header, ...], Listing(Nested(Header))]
    keyset: Digest
    previous: Digest
    start_model: Digest
    total: Digest
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Message):
    """Site -> server: it took this CLOSE, which names this model."""

    TAG: ClassVar[str] = "ACK"
    round: Round
    transcript: Digest
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Void(Message):
    """Server -> participants: the round gives no sum, ever."""

    TAG: ClassVar[str] = "VOID"
    round: Round
