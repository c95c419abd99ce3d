"""A START at the server that made it: checked as the sites will, before it is sent and when a restart takes it up again.

Comes in: START as bytes, the key set's hash, the START before it where this process knows it. Goes out: its body; or
`ProtocolError`, so that a server's own mistake or a damaged file costs no round number.
"""

from __future__ import annotations

from ssl_core.secure_sum import checks
from ssl_core.secure_sum.messages import Close, Start
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import read_signed


def check_own_start(params: SumParams, keyset: bytes, data: bytes, last: Start | None) -> Start:
    """The body of a START that every honest site with the same past would accept."""
    signed, body = read_signed(Start, data)
    close = read_signed(Close, body.close)[1] if body.close else None
    checks.server_signed(params, signed)
    checks.round_within(params, body.round)
    checks.keys_are_ours(body.keyset, keyset)
    checks.participants_sorted(body.participants)
    checks.participants_known(params, body.participants)
    checks.enough_for_roster(params, body.participants)
    checks.enough_participants(params, body.participants)
    checks.churn_of_one(body.participants, _last_participants(params, body, close, last))
    checks.churn_within(params, body.participants, _last_participants(params, body, close, last))
    checks.previous_follows(body, close)
    checks.close_before(body, close)
    checks.model_follows(body, close)
    if close is not None:
        checks.server_signed(params, read_signed(Close, body.close)[0])
    return body


def _last_participants(params: SumParams, start: Start, close: Close | None, last: Start | None) -> tuple[int, ...]:
    known = [] if close is None else [(close.round, close.participants)]
    known += [(last.round, last.participants)] if last is not None and last.round < start.round else []
    return max(known)[1] if known else tuple(range(len(params.members)))
