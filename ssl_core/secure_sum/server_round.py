"""What the server holds of the open round, and the two requests that it makes of it.

Comes in: checked uploads and agreements. Goes out: CONSENT, the same for all survivors, and one UNMASK for each, with
the shares that the others sealed to it. Everything here has been seen by the server anyway; nothing is secret but the
answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum.messages import Answer, Close, Consent, Header, Parts, Proof, Start, Unmask


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class ServerRound:
    """One round; `running` uint32 [P] is the masked sum, and after `opened` the sum of w_i q_i over the survivors."""

    start: Start
    context: bytes
    running: npt.NDArray[np.uint32]
    headers: dict[int, Header] = field(default_factory=dict)
    parts: dict[int, Parts] = field(default_factory=dict)
    survivors: tuple[int, ...] | None = None
    paired: bool = False
    agreements: dict[int, bytes] = field(default_factory=dict)
    requests: dict[int, Unmask] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    opened: bool = False
    closed: Close | None = None
    void: bool = False


def make_consent(now: ServerRound, survivors: tuple[int, ...]) -> Consent:
    """CONSENT with every survivor's signed header."""
    headers = tuple(now.headers[site] for site in survivors)
    return Consent(round=now.start.round, survivors=survivors, headers=headers)


def make_unmask(now: ServerRound, survivors: tuple[int, ...]) -> dict[int, Unmask]:
    """UNMASK for each survivor; the proof is every upload's own agreement when U = C, else those gathered for U."""
    participants = now.start.participants
    uploaded = {site: parts.agreement for site, parts in now.parts.items()}
    signatures = uploaded if survivors == participants else now.agreements
    proof = tuple(Proof(site=site, signature=signatures[site]) for site in sorted(signatures))
    return {
        recipient: Unmask(
            round=now.start.round,
            recipient=recipient,
            survivors=survivors,
            proof=proof,
            shares=tuple(now.parts[sender].shares[participants.index(recipient)] for sender in survivors),
        )
        for recipient in survivors
    }
