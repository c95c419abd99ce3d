"""Second decoder, floor 3: update -> words of the ring under masks, and a sum back to the mean, one coordinate at a time.

Python's floats are IEEE doubles; `narrow` rounds to the nearest float32 after each step where the protocol says float32.
A sum, difference or product of two float32 values that is made as a double and then rounded is the float32 result.
"""

from __future__ import annotations

import math
import struct

from tests_second_primitives import digest, element_bytes, key_stream

LARGEST = 2.0**100
BLOCK = 2**16


def narrow(value):
    """To float32; what is beyond its range becomes infinite."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def whole(value):
    return value


def stream_words(key, count, bits, *, begin=0, signed=False):
    """`count` words of the key stream from coordinate `begin` on, little endian."""
    code = {16: "h", 32: "i"}[bits] if signed else {16: "H", 32: "I"}[bits]
    return list(struct.unpack(f"<{count}{code}", key_stream(key, count * bits // 8, begin=begin * bits // 8)))


def self_key(element):
    return digest("self", element_bytes(element))


def pair_key(element):
    return digest("pair", element_bytes(element))


def signed_word(word, bits):
    return word - (1 << bits) if word >> (bits - 1) else word


def vector_bytes(words, bits):
    return struct.pack(f"<{len(words)}{'I' if bits == 32 else 'H'}", *words)


def rounded(update, *, bits, levels, update_range, weight, key, begin=0):
    """w q of float32 values: float64 arithmetic in the 32-bit ring, float32 in the 16-bit one."""
    fit = whole if bits == 32 else narrow
    factor, out = fit(levels / update_range), []
    for value, coin in zip(update, stream_words(key, len(update), bits, begin=begin, signed=True), strict=True):
        scaled = min(max(fit(value * factor), -levels), levels)
        nearest = round(scaled)
        moved = fit(fit(scaled - nearest) + coin * 2.0**-bits)
        out.append((nearest + round(moved)) * weight % (1 << bits))
    return out


def masked(words, bits, *, add, subtract, begin=0):
    """Words plus the streams of some keys, minus those of others."""
    for keys, sign in ((add, 1), (subtract, -1)):
        for key in keys:
            mask = stream_words(key, len(words), bits, begin=begin)
            words = [(word + sign * part) % (1 << bits) for word, part in zip(words, mask, strict=True)]
    return words


def mean_of(total, *, bits, levels, update_range, weight, turn_back=None):
    """The mean of words of a sum; `turn_back` is (session, context) in the 16-bit ring."""
    values = [float(signed_word(word, bits)) for word in total]
    if turn_back is not None:
        values = turned_back(values, *turn_back)
    step = update_range / levels
    return [value * step / float(weight) for value in values]


def line_order(lines, session):
    """Lines of 16 coordinates, sorted by 64-bit keys whose low bits give way to the line's own number."""
    low = lines.bit_length()
    drawn = struct.unpack(f"<{lines}Q", key_stream(digest("rotation/order", session), 8 * lines))
    return sorted(range(lines), key=lambda line: (drawn[line] >> low, line))


def sources(length, session):
    """For each coordinate of the placed vector, where it comes from."""
    order = line_order(length // 16, session)
    return [16 * line + column for column in range(16) for line in order] + list(range(length // 16 * 16, length))


def coins(count, block, context):
    """One sign a coordinate of a block, lowest bit of a byte first; a block's coins begin at byte 2^13 x its number."""
    data = key_stream(digest("rotation/signs", context), -(-count // 8), begin=block * 2**13)
    return [data[at // 8] >> at % 8 & 1 for at in range(count)]


def blocks(length):
    """(size, beginnings) of the blocks in the order of the way there; the last one may overlap the one before."""
    size = min(BLOCK, 1 << (length.bit_length() - 1))
    begins = list(range(0, length - size + 1, size))
    return size, begins + ([length - size] if length % size else [])


def hadamard(values, fit):
    """Walsh-Hadamard, scaled to keep lengths: butterflies from the widest to the narrowest, the upper sum first."""
    values, half = list(values), len(values) // 2
    while half:
        for begin in range(0, len(values), 2 * half):
            for at in range(begin, begin + half):
                upper, lower = values[at], values[at + half]
                values[at], values[at + half] = fit(upper + lower), fit(upper - lower)
        half //= 2
    bits = len(values).bit_length() - 1
    scale = fit(0.5 ** (bits // 2) * (math.sqrt(0.5) if bits % 2 else 1.0))
    return [fit(value * scale) for value in values]


def transposed(values, rows):
    columns = len(values) // rows
    return [values[row * columns + column] for column in range(columns) for row in range(rows)]


def flipped(values, block, context):
    return [-value if coin else value for value, coin in zip(values, coins(len(values), block, context), strict=True)]


def turned(update, session, context):
    """Float32 values in, float32 values out: placed, then each block with signs, Hadamard and its index halves exchanged."""
    values = [min(max(update[at], -LARGEST), LARGEST) for at in sources(len(update), session)]
    size, begins = blocks(len(values))
    bits = size.bit_length() - 1
    for block, begin in enumerate(begins):
        part = hadamard(flipped(values[begin : begin + size], block, context), narrow)
        values[begin : begin + size] = transposed(part, 1 << bits // 2)
    return values


def turned_back(values, session, context):
    """The way back in float64: the last block first, each with Hadamard, index halves exchanged, signs; then the places."""
    values = list(values)
    size, begins = blocks(len(values))
    bits = size.bit_length() - 1
    for block, begin in reversed(list(enumerate(begins))):
        part = transposed(hadamard(values[begin : begin + size], whole), 1 << bits - bits // 2)
        values[begin : begin + size] = flipped(part, block, context)
    out = [0.0] * len(values)
    for at, source in enumerate(sources(len(values), session)):
        out[source] = values[at]
    return out
