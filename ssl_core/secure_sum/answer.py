"""What a survivor releases so that the server can take the masks off one sum; and how the server takes it.

ANSWER has a mark and 32 bytes for each participant j, in order: the share of b_j when j survives, the pair element e_ij
when it does not; never both for one j, so that the mask of a survivor's update opens only inside the sum, and a lost
update never (Bonawitz et al., CCS 2017, section 6).
A share that does not open, or does not fit the commitment that UNMASK shows beside it, is answered by a complaint: the
seal key of that one message in the share's place. This releases nothing more, even if the server lied about blob or
commitment to get it: the key opens what j sealed to this site in this round and nothing else (sealing.py), which is the
share that the site gives away for this U anyway. So a dealer of bad shares silences nobody, and one site that answers
once says the same to a server that cheats as to one that does not.
The signature covers hashes of what is released and the commitments that were shown (ANSWER-HEAD): a site that returns a
wrong share signs its own conviction, and one that was shown wrong commitments cannot be blamed for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import keys, sealing, shamir
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import Evidence, HeadOf, Kind, PacketOf, ProvenFault, evidence_of
from ssl_core.secure_sum.intake import need
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import Answer, AnswerHead, Header, Mark, Packet, Parts, Sealed, Unmask
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.sealing import Route
from ssl_core.secure_sum.statements import head_statement, is_head_of
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity, Secret

Sites = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Released:
    """What one checked ANSWER gave: by dealer its share of b, by lost site its pair element, by dealer a seal key."""

    shares: Mapping[int, Secret]
    pairs: Mapping[int, Secret]
    complaints: Mapping[int, Secret]


def make_answer(site: int, identity: Identity, vault: Vault, started: Started, unmask: Unmask) -> bytes:
    """The ANSWER of `site` to a checked UNMASK, of one length whoever survives; a function of it and the chains alone."""
    sealed = dict(zip(unmask.survivors, unmask.shares, strict=True))
    values = []
    for peer in started.participants:
        chain = vault.chain(peer)
        if peer in sealed:
            mark, value = _open(chain, Route(context=started.context, sender=peer, recipient=site), sealed[peer])
        else:
            mark, value = Mark.PAIR, shamir.to_bytes(keys.pair_element(chain, started.context))
        values.append(Secret(bytes([mark]) + value))
    shown = tuple(share.commitment for share in unmask.shares)
    head = answer_head(started.context, site, started.participants, shown, values)
    answer = Answer(context=started.context, values=tuple(values), signature=identity.sign(head_statement(head)))
    return encode(answer)


def check_answer(
    params: SumParams, context: bytes, participants: Sites, survivors: Sites, site: int, parts: Mapping[int, Parts], body: bytes
) -> Released:
    """An answer for these survivors whose shares fit what their dealers committed to, and its elements its own upload's."""
    member = params.members[site]
    answer = decode(Answer, body)
    need(answer.context == context, "answer is of another round", member.name)
    need(len(answer.values) == len(participants), "answer has not one value a participant", member.name)
    kinds: dict[Mark, dict[int, Secret]] = {mark: {} for mark in Mark}
    for peer, value in zip(participants, answer.values, strict=True):
        mark, content = value.reveal()[0], Secret(value.reveal()[1:])
        allowed = (Mark.SHARE, Mark.COMPLAINT) if peer in survivors else (Mark.PAIR,)
        need(mark in allowed, "answer is for other survivors", member.name)
        kinds[Mark(mark)][peer] = content
        fits = mark == Mark.COMPLAINT or shamir.is_element(content.reveal())
        need(fits, "answer holds a value outside the field", member.name)
    at = participants.index(site)
    shown = tuple(parts[dealer].packets[at].share.commitment for dealer in survivors)
    head = answer_head(context, site, participants, shown, answer.values)
    need(is_head_of(member.identity, head, answer.signature), "answer is not signed by its site", member.name)
    for dealer, share in kinds[Mark.SHARE].items():
        route = Route(context=context, sender=dealer, recipient=site)
        if not sealing.is_share(route, share.reveal(), parts[dealer].packets[at].share.commitment):
            name = params.members[dealer].name
            error = ProtocolError(
                "returned share is not the one committed to", field="site", value=member.name, limit=f"share of {name}"
            )
            spoken = HeadOf(head=encode(head), signature=answer.signature)
            raise ProvenFault(error, evidence_of(member.identity, Kind.SHARE, spoken))
    for lost, element in kinds[Mark.PAIR].items():
        own = parts[site].commitments[participants.index(lost)]
        need(sealing.commit_pair(context, element.reveal()) == own, "pair element is not the one committed to", member.name)
    return Released(shares=kinds[Mark.SHARE], pairs=kinds[Mark.PAIR], complaints=kinds[Mark.COMPLAINT])


def open_complaint(route: Route, sealed: Sealed, key: Secret) -> tuple[bool, Secret | None]:
    """(whether the seal opens at all, the share if it is the one committed to) with the key that a complaint gave."""
    opened = sealing.unseal(key, route, sealed.blob)
    if opened is None:
        return False, None
    return True, Secret(opened) if sealing.is_share(route, opened, sealed.commitment) else None


def accuse_dealer(
    params: SumParams, route: Route, header: Header, leaves: tuple[bytes, ...], packet: Packet, key: Secret
) -> Evidence:
    """That a dealer's sealed share does not fit its own commitment; `packet` whole, and all `leaves`, as he signed them."""
    dealt = PacketOf(
        context=route.context,
        header=header,
        leaves=leaves,
        recipient=route.recipient,
        packet=packet,
    )
    return evidence_of(params.members[route.sender].identity, Kind.DEALING, dealt, key.reveal())


def answer_head(
    context: bytes, site: int, participants: Sites, shown: tuple[bytes, ...], values: Sequence[Secret]
) -> AnswerHead:
    """What the signature of an ANSWER covers; marks are checked before."""
    marks = bytes(value.reveal()[0] for value in values)
    digests = tuple(
        _said(Route(context=context, sender=peer, recipient=site), Mark(mark), value.reveal()[1:])
        for peer, mark, value in zip(participants, marks, values, strict=True)
    )
    return AnswerHead(context=context, site=site, shown=shown, marks=marks, digests=digests)


def _open(chain: Secret, route: Route, sealed: Sealed) -> tuple[Mark, bytes]:
    key = sealing.seal_key(chain, route)
    share = sealing.unseal(key, route, sealed.blob)
    if share is not None and sealing.is_share(route, share, sealed.commitment):
        return Mark.SHARE, share
    return Mark.COMPLAINT, key.reveal()


def _said(route: Route, mark: Mark, content: bytes) -> bytes:
    match mark:
        case Mark.SHARE:
            return sealing.commit_share(route, content)
        case Mark.PAIR:
            return sealing.commit_pair(route.context, content)
        case Mark.COMPLAINT:
            return sealing.commit_complaint(route, content)
