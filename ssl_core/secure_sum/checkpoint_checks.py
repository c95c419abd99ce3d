"""What a site checks of a CHECKPOINT besides its CLOSE: that enough others recomputed the model that it offers.

Each returns None or raises `ProtocolError`, as those of checks.py do; closing.py calls them, one a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssl_core.secure_sum.checks import need
from ssl_core.secure_sum.messages import Acked, Close
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import is_ack_of


def checkpoint_is_newer(close: Close, own: Close | None) -> None:
    """A checkpoint leads forward."""
    newer = own is None or close.round > own.round or close == own
    need(newer, "checkpoint is older than what this site has seen", field="round", value=close.round)


def acks_sorted(acks: Sequence[Acked]) -> None:
    """Each site vouches once."""
    sites = tuple(acked.site for acked in acks)
    need(sites == tuple(sorted(set(sites))), "acknowledgements are not sorted, each site once", field="acks")


def acks_enough(params: SumParams, acks: Sequence[Acked], close: Close) -> None:
    """t sites vouch: at least one of them is honest, and no two checkpoints of one round can both have so many."""
    found, limit = len(acks), params.thresholds(len(close.participants)).shares
    need(found >= limit, "too few sites acknowledged the checkpoint", field="acks", value=found, limit=limit)


def acks_signed(params: SumParams, context: bytes, acks: Sequence[Acked], close: Close) -> None:
    """Each acknowledgement is a member's, of this very CLOSE."""
    for acked in acks:
        need(acked.site < len(params.members), "an acknowledgement is of no member", field="acks", value=acked.site)
        member = params.members[acked.site]
        acknowledges = is_ack_of(member.identity, context, close, acked.ack)
        need(acknowledges, "site did not acknowledge this CLOSE", field="site", value=member.name)
