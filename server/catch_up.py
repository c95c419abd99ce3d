"""Step 11 of 12, for those who were away: what each site is asked before START, so that it stands where the others stand.

Comes in: who acknowledged which CLOSE, who declined. Goes out: for each site an iterator of parcels, empty for one that
missed nothing: KEYS for one that declined, then the missed CLOSEs with their sums while they are kept, else a CHECKPOINT
that t sites vouch for and the CLOSEs after it (ruling 12). A site that knows better answers all of it from its journal.
What is known here is a guess that costs bandwidth alone: a site takes nothing from it that it does not check. A site that
declines whatever it is sent is sent all of it every fourth round, and before the last CLOSE.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

import numpy as np

from server.study import StudyRun
from ssl_core.parcel import IncomingKind, Parcel
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.history import checkpoint_values
from ssl_core.secure_sum.messages import Checkpoint

_EVERY = 4


class CatchUp:
    """Where each site of a study stands, as far as the server was told."""

    def __init__(self, run: StudyRun) -> None:
        self._run = run
        # Site -> the last closed round that it acknowledged, 0 for none; absent where nothing is known.
        self._position: dict[str, int] = {}
        self._declined: dict[str, int] = {}
        self._unkeyed: set[str] = set()
        self._parcels: dict[tuple[IncomingKind, int], Parcel] = {}
        rounds = run.state.kept()
        if not rounds:
            self._position = dict.fromkeys(run.participants, 0)
        for number in rounds:
            data = run.state.checkpoint(number)
            if data is not None:
                acked = (entry.site for entry in decode(Checkpoint, data).acks)
                self._position |= dict.fromkeys(run.params.names(acked), number)

    @property
    def declined(self) -> tuple[str, ...]:
        """Who declined the last round that it was asked for."""
        return tuple(sorted(self._declined))

    def acknowledged(self, number: int, names: Iterable[str]) -> None:
        """These sites stand at closed round `number`, and in the current key set."""
        for name in names:
            self._position[name] = number
            self._declined.pop(name, None)
            self._unkeyed.discard(name)

    def refused(self, names: Collection[str]) -> None:
        """These sites declined: what they stand at is unknown."""
        for name in names:
            self._declined[name] = self._declined.get(name, 0) + 1
            self._position.pop(name, None)
            self._unkeyed.add(name)

    def lacks_keys(self, names: Collection[str]) -> None:
        """These sites did not acknowledge the current key set."""
        self._unkeyed |= set(names)

    def leads(self, *, last: bool = False) -> dict[str, Iterator[Parcel]]:
        """For each participant what it is to be asked before the next START, or before the last CLOSE."""
        self._parcels.clear()
        return {name: self._lead(name, last) for name in self._run.participants}

    def _lead(self, name: str, last: bool) -> Iterator[Parcel]:
        times = self._declined.get(name, 0)
        if times > 1 and times % _EVERY and not last:
            return
        state = self._run.state
        if name in self._unkeyed:
            keyset = (state.folder / "keyset.bin").read_bytes()
            yield self._shared(IncomingKind.KEYS, 0, lambda: (keyset, state.initial()))
        kept = state.kept()
        position = self._position.get(name)
        if position is None or (position not in kept and not self._is_whole(kept)):
            position = 0 if self._is_whole(kept) else None
            vouched = [number for number in kept if state.checkpoint(number) is not None]
            if vouched:
                position = vouched[-1]
                yield self._shared(IncomingKind.CHECKPOINT, position, partial(self._checkpoint, position))
        for number in kept[:-1]:
            if position is not None and number > position:
                yield self._shared(IncomingKind.CLOSE, number, partial(state.published, number))

    def _checkpoint(self, number: int) -> tuple[bytes, np.ndarray]:
        state = self._run.state
        return state.checkpoint(number) or b"", checkpoint_values(state.closed_round(number).model)

    def _shared(self, kind: IncomingKind, number: int, make: Callable[[], tuple[bytes, np.ndarray]]) -> Parcel:
        """One parcel for all sites that are asked the same before one START: a model is large."""
        if (kind, number) not in self._parcels:
            self._parcels[kind, number] = self._run.parcel(kind, *make())
        return self._parcels[kind, number]

    def _is_whole(self, kept: list[int]) -> bool:
        """Are all closed rounds still here, from the first?"""
        return not kept or self._run.state.count(kept[0]) == 1
