"""A `SiteStore` in memory: for tests and simulations, where nothing outlives the process."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_core.secure_sum.journal import Record
from ssl_core.secure_sum.ring import Words


class MemoryStore:
    """Keeps what it is given; `copy` is the disk image at that moment."""

    def __init__(self) -> None:
        self._secrets: bytes | None = None
        self._log: list[Record] = []
        self._vectors: dict[int, Words] = {}
        self._parts: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return "MemoryStore(redacted)"

    def copy(self) -> MemoryStore:
        """An independent store with the same contents."""
        other = MemoryStore()
        other._secrets = self._secrets
        other._log = list(self._log)
        other._vectors = dict(self._vectors)
        other._parts = dict(self._parts)
        return other

    def read_secrets(self) -> bytes | None:
        """The secret file, None before the first write."""
        return self._secrets

    def write_secrets(self, data: bytes) -> None:
        """Replace the secret file."""
        self._secrets = data

    def append(self, record: Record) -> None:
        """Add one line to the log."""
        self._log.append(record)

    def records(self, round: int) -> Sequence[Record]:
        """The lines of one round, in order."""
        return [record for record in self._log if record.round == round]

    def latest(self, kind: str) -> Record | None:
        """The last line of one kind."""
        return next((record for record in reversed(self._log) if record.kind == kind), None)

    def write_parts(self, round: int, parts: bytes) -> None:
        """Keep an upload's parts."""
        self._parts[round] = parts

    def read_parts(self, round: int) -> bytes | None:
        """The parts of a round, None when there are none."""
        return self._parts.get(round)

    def write_vector(self, round: int, vector: Words) -> None:
        """Keep a masked vector."""
        self._vectors[round] = vector.copy()

    def read_vector(self, round: int) -> Words | None:
        """The vector of a round, None when there is none."""
        found = self._vectors.get(round)
        return None if found is None else found.copy()

    def drop_vectors(self, before: int) -> None:
        """Forget the vectors and parts of all rounds below `before`."""
        self._parts = {round: parts for round, parts in self._parts.items() if round >= before}
        self._vectors = {round: vector for round, vector in self._vectors.items() if round >= before}
