"""Two messages under one key that no honest holder of that key signs both of: a fault that any third party can check.

Comes in: a party's public key, a kind and two statements as bytes. Goes out: whether they prove the fault, from the
`SumParams` alone, with no key of ours and no word of whoever accuses. Every signature covers a context, and a context is
the hash of session, params, round and participants, so that what is proved of one round cannot be pasted from another.
Of the server: ROUND (one round number under two contexts), CLOSE (two results of one round), VOID (a result of a round that
was given up), SURVIVORS (two sets of survivors in one round, in any two of CONSENT, UNMASK, BACKUP, CLOSE). Of a site:
UPLOAD (two headers in a round), AGREEMENT (two sets that are not all participants), OFFER (two keys for one epoch), SHARE
and BACKUP (a signed answer whose share does not fit the commitment that it says it was shown), DEALING (a sealed share
that does not fit its own commitment).
A party that lost its state, or went back to an old copy of it, may sign such a pair without meaning harm: it counts among
the corrupt all the same (ruling 20), and the authority judges.
No evidence holds an opened share of an honest dealer. The server's messages hold sealed shares only; SHARE and BACKUP
hold an answer's head, in which hashes stand for what was opened; DEALING alone holds a seal key, of the one share that
this very evidence proves to be dealt wrongly: to find a key under which an honest dealer's AES-GCM seal opens to
something else costs 2^128 trials, as the tag is 128 bits and the dealer, not the accuser, made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import sealing
from ssl_core.secure_sum.codec import MAX_BYTES, Blob, Fixed, Listing, Message, Nested, Text, decode, encode
from ssl_core.secure_sum.messages import (
    AnswerHead,
    Backup,
    BackupHead,
    Close,
    Consent,
    Context,
    Digest,
    Header,
    Mark,
    Offer,
    Packet,
    Signature,
    Signed,
    Site,
    Sites,
    Start,
    Unmask,
    Void,
)
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.statements import (
    close_context,
    context_hash,
    is_agreement_of,
    is_head_of,
    is_header_of,
    is_signed_by,
    packet_hash,
    parts_hash,
    read_signed,
    start_context,
)
from ssl_core.trust.identity import Secret


class Kind(StrEnum):
    """What was done."""

    ROUND = "ROUND"
    CLOSE = "CLOSE"
    VOID = "VOID"
    SURVIVORS = "SURVIVORS"
    UPLOAD = "UPLOAD"
    AGREEMENT = "AGREEMENT"
    OFFER = "OFFER"
    SHARE = "SHARE"
    BACKUP = "BACKUP"
    DEALING = "DEALING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Message):
    """`party`'s Ed25519 key [32], the kind, and two statements; `second` is empty where the first contradicts itself."""

    TAG: ClassVar[str] = "ALARM"
    party: Digest
    kind: Annotated[str, Text(16)]
    first: Annotated[bytes, Blob(MAX_BYTES // 4)]
    second: Annotated[bytes, Blob(MAX_BYTES // 4)]


class ProvenFault(ProtocolError):
    """A message that is refused, with evidence that its author contradicts himself."""

    def __init__(self, error: ProtocolError, evidence: Evidence) -> None:
        self.evidence = evidence
        super().__init__(
            error.problem,
            field=error.field,
            value=error.value,
            limit=error.limit,
            remedy=error.remedy or "evidence is kept: stop, and show it to the authority",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Who did not do as it should, where no message is refused for it; `evidence` is None when a pair is named."""

    sites: tuple[str, ...]
    problem: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOf(Message):
    """Statement: a site's header in the round of this context."""

    TAG: ClassVar[str] = "HEADER-OF"
    context: Digest
    header: Annotated[Header, Nested(Header)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementOf(Message):
    """Statement: a site's agreement; the round is spelled out, as its context does not tell who the participants are."""

    TAG: ClassVar[str] = "AGREEMENT-OF"
    round: Annotated[Context, Nested(Context)]
    survivors: Sites
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOf(Message):
    """Statement: the head of an ANSWER or BACKUP-ANSWER."""

    TAG: ClassVar[str] = "HEAD-OF"
    head: Annotated[bytes, Blob(MAX_BYTES // 8)]
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketOf(Message):
    """Statement: one packet of a signed upload, whose other parts stand as hashes."""

    TAG: ClassVar[str] = "PACKET-OF"
    context: Digest
    header: Annotated[Header, Nested(Header)]
    leaves: Annotated[tuple[bytes, ...], Listing(Fixed(32))]
    recipient: Site
    packet: Annotated[Packet, Nested(Packet)]


def accused(params: SumParams, evidence: Evidence) -> str | None:
    """The name of the site, "the server", or None for a key that is neither's."""
    if evidence.party == params.server:
        return "the server"
    return next((member.name for member in params.members if member.identity == evidence.party), None)


def proves(params: SumParams, evidence: Evidence) -> bool:
    """Whether the evidence shows by itself that its party broke the protocol of this session."""
    check = _CHECKS.get(evidence.kind)
    try:
        return check is not None and check(params, evidence.party, evidence.first, evidence.second)
    except ProtocolError:
        return False


def evidence_of(party: bytes, kind: Kind, first: Message | bytes, second: Message | bytes = b"") -> Evidence:
    """Two statements side by side, as messages or as bytes; `proves` says whether they contradict each other."""
    one, other = (part if isinstance(part, bytes) else encode(part) for part in (first, second))
    return Evidence(party=party, kind=str(kind), first=one, second=other)


def named_survivors(data: bytes) -> tuple[Signed, tuple[int, ...]] | None:
    """A server's message that names survivors, and the set; None for another kind of message."""
    forms: tuple[type[Consent | Unmask | Backup | Close], ...] = (Consent, Unmask, Backup, Close)
    kind = decode(Signed, data).kind
    for form in forms:
        if kind == form.TAG:
            signed, body = read_signed(form, data)
            return signed, body.survivors
    return None


def _round(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    one, other = _framed(params, party, first), _framed(params, party, second)
    return one is not None and other is not None and one[0] == other[0] and one[1] != other[1]


def _framed(params: SumParams, party: bytes, data: bytes) -> tuple[int, bytes] | None:
    """(round, context) of a START or CLOSE, whose context follows from what it says."""
    signed = decode(Signed, data)
    if signed.kind == Start.TAG:
        start = read_signed(Start, data)[1]
        frame = start.round, start_context(params, start)
    elif signed.kind == Close.TAG:
        close = read_signed(Close, data)[1]
        frame = close.round, close_context(params, close)
    else:
        return None
    valid = party == params.server and signed.context == frame[1] and is_signed_by(party, signed)
    return frame if valid else None


def _close(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    frames = [_framed(params, party, data) for data in (first, second)]
    one, other = (read_signed(Close, data)[1] for data in (first, second))
    return None not in frames and one.round == other.round and one != other


def _void(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    messages = [decode(Signed, data) for data in (first, second)]
    signed = party == params.server and all(is_signed_by(party, message) for message in messages)
    kinds = {message.kind for message in messages}
    return signed and kinds == {Void.TAG, Close.TAG} and messages[0].context == messages[1].context


def _survivors(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    one, other = named_survivors(first), named_survivors(second)
    if one is None or other is None or party != params.server:
        return False
    signed = is_signed_by(party, one[0]) and is_signed_by(party, other[0])
    return signed and one[0].context == other[0].context and one[1] != other[1]


def _upload(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    one, other = decode(HeaderOf, first), decode(HeaderOf, second)
    signed = all(is_header_of(party, part.context, part.header) for part in (one, other))
    differ = (one.header.vector, one.header.parts) != (other.header.vector, other.header.parts)
    return _is_member(params, party) and signed and one.context == other.context and differ


def _agreement(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    one, other = decode(AgreementOf, first), decode(AgreementOf, second)
    context = context_hash(one.round)
    signed = all(is_agreement_of(party, context, part.survivors, part.signature) for part in (one, other))
    apart = len({one.round.participants, one.survivors, other.survivors}) == 3
    return _is_member(params, party) and signed and one.round == other.round and apart


def _offer(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    (head, one), (tail, other) = read_signed(Offer, first), read_signed(Offer, second)
    signed = all(part.context == params.hash and is_signed_by(party, part) for part in (head, tail))
    return _is_member(params, party) and signed and one.epoch == other.epoch and one != other


def _share(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    spoken = decode(HeadOf, first)
    head = decode(AnswerHead, spoken.head)
    marked = [(mark, said) for mark, said in zip(head.marks, head.digests, strict=False) if mark != Mark.PAIR]
    wrong = any(mark == Mark.SHARE and said != shown for (mark, said), shown in zip(marked, head.shown, strict=False))
    whole = len(head.marks) == len(head.digests) and len(marked) == len(head.shown) and second == b""
    return _is_place(params, party, head.site) and is_head_of(party, head, spoken.signature) and whole and wrong


def _backup(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    spoken = decode(HeadOf, first)
    head = decode(BackupHead, spoken.head)
    parts = zip(head.marks, head.digests, head.shown, strict=False)
    wrong = any(mark == Mark.SHARE and said != shown for mark, said, shown in parts)
    whole = len(head.marks) == len(head.digests) == len(head.shown) == len(head.missing) and second == b""
    return _is_place(params, party, head.site) and is_head_of(party, head, spoken.signature) and whole and wrong


def _dealing(params: SumParams, party: bytes, first: bytes, second: bytes) -> bool:
    dealt = decode(PacketOf, first)
    signed = is_header_of(party, dealt.context, dealt.header) and parts_hash(dealt.leaves) == dealt.header.parts
    if not _is_member(params, party) or not signed or packet_hash(dealt.packet) not in dealt.leaves[1:] or len(second) != 32:
        return False
    dealer = next(place for place, member in enumerate(params.members) if member.identity == party)
    route = Route(context=dealt.context, sender=dealer, recipient=dealt.recipient)
    share = sealing.unseal(Secret(second), route, dealt.packet.share.blob)
    return share is not None and not sealing.is_share(route, share, dealt.packet.share.commitment)


def _is_member(params: SumParams, party: bytes) -> bool:
    return any(member.identity == party for member in params.members)


def _is_place(params: SumParams, party: bytes, place: int) -> bool:
    return place < len(params.members) and params.members[place].identity == party


_CHECKS: dict[str, Callable[[SumParams, bytes, bytes, bytes], bool]] = {
    Kind.ROUND: _round,
    Kind.CLOSE: _close,
    Kind.VOID: _void,
    Kind.SURVIVORS: _survivors,
    Kind.UPLOAD: _upload,
    Kind.AGREEMENT: _agreement,
    Kind.OFFER: _offer,
    Kind.SHARE: _share,
    Kind.BACKUP: _backup,
    Kind.DEALING: _dealing,
}
