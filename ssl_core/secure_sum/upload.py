"""Step 8 of 12, the arithmetic: update float32 [P] -> masked words of b bits [P] and the signed head of its upload.

y_i = w_i q_i + PRG(b_i) + sum over j < i of PRG(e_ij) - sum over j > i of PRG(e_ij) mod 2^b: the pair masks cancel in
the sum over all participants, the self masks are removed with t shares each (Bonawitz et al., CCS 2017, section 4).
The shares are dealt in dealing.py. Draws from `random` in this order: rounding key, b_i, then those of dealing.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum import keys, masks, shamir
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.dealing import deal
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import Header, Upload
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import acknowledgement, header_statement, parts_hash, parts_leaves
from ssl_core.secure_sum.vault import Vault
from ssl_core.secure_sum.vector import mask_update
from ssl_core.trust.identity import Identity, Secret


def make_upload(
    params: SumParams,
    site: int,
    identity: Identity,
    vault: Vault,
    started: Started,
    update: npt.NDArray[np.float32],
    random: Callable[[int], bytes],
    threads: int | None = None,
) -> tuple[bytes, Words]:
    """(UPLOAD, masked vector [P]) of one round; to be called once for it, with the vault at that round.

    `threads` is None for all processors; it changes no byte.
    """
    rounding = Secret(random(32))
    context, participants = started.context, started.participants
    own = shamir.element(random)
    pairs = {peer: keys.pair_element(vault.chain(peer), context) for peer in participants if peer != site}
    vector, vector_digest = mask_update(
        params,
        context,
        site,
        update,
        rounding,
        add=[masks.self_mask(own), *(masks.pair_mask(pairs[peer]) for peer in pairs if peer < site)],
        subtract=[masks.pair_mask(pairs[peer]) for peer in pairs if peer > site],
        threads=threads,
    )
    parts = deal(params, site, identity, vault, started, own, pairs, random)
    data = encode(parts)
    hashes = vector_digest, parts_hash(parts_leaves(parts))
    signature = identity.sign(header_statement(context, *hashes))
    header = Header(vector=hashes[0], parts=hashes[1], signature=signature)
    ack = acknowledgement(identity, started.request)
    return encode(Upload(context=context, header=header, parts=data, ack=ack)), vector
