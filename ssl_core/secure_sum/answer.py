"""What a survivor releases so that the server can take the masks off one sum, and nothing else.

Comes in: a checked UNMASK and the vault at its round. Goes out: ANSWER with 32 bytes for each participant j, in order:
the share of b_j when j survives, the pair element e_ij when it does not; never both for one j, so that the mask of a
survivor's update opens only inside the sum, and a lost update never (Bonawitz et al., CCS 2017, section 6).
"""

from __future__ import annotations

from ssl_core.secure_sum import keys, sealing, shamir
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import Answer, Unmask
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret


def make_answer(params: SumParams, site: int, vault: Vault, started: Started, unmask: Unmask) -> Answer:
    """The ANSWER of `site`; `ProtocolError` names the sender whose share does not open."""
    sealed = dict(zip(unmask.survivors, unmask.shares, strict=True))
    values = []
    for peer in started.participants:
        chain = vault.chain(peer)
        if peer in sealed:
            value = sealing.unseal(
                chain,
                started.context,
                sender=peer,
                recipient=site,
                sealed=sealed[peer],
                name=params.members[peer].name,
            )
        else:
            value = keys.pair_element(chain, started.context)
        values.append(Secret(shamir.to_bytes(value)))
    return Answer(round=unmask.round, values=tuple(values))
