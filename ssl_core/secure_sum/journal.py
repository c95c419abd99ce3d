"""What a site did in each round, read from its durable log: the states of ruling 6, and what may still be said.

STARTED -> UPLOADED -> (agreed) -> ANSWERED -> CLOSED or VOID. A round that a later one has overtaken is VOID. The log
belongs to one (session, site), is append-only, and every append is on disk before it returns; the store's owner
implements `SiteStore` (memory.py has one for tests and simulations). Nothing in the log opens a mask: keys and opened
shares live in the store's one small secret file (vault.py), the masked vector in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ssl_core.errors import StateError
from ssl_core.secure_sum.codec import Message, UInt, decode, encode
from ssl_core.secure_sum.messages import Close, Digest, Sites
from ssl_core.secure_sum.statements import GENESIS, read_signed, transcript


class RoundState(Enum):
    """Where a round stands at this site."""

    STARTED = "STARTED"
    UPLOADED = "UPLOADED"
    ANSWERED = "ANSWERED"
    CLOSED = "CLOSED"
    VOID = "VOID"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log; `round` is 0 for what belongs to no round."""

    round: int
    kind: str
    body: bytes


class SiteStore(Protocol):
    """What one site keeps of one session; a method that changes something returns when the change is on disk."""

    def read_secrets(self) -> bytes | None:
        """The secret file, None before the first write."""

    def write_secrets(self, data: bytes) -> None:
        """Replace the secret file as a whole: a crash leaves the old or the new bytes. Never backed up."""

    def append(self, record: Record) -> None:
        """Add one line to the log."""

    def records(self, round: int) -> Sequence[Record]:
        """The lines of one round, in order."""

    def latest(self, kind: str) -> Record | None:
        """The last line of one kind."""

    def write_vector(self, round: int, vector: npt.NDArray[np.uint32]) -> None:
        """Keep a masked vector uint32 [P] for resending; an older one of the same round is replaced."""

    def read_vector(self, round: int) -> npt.NDArray[np.uint32] | None:
        """The vector of a round, None when there is none."""

    def drop_vectors(self, before: int) -> None:
        """Forget the vectors of all rounds below `before`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch(Message):
    """Log: the site accepted this key set."""

    TAG: ClassVar[str] = "EPOCH"
    epoch: Annotated[int, UInt(4)]
    keyset: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Message):
    """Log: the site accepted this START."""

    TAG: ClassVar[str] = "STARTED"
    context: Digest
    participants: Sites
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed(Message):
    """Log: the site agreed to these survivors, not all participants."""

    TAG: ClassVar[str] = "AGREED"
    survivors: Sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Message):
    """Log: the site answered for these survivors, with bytes of this hash."""

    TAG: ClassVar[str] = "ANSWERED"
    survivors: Sites
    reply: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that the log says of one round."""

    round: int
    state: RoundState | None = None
    started: Started | None = None
    upload: bytes | None = None
    agreed: tuple[int, ...] | None = None
    answered: Answered | None = None
    close: bytes | None = None


class Journal:
    """The log of one site and session, typed."""

    def __init__(self, store: SiteStore, max_rounds: int) -> None:
        self._store = store
        last = self.last_round
        if last > max_rounds:
            raise StateError("journal belongs to another study", field="round", value=last, limit=max_rounds)

    @property
    def last_round(self) -> int:
        """The highest round that this site has seen, 0 before the first."""
        latest = (self._store.latest(kind) for kind in ("STARTED", "CLOSED", "VOID"))
        return max((record.round for record in latest if record is not None), default=0)

    @property
    def epoch(self) -> Epoch | None:
        """The last accepted key set."""
        record = self._store.latest("EPOCH")
        return None if record is None else decode(Epoch, record.body)

    @property
    def last_close(self) -> Close | None:
        """The last CLOSE that this site took."""
        record = self._store.latest("CLOSED")
        return None if record is None else read_signed(Close, record.body)[1]

    @property
    def transcript(self) -> bytes:
        """The hash of the last CLOSE."""
        close = self.last_close
        return GENESIS if close is None else transcript(close)

    def entry(self, round: int) -> Entry:
        """What happened in `round`."""
        found = {record.kind: record.body for record in self._store.records(round)}
        answered = decode(Answered, found["ANSWERED"]) if "ANSWERED" in found else None
        return Entry(
            round=round,
            state=self._state(round, frozenset(found)),
            started=decode(Started, found["STARTED"]) if "STARTED" in found else None,
            upload=found.get("UPLOADED"),
            agreed=decode(Agreed, found["AGREED"]).survivors if "AGREED" in found else None,
            answered=answered,
            close=found.get("CLOSED"),
        )

    def write(self, round: int, kind: str, body: Message | bytes) -> None:
        """Add one durable line."""
        self._store.append(Record(round, kind, body if isinstance(body, bytes) else encode(body)))

    def _state(self, round: int, kinds: frozenset[str]) -> RoundState | None:
        if round == 0 or not kinds:
            return None
        if "CLOSED" in kinds:
            return RoundState.CLOSED
        if "VOID" in kinds or round < self.last_round:
            return RoundState.VOID
        for state in (RoundState.ANSWERED, RoundState.UPLOADED):
            if state.value in kinds:
                return state
        return RoundState.STARTED
