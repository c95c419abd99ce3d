"""Where the server puts the sealed backups of a round, which it needs only if a survivor falls silent.

Comes in: an upload's parts. Goes out: the same parts without the backups' ciphertext, 32 n^2 bytes a site, which a `Shelf`
keeps elsewhere than in memory (server/shelf.py); with the hashes of all leaves, so that a packet can be put together again
as its dealer signed it. Nothing on a shelf is secret from the server or needs to survive it: uploads come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ssl_core.secure_sum.messages import Packet, Parts, Sealed
from ssl_core.secure_sum.statements import parts_leaves


class Shelf(Protocol):
    """Byte strings by (dealer, place of the holder among the participants), of one round."""

    def put(self, dealer: int, blobs: Sequence[bytes]) -> None:
        """Keep a dealer's sealed backups; an earlier set of his is replaced."""

    def get(self, dealer: int, at: int) -> bytes:
        """The backup that he sealed for the holder at this place."""


class MemoryShelf:
    """A `Shelf` in memory, for tests, simulations and small federations."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[bytes, ...]] = {}

    def put(self, dealer: int, blobs: Sequence[bytes]) -> None:
        """Keep a dealer's sealed backups."""
        self._kept[dealer] = tuple(blobs)

    def get(self, dealer: int, at: int) -> bytes:
        """The backup for the holder at this place."""
        return self._kept[dealer][at]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dealt:
    """One upload's parts as the server keeps them: `parts` without backups' ciphertext, `leaves` [n + 1][32] of the whole."""

    dealer: int
    parts: Parts
    leaves: tuple[bytes, ...]
    shelf: Shelf

    def backup(self, at: int) -> Sealed:
        """The sealed backup for the holder at this place, whole."""
        return replace(self.parts.packets[at].backup, blob=self.shelf.get(self.dealer, at))

    def packet(self, at: int) -> Packet:
        """The packet for the holder at this place, whole, as it was signed."""
        return replace(self.parts.packets[at], backup=self.backup(at))


def put_on(shelf: Shelf, dealer: int, parts: Parts) -> Dealt:
    """Keep an upload's checked parts, the backups on the shelf."""
    shelf.put(dealer, [packet.backup.blob for packet in parts.packets])
    light = tuple(replace(packet, backup=replace(packet.backup, blob=b"")) for packet in parts.packets)
    return Dealt(dealer=dealer, parts=replace(parts, packets=light), leaves=parts_leaves(parts), shelf=shelf)
