"""The two roles as protocols: what the masked sum (site.py, coordinator.py) and the plain one (plain.py) both offer.

All messages are bytes; vectors travel beside them as words [P] of the ring, uint32 or uint16. Methods raise
`ProtocolError` for what must be refused and `RoundVoid` for a round that can give no sum any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum.evidence import Fault
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.ring import Words

MaskedUpload = tuple[bytes, Words]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTicket:
    """A round that this site accepted: it may now train and upload once, in this process."""

    round: int
    participants: tuple[str, ...]
    context: bytes
    weight: int


class SumSite(Protocol):
    """One site of the sum."""

    def offer_keys(self, epoch: int = 1) -> bytes:
        """The signed key offer of this epoch or the latest one; the same bytes when asked again."""

    def accept_keys(self, keyset: bytes) -> None:
        """Take the key set of that epoch; again is no change."""

    def state(self, round: int) -> RoundState | None:
        """Where a round stands here; None when it is unknown."""

    def begin(self, start: bytes, total: Words | None) -> RoundTicket:
        """Accept a START; `total` [P] is the sum that its CLOSE names, None before the first."""

    def upload(self, round: int, update: npt.NDArray[np.float32]) -> MaskedUpload:
        """(body, vector [P]) of `update` float32 [P]; the same when called again."""

    def recognise(self, start: bytes) -> None:
        """Refuse a START of a known round that is not the one it was begun with; asked before `resend`."""

    def resend(self, round: int) -> MaskedUpload | None:
        """The upload once more; None when there was none and this site declines."""

    def consent(self, request: bytes) -> bytes:
        """The agreement to a set of survivors that is not all participants."""

    def unmask(self, request: bytes) -> bytes:
        """The answer for one set of survivors."""

    def backup(self, request: bytes) -> bytes:
        """What this site, having answered, says for survivors that were lost since."""

    def close(self, close: bytes, total: Words | None) -> bytes:
        """Take a CLOSE with the sum [P] that it names; returns the acknowledgement."""

    def void(self, message: bytes) -> None:
        """Take a VOID."""


class SumCoordinator(Protocol):
    """The server's side of the sum; one round at a time."""

    def start(self, round: int, participants: Sequence[str], model_hash: bytes, previous_close: bytes | None) -> bytes:
        """Open a round."""

    def resume(self, start: bytes) -> None:
        """Continue an open round under its own START."""

    def add_upload(self, site: str, body: bytes, vector: Words) -> bool:
        """Add an upload to the running sum; False for one that came twice or too late."""

    @property
    def uploaded(self) -> tuple[str, ...]:
        """Whose uploads are in the running sum."""

    def fix_survivors(self, survivors: Sequence[str] | None = None) -> bool:
        """Fix U, once and for all; returns whether consent is needed."""

    @property
    def survivors(self) -> tuple[str, ...] | None:
        """U, once it is fixed."""

    def consent_requests(self) -> dict[str, bytes]:
        """CONSENT for each survivor, when U is not C."""

    def add_consent(self, site: str, body: bytes) -> None:
        """Take an agreement."""

    @property
    def consented(self) -> bool:
        """Whether enough survivors agreed."""

    def unmask_requests(self) -> dict[str, bytes]:
        """UNMASK for each survivor."""

    def add_answer(self, site: str, body: bytes) -> None:
        """Take an answer."""

    def backup_requests(self) -> dict[str, bytes]:
        """BACKUP for each survivor that answered; empty while nothing can be gained."""

    def add_backup(self, site: str, body: bytes) -> None:
        """Take what a survivor says for others."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Who broke the protocol in this round."""

    @property
    def answered(self) -> bool:
        """Whether the answers are enough for the sum."""

    def total(self) -> Words:
        """Sum of w_i q_i over the survivors, words [P]."""

    def mean(self) -> npt.NDArray[np.float64]:
        """The weighted mean update, float64 [P]."""

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Whose uploads acknowledged the CLOSE in this round's START."""

    def checkpoint(self) -> bytes | None:
        """CHECKPOINT of that CLOSE, None while too few acknowledged it."""

    def close(self, model: bytes, state: bytes) -> bytes:
        """End the round; digests [32] of the weights and of the moments that the server made of the sum."""

    def void(self) -> bytes:
        """Give the round up, for ever."""
