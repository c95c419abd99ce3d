"""Seals shares from one site to another, and commits to every secret that may be opened.

Key: HKDF-Expand(CK_r, "seal" | from | to | context | kind), one for each direction, round and kind; AES-256-GCM with a
random nonce, associated data from | to | context | kind. What is sent to another place, reflected, or moved to another
round or kind does not open. Each key seals ONE message, as a site deals once a round: giving a key away opens that
message and nothing else, since HKDF outputs under different labels are independent of each other and of CK_r.
Commitments are SHA-256 under a tag of their own over context, places and secret (ruling 10). Every secret is a uniform
255-bit element given all that t - 1 holders know, so that a commitment hides it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ssl_core.secure_sum.codec import digest, join, prefix
from ssl_core.secure_sum.messages import SEAL_BYTES
from ssl_core.secure_sum.shamir import is_element
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import derive

_NONCE = 12
SHARE = "share"
BACKUP = "backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who deals what to whom in which round: it names a key, binds a seal and stands in a commitment."""

    context: bytes
    sender: int
    recipient: int
    kind: str = SHARE

    @property
    def label(self) -> bytes:
        """What key and seal are bound to."""
        return join("seal", *self.ends, self.context, self.kind.encode("ascii"))

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """Sender and recipient, two bytes each."""
        return self.sender.to_bytes(2, "big"), self.recipient.to_bytes(2, "big")


def seal_key(chain: Secret, route: Route) -> Secret:
    """The key of this one message; both ends compute it from their chain of the round."""
    return derive(chain, route.label)


def seal(chain: Secret, route: Route, content: bytes, random: Callable[[int], bytes]) -> bytes:
    """`content` readable by the recipient alone, 28 bytes longer."""
    nonce = random(_NONCE)
    return nonce + AESGCM(seal_key(chain, route).reveal()).encrypt(nonce, content, route.label)


def unseal(key: Secret, route: Route, sealed: bytes) -> bytes | None:
    """What was sealed; None when that is nothing the sender sealed for this place, round and kind."""
    if len(sealed) < SEAL_BYTES:
        return None
    try:
        return AESGCM(key.reveal()).decrypt(sealed[:_NONCE], sealed[_NONCE:], route.label)
    except InvalidTag:
        return None


def commit_self(context: bytes, element: bytes) -> bytes:
    """Commitment [32] to a site's own b_i, a field element as bytes [32]."""
    return digest("b", context, element)


def commit_pair(context: bytes, element: bytes) -> bytes:
    """Commitment [32] to a pair's e_ij, a field element as bytes [32]; both ends give the same."""
    return digest("e", context, element)


def commit_share(route: Route, share: bytes) -> bytes:
    """Commitment [32] of the sender to the recipient's share of b; `share` is a field element as bytes [32]."""
    return digest("share", route.context, *route.ends, share)


def is_share(route: Route, opened: bytes, commitment: bytes) -> bool:
    """Whether what came out of a seal is the field element that was committed to."""
    return is_element(opened) and commit_share(route, opened) == commitment


def backup_leaves(route: Route, peers: Sequence[int], shares: Sequence[bytes]) -> list[bytes]:
    """Commitments [32] to the recipient's shares of the sender's elements with `peers`, one for each."""
    base = hashlib.sha256(join("backup-leaf", route.context, *route.ends))
    leaves = []
    for peer, share in zip(peers, shares, strict=True):
        leaf = base.copy()
        leaf.update(prefix([peer.to_bytes(2, "big"), share]))
        leaves.append(leaf.digest())
    return leaves


def commit_backup(route: Route, leaves: Sequence[bytes]) -> bytes:
    """One commitment [32] to all the leaves: it is checked with the shares of some peers and the leaves of the others."""
    return digest("backup", route.context, *route.ends, *leaves)


def commit_complaint(route: Route, key: bytes) -> bytes:
    """What an answer says, in its signed head, of a seal key that it gives away [32]."""
    return digest("complaint", route.context, *route.ends, key)
