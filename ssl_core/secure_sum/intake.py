"""What the server checks of a site's message before it counts; each refusal names the site, and nothing is kept of it.

Comes in: bytes of UPLOAD, AGREEMENT or ACK and the round (ANSWER stands in answer.py, BACKUP-ANSWER in backup.py). Goes
out: the checked parts, or `ProtocolError`, as `ProvenFault` where the site contradicts itself; two uploads that hold
different keys for their pair give `RoundVoid`, as their masks would not cancel (ruling 10).
"""

from __future__ import annotations

from collections.abc import Mapping

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.dealing import NO_BACKUP, deals_backup
from ssl_core.secure_sum.evidence import HeaderOf, Kind, ProvenFault, evidence_of
from ssl_core.secure_sum.messages import (
    ELEMENT_BYTES,
    SEAL_BYTES,
    Agreement,
    Close,
    Header,
    Packet,
    Parts,
    Upload,
)
from ssl_core.secure_sum.params import Member, SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import (
    close_context,
    is_ack_of,
    is_agreement_of,
    is_header_of,
    parts_hash,
    parts_leaves,
    read_signed,
    vector_hash,
)

Sites = tuple[int, ...]


def check_upload(
    params: SumParams,
    context: bytes,
    participants: Sites,
    member: Member,
    upload: Upload,
    vector: Words,
) -> tuple[Header, Parts]:
    """Header and parts of an upload whose vector, parts and agreement its site signed for this round."""
    name, header = member.name, upload.header
    need(upload.context == context, "upload is of another round", name)
    need(is_header_of(member.identity, context, header), "upload is not signed by its site", name)
    parts = decode(Parts, upload.parts)
    need(parts_hash(parts_leaves(parts)) == header.parts, "upload's parts are not those signed", name)
    need(vector.dtype == params.word, "masked vector is not of the ring's words", name)
    need(vector.shape == (params.dimension,), "masked vector has another length", name)
    need(vector_hash(vector) == header.vector, "masked vector is not the one signed", name)
    need(len(parts.packets) == len(participants), "upload has not one packet a participant", name)
    need(len(parts.commitments) == len(participants), "upload has not one commitment a participant", name)
    dealer = participants.index(params.index(name))
    fits = all(_packet_fits(params, packet, len(participants), at == dealer) for at, packet in enumerate(parts.packets))
    need(fits, "upload's seals have another length", name)
    agreed = is_agreement_of(member.identity, context, participants, parts.agreement)
    need(agreed, "upload carries no agreement to all participants", name)
    return header, parts


def check_again(context: bytes, member: Member, kept: Header, header: Header) -> None:
    """An upload that comes again is the same; two that the site signed in one round are evidence against it."""
    if (header.vector, header.parts) == (kept.vector, kept.parts):
        return
    need(is_header_of(member.identity, context, header), "upload is not signed by its site", member.name)
    first, second = (HeaderOf(context=context, header=one) for one in (kept, header))
    evidence = evidence_of(member.identity, Kind.UPLOAD, first, second)
    raise ProvenFault(ProtocolError("site uploaded twice, differently", field="site", value=member.name), evidence)


def check_pairs(params: SumParams, participants: Sites, survivors: Sites, parts: Mapping[int, Parts]) -> None:
    """`RoundVoid` names two survivors whose commitments to their pair element differ."""
    place = {site: at for at, site in enumerate(participants)}
    for low in survivors:
        for high in survivors:
            if low < high and parts[low].commitments[place[high]] != parts[high].commitments[place[low]]:
                pair = ", ".join(params.names((low, high)))
                raise RoundVoid("two sites hold different keys for their pair", field="sites", value=pair)


def check_agreement(context: bytes, survivors: Sites, member: Member, agreement: Agreement) -> None:
    """The member agreed to these survivors of this round."""
    need(agreement.context == context, "agreement is of another round", member.name)
    signed = is_agreement_of(member.identity, context, survivors, agreement.signature)
    need(signed, "agreement is not to these survivors", member.name)


def check_ack(context: bytes, close: Close, member: Member, body: bytes) -> None:
    """An acknowledgement of this very CLOSE, whose round has this context."""
    need(is_ack_of(member.identity, context, close, body), "acknowledgement is not of this CLOSE by this site", member.name)


def check_upload_ack(params: SumParams, close: bytes, member: Member, ack: bytes) -> None:
    """An upload acknowledges the CLOSE that its START carried, and nothing where that carried none."""
    if not close:
        need(not ack, "upload acknowledges a CLOSE that there was not", member.name)
        return
    body = read_signed(Close, close)[1]
    check_ack(close_context(params, body), body, member, ack)


def _packet_fits(params: SumParams, packet: Packet, participants: int, own: bool) -> bool:
    if own or not deals_backup(params, participants):
        backup = packet.backup == NO_BACKUP
    else:
        backup = len(packet.backup.blob) == SEAL_BYTES + ELEMENT_BYTES * (participants - 1)
    return backup and len(packet.share.blob) == SEAL_BYTES + ELEMENT_BYTES


def need(held: bool, problem: str, site: str) -> None:
    """Refuse a message of `site` unless `held`."""
    if not held:
        raise ProtocolError(problem, field="site", value=site)
