"""CLOSE at a site: what was summed, checked against all that this site said and knows, and kept.

Comes in: a CLOSE, alone or inside the next START, and the journal. Goes out: its body, durable in the journal; the same
again changes nothing. A CLOSE for other survivors than were answered or agreed for, or a second one for a round, is
refused with the two signed messages as evidence. A site that missed the round takes the CLOSE on the server's word and
the survivors' signed headers: it gave nothing to that sum.
"""

from __future__ import annotations

from ssl_core.secure_sum import checks
from ssl_core.secure_sum.alarms import alarmed
from ssl_core.secure_sum.journal import Journal, RoundState
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import read_signed


def take_close(params: SumParams, site: int, journal: Journal, data: bytes) -> Close:
    """Check CLOSE and write it to the journal, once."""
    signed, body = read_signed(Close, data)
    own = journal.last_close
    with alarmed(params, journal, body.round, data):
        checks.server_signed(params, signed)
        checks.round_within(params, body.round)
        checks.participants_sorted(body.participants)
        checks.participants_known(params, body.participants)
        checks.enough_for_roster(params, body.participants)
        checks.close_context_is_own(params, signed, body)
        if body == own:
            return body
        entry = journal.entry(body.round)
        checks.close_is_new(body, own, journal.last_round)
        checks.close_follows(body, own)
        checks.close_is_our_round(signed, entry)
        checks.survivors_sorted(body.survivors)
        checks.survivors_invited(body.survivors, body.participants)
        checks.enough_survivors(params, body.survivors, body.participants)
        checks.headers_signed(params, signed.context, body.survivors, body.headers)
        checks.own_header(site, body.survivors, body.headers, entry.header)
        checks.close_matches_answer(body, entry)
        checks.close_matches_agreement(body, entry)
    journal.write(body.round, RoundState.CLOSED.value, data)
    return body
