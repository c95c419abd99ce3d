"""Step 8 of 12: update float32 [P] -> masked words [P] with sealed shares, signed; and all that a site answers later.

The masks are in upload.py, the shares in dealing.py, the releases in answer.py and backup.py, the keys in epochs.py, the
refusals in checks.py; here stands the order of things. A site uploads once a round, answers for one set of survivors a
round, and what it promises is in its store before it is said; asked again, it returns the same bytes. A message that
contradicts one that it acted upon is refused with evidence, which it keeps (alarms.py).
Of one round's sum, x and b_i exist only in the process that ran `begin` and are not written: after a restart in between,
it declines (ruling 6). What is kept for resending, masked words and sealed shares of b_i, gives x to whoever also has the
chains beside it, so that the store of an open round is as secret as x; CLOSE and VOID erase the chains. What training
keeps elsewhere, such as optimizer moments (keep_state), is not of this file.
Raises `ProtocolError` for a message to refuse, `RoundVoid` for a round that is over, `StateError` for its own state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid, StateError
from ssl_core.secure_sum import backup_checks, checks
from ssl_core.secure_sum.alarms import alarmed
from ssl_core.secure_sum.answer import make_answer
from ssl_core.secure_sum.backup import make_backup_answer
from ssl_core.secure_sum.closing import take_checkpoint, take_close
from ssl_core.secure_sum.codec import decode, digest, encode
from ssl_core.secure_sum.epochs import Epochs
from ssl_core.secure_sum.evidence import Evidence
from ssl_core.secure_sum.history import History
from ssl_core.secure_sum.journal import Agreed, Answered, Entry, Journal, RoundState, SiteStore, Started
from ssl_core.secure_sum.messages import Agreement, Backup, Close, Consent, Signed, Start, Unmask, Upload, Void
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.roles import MaskedUpload, RoundTicket
from ssl_core.secure_sum.starting import check_start
from ssl_core.secure_sum.statements import (
    ack_of,
    acknowledgement,
    are_parts_of,
    read_signed,
    round_of,
    sign,
    survivors_statement,
    vector_hash,
)
from ssl_core.secure_sum.upload import make_upload
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Identity

Random = Callable[[int], bytes]


class SecureSumSite:
    """One site in one session. Its state is in `store`; a new object over the same store goes on where it stood."""

    def __init__(
        self,
        params: SumParams,
        name: str,
        identity: Identity,
        store: SiteStore,
        history: History,
        random: Random = os.urandom,
    ) -> None:
        self._params = params
        self._site = params.index(name)
        if params.members[self._site].identity != identity.public:
            raise ConfigError("identity is not the one that the roster names", field="site", value=name)
        self._identity = identity
        self._store = store
        self._history = history
        self._random = random
        self._journal = Journal(store, params.max_rounds)
        self._vault = Vault(store, params.hash)
        self._epochs = Epochs(params, self._site, identity, self._journal, self._vault, random)
        self._begun: int | None = None
        self._settle()

    def __repr__(self) -> str:
        return f"SecureSumSite({self._params.members[self._site].name})"

    def offer_keys(self, epoch: int = 1) -> bytes:
        """The signed OFFER of this epoch or the latest; a new private key is durable before its public half is known."""
        return self._epochs.offer(epoch)

    def accept_keys(self, keyset: bytes) -> None:
        """Check every offer, derive all CK_0, and erase the epoch's private key; an open round is void by it."""
        self._epochs.accept(keyset)
        self._settle()

    @property
    def alarms(self) -> tuple[Evidence, ...]:
        """Evidence against server or sites that this site found and keeps; `evidence.proves` checks each."""
        return self._journal.alarms

    @property
    def disputes(self) -> tuple[int, ...]:
        """Rounds whose signed model the published sum does not give, as this site found."""
        return self._journal.disputes

    def state(self, round: int) -> RoundState | None:
        """Where a round stands here; None when it is unknown."""
        return self._journal.entry(round).state

    def begin(self, start: bytes, total: Words | None) -> RoundTicket:
        """Accept START: its CLOSE first, with the sum [P] that this names, then STARTED; everything older is forgotten."""
        with self._alarmed(round_of(start), start):
            keyset, initial = self._vault.keyset, self._history.initial
            context, body = check_start(self._params, self._site, self._journal, keyset, initial, start)
        if body.close:
            self._take_close(body.close, total)
        self._history.need_at(body.previous)
        started = Started(context=context, participants=body.participants, model=body.model, request=start)
        self._journal.write(body.round, Started.TAG, started)
        self._settle()
        self._begun = body.round
        return RoundTicket(
            round=body.round,
            participants=self._params.names(body.participants),
            context=context,
            weight=self._params.members[self._site].weight,
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
        upload = decode(Upload, body)
        self._store.write_vector(round, vector)
        self._store.write_parts(round, upload.parts)
        self._journal.write(round, RoundState.UPLOADED.value, upload.header)
        return body, vector

    def recognise(self, start: bytes) -> None:
        """Refuse a START of a round that this site began under another one; to be asked before `resend`."""
        signed, body = read_signed(Start, start)
        entry = self._journal.entry(body.round)
        if entry.started is not None:
            with self._alarmed(body.round, start):
                checks.server_signed(self._params, signed)
                checks.context_is(signed, entry.started.context)

    def resend(self, round: int) -> MaskedUpload | None:
        """The journaled upload; None when the round was started and nothing uploaded; `RoundVoid` when it is over."""
        entry = self._journal.entry(round)
        if entry.state is None:
            raise ProtocolError("round is unknown to this site", field="round", value=round)
        if entry.state in (RoundState.VOID, RoundState.CLOSED):
            raise RoundVoid("round is over at this site", field="round", value=round)
        if entry.header is None or entry.started is None:
            return None
        vector, parts = self._store.read_vector(round), self._store.read_parts(round)
        if vector is None or vector_hash(vector) != entry.header.vector:
            raise StateError("kept vector is not the one in the journal", field="round", value=round)
        if parts is None or not are_parts_of(entry.header, parts):
            raise StateError("kept parts are not those in the journal", field="round", value=round)
        upload = Upload(
            context=entry.started.context,
            header=entry.header,
            parts=parts,
            ack=acknowledgement(self._identity, entry.started.request),
        )
        return encode(upload), vector

    def consent(self, request: bytes) -> bytes:
        """Agree to one set of survivors other than all; durable before it is returned (ruling 10)."""
        signed, body = read_signed(Consent, request)
        with self._alarmed(body.round, request):
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
            checks.own_header(self._site, body.survivors, body.headers, entry.header)
            checks.agreed_once(entry, body.survivors)
        if entry.agreed is None:
            self._journal.write(body.round, Agreed.TAG, Agreed(survivors=body.survivors, request=request))
        signature = self._identity.sign(survivors_statement(started.context, body.survivors))
        return encode(Agreement(context=started.context, signature=signature))

    def unmask(self, request: bytes) -> bytes:
        """Answer for one set of survivors, once and for all: shares of b_j of survivors, e_ij of the others."""
        signed, body = read_signed(Unmask, request)
        with self._alarmed(body.round, request):
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
                return self._vault.answer_of(entry.answered.reply)
            checks.proof_sorted(body)
            checks.proof_by_survivors(body)
            checks.proof_complete(self._params, body, started.participants)
            checks.proof_signed(self._params, started.context, body)
            checks.shares_complete(body)
        reply = make_answer(self._site, self._identity, self._vault, started, body)
        self._vault.put_answer(reply)
        answered = Answered(survivors=body.survivors, reply=digest("reply", reply), request=request)
        self._journal.write(body.round, Answered.TAG, answered)
        return reply

    def backup(self, request: bytes) -> bytes:
        """Speak for survivors that were lost before they answered: shares of their e_kj with lost j; nothing is kept."""
        signed, body = read_signed(Backup, request)
        with self._alarmed(body.round, request):
            checks.server_signed(self._params, signed)
            checks.addressed_to(self._site, body)
            entry = self._journal.entry(body.round)
            backup_checks.round_answered(entry)
            started = _started(entry)
            checks.context_is(signed, started.context)
            checks.answered_once(entry, body.survivors)
            backup_checks.backup_in_use(self._params)
            backup_checks.somebody_lost(body.survivors, started.participants)
            backup_checks.missing_sorted(body)
            backup_checks.missing_survive(body)
            backup_checks.self_not_missing(self._site, body)
            backup_checks.backups_complete(body)
        return make_backup_answer(self._site, self._identity, self._vault, started, body)

    def close(self, close: bytes, total: Words | None) -> bytes:
        """Take CLOSE with its sum [P], forget the round's secrets, acknowledge the model recomputed; again gives the same."""
        return self._ack(*self._take_close(close, total))

    def checkpoint(self, message: bytes, values: npt.NDArray[np.float64]) -> bytes:
        """Take a CLOSE that t sites vouch for, with its model and moments (history.py), after more was missed than is kept."""
        taken = take_checkpoint(self._params, self._site, self._journal, self._history, message, values)
        self._settle()
        return self._ack(*taken)

    def void(self, message: bytes) -> None:
        """Take VOID: the round's secrets are forgotten, nothing is said in it any more."""
        signed, body = read_signed(Void, message)
        entry = self._journal.entry(body.round)
        with self._alarmed(body.round, message):
            checks.server_signed(self._params, signed)
            if entry.state is RoundState.VOID:
                return
            checks.round_voidable(entry)
            checks.context_is(signed, _started(entry).context)
        self._journal.write(body.round, Void.TAG, message)
        self._settle()

    def _take_close(self, data: bytes, total: Words | None) -> tuple[Signed, Close]:
        taken = take_close(self._params, self._site, self._journal, self._history, data, total)
        self._settle()
        return taken

    def _ack(self, signed: Signed, close: Close) -> bytes:
        return sign(self._identity, signed.context, ack_of(close))

    def _alarmed(self, round: int, message: bytes) -> AbstractContextManager[None]:
        return alarmed(self._params, self._journal, round, message)

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


def _started(entry: Entry) -> Started:
    if entry.started is None:
        raise StateError("journal has an upload but no START", field="round", value=entry.round)
    return entry.started
