"""What the server checks of a site's message before it counts; each refusal names the site, and nothing is kept of it.

Comes in: bytes of UPLOAD, AGREEMENT, ANSWER or ACK and the round. Goes out: the checked parts, or `ProtocolError`; two
uploads that hold different keys for their pair give `RoundVoid`, as their masks would not cancel (ruling 10).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.messages import Ack, Agreement, Answer, Close, Header, Parts, Upload
from ssl_core.secure_sum.params import Member, SumParams
from ssl_core.secure_sum.statements import (
    is_agreement_of,
    is_header_of,
    is_signed_by,
    parts_hash,
    read_signed,
    transcript,
    vector_hash,
)

Sites = tuple[int, ...]


def check_upload(
    params: SumParams,
    context: bytes,
    participants: Sites,
    member: Member,
    upload: Upload,
    vector: npt.NDArray[np.uint32],
) -> tuple[Header, Parts]:
    """Header and parts of an upload whose vector, parts and agreement its site signed for this round."""
    name, header = member.name, upload.header
    need(upload.context == context, "upload is of another round", name)
    need(is_header_of(member.identity, context, header), "upload is not signed by its site", name)
    need(parts_hash(upload.parts) == header.parts, "upload's parts are not those signed", name)
    need(vector.dtype == np.uint32, "masked vector is not of uint32", name)
    need(vector.shape == (params.dimension,), "masked vector has another length", name)
    need(vector_hash(vector) == header.vector, "masked vector is not the one signed", name)
    parts = decode(Parts, upload.parts)
    need(len(parts.shares) == len(participants), "upload has not one share a participant", name)
    need(len(parts.commitments) == len(participants), "upload has not one commitment a participant", name)
    agreed = is_agreement_of(member.identity, context, participants, parts.agreement)
    need(agreed, "upload carries no agreement to all participants", name)
    return header, parts


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


def check_answer(context: bytes, participants: Sites, survivors: Sites, member: Member, parts: Parts, body: bytes) -> Answer:
    """An answer that has one field element a participant, its pair elements being those the upload committed to."""
    signed, answer = read_signed(Answer, body)
    need(is_signed_by(member.identity, signed), "answer is not signed by its site", member.name)
    need(signed.context == context, "answer is of another round", member.name)
    need(len(answer.values) == len(participants), "answer has not one value a participant", member.name)
    for peer, value, commitment in zip(participants, answer.values, parts.commitments, strict=True):
        element = int.from_bytes(value.reveal(), "big")
        need(element < shamir.PRIME, "answer holds a value outside the field", member.name)
        fits = peer in survivors or sealing.commit_pair(context, element) == commitment
        need(fits, "pair element is not the one committed to", member.name)
    return answer


def check_ack(context: bytes, close: Close, member: Member, body: bytes) -> None:
    """An acknowledgement of this very CLOSE."""
    signed, ack = read_signed(Ack, body)
    need(is_signed_by(member.identity, signed), "acknowledgement is not signed by its site", member.name)
    expected = Ack(round=close.round, transcript=transcript(close), model=close.model)
    need(signed.context == context and ack == expected, "acknowledgement is of another CLOSE", member.name)


def need(held: bool, problem: str, site: str) -> None:
    """Refuse a message of `site` unless `held`."""
    if not held:
        raise ProtocolError(problem, field="site", value=site)
