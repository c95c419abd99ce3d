"""What is signed and hashed: the context of a round, the transcript of a closed one, and signatures over both.

The context is SHA-256 over session, roster, params, key set, round, participants, model and previous closed transcript.
Every signature covers tag | context | body, length-prefixed, so that no message of one round, study or key set means
anything in another. Verification answers yes or no; the caller says what it refuses. Ed25519: RFC 8032.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from ssl_core.errors import ProtocolError, TrustError
from ssl_core.secure_sum.codec import Message, MessageT, decode, digest, encode, join
from ssl_core.secure_sum.messages import Ack, AnswerHead, BackupHead, Close, Context, Header, Packet, Parts, Signed, Start
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.trust.identity import Identity, verify

GENESIS = digest("genesis")


def context_hash(context: Context) -> bytes:
    """The hash [32] of a round's context, which stands in every message of it."""
    return digest("context", encode(context))


def start_round(params: SumParams, start: Start) -> Context:
    """The round that `start` begins."""
    return Context(
        session=params.session,
        roster=params.roster,
        params=params.hash,
        keyset=start.keyset,
        round=start.round,
        participants=start.participants,
        model=start.model,
        previous=start.previous,
    )


def start_context(params: SumParams, start: Start) -> bytes:
    """The context of the round that `start` begins."""
    return context_hash(start_round(params, start))


def close_context(params: SumParams, close: Close) -> bytes:
    """The context of the round that `close` ends; a site that was away can compute it too."""
    context = Context(
        session=params.session,
        roster=params.roster,
        params=params.hash,
        keyset=close.keyset,
        round=close.round,
        participants=close.participants,
        model=close.start_model,
        previous=close.previous,
    )
    return context_hash(context)


def keyset_hash(keyset: bytes) -> bytes:
    """H(E) [32]."""
    return digest("keyset", keyset)


def parts_leaves(parts: Parts) -> tuple[bytes, ...]:
    """Hashes [n + 1][32] of an upload's parts: agreement with commitments, then each packet."""
    head = digest("parts-head", parts.agreement, *parts.commitments)
    return (head, *(packet_hash(packet) for packet in parts.packets))


def packet_hash(packet: Packet) -> bytes:
    """The leaf [32] of one packet."""
    return digest("packet", encode(packet))


def parts_hash(leaves: Iterable[bytes]) -> bytes:
    """What a header says of its upload's parts [32]; leaves apart, so that one packet can be shown without the others."""
    return digest("parts", *leaves)


def are_parts_of(header: Header, data: bytes) -> bool:
    """Whether these bytes are the parts that a header names."""
    try:
        return parts_hash(parts_leaves(decode(Parts, data))) == header.parts
    except ProtocolError:
        return False


def vector_hash(vector: Words) -> bytes:
    """SHA-256 [32] of a vector's words, uint32 or uint16 [P], little endian."""
    return hashlib.sha256(little_endian(vector).data).digest()


def little_endian(vector: Words) -> Words:
    """The words as they are hashed: the vector itself where it is contiguous and the machine is little endian."""
    return np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<"))


def transcript(close: Close) -> bytes:
    """The hash [32] of a closed round and, through `previous`, of all before it."""
    return digest("transcript", encode(close))


def ack_of(close: Close) -> Ack:
    """What a site that took this CLOSE, and recomputed its model, says."""
    return Ack(round=close.round, transcript=transcript(close), model=close.model, state=close.state)


def acknowledgement(identity: Identity, start: bytes) -> bytes:
    """The signed ACK of the CLOSE that a START carries, the same whenever it is asked for; empty where it carries none."""
    close = read_signed(Start, start)[1].close
    if not close:
        return b""
    signed, body = read_signed(Close, close)
    return sign(identity, signed.context, ack_of(body))


def is_ack_of(public: bytes, context: bytes, close: Close, data: bytes) -> bool:
    """Whether these bytes are `public`'s acknowledgement of this CLOSE, whose round has this context."""
    try:
        signed, ack = read_signed(Ack, data)
    except ProtocolError:
        return False
    return is_signed_by(public, signed) and signed.context == context and ack == ack_of(close)


def sign(identity: Identity, context: bytes, body: Message) -> bytes:
    """`body` under a signature over tag | context | body, as bytes."""
    data = encode(body)
    signature = identity.sign(join("sign/" + body.TAG, context, data))
    return encode(Signed(kind=body.TAG, context=context, body=data, signature=signature))


def read_signed(form: type[MessageT], data: bytes) -> tuple[Signed, MessageT]:
    """The wrapper and the body of a signed message of type `form`; its signature is NOT checked here."""
    signed = decode(Signed, data)
    if signed.kind != form.TAG:
        raise ProtocolError("signed message is of another kind", field="kind", value=signed.kind, limit=form.TAG)
    return signed, decode(form, signed.body)


def is_signed_by(public: bytes, signed: Signed) -> bool:
    """Whether `public` signed this wrapper's tag, context and body."""
    return _verifies(public, join("sign/" + signed.kind, signed.context, signed.body), signed.signature)


def header_statement(context: bytes, vector: bytes, parts: bytes) -> bytes:
    """What the signature in a header covers."""
    return join("sign/HEADER", context, vector, parts)


def is_header_of(public: bytes, context: bytes, header: Header) -> bool:
    """Whether `public` signed this header for this round."""
    return _verifies(public, header_statement(context, header.vector, header.parts), header.signature)


def survivors_statement(context: bytes, survivors: tuple[int, ...]) -> bytes:
    """What an agreement covers."""
    return join("sign/SURVIVORS", context, *(site.to_bytes(2, "big") for site in survivors))


def is_agreement_of(public: bytes, context: bytes, survivors: tuple[int, ...], signature: bytes) -> bool:
    """Whether `public` agreed to these survivors of this round."""
    return _verifies(public, survivors_statement(context, survivors), signature)


def head_statement(head: AnswerHead | BackupHead) -> bytes:
    """What the signature in an ANSWER or a BACKUP-ANSWER covers."""
    return join("sign/" + head.TAG, encode(head))


def is_head_of(public: bytes, head: AnswerHead | BackupHead, signature: bytes) -> bool:
    """Whether `public` signed an answer with this head."""
    return _verifies(public, head_statement(head), signature)


def round_of(start: bytes) -> int:
    """The round that a START names, unchecked: for asking a site's journal before anything else."""
    return read_signed(Start, start)[1].round


def _verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        verify(public, message, signature)
    except TrustError:
        return False
    return True
