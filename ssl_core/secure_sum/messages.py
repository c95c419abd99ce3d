"""Every message of the secure sum, as frozen dataclasses with their wire forms.

Sites are named by their place in `SumParams.members`. What is signed stands in statements.py. What a site sends has a length
that depends on the number of participants alone, in BACKUP-ANSWER also on how many sites it is asked about (ruling 26).
ANSWER-HEAD and BACKUP-HEAD never travel: they are what those answers are signed over, with a hash in each secret's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from ssl_core.secure_sum.codec import MAX_BYTES, MAX_SITES, Blob, Fixed, Hidden, Listing, Message, Nested, Text, UInt
from ssl_core.trust.identity import Secret

SEAL_BYTES = 12 + 16
ELEMENT_BYTES = 32

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
class Sealed(Message):
    """Shares sealed to one site (nonce | AES-256-GCM), and the commitment to what is inside; both public."""

    TAG: ClassVar[str] = "SEALED"
    blob: Annotated[bytes, Blob(1 << 16)]
    commitment: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet(Message):
    """Shares of the dealer's b and of its pair elements for one site; `backup` is empty, its commitment zeros, if not dealt."""

    TAG: ClassVar[str] = "PACKET"
    share: Annotated[Sealed, Nested(Sealed)]
    backup: Annotated[Sealed, Nested(Sealed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Message):
    """Agreement to "survivors = participants"; for each participant a commitment (own place: b) and a packet."""

    TAG: ClassVar[str] = "PARTS"
    agreement: Signature
    commitments: Annotated[tuple[bytes, ...], Listing(Fixed(32))]
    packets: Annotated[tuple[Packet, ...], Listing(Nested(Packet))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Message):
    """Site -> server, beside the masked vector [P]. `ack` is the signed ACK of START's CLOSE, empty where it has none."""

    TAG: ClassVar[str] = "UPLOAD"
    context: Digest
    header: Annotated[Header, Nested(Header)]
    parts: Annotated[bytes, Blob(MAX_BYTES // 2)]
    ack: Annotated[bytes, Blob(512)]


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
    """Server -> one survivor: the survivors, who agreed, and their shares sealed to `recipient`, in survivors' order."""

    TAG: ClassVar[str] = "UNMASK"
    round: Round
    recipient: Site
    survivors: Sites
    proof: Annotated[tuple[Proof, ...], Listing(Nested(Proof))]
    shares: Annotated[tuple[Sealed, ...], Listing(Nested(Sealed))]


class Mark(IntEnum):
    """What the 32 bytes behind it are: a share, the pair element of a lost site, or the seal key of what does not fit."""

    SHARE = 0
    PAIR = 1
    COMPLAINT = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer(Message):
    """Site -> server: for each participant, in order, a mark and 32 bytes. The signature covers ANSWER-HEAD."""

    TAG: ClassVar[str] = "ANSWER"
    context: Digest
    values: Annotated[tuple[Secret, ...], Listing(Hidden(1 + ELEMENT_BYTES, 1 + ELEMENT_BYTES))]
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead(Message):
    """ANSWER without its secrets: marks and a hash for each participant, and the commitments that UNMASK showed."""

    TAG: ClassVar[str] = "ANSWER-HEAD"
    context: Digest
    site: Site
    shown: Annotated[tuple[bytes, ...], Listing(Fixed(32))]
    marks: Annotated[bytes, Blob(MAX_SITES)]
    digests: Annotated[tuple[bytes, ...], Listing(Fixed(32))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup(Message):
    """Server -> one site that answered: who of the survivors has not, and their backup shares sealed to `recipient`."""

    TAG: ClassVar[str] = "BACKUP"
    round: Round
    recipient: Site
    survivors: Sites
    missing: Sites
    backups: Annotated[tuple[Sealed, ...], Listing(Nested(Sealed))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackupAnswer(Message):
    """Site -> server: for each missing site k a mark and, for each other participant j, 32 bytes.

    The share of e_kj where j is lost, else that share's hash, to check the whole against k's one commitment. All zeros
    behind a complaint: its key would open shares that must stay closed.
    """

    TAG: ClassVar[str] = "BACKUP-ANSWER"
    context: Digest
    missing: Sites
    values: Annotated[tuple[Secret, ...], Listing(Hidden(1, 1 << 16))]
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHead(Message):
    """BACKUP-ANSWER without its secrets: for each missing site the commitment shown, a mark, and the one that came out."""

    TAG: ClassVar[str] = "BACKUP-HEAD"
    context: Digest
    site: Site
    missing: Sites
    shown: Annotated[tuple[bytes, ...], Listing(Fixed(32))]
    marks: Annotated[bytes, Blob(MAX_SITES)]
    digests: Annotated[tuple[bytes, ...], Listing(Fixed(32))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Message):
    """Server -> all: what was summed. Its hash is the transcript that the next round's context binds.

    `count`: rounds closed with it; `total`, `model`, `state`: hashes of the sum [P], of the new weights, of the moments.
    """

    TAG: ClassVar[str] = "CLOSE"
    round: Round
    count: Round
    participants: Sites
    survivors: Sites
    headers: Annotated[tuple[Header, ...], Listing(Nested(Header))]
    keyset: Digest
    previous: Digest
    start_model: Digest
    total: Digest
    model: Digest
    state: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Message):
    """Site -> server: it recomputed this model and state from the CLOSE's sum, or took them from t sites that vouch."""

    TAG: ClassVar[str] = "ACK"
    round: Round
    transcript: Digest
    model: Digest
    state: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked(Message):
    """One site's signed ACK."""

    TAG: ClassVar[str] = "ACKED"
    site: Site
    ack: Annotated[bytes, Blob(512)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Message):
    """Server -> a site that cannot replay: a signed CLOSE, and the ACKs of t sites that recomputed its model."""

    TAG: ClassVar[str] = "CHECKPOINT"
    close: Annotated[bytes, Blob(MAX_BYTES // 2)]
    acks: Annotated[tuple[Acked, ...], Listing(Nested(Acked))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Void(Message):
    """Server -> participants: the round gives no sum, ever."""

    TAG: ClassVar[str] = "VOID"
    round: Round
