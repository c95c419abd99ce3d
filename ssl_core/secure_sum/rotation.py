"""Step 7 of 12, half bandwidth: update float32 [P] -> rotated float32 [P], and the decoded sum back; public, exact, no padding.

A few large coordinates would force a coarse grid on all others. The rotation spreads every coordinate over 2^16 others,
so that each comes out near N(0, ||x||^2 / P) and 16 bits do what 19 would (Suresh et al., "Distributed mean estimation
with limited communication", ICML 2017, section 3; random permutation before blocks instead of padding to a power of two).
Three steps, each an orthonormal map. `_place`: lines of 16 neighbours in an order drawn once a session, then transposed, so
that the coordinates of a line, and lines of one layer, fall into different blocks; the last P mod 16 stay last. `_flip`:
one coin a coordinate, drawn for the round's context. Walsh-Hadamard in blocks of 2^16, or of the largest power of two
that fits a shorter vector; when blocks do not fill it, one more block over the last 2^k coordinates, rotated again.
The order and the signs are public and hide nothing; AES-256-CTR under hashed labels gives all parties the same.
The way back is float64 with + and -, in one order, times powers of two or sqrt(1/2): all machines agree to the bit
(ruling 12); but for the last block it is even exact, as sums of whole numbers below 2^31.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum.codec import digest
from ssl_core.secure_sum.ring import SPAN, require_finite
from ssl_core.secure_sum.threads import on_all
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

Floats = npt.NDArray[np.floating[Any]]

BLOCK_BITS = 16
_LINE = 16
_LINES = 1 << 12
_TILE = 32
# Beyond it a sum of 2^16 float32 values could overflow twice; whatever the range, such values are clipped in the end.
_CUT = np.float32(2.0**100)


def rotate(
    update: npt.NDArray[np.float32], *, session: bytes, context: bytes, threads: int | None = None
) -> npt.NDArray[np.float32]:
    """The rotated copy of `update` [P]; AssertionError when a value is not finite (ruling 15)."""
    out = np.empty_like(update)
    _place(update, out, session, threads)
    bits, main, rest = _blocks(len(out))
    _turn_all(out[:main], bits, context, threads, back=False)
    if rest:
        _turn(out[-1 << bits :], main >> bits, context, np.empty(1 << bits, out.dtype), back=False)
    return out


def rotate_back(
    values: npt.NDArray[np.float64], *, session: bytes, context: bytes, threads: int | None = None
) -> npt.NDArray[np.float64]:
    """The inverse of `rotate`, as a new vector [P]; `values` are spent as working memory."""
    bits, main, rest = _blocks(len(values))
    if rest:
        _turn(values[-1 << bits :], main >> bits, context, np.empty(1 << bits, values.dtype), back=True)
    _turn_all(values[:main], bits, context, threads, back=True)
    out = np.empty_like(values)
    _place_back(values, out, session, threads)
    return out


def _blocks(length: int) -> tuple[int, int, int]:
    """log2 of the block, coordinates in whole blocks, coordinates beyond them."""
    bits = min(BLOCK_BITS, length.bit_length() - 1)
    rest = length & ((1 << bits) - 1)
    return bits, length - rest, rest


def _place(update: npt.NDArray[np.float32], out: npt.NDArray[np.float32], session: bytes, threads: int | None) -> None:
    count = len(update) // _LINE
    lines, rows = update[: count * _LINE].reshape(count, _LINE), out[: count * _LINE].reshape(_LINE, count)
    order = _order(session, count)

    def work(part: slice) -> None:
        room = np.empty((_LINES, _LINE), np.float32)
        for begin in range(part.start, part.stop, _LINES):
            here = slice(begin, min(begin + _LINES, part.stop))
            some = room[: here.stop - begin]
            np.take(lines, order[here], axis=0, out=some, mode="clip")
            require_finite(some)
            np.clip(some, -_CUT, _CUT, out=some)
            rows[:, here] = some.T

    on_all(work, count, SPAN // _LINE, threads)
    last = update[count * _LINE :]
    require_finite(last)
    np.clip(last, -_CUT, _CUT, out=out[count * _LINE :])


def _place_back(values: npt.NDArray[np.float64], out: npt.NDArray[np.float64], session: bytes, threads: int | None) -> None:
    count = len(values) // _LINE
    lines, rows = out[: count * _LINE].reshape(count, _LINE), values[: count * _LINE].reshape(_LINE, count)
    order = _order(session, count)

    def work(part: slice) -> None:
        for begin in range(part.start, part.stop, _LINES):
            here = slice(begin, min(begin + _LINES, part.stop))
            lines[order[here]] = rows[:, here].T

    on_all(work, count, SPAN // _LINE, threads)
    out[count * _LINE :] = values[count * _LINE :]


@lru_cache(maxsize=2)
def _order(session: bytes, count: int) -> npt.NDArray[np.uint32]:
    """A random order of `count` lines, uint32 [count]: sorted random keys, each of which ends in its place and so is unique."""
    low = np.uint64(count.bit_length())
    keys = np.empty(count, "<u8")
    AesCtrStream(Secret(digest("rotation/order", session))).fill(keys.view(np.uint8))
    sorted_keys = keys.astype(np.uint64, copy=False)
    sorted_keys >>= low
    sorted_keys <<= low
    sorted_keys |= np.arange(count, dtype=np.uint64)
    sorted_keys.sort()
    sorted_keys &= np.uint64((1 << int(low)) - 1)
    order = sorted_keys.astype(np.uint32)
    order.setflags(write=False)
    return order


def _turn_all(values: Floats, bits: int, context: bytes, threads: int | None, *, back: bool) -> None:
    def work(part: slice) -> None:
        spare = np.empty(1 << bits, values.dtype)
        for begin in range(part.start, part.stop, 1 << bits):
            _turn(values[begin : begin + (1 << bits)], begin >> bits, context, spare, back=back)

    on_all(work, len(values), SPAN, threads)


def _turn(values: Floats, block: int, context: bytes, spare: Floats, *, back: bool) -> None:
    """Signs and Hadamard (or back: Hadamard and signs) of one block [2^k], in place; `spare` is of the same size."""
    bits = len(values).bit_length() - 1
    if not back:
        _flip(values, block, context, spare)
    turned = _hadamard(values, spare, bits - bits // 2 if back else bits // 2)
    scale = 0.5 ** (bits // 2) * (float(np.sqrt(0.5)) if bits % 2 else 1.0)
    np.multiply(turned, scale, out=values)
    if back:
        _flip(values, block, context, spare)


def _flip(values: Floats, block: int, context: bytes, spare: Floats) -> None:
    """Change the sign of each value whose coin is 1: bit i mod 8 of byte i / 8 from byte 2^13 x `block` of the stream on."""
    word = np.dtype(f"u{values.itemsize}")
    coins = np.empty(max(1, len(values) // 8), np.uint8)
    AesCtrStream(Secret(digest("rotation/signs", context)), block=block << (BLOCK_BITS - 7)).fill(coins)
    signs = spare.view(word)
    np.copyto(signs, np.unpackbits(coins, count=len(values), bitorder="little"))
    np.left_shift(signs, 8 * word.itemsize - 1, out=signs)
    np.bitwise_xor(values.view(word), signs, out=values.view(word))


def _hadamard(values: Floats, spare: Floats, high: int) -> Floats:
    """Walsh-Hadamard transform of a block [2^k], unscaled, with the top `high` bits of the index moved to the bottom.

    Butterflies run over the top bits only, where neighbours lie together; the one transposition between brings the
    others up. With k - `high` in its place the same steps undo it. Both arrays are overwritten; one of them is returned.
    """
    bits = len(values).bit_length() - 1
    # With the usual buffer of 8192 numpy copies runs that are shorter than it, which doubles the time.
    usual = np.setbufsize(512)
    try:
        values, spare = _butterflies(values, spare, high)
        rows, columns = values.reshape(1 << high, 1 << (bits - high)), spare.reshape(1 << (bits - high), 1 << high)
        for begin in range(0, 1 << high, _TILE):
            columns[:, begin : begin + _TILE] = rows[begin : begin + _TILE].T
        return _butterflies(spare, values, bits - high)[0]
    finally:
        np.setbufsize(usual)


def _butterflies(values: Floats, spare: Floats, stages: int) -> tuple[Floats, Floats]:
    for stage in range(stages):
        old, new = (array.reshape(1 << stage, 2, -1) for array in (values, spare))
        np.add(old[:, 0], old[:, 1], out=new[:, 0])
        np.subtract(old[:, 0], old[:, 1], out=new[:, 1])
        values, spare = spare, values
    return values, spare
