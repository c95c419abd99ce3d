"""From the answers' shares to the secrets that take the masks off: each b_i, and each e_ij with a lost j; all checked.

Comes in: what add_answer and add_backup found to fit, share by share. Goes out: {i: b_i} and {(i, j): e_ij}, each equal
to its commitment in i's upload (ruling 10). As every share was checked against its dealer's commitment before, shares
that give another secret convict the dealer: `RoundVoid` names it, whoever returned them. The evidence for that would be
the opened shares themselves, so none is made.
"""

from __future__ import annotations

from collections.abc import Mapping

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.messages import Parts
from ssl_core.secure_sum.params import SumParams
from ssl_core.trust.identity import Secret

Sites = tuple[int, ...]
Held = Mapping[int, Mapping[int, Secret]]


def recover_own(
    params: SumParams, context: bytes, participants: Sites, survivors: Sites, parts: Mapping[int, Parts], shares: Held
) -> dict[int, int]:
    """{i: b_i} of the survivors from {dealer: {holder: share}}, at least t each; `RoundVoid` names a bad dealer."""
    threshold = params.thresholds(len(participants)).shares
    own = {}
    for site in survivors:
        own[site] = _combine(shares[site], threshold)
        commitment = parts[site].commitments[participants.index(site)]
        if sealing.commit_self(context, shamir.to_bytes(own[site])) != commitment:
            name = params.members[site].name
            raise RoundVoid("self mask cannot be recovered: its dealer's shares do not fit it", field="site", value=name)
    return own


def recover_pairs(
    params: SumParams, context: bytes, participants: Sites, missing: int, parts: Mapping[int, Parts], shares: Held
) -> dict[int, Secret] | None:
    """{j: e_kj} of one missing survivor k from {j: {holder: share}}.

    None while some j has fewer than t shares; `ProtocolError` names k when they do not fit its commitment: then only its
    own answer helps.
    """
    threshold = params.thresholds(len(participants)).shares
    if any(len(held) < threshold for held in shares.values()):
        return None
    found = {}
    for lost, held in shares.items():
        element = shamir.to_bytes(_combine(held, threshold))
        if sealing.commit_pair(context, element) != parts[missing].commitments[participants.index(lost)]:
            name = params.members[missing].name
            raise ProtocolError(
                "backup does not give the pair element: its dealer's shares do not fit it", field="site", value=name
            )
        found[lost] = Secret(element)
    return found


def _combine(held: Mapping[int, Secret], threshold: int) -> int:
    holders = sorted(held)[:threshold]
    return shamir.combine({shamir.point(holder): shamir.from_bytes(held[holder].reveal()) for holder in holders})
