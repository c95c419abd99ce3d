"""Step 8 of 12: update float32 [P] -> masked uint32 [P] with sealed shares, signed; and all that a site answers later.

The masks are in upload.py, the releases in answer.py, the refusals in checks.py; here stands the order of things. A
site uploads once a round, answers for one set of survivors a round, and what it promises is in its store before it is
said; asked again, it returns the same bytes.
x and b_i exist only in the process that ran `begin`: after a restart in between, the site declines (ruling 6).
Raises `ProtocolError` for a message to refuse, `RoundVoid` for a round that is over, `StateError` for its own state.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid, StateError
from ssl_core.secure_sum import checks, keys
from ssl_core.secure_sum.answer import make_answer
from ssl_core.secure_sum.codec import decode, digest, encode
from ssl_core.secure_sum.journal import Agreed, Answered, Entry, Epoch, Journal, RoundState, SiteStore, Started
from ssl_core.secure_sum.messages import Ack, Agreement, Close, Consent, Header, Start, Unmask, Upload, Void
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.roles import MaskedUpload, RoundTicket
from ssl_core.secure_sum.statements import (
    keyset_hash,
    read_signed,
    sign,
    start_context,
    survivors_statement,
    transcript,
    vector_hash,
)
from ssl_core.secure_sum.upload import make_upload
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity, Secret

Random = Callable[[int], bytes]


class SecureSumSite:
    """One site in one session. Its state is in `store`; a new object over the same store goes on where it stood."""

    def __init__(self, params: SumParams, name: str, identity: Identity, store: SiteStore, random: Random = os.urandom) -> None:
        self._params = params
        self._site = params.index(name)
        if params.members[self._site].identity != identity.public:
            raise ConfigError("identity is not the one that the roster names", field="site", value=name)
        self._identity = identity
        self._store = store
        self._random = random
        self._journal = Journal(store, params.max_rounds)
        self._vault = Vault(store, params.hash)
        self._begun: int | None = None
        self._settle()

    def __repr__(self) -> str:
        return f"SecureSumSite({self._params.members[self._site].name})"

    def offer_keys(self, epoch: int = 1) -> bytes:
        """The signed OFFER of this epoch; a new private key is durable before its public half is known."""
        if epoch == self._vault.offer_epoch:
            return self._vault.offer
        accepted = self._journal.epoch
        least = max(self._vault.offer_epoch, accepted.epoch if accepted else 0)
        if epoch <= least:
            raise ProtocolError("epochs only rise", field="epoch", value=epoch, limit=least)
        private = keys.new_private(self._random)
        offer = keys.make_offer(self._params, self._identity, site=self._site, epoch=epoch, private=private)
        self._vault.put_offer(epoch, private, offer)
        return offer

    def accept_keys(self, keyset: bytes) -> None:
        """Check every offer, derive all CK_0, and erase the epoch's private key; an open round is void by it."""
        epoch, publics, offers = keys.open_keyset(self._params, keyset)
        name = keyset_hash(keyset)
        if epoch == self._vault.epoch and name == self._vault.keyset:
            return
        accepted = self._journal.epoch
        if accepted is not None and accepted.epoch == epoch and accepted.keyset != name:
            raise ProtocolError("another key set was accepted for this epoch", field="epoch", value=epoch)
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
        self._journal.write(0, Epoch.TAG, Epoch(epoch=epoch, keyset=name))
        if self.state(self._journal.last_round) in (RoundState.STARTED, RoundState.UPLOADED, RoundState.ANSWERED):
            self._journal.write(self._journal.last_round, Void.TAG, b"")
        self._vault.put_chains(epoch, name, chains)
        self._settle()

    def state(self, round: int) -> RoundState | None:
        """Where a round stands here; None when it is unknown."""
        return self._journal.entry(round).state

    def begin(self, start: bytes, model_hash: bytes) -> RoundTicket:
        """Accept START: its CLOSE first, then STARTED, then everything older is forgotten."""
        signed, body = read_signed(Start, start)
        own = self._journal.last_close
        close = read_signed(Close, body.close)[1] if body.close else None
        checks.server_signed(self._params, signed)
        checks.round_within(self._params, body.round)
        checks.keys_are_ours(body.keyset, self._vault.keyset)
        checks.participants_sorted(body.participants)
        checks.participants_known(self._params, body.participants)
        checks.self_invited(self._site, body.participants)
        checks.enough_for_roster(self._params, body.participants)
        checks.enough_participants(self._params, body.participants)
        checks.round_is_new(body.round, self._journal.last_round)
        checks.previous_not_forgotten(close, own)
        checks.previous_follows(body, close)
        checks.close_before(body, close)
        checks.model_received(body, model_hash)
        checks.model_follows(body, close)
        context = start_context(self._params, body)
        checks.context_is(signed, context)
        if body.close:
            self._take_close(body.close)
        started = Started(context=context, participants=body.participants, model=body.model)
        self._journal.write(body.round, Started.TAG, started)
        self._settle()
        self._begun = body.round
        return RoundTicket(
            round=body.round,
            participants=self._params.names(body.participants),
            context=context,
            weight=self._params.members[self._site].weight,
            first=close is None,
        )

    def upload(self, round: int, update: npt.NDArray[np.float32]) -> MaskedUpload:
        """Quantise, mask, share b_i, sign; the exact bytes are durable before they are returned."""
        kept = self.resend(round)
        if kept is not None:
            return kept
        entry = self._journal.entry(round)
        if self._begun != round or entry.started is None:
            raise RoundVoid("round was not begun in this process: this site declines it", field="round", value=round)
        if update.shape != (self._params.dimension,):
            raise ProtocolError("update has another length", field="update", value=update.shape, limit=self._params.dimension)
        body, vector = make_upload(self._params, self._site, self._identity, self._vault, entry.started, update, self._random)
        self._store.write_vector(round, vector)
        self._journal.write(round, RoundState.UPLOADED.value, body)
        return body, vector

    def resend(self, round: int) -> MaskedUpload | None:
        """The journaled upload; None when the round was started and nothing uploaded; `RoundVoid` when it is over."""
        entry = self._journal.entry(round)
        if entry.state is None:
            raise ProtocolError("round is unknown to this site", field="round", value=round)
        if entry.state in (RoundState.VOID, RoundState.CLOSED):
            raise RoundVoid("round is over at this site", field="round", value=round)
        if entry.upload is None:
            return None
        vector = self._store.read_vector(round)
        header = _header(entry)
        if vector is None or header is None or vector_hash(vector) != header.vector:
            raise StateError("kept vector is not the one in the journal", field="round", value=round)
        return entry.upload, vector

    def consent(self, request: bytes) -> bytes:
        """Agree to one set of survivors other than all; durable before it is returned (ruling 10)."""
        signed, body = read_signed(Consent, request)
        checks.server_signed(self._params, signed)
        entry = self._journal.entry(body.round)
        checks.round_open(entry)
        started = _started(entry)
        checks.context_is(signed, started.context)
        checks.not_answered(entry, body.survivors)
        checks.survivors_sorted(body.survivors)
        checks.survivors_invited(body.survivors, started.participants)
        checks.consent_needed(body, started.participants)
        checks.self_survives(self._site, body.survivors)
        checks.enough_survivors(self._params, body.survivors, started.participants)
        checks.headers_signed(self._params, started.context, body.survivors, body.headers)
        checks.own_header(self._site, body.survivors, body.headers, _header(entry))
        checks.agreed_once(entry, body.survivors)
        if entry.agreed is None:
            self._journal.write(body.round, Agreed.TAG, Agreed(survivors=body.survivors))
        signature = self._identity.sign(survivors_statement(started.context, body.survivors))
        return encode(Agreement(context=started.context, signature=signature))

    def unmask(self, request: bytes) -> bytes:
        """Answer for one set of survivors, once and for all: shares of b_j of survivors, e_ij of the others."""
        signed, body = read_signed(Unmask, request)
        checks.server_signed(self._params, signed)
        checks.addressed_to(self._site, body)
        entry = self._journal.entry(body.round)
        checks.round_open(entry)
        started = _started(entry)
        checks.context_is(signed, started.context)
        checks.survivors_sorted(body.survivors)
        checks.survivors_invited(body.survivors, started.participants)
        checks.self_survives(self._site, body.survivors)
        checks.enough_survivors(self._params, body.survivors, started.participants)
        checks.answered_once(entry, body.survivors)
        checks.agreed_once(entry, body.survivors)
        if entry.answered is not None:
            return self._kept_answer(entry.answered)
        checks.proof_sorted(body)
        checks.proof_by_survivors(body)
        checks.proof_complete(self._params, body, started.participants)
        checks.proof_signed(self._params, started.context, body)
        checks.shares_complete(body)
        reply = sign(self._identity, started.context, make_answer(self._params, self._site, self._vault, started, body))
        self._vault.put_answer(reply)
        answered = Answered(survivors=body.survivors, reply=digest("reply", reply))
        self._journal.write(body.round, Answered.TAG, answered)
        return reply

    def close(self, close: bytes) -> bytes:
        """Take CLOSE, forget the round's secrets, and acknowledge the model that it names; again gives the same."""
        body = self._take_close(close)
        ack = Ack(round=body.round, transcript=transcript(body), model=body.model)
        return sign(self._identity, read_signed(Close, close)[0].context, ack)

    def void(self, message: bytes) -> None:
        """Take VOID: the round's secrets are forgotten, nothing is said in it any more."""
        signed, body = read_signed(Void, message)
        checks.server_signed(self._params, signed)
        entry = self._journal.entry(body.round)
        if entry.state is RoundState.VOID:
            return
        checks.round_voidable(entry)
        checks.context_is(signed, _started(entry).context)
        self._journal.write(body.round, Void.TAG, message)
        self._settle()

    def _take_close(self, data: bytes) -> Close:
        signed, body = read_signed(Close, data)
        own = self._journal.last_close
        checks.server_signed(self._params, signed)
        checks.round_within(self._params, body.round)
        checks.participants_sorted(body.participants)
        checks.participants_known(self._params, body.participants)
        checks.enough_for_roster(self._params, body.participants)
        checks.close_context_is_own(self._params, signed, body)
        if body == own:
            return body
        entry = self._journal.entry(body.round)
        checks.close_is_new(body, own, self._journal.last_round)
        checks.close_follows(body, own)
        checks.close_is_our_round(signed, entry)
        checks.survivors_sorted(body.survivors)
        checks.survivors_invited(body.survivors, body.participants)
        checks.enough_survivors(self._params, body.survivors, body.participants)
        checks.headers_signed(self._params, signed.context, body.survivors, body.headers)
        checks.own_header(self._site, body.survivors, body.headers, _header(entry))
        checks.close_matches_answer(body, entry)
        checks.close_matches_agreement(body, entry)
        self._journal.write(body.round, RoundState.CLOSED.value, data)
        self._settle()
        return body

    def _settle(self) -> None:
        """Forget what the journal says is over: at once after each step, and here again after a crash in between."""
        last = self._journal.last_round
        over = self.state(last) in (RoundState.CLOSED, RoundState.VOID)
        current = last + 1 if over else last
        if self._vault.index > current:
            raise StateError(
                "journal is older than the secret file: it was rolled back",
                field="round",
                value=last,
                limit=self._vault.index,
                remedy="stop this site and tell the authority",
            )
        self._vault.move_to(current)
        self._store.drop_vectors(current)

    def _kept_answer(self, answered: Answered) -> bytes:
        reply = self._vault.answer
        if reply is None or digest("reply", reply) != answered.reply:
            raise StateError("kept answer is not the one in the journal", field="answer")
        return reply


def _started(entry: Entry) -> Started:
    if entry.started is None:
        raise StateError("journal has an upload but no START", field="round", value=entry.round)
    return entry.started


def _header(entry: Entry) -> Header | None:
    return None if entry.upload is None else decode(Upload, entry.upload).header
