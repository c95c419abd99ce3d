"""Epoch keys and chains: what two sites share, and how it is forgotten round by round.

Each site signs one X25519 key an epoch with its identity; all offers together are the key set E, whose hash every
context binds (ruling 7). For a pair i < j: CK_0 = HKDF-Extract(H("chain" | session | roster | H(E) | i | j),
X25519(epoch_i, epoch_j)). The salt names the pair, because a dishonest member can offer a key that gives the same
Diffie-Hellman value as an honest one's (a copy, or the copy plus a point of small order); without the pair in it, his
"dropping out" would open the honest pair's masks. CK_{r+1} = HKDF-Expand(CK_r, "next"), so an erased chain key cannot
be computed again. Index i of a site's own chain starts from its own randomness and seals its own share to itself.
X25519: RFC 7748, all-zero results refused; HKDF: RFC 5869.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.codec import decode, digest, encode
from ssl_core.secure_sum.messages import KeySet, Offer
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.shamir import PRIME
from ssl_core.secure_sum.statements import is_signed_by, keyset_hash, read_signed, sign
from ssl_core.trust.identity import Identity, Secret
from ssl_core.trust.random import derive

# u of the points of order 1, 2, 4 and 8 on the curve and its twist (RFC 7748, section 7): their shared value is zero.
_ORDER_EIGHT = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_SMALL_ORDER = frozenset({0, 1, PRIME - 1, *_ORDER_EIGHT})


def new_private(random: Callable[[int], bytes]) -> Secret:
    """A fresh X25519 private key [32]."""
    return Secret(random(32))


def make_offer(params: SumParams, identity: Identity, *, site: int, epoch: int, private: Secret) -> bytes:
    """The signed OFFER of `site` for one epoch; the same bytes for the same key."""
    public = X25519PrivateKey.from_private_bytes(private.reveal()).public_key().public_bytes_raw()
    return sign(identity, params.hash, Offer(epoch=epoch, site=site, key=public))


def make_keyset(params: SumParams, offers: Mapping[str, bytes]) -> bytes:
    """E of the offers of all members; `ProtocolError` names the member whose offer is missing or wrong."""
    missing = [member.name for member in params.members if member.name not in offers]
    if missing:
        raise ProtocolError("key set lacks an offer", field="site", value=", ".join(missing))
    ordered = tuple(offers[member.name] for member in params.members)
    epochs = {read_signed(Offer, offer)[1].epoch for offer in ordered}
    if len(epochs) != 1:
        raise ProtocolError("offers are of several epochs", field="epoch", value=sorted(epochs))
    keyset = encode(KeySet(epoch=epochs.pop(), offers=ordered))
    open_keyset(params, keyset)
    return keyset


def open_keyset(params: SumParams, keyset: bytes) -> tuple[int, tuple[bytes, ...], tuple[bytes, ...]]:
    """(epoch, public keys [n][32], signed offers [n]) of a key set, every offer checked; `ProtocolError` otherwise."""
    body = decode(KeySet, keyset)
    if len(body.offers) != len(params.members):
        found = len(body.offers)
        raise ProtocolError("key set has not one offer for each member", field="offers", value=found, limit=len(params.members))
    publics: list[bytes] = []
    for place, (member, data) in enumerate(zip(params.members, body.offers, strict=True)):
        offer = check_offer(params, place, data)
        if offer.epoch != body.epoch:
            raise ProtocolError("key offer is of another epoch", field="site", value=member.name, limit=body.epoch)
        if offer.key in publics:
            raise ProtocolError("key offer repeats another site's key", field="site", value=member.name)
        publics.append(offer.key)
    return body.epoch, tuple(publics), body.offers


def check_offer(params: SumParams, place: int, data: bytes) -> Offer:
    """The offer of the member at `place`, whatever its epoch; `ProtocolError` names him."""
    name = params.members[place].name
    signed, offer = read_signed(Offer, data)
    if not is_signed_by(params.members[place].identity, signed):
        raise ProtocolError("key offer is not signed by its site", field="site", value=name)
    if signed.context != params.hash:
        raise ProtocolError("key offer belongs to another study", field="site", value=name)
    if offer.site != place:
        raise ProtocolError("key offer stands in another site's place", field="site", value=name)
    if int.from_bytes(offer.key, "little") >= PRIME:
        raise ProtocolError("key offer is not a canonical X25519 key", field="site", value=name)
    if int.from_bytes(offer.key, "little") in _SMALL_ORDER:
        raise ProtocolError("key offer has small order", field="site", value=name)
    return offer


def shared(private: Secret, public: bytes) -> Secret:
    """X25519 of our private and their public key; `ProtocolError` for a key of small order (all-zero result)."""
    try:
        own = X25519PrivateKey.from_private_bytes(private.reveal())
        value = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise ProtocolError("X25519 key has small order: the shared value is zero", field="key") from error
    return Secret(value)


def extract(salt: bytes, material: Secret) -> Secret:
    """HKDF-Extract with SHA-256 (RFC 5869 section 2.2)."""
    return Secret(hmac.digest(salt, material.reveal(), hashlib.sha256))


def first_chain(params: SumParams, keyset: bytes, *, site: int, peer: int, private: Secret, public: bytes) -> Secret:
    """CK_0 of `site` and `peer`; both ends compute the same."""
    low, high = sorted((site, peer))
    pair = (low.to_bytes(2, "big"), high.to_bytes(2, "big"))
    salt = digest("chain", params.session, params.roster, keyset_hash(keyset), *pair)
    return extract(salt, shared(private, public))


def advance(chain: Secret, steps: int) -> Secret:
    """CK_{r + steps} of CK_r."""
    for _ in range(steps):
        chain = derive(chain, b"sum/next")
    return chain


def pair_element(chain: Secret, context: bytes) -> int:
    """e_ij of the round: HKDF-Expand(CK_r, "mask" | context, 64 bytes) mod p, uniform to 2^-257."""
    return int.from_bytes(derive(chain, b"sum/mask/" + context, 64).reveal(), "big") % PRIME
