"""CLOSE at a site: what was summed, checked against all that this site said and knows, followed to its model, and kept.

Comes in: a CLOSE, alone or inside the next START, with the sum [P] that it names; or a CHECKPOINT, which stands for all
the CLOSEs up to it. Goes out: its body, durable in the journal after the model that it names is durable in the history;
the same again changes nothing. A CLOSE for other survivors than were answered or agreed for, or a second one for a round,
is refused with the two signed messages as evidence; one whose sum does not give its model is kept as disputed. A site
that missed the round takes the CLOSE on the server's word and the survivors' signed headers: it gave nothing to that sum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum import checkpoint_checks, checks
from ssl_core.secure_sum.alarms import alarmed
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.history import Disputed, History
from ssl_core.secure_sum.journal import Journal, RoundState
from ssl_core.secure_sum.messages import Checkpoint, Close, Signed
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import read_signed


def take_close(
    params: SumParams, site: int, journal: Journal, history: History, data: bytes, total: Words | None
) -> tuple[Signed, Close]:
    """Check CLOSE, recompute its model, and write it to the journal, once."""
    signed, body = read_signed(Close, data)
    with alarmed(params, journal, body.round, data):
        if _check_close(params, site, journal, signed, body):
            return signed, body
        try:
            history.follow(body, signed.context, total)
        except Disputed:
            journal.dispute(data)
            raise
    journal.write(body.round, RoundState.CLOSED.value, data)
    return signed, body


def take_checkpoint(
    params: SumParams, site: int, journal: Journal, history: History, data: bytes, values: npt.NDArray[np.float64]
) -> tuple[Signed, Close]:
    """Check a CLOSE that t sites vouch for, and stand where it says: for a site that cannot replay what it missed."""
    checkpoint = decode(Checkpoint, data)
    signed, body = read_signed(Close, checkpoint.close)
    with alarmed(params, journal, body.round, checkpoint.close):
        checkpoint_checks.checkpoint_is_newer(body, journal.last_close)
        known = _check_close(params, site, journal, signed, body)
        checkpoint_checks.acks_sorted(checkpoint.acks)
        checkpoint_checks.acks_enough(params, checkpoint.acks, body)
        checkpoint_checks.acks_signed(params, signed.context, checkpoint.acks, body)
        history.jump(body, values)
    if not known:
        journal.write(body.round, RoundState.CLOSED.value, checkpoint.close)
    return signed, body


def _check_close(params: SumParams, site: int, journal: Journal, signed: Signed, body: Close) -> bool:
    """Whether this very CLOSE was taken before; refused unless it was, or could be now."""
    own = journal.last_close
    checks.server_signed(params, signed)
    checks.round_within(params, body.round)
    checks.participants_sorted(body.participants)
    checks.participants_known(params, body.participants)
    checks.enough_for_roster(params, body.participants)
    checks.close_context_is_own(params, signed, body)
    if body == own:
        return True
    entry = journal.entry(body.round)
    checks.close_is_new(body, own, journal.last_round)
    checks.close_is_our_round(signed, entry)
    checks.close_not_void(entry)
    checks.survivors_sorted(body.survivors)
    checks.survivors_invited(body.survivors, body.participants)
    checks.enough_survivors(params, body.survivors, body.participants)
    checks.headers_signed(params, signed.context, body.survivors, body.headers)
    checks.own_header(site, body.survivors, body.headers, entry.header)
    checks.close_matches_answer(body, entry)
    checks.close_matches_agreement(body, entry)
    return False
