"""Shamir's secret sharing over GF(2^255 - 19): any t shares give the secret, t - 1 give nothing.

Comes in: a secret field element, t and the points x = 1 .. ; goes out: one field element a point. Combining works at
x = 0 with Lagrange weights that depend on the points alone and are cached. Shamir, "How to share a secret", CACM 1979.
Splitting is Horner's rule in whole integers with one reduction at the end: points are small, so that a step adds at most
the point's own bits, and a backup of 200 secrets for 200 sites takes well under a second.
Python's integers do not run in constant time: shares are handled on the machine of their owner or recipient only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from ssl_core.errors import ProtocolError

PRIME = (1 << 255) - 19
_WIDE = 48


def element(random: Callable[[int], bytes]) -> int:
    """A field element, uniform to 2^-129: 384 random bits mod p."""
    return int.from_bytes(random(_WIDE), "big") % PRIME


def point(site: int) -> int:
    """The point of the member at place `site`: never zero, where the secret lies."""
    return site + 1


def to_bytes(value: int) -> bytes:
    """A field element as 32 bytes, big endian."""
    return value.to_bytes(32, "big")


def is_element(data: bytes) -> bool:
    """Whether these are the 32 bytes of a field element."""
    return len(data) == 32 and int.from_bytes(data, "big") < PRIME


def from_bytes(data: bytes) -> int:
    """The field element in 32 bytes; `ProtocolError` unless it is below p, so that each has one spelling."""
    if not is_element(data):
        raise ProtocolError("value is not an element of the field", field="share", limit="32 bytes, below 2^255 - 19")
    return int.from_bytes(data, "big")


def split(secret: int, threshold: int, points: Sequence[int], random: Callable[[int], bytes]) -> list[int]:
    """One share of `secret` for each of the distinct, non-zero `points`; `threshold` of them give it back."""
    if not 0 <= secret < PRIME:
        raise ProtocolError("secret is not an element of the field", field="secret")
    if not 1 <= threshold <= len(points):
        raise ProtocolError("threshold does not fit the points", field="threshold", value=threshold, limit=len(points))
    _check(points)
    drawn = random(_WIDE * (threshold - 1))
    wide = (drawn[at : at + _WIDE] for at in range(0, len(drawn), _WIDE))
    falling = [int.from_bytes(part, "big") % PRIME for part in wide] + [secret]
    shares = []
    for point in points:
        value = 0
        for coefficient in falling:
            value = value * point + coefficient
        shares.append(value % PRIME)
    return shares


def combine(shares: Mapping[int, int]) -> int:
    """The secret of {point: share}: exactly as many shares as its threshold, or more."""
    points = tuple(sorted(shares))
    _check(points)
    return sum(weight * shares[point] for point, weight in zip(points, _weights(points), strict=True)) % PRIME


@lru_cache(maxsize=64)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def _check(points: Sequence[int]) -> None:
    if not points or len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ProtocolError("points must be distinct and not zero", field="points")
