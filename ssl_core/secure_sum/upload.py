"""Step 8 of 12, the arithmetic: update float32 [P] -> masked uint32 [P], sealed shares of b_i, commitments, signature.

y_i = w_i q_i + PRG(b_i) + sum over j < i of PRG(e_ij) - sum over j > i of PRG(e_ij) mod 2^32: the pair masks cancel in
the sum over all participants, the self masks are removed with t shares each (Bonawitz et al., CCS 2017, section 4).
Draws from `random` in this order: rounding key, b_i, Shamir's coefficients, nonces.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum import keys, masks, sealing, shamir
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import Header, Parts, Upload
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import encode_update
from ssl_core.secure_sum.statements import header_statement, parts_hash, survivors_statement, vector_hash
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity, Secret
from ssl_core.trust.random import AesCtrStream


def make_upload(
    params: SumParams,
    site: int,
    identity: Identity,
    vault: Vault,
    started: Started,
    update: npt.NDArray[np.float32],
    random: Callable[[int], bytes],
) -> tuple[bytes, npt.NDArray[np.uint32]]:
    """(UPLOAD, masked vector uint32 [P]) of one round; to be called once for it, with the vault at that round."""
    vector = encode_update(
        update,
        update_range=params.update_range,
        levels=params.levels,
        weight=params.members[site].weight,
        stream=AesCtrStream(Secret(random(32))),
    )
    context, participants = started.context, started.participants
    own = shamir.element(random)
    pairs = {peer: keys.pair_element(vault.chain(peer), context) for peer in participants if peer != site}
    masks.apply(
        vector,
        add=[masks.self_mask(own), *(masks.pair_mask(pairs[peer]) for peer in pairs if peer < site)],
        subtract=[masks.pair_mask(pairs[peer]) for peer in pairs if peer > site],
    )
    threshold = params.thresholds(len(participants)).shares
    shares = shamir.split(own, threshold, [shamir.point(peer) for peer in participants], random)
    parts = Parts(
        agreement=identity.sign(survivors_statement(context, participants)),
        shares=tuple(
            sealing.seal(vault.chain(peer), context, sender=site, recipient=peer, share=share, random=random)
            for peer, share in zip(participants, shares, strict=True)
        ),
        commitments=tuple(
            sealing.commit_self(context, own) if peer == site else sealing.commit_pair(context, pairs[peer])
            for peer in participants
        ),
    )
    data = encode(parts)
    hashes = vector_hash(vector), parts_hash(data)
    signature = identity.sign(header_statement(context, *hashes))
    header = Header(vector=hashes[0], parts=hashes[1], signature=signature)
    return encode(Upload(context=context, header=header, parts=data)), vector
