"""The epoch keys of one site: offers made, key sets accepted, in the order of ruling 7.

Comes in: an epoch number, then E of all members. Goes out: this site's signed OFFER; then all CK_0 in the secret file and
the private key erased by the same write. A new private key is durable before its public half is known to anyone.
Raises `ProtocolError`; two different offers of one member for one epoch are evidence against it (`ProvenFault`).
"""

from __future__ import annotations

from collections.abc import Callable

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import keys
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import Evidence, Kind, ProvenFault, evidence_of, proves
from ssl_core.secure_sum.journal import Epoch, Journal, Offered, RoundState
from ssl_core.secure_sum.messages import KeySet, Void
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import keyset_hash
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity, Secret

EPOCH_LEAP = 16
"""By how many epochs at most an offer may lead: a site that loses its keys again and again rises by one each time, and a
liar must not use up the numbers."""


class Epochs:
    """Offers and key sets over one site's journal and secret file."""

    def __init__(
        self,
        params: SumParams,
        site: int,
        identity: Identity,
        journal: Journal,
        vault: Vault,
        random: Callable[[int], bytes],
    ) -> None:
        self._params = params
        self._site = site
        self._identity = identity
        self._journal = journal
        self._vault = vault
        self._random = random

    def offer(self, epoch: int) -> bytes:
        """The signed OFFER of this epoch, or of the latest one; the same bytes when asked again.

        No second key is ever offered for one epoch: a site whose secret file was lost answers with the first epoch that it
        never offered a key for.
        """
        accepted = self._journal.epoch
        last = max(self._journal.offered, accepted.epoch if accepted else 0)
        if epoch > last + EPOCH_LEAP:
            raise ProtocolError("epoch is too far ahead", field="epoch", value=epoch, limit=last + EPOCH_LEAP)
        if self._vault.offer_epoch < max(epoch, last):
            epoch = epoch if self._vault.offer_epoch == last else max(epoch, last + 1)
            private = keys.new_private(self._random)
            offer = keys.make_offer(self._params, self._identity, site=self._site, epoch=epoch, private=private)
            self._vault.put_offer(epoch, private, offer)
        if self._journal.offered < self._vault.offer_epoch:
            self._journal.write(0, Offered.TAG, Offered(epoch=self._vault.offer_epoch))
        return self._vault.offer

    def accept(self, keyset: bytes) -> None:
        """Check every offer, derive all CK_0, and erase the epoch's private key; an open round is void by it."""
        epoch, publics, offers = keys.open_keyset(self._params, keyset)
        name = keyset_hash(keyset)
        if epoch == self._vault.epoch and name == self._vault.keyset:
            return
        accepted = self._journal.epoch
        if accepted is not None and accepted.epoch == epoch and accepted.keyset != name:
            self._refuse_second(accepted, epoch, offers)
        private = self._vault.pending
        if private is None or epoch != self._vault.offer_epoch:
            raise ProtocolError("this site made no offer for this epoch", field="epoch", value=epoch)
        if offers[self._site] != self._vault.offer:
            raise ProtocolError("key set holds another offer under this site's name", field="epoch", value=epoch)
        chains = {
            peer: keys.first_chain(self._params, keyset, site=self._site, peer=peer, private=private, public=publics[peer])
            for peer in range(len(publics))
            if peer != self._site
        }
        chains[self._site] = Secret(self._random(32))
        self._journal.write(0, Epoch.TAG, Epoch(epoch=epoch, keyset=name, offers=keyset))
        last = self._journal.last_round
        if self._journal.entry(last).state in (RoundState.STARTED, RoundState.UPLOADED, RoundState.ANSWERED):
            self._journal.write(last, Void.TAG, b"")
        self._vault.put_chains(epoch, name, chains)

    def _refuse_second(self, accepted: Epoch, epoch: int, offers: tuple[bytes, ...]) -> None:
        error = ProtocolError("another key set was accepted for this epoch", field="epoch", value=epoch)
        found = self._two_offers(decode(KeySet, accepted.offers).offers, offers)
        for evidence in found:
            self._journal.alarm(evidence)
        if found:
            raise ProvenFault(error, found[0])
        raise error

    def _two_offers(self, kept: tuple[bytes, ...], offers: tuple[bytes, ...]) -> list[Evidence]:
        pairs = [
            evidence_of(member.identity, Kind.OFFER, one, other)
            for member, one, other in zip(self._params.members, kept, offers, strict=True)
        ]
        return [evidence for evidence in pairs if proves(self._params, evidence)]
