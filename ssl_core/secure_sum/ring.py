"""Step 7 of 12: update float32 [P] and a public range R -> w q in Z_2^b [P], b = 32 or 16; and the sum back to float64 [P].

q = stochastic rounding of s = x Q / R, clipped to [-Q, Q] locally and coordinate by coordinate; then q is multiplied by
the site's public weight w in integers. With Q = floor((2^(b-1) - 1) / W) no sum of w_i q_i of any sites wraps (ruling 9).
Rounding is unbiased to 2^-b of a step: q = c + rint(s - c + u) with c = rint(s) and u uniform on [-1/2, 1/2) in steps of
2^-b from AES-256-CTR; s - c is exact, so a whole number never moves and q never leaves [-Q, Q]. s is float64 in the
32-bit ring and float32 in the 16-bit one, where |s| < 2^15. Error of the mean: at most one step R / Q.
Noise was added before, so that rounding is post-processing. In the 16-bit ring x is the rotated update (rotation.py).
Decoding uses float64 conversion, one product and one quotient, so that all machines agree to the bit (ruling 12).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.threads import on_all
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

Words = npt.NDArray[np.unsignedinteger[Any]]
"""A vector of Z_2^b: uint32 [P] or uint16 [P]."""

SPAN = 1 << 18
"""Coordinates of one job of a thread; at either width a whole number of AES blocks."""

_PIECE = 1 << 15


def encode_update(
    update: npt.NDArray[np.float32],
    *,
    update_range: float,
    levels: int,
    weight: int,
    key: Secret,
    bits: int = 32,
    threads: int | None = None,
) -> Words:
    """Words [P] of `update` float32 [P] (parameter units), times `weight`; `key` [32] is fresh and used for this alone.

    A value that is not finite raises AssertionError: the steps before give none, whatever the data are (ruling 15).
    """
    check_update(update)
    out: Words = np.empty(update.shape, f"u{bits // 8}")

    def work(part: slice) -> None:
        encode_into(update[part], out[part], first=part.start, update_range=update_range, levels=levels, weight=weight, key=key)

    on_all(work, len(update), SPAN, threads)
    return out


def encode_into(
    update: npt.NDArray[np.float32],
    out: Words,
    *,
    first: int,
    update_range: float,
    levels: int,
    weight: int,
    key: Secret,
) -> None:
    """Fill `out`, whose width is the ring's, with the words of `update`, the vector's part from `first` (of 8) on."""
    signed = np.dtype(f"i{out.itemsize}")
    real = np.dtype(np.float64 if out.itemsize == 4 else np.float32)
    stream = AesCtrStream(key, block=first * out.itemsize // 16)
    scaled, other = (np.empty(min(len(out), _PIECE), real) for _ in range(2))
    coins = np.empty(len(scaled) * out.itemsize, np.uint8)
    # What is beyond float32 in the 16-bit ring becomes infinite of the right sign, which the clip takes.
    with np.errstate(over="ignore"):
        for begin in range(0, len(out), _PIECE):
            part, target = update[begin : begin + _PIECE], out[begin : begin + _PIECE].view(signed)
            require_finite(part)
            s, c, words = scaled[: len(part)], other[: len(part)], coins[: target.nbytes].view(signed)
            np.copyto(s, part)
            np.multiply(s, levels / update_range, out=s)
            np.clip(s, -levels, levels, out=s)
            np.rint(s, out=c)
            np.copyto(target, c, casting="unsafe")
            np.subtract(s, c, out=s)
            stream.fill(words.view(np.uint8))
            u = c
            np.copyto(u, words.view(signed.newbyteorder("<")))
            np.multiply(u, 2.0 ** (-8 * out.itemsize), out=u)
            np.add(s, u, out=s)
            np.rint(s, out=s)
            np.copyto(words, s, casting="unsafe")
            np.add(target, words, out=target)
            np.multiply(target, weight, out=target)


def check_update(update: npt.NDArray[np.float32]) -> None:
    """`ProtocolError` unless float32 [P]."""
    if update.dtype != np.float32 or update.ndim != 1:
        found = f"{update.dtype} {update.ndim}-d"
        raise ProtocolError("update is not a float32 vector", field="update", value=found, limit="float32 1-d")


def require_finite(values: npt.NDArray[np.float32]) -> None:
    """AssertionError when a value is not finite."""
    if not bool(np.isfinite(values).all()):
        raise AssertionError("update is not finite: a step before the secure sum broke its promise")


def whole_sum(total: Words) -> npt.NDArray[np.float64]:
    """float64 [P]: the sum's words as signed whole numbers, exact."""
    return total.view(np.dtype(f"i{total.itemsize}")).astype(np.float64)


def decode_mean(total: Words, *, update_range: float, levels: int, weight: int) -> npt.NDArray[np.float64]:
    """float64 [P] (parameter units): the mean of a sum [P] whose sites' weights add up to `weight`."""
    return scale_mean(whole_sum(total), update_range=update_range, levels=levels, weight=weight)


def scale_mean(values: npt.NDArray[np.float64], *, update_range: float, levels: int, weight: int) -> npt.NDArray[np.float64]:
    """`values` [P] in grid steps, summed -> parameter units, mean; in place."""
    np.multiply(values, update_range / levels, out=values)
    np.divide(values, float(weight), out=values)
    return values
