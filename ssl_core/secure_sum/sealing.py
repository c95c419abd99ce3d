"""Seals one Shamir share from one site to another, and commits to secrets before they are opened.

Key: HKDF-Expand(CK_r, "seal" | from | to | context), one for each direction and round; AES-256-GCM with a random nonce,
associated data from | to | context. A share that is sent to another place, reflected, or moved to another round does
not open. Commitments are H("b" | context | b_i) and H("e" | context | e_ij) (ruling 10): of 255-bit secrets, so they
hide them; they let the server check each recovered secret and name the pair whose ends differ.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.codec import digest, join
from ssl_core.secure_sum.shamir import from_bytes, to_bytes
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import derive

_NONCE = 12


def seal(chain: Secret, context: bytes, *, sender: int, recipient: int, share: int, random: Callable[[int], bytes]) -> bytes:
    """`share` readable by `recipient` alone, bytes [60]."""
    nonce = random(_NONCE)
    key, label = _key(chain, context, sender, recipient)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, to_bytes(share), label)


def unseal(chain: Secret, context: bytes, *, sender: int, recipient: int, sealed: bytes, name: str) -> int:
    """What `sender`, called `name`, sealed; `ProtocolError` when that was no share for this place and round."""
    key, label = _key(chain, context, sender, recipient)
    try:
        share = AESGCM(key.reveal()).decrypt(sealed[:_NONCE], sealed[_NONCE:], label)
        return from_bytes(share)
    except InvalidTag as error:
        raise ProtocolError("sealed share does not open", field="sender", value=name) from error
    except ProtocolError as error:
        raise ProtocolError("sealed share is not an element of the field", field="sender", value=name) from error


def commit_self(context: bytes, element: int) -> bytes:
    """Commitment [32] to a site's own b_i."""
    return digest("b", context, to_bytes(element))


def commit_pair(context: bytes, element: int) -> bytes:
    """Commitment [32] to a pair's e_ij; both ends give the same."""
    return digest("e", context, to_bytes(element))


def _key(chain: Secret, context: bytes, sender: int, recipient: int) -> tuple[Secret, bytes]:
    label = join("seal", sender.to_bytes(2, "big"), recipient.to_bytes(2, "big"), context)
    return derive(chain, label), label
