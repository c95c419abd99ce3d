"""START, checked before a round begins: by each site for itself, and by the server that made it before it is sent.

Comes in: START as bytes, and what its reader knows of the rounds before. Goes out: its body; or `ProtocolError`, so that
nothing was begun. The server asks of its own START what an honest site with the same past will ask, so that its own
mistake or a damaged file costs no round number.
"""

from __future__ import annotations

from ssl_core.secure_sum import checks
from ssl_core.secure_sum.journal import Journal
from ssl_core.secure_sum.messages import Close, Start
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import read_signed, start_context

Sites = tuple[int, ...]


def check_start(
    params: SumParams, site: int, journal: Journal, keyset: bytes, initial: bytes, data: bytes
) -> tuple[bytes, Start]:
    """(context, body) of a START that `site` may accept; `keyset` [32] is its own, `initial` [32] the plan's weights'."""
    signed, body = read_signed(Start, data)
    own = journal.last_close
    close = read_signed(Close, body.close)[1] if body.close else None
    last = _last_participants(params, [journal.last_participants], close)
    checks.server_signed(params, signed)
    checks.round_within(params, body.round)
    checks.keys_are_ours(body.keyset, keyset)
    checks.participants_sorted(body.participants)
    checks.participants_known(params, body.participants)
    checks.self_invited(site, body.participants)
    checks.enough_for_roster(params, body.participants)
    checks.enough_participants(params, body.participants)
    checks.round_is_new(body.round, journal.last_round)
    checks.previous_not_forgotten(close, own)
    checks.previous_follows(body, close)
    checks.close_before(body, close)
    checks.churn_of_one(body.participants, last)
    checks.churn_within(params, body.participants, last)
    checks.model_follows(body, close, initial)
    context = start_context(params, body)
    checks.context_is(signed, context)
    return context, body


def check_own_start(params: SumParams, keyset: bytes, data: bytes, last: Start | None) -> Start:
    """The body of a START of this server; `last` is the one before it, where this process knows it."""
    signed, body = read_signed(Start, data)
    close = read_signed(Close, body.close)[1] if body.close else None
    before = [(last.round, last.participants)] if last is not None and last.round < body.round else []
    participants = _last_participants(params, before, close)
    checks.server_signed(params, signed)
    checks.round_within(params, body.round)
    checks.keys_are_ours(body.keyset, keyset)
    checks.participants_sorted(body.participants)
    checks.participants_known(params, body.participants)
    checks.enough_for_roster(params, body.participants)
    checks.enough_participants(params, body.participants)
    checks.churn_of_one(body.participants, participants)
    checks.churn_within(params, body.participants, participants)
    checks.previous_follows(body, close)
    checks.close_before(body, close)
    checks.model_follows(body, close, initial=body.model)
    if close is not None:
        checks.server_signed(params, read_signed(Close, body.close)[0])
    return body


def _last_participants(params: SumParams, known: list[tuple[int, Sites]], close: Close | None) -> Sites:
    """Those of the last round that is known, with the CLOSE that came now; all members before the first."""
    known = known + ([] if close is None else [(close.round, close.participants)])
    return (max(known)[1] if known else ()) or tuple(range(len(params.members)))
