"""The one small secret file of a site: pending epoch key, chain keys CK_r, the open round's answer; nothing older.

Written as a whole (write, fsync, rename by the store) and never backed up (ruling 7). `move_to` ratchets every chain
and forgets the answer, so that after it no mask, seal or share of an earlier round can be computed from this file
(ruling 8). x and b_i never enter it. Python cannot wipe memory: forgetting here means on disk and in this object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from ssl_core.errors import StateError
from ssl_core.secure_sum.codec import MAX_BYTES, Blob, Fixed, Hidden, Listing, Message, UInt, decode, digest, encode
from ssl_core.secure_sum.journal import SiteStore
from ssl_core.secure_sum.keys import advance
from ssl_core.trust.identity import Secret

_NONE = Secret(b"")


def _none() -> Secret:
    return _NONE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents(Message):
    """The file. Epoch 0 means no key set yet; `chains` are CK_`index`, in the order of the members."""

    TAG: ClassVar[str] = "VAULT"
    params: Annotated[bytes, Fixed(32)]
    offer: Annotated[bytes, Blob(512)] = b""
    pending_epoch: Annotated[int, UInt(4)] = 0
    pending: Annotated[Secret, Hidden(0, 32)] = field(default_factory=_none)
    epoch: Annotated[int, UInt(4)] = 0
    keyset: Annotated[bytes, Blob(32)] = b""
    index: Annotated[int, UInt(4)] = 0
    chains: Annotated[tuple[Secret, ...], Listing(Hidden(32, 32))] = ()
    answer: Annotated[Secret, Hidden(0, MAX_BYTES // 2)] = field(default_factory=_none)


class Vault:
    """The secret file, open. Every change is durable when the method returns."""

    def __init__(self, store: SiteStore, params: bytes) -> None:
        data = store.read_secrets()
        self._store = store
        self._now = Contents(params=params) if data is None else decode(Contents, data)
        if self._now.params != params:
            raise StateError("secret file belongs to another study", field="params", remedy="use this study's folder")

    def __repr__(self) -> str:
        return "Vault(redacted)"

    @property
    def offer(self) -> bytes:
        """The signed offer of `offer_epoch`."""
        return self._now.offer

    @property
    def offer_epoch(self) -> int:
        """The epoch that this site last offered a key for, 0 for none."""
        return self._now.pending_epoch

    @property
    def epoch(self) -> int:
        """The epoch of the chains, 0 before the first key set."""
        return self._now.epoch

    @property
    def keyset(self) -> bytes:
        """H(E) of the chains [32], empty before the first key set."""
        return self._now.keyset

    @property
    def index(self) -> int:
        """The round that the chains belong to."""
        return self._now.index

    @property
    def pending(self) -> Secret | None:
        """The epoch private key, until the key set came."""
        return self._now.pending if len(self._now.pending) else None

    @property
    def answer(self) -> bytes | None:
        """The exact reply of the open round."""
        return self._now.answer.reveal() if len(self._now.answer) else None

    def answer_of(self, reply: bytes) -> bytes:
        """The exact reply whose digest [32] the journal has; `StateError` where it is not kept."""
        if self.answer is None or digest("reply", self.answer) != reply:
            raise StateError("kept answer is not the one in the journal", field="answer")
        return self.answer

    def chain(self, peer: int) -> Secret:
        """CK_`index` with the member at place `peer`."""
        return self._now.chains[peer]

    def put_offer(self, epoch: int, private: Secret, offer: bytes) -> None:
        """Keep a pending private key and its offer."""
        self._write(replace(self._now, pending_epoch=epoch, pending=private, offer=offer))

    def put_chains(self, epoch: int, keyset: bytes, chains: Mapping[int, Secret]) -> None:
        """Keep all CK_0 and, in the same replacement of the file, erase the private key."""
        ordered = tuple(chains[peer] for peer in sorted(chains))
        self._write(replace(self._now, epoch=epoch, keyset=keyset, index=0, chains=ordered, pending=_NONE, answer=_NONE))

    def put_answer(self, answer: bytes) -> None:
        """Keep the reply of the open round."""
        self._write(replace(self._now, answer=Secret(answer)))

    def move_to(self, round: int) -> None:
        """Ratchet to CK_`round` and forget all before it."""
        steps = round - self._now.index
        if steps > 0 and self._now.epoch:
            chains = tuple(advance(chain, steps) for chain in self._now.chains)
            self._write(replace(self._now, index=round, chains=chains, answer=_NONE))

    def _write(self, contents: Contents) -> None:
        self._store.write_secrets(encode(contents))
        self._now = contents
