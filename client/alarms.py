"""What the secure sum found against the server or a site, for the person who reads `choral site status`.

Comes in: the site's log, beside a running daemon whose files stay untouched. Goes out: for each piece of evidence its
round's party and kind in words and its bytes, which the authority can check without us (secure_sum/evidence.py); and the
rounds whose signed model the published sum does not give.
"""

from __future__ import annotations

from typing import Any

from client.home import SiteHome
from client.journal import records_of
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.evidence import Evidence
from ssl_core.secure_sum.journal import DISPUTED
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.statements import read_signed


def alarms_of(home: SiteHome, plan_hash: str) -> list[dict[str, Any]]:
    """One entry an alarm: `against`, `what`, and `evidence` as hex, the same for each once."""
    roster, _ = home.roster()
    names = {member.identity: member.name for member in roster.members} | {roster.server.server: "the server"}
    found = []
    for record in records_of(home.chain, plan_hash, 0):
        if record.kind == Evidence.TAG:
            evidence = decode(Evidence, record.body)
            against = names.get(evidence.party.hex(), f"the key {evidence.party.hex()[:16]}, not of this roster")
            what = f"contradicts itself: {evidence.kind}"
        elif record.kind == DISPUTED:
            against = "the server"
            what = f"round {read_signed(Close, record.body)[1].round}: its sum does not give the model that it signed"
        else:
            continue
        found.append({"against": against, "what": what, "evidence": record.body.hex()})
    return found
