"""Step 8 of 12, the shares: b_i and all e_ij -> for each participant a sealed packet, with commitments to everything.

Shares of b_i let t survivors open the self mask of a sum; shares of the e_ij (BACKUP, secure-sum notes 2.3 step 7) let t
of those that answered speak for site i if it is lost a second time, after its upload. Threshold and points are the
same for both, so that backup shares open for the same sets of sites and for no smaller ones.
Comes in: b_i, {j: e_ij} and the vault at its round. Goes out: PARTS. Draws from `random` in this order: coefficients of
b_i; those of e_ij for each j in order; then nonce of the share and of the backup for each participant in order.
Bonawitz et al., CCS 2017, section 4; Ma et al., "Flamingo", S&P 2023, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.journal import Started
from ssl_core.secure_sum.messages import Packet, Parts, Sealed
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.sealing import BACKUP, SHARE, Route
from ssl_core.secure_sum.statements import survivors_statement
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity

NO_BACKUP = Sealed(blob=b"", commitment=bytes(32))

Random = Callable[[int], bytes]
Sites = tuple[int, ...]


def others(participants: Sites, site: int) -> Sites:
    """The participants without one, in order: whose pair elements its backup shares hold."""
    return tuple(peer for peer in participants if peer != site)


def deals_backup(params: SumParams, participants: int) -> bool:
    """Whether uploads of a round carry backups: t of the other participants must be left to speak for a dealer.

    Where they are not, all participants are needed for a sum, so that none could be spoken for anyway.
    """
    return params.backup and participants > params.thresholds(participants).shares


def deal(
    params: SumParams,
    site: int,
    identity: Identity,
    vault: Vault,
    started: Started,
    own: int,
    pairs: Mapping[int, int],
    random: Random,
) -> Parts:
    """PARTS of `site`: agreement, commitments and one packet for each participant."""
    context, participants = started.context, started.participants
    threshold = params.thresholds(len(participants)).shares
    points = [shamir.point(peer) for peer in participants]
    shares = [shamir.to_bytes(share) for share in shamir.split(own, threshold, points, random)]
    backed = deals_backup(params, len(participants))
    backups = _backup_shares(site, participants, threshold, pairs, random) if backed else {}
    packets = []
    for peer, share in zip(participants, shares, strict=True):
        route = Route(context=context, sender=site, recipient=peer, kind=SHARE)
        blob = sealing.seal(vault.chain(peer), route, share, random)
        sealed = Sealed(blob=blob, commitment=sealing.commit_share(route, share))
        packets.append(Packet(share=sealed, backup=_seal_backup(vault, context, site, peer, participants, backups, random)))
    return Parts(
        agreement=identity.sign(survivors_statement(context, participants)),
        commitments=tuple(
            sealing.commit_self(context, shamir.to_bytes(own))
            if peer == site
            else sealing.commit_pair(context, shamir.to_bytes(pairs[peer]))
            for peer in participants
        ),
        packets=tuple(packets),
    )


def _backup_shares(
    site: int, participants: Sites, threshold: int, pairs: Mapping[int, int], random: Random
) -> dict[int, list[bytes]]:
    """For each holder its shares of e_ij, j being the others of the dealer `site` in order."""
    holders = others(participants, site)
    held: dict[int, list[bytes]] = {holder: [] for holder in holders}
    points = [shamir.point(holder) for holder in holders]
    for peer in holders:
        for holder, share in zip(holders, shamir.split(pairs[peer], threshold, points, random), strict=True):
            held[holder].append(shamir.to_bytes(share))
    return held


def _seal_backup(
    vault: Vault,
    context: bytes,
    site: int,
    holder: int,
    participants: Sites,
    backups: Mapping[int, list[bytes]],
    random: Random,
) -> Sealed:
    if holder not in backups:
        return NO_BACKUP
    route = Route(context=context, sender=site, recipient=holder, kind=BACKUP)
    leaves = sealing.backup_leaves(route, others(participants, site), backups[holder])
    blob = sealing.seal(vault.chain(holder), route, b"".join(backups[holder]), random)
    return Sealed(blob=blob, commitment=sealing.commit_backup(route, leaves))
