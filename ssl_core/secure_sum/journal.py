"""What a site did in each round, read from its durable log: the states of ruling 6, and what may still be said.

STARTED -> UPLOADED -> (agreed) -> ANSWERED -> CLOSED or VOID. A round that a later one has overtaken is VOID. The log
belongs to one (session, site), is append-only, and every append is on disk before it returns; the store's owner
implements `SiteStore` (memory.py has one for tests and simulations). Each promise is kept with the signed message that
asked for it, so that a later one that contradicts it is evidence, after a restart too; what was found so is an ALARM,
which changes no state.
Nothing in the log opens a mask: it holds hashes, sets, and the server's signed messages, whose shares are sealed under
chains that CLOSE and VOID erase. Keys and opened shares live in the store's one small secret file (vault.py), the masked
vector and the sealed parts of the open round in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, Protocol

from ssl_core.errors import StateError
from ssl_core.secure_sum.codec import MAX_BYTES, Blob, Message, UInt, decode, encode
from ssl_core.secure_sum.evidence import Evidence
from ssl_core.secure_sum.messages import Close, Digest, Header, Sites
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import read_signed

DISPUTED = "DISPUTED"
Request = Annotated[bytes, Blob(MAX_BYTES // 4)]


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

    def write_parts(self, round: int, parts: bytes) -> None:
        """Keep an upload's sealed parts for resending; older ones of the same round are replaced."""

    def read_parts(self, round: int) -> bytes | None:
        """The parts of a round, None when there are none."""

    def write_vector(self, round: int, vector: Words) -> None:
        """Keep a masked vector [P] for resending; an older one of the same round is replaced."""

    def read_vector(self, round: int) -> Words | None:
        """The vector of a round, None when there is none."""

    def drop_vectors(self, before: int) -> None:
        """Forget the vectors and parts of all rounds below `before`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch(Message):
    """Log: the site accepted this key set; `offers` is the whole of it, `keyset` its hash."""

    TAG: ClassVar[str] = "EPOCH"
    epoch: Annotated[int, UInt(4)]
    keyset: Digest
    offers: Annotated[bytes, Blob(MAX_BYTES // 4)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Message):
    """Log: the site offered a key for this epoch, which it never does twice."""

    TAG: ClassVar[str] = "OFFERED"
    epoch: Annotated[int, UInt(4)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Message):
    """Log: the site accepted this START; `request` is the signed message, here and below."""

    TAG: ClassVar[str] = "STARTED"
    context: Digest
    participants: Sites
    model: Digest
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed(Message):
    """Log: the site agreed to these survivors, not all participants."""

    TAG: ClassVar[str] = "AGREED"
    survivors: Sites
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Message):
    """Log: the site answered for these survivors, with bytes of this hash."""

    TAG: ClassVar[str] = "ANSWERED"
    survivors: Sites
    reply: Digest
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that the log says of one round."""

    round: int
    state: RoundState | None = None
    started: Started | None = None
    header: Header | None = None
    agreed: Agreed | None = None
    answered: Answered | None = None
    close: bytes | None = None
    void: bytes | None = None

    @property
    def said(self) -> tuple[bytes, ...]:
        """The server's signed messages of this round that the site acted upon."""
        kept = (self.started, self.agreed, self.answered)
        requests = tuple(record.request for record in kept if record is not None)
        return requests + tuple(ending for ending in (self.close, self.void) if ending)


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
    def offered(self) -> int:
        """The last epoch that this site offered a key for, 0 for none."""
        record = self._store.latest(Offered.TAG)
        return 0 if record is None else decode(Offered, record.body).epoch

    @property
    def last_close(self) -> Close | None:
        """The last CLOSE that this site took."""
        record = self._store.latest("CLOSED")
        return None if record is None else read_signed(Close, record.body)[1]

    @property
    def last_participants(self) -> tuple[int, tuple[int, ...]]:
        """(round, participants) of the last round that this site started or saw closed; (0, ()) before the first."""
        started, close = self._store.latest("STARTED"), self.last_close
        known = [] if started is None else [(started.round, decode(Started, started.body).participants)]
        known += [] if close is None else [(close.round, close.participants)]
        return max(known, default=(0, ()))

    @property
    def alarms(self) -> tuple[Evidence, ...]:
        """Evidence that this site found, in order."""
        return tuple(decode(Evidence, record.body) for record in self._store.records(0) if record.kind == Evidence.TAG)

    def alarm(self, evidence: Evidence) -> None:
        """Keep evidence; one piece for each party, kind and first statement, so that a flood of them fills no disk."""
        known = {(kept.party, kept.kind, kept.first) for kept in self.alarms}
        if (evidence.party, evidence.kind, evidence.first) not in known:
            self.write(0, Evidence.TAG, evidence)

    @property
    def disputes(self) -> tuple[int, ...]:
        """Rounds whose signed model is not what the published sum gives, as this site found."""
        kept = [record.body for record in self._store.records(0) if record.kind == DISPUTED]
        return tuple(sorted({read_signed(Close, close)[1].round for close in kept}))

    def dispute(self, close: bytes) -> None:
        """Keep a signed CLOSE that this site's own recomputation contradicts, one for a round: a flood fills no disk."""
        if read_signed(Close, close)[1].round not in self.disputes:
            self.write(0, DISPUTED, close)

    def entry(self, round: int) -> Entry:
        """What happened in `round`."""
        found = {record.kind: record.body for record in self._store.records(round)}
        answered = decode(Answered, found["ANSWERED"]) if "ANSWERED" in found else None
        return Entry(
            round=round,
            state=self._state(round, frozenset(found)),
            started=decode(Started, found["STARTED"]) if "STARTED" in found else None,
            header=decode(Header, found["UPLOADED"]) if "UPLOADED" in found else None,
            agreed=decode(Agreed, found["AGREED"]) if "AGREED" in found else None,
            answered=answered,
            close=found.get("CLOSED"),
            void=found.get("VOID"),
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
