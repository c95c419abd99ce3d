"""Step 7: unbiased rounding on the public grid, local clipping, no wrap; and the way back."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.ring import _PIECE, SPAN, decode_mean, encode_into, encode_update
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

RINGS = pytest.mark.parametrize("bits", [32, 16])


def key(seed=0):
    return Secret(seed.to_bytes(32, "big"))


def as_integers(vector):
    return [int(value) for value in vector.view(f"i{vector.itemsize}")]


def plain_encode(update, update_range, levels, weight, seed, bits=32, some=None):
    """The same in exact rational arithmetic, from the same coins; the scaled value is float32 in the narrow ring."""
    coins = np.frombuffer(AesCtrStream(key(seed)).take(len(update) * bits // 8), f"<i{bits // 8}")
    some = np.arange(len(update)) if some is None else some
    out = []
    for value, coin in zip(update[some], coins[some], strict=True):
        scaled = Fraction(float(value)) * Fraction(levels) / Fraction(update_range)
        if bits == 16:
            scaled = Fraction(float(np.float32(float(scaled))))
        scaled = min(max(scaled, -levels), levels)
        whole = round(scaled)
        out.append((whole + round(scaled - whole + Fraction(int(coin), 1 << bits))) * weight)
    return out


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20),
    st.integers(1024, 2**20),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_rounding_is_that_of_exact_arithmetic(values, levels, weight, seed):
    """For a range that is a power of two and such Q the scaling is exact in float64."""
    update = np.array(values, np.float32)
    found = encode_update(update, update_range=2.0, levels=levels, weight=weight, key=key(seed))
    assert found.dtype == np.uint32
    assert as_integers(found) == plain_encode(update, 2.0, levels, weight, seed)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20),
    st.integers(1024, 32767 // 3),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_narrow_rounding_is_that_of_exact_arithmetic(values, levels, weight, seed):
    update = np.array(values, np.float32)
    found = encode_update(update, update_range=2.0, levels=levels, weight=weight, key=key(seed), bits=16)
    assert found.dtype == np.uint16
    assert as_integers(found) == plain_encode(update, 2.0, levels, weight, seed, bits=16)


@RINGS
def test_rounding_is_unbiased(bits):
    count = 400_000
    for fraction in (0.03, 0.5, 0.9):
        update = np.full(count, 7 + fraction, np.float32)
        found = encode_update(update, update_range=1024.0, levels=1024, weight=1, key=key(1), bits=bits)
        assert set(as_integers(found)) == {7, 8}
        deviation = math.sqrt(fraction * (1 - fraction) / count)
        assert abs(np.mean(as_integers(found)) - 7 - fraction) < 5 * deviation


@RINGS
def test_whole_numbers_are_never_moved(bits):
    update = np.tile(np.arange(-1024, 1025, dtype=np.float32), 100)
    found = encode_update(update, update_range=1024.0, levels=1024, weight=3, key=key(), bits=bits)
    assert as_integers(found) == [3 * int(value) for value in update]


def test_large_whole_numbers_are_never_moved_or_pushed_over_the_edge():
    levels = 2**31 - 1
    update = np.tile(np.float32([2**24, 2**30, -(2**30), 2**31, -(2**31)]), 50_000)
    found = encode_update(update, update_range=float(levels), levels=levels, weight=1, key=key())
    assert as_integers(found[:5]) == [2**24, 2**30, -(2**30), levels, -levels]
    assert (found.reshape(-1, 5) == found[:5]).all()


@RINGS
def test_clipping_is_local_and_coordinate_by_coordinate(bits):
    update = np.array([1e30, -1e30, 2.0, 0.5, np.finfo(np.float32).max], np.float32)
    for small in (1.0, 2.0**-64):
        found = encode_update(update * np.float32(small), update_range=small, levels=2048, weight=2, key=key(), bits=bits)
        assert as_integers(found) == [4096, -4096, 4096, 2048, 4096]
    huge = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    found = encode_update(huge, update_range=2.0**-64, levels=2048, weight=2, key=key(), bits=bits)
    assert as_integers(found) == [4096, -4096]


@RINGS
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_and_threads_do_not_show(bits, threads):
    update = np.random.default_rng(0).normal(size=SPAN + 70_001).astype(np.float32)
    levels = 1 << 20 if bits == 32 else 2000
    choice = {"update_range": 4.0, "levels": levels, "weight": 1, "key": key(3)}
    found = encode_update(update, bits=bits, threads=threads, **choice)
    seams = [range(at - 10, at + 10) for at in (10, _PIECE, SPAN, SPAN + _PIECE, len(update) - 10)]
    some = np.array([at for seam in seams for at in seam] + list(range(0, len(update), 97)))
    assert as_integers(found[some]) == plain_encode(update, 4.0, levels, 1, 3, bits, some)
    part = np.empty(100, found.dtype)
    encode_into(update[40_000:40_100], part, first=40_000, **choice)
    assert (part == found[40_000:40_100]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_a_broken_promise(value):
    update = np.array([0.0, value], np.float32)
    with pytest.raises(AssertionError, match="update is not finite"):
        encode_update(update, update_range=1.0, levels=2048, weight=1, key=key())


@pytest.mark.parametrize("update", [np.zeros(3), np.zeros((1, 3), np.float32), np.zeros(3, np.float16)])
def test_other_types_are_refused(update):
    with pytest.raises(ProtocolError, match="not a float32 vector"):
        encode_update(update, update_range=1.0, levels=2048, weight=1, key=key())


@RINGS
@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=9), st.integers(1, 1000))
def test_decoding_is_one_product_and_one_quotient(bits, values, weight):
    values = [value * (1 if bits == 16 else 2**16 - 1) for value in values]
    total = np.array(values, f"i{bits // 8}").view(f"u{bits // 8}")
    found = decode_mean(total, update_range=0.3, levels=10_737_418, weight=weight)
    assert found.dtype == np.float64
    assert found.tolist() == [value * (0.3 / 10_737_418) / float(weight) for value in values]


def test_sum_of_two_hundred_sites_at_the_edge_does_not_wrap():
    levels = (2**31 - 1) // 200
    assert levels == 10_737_418
    total = np.zeros(2, np.uint32)
    for seed in range(200):
        edge = np.array([9.0, -9.0], np.float32)
        total += encode_update(edge, update_range=1.0, levels=levels, weight=1, key=key(seed))
    assert as_integers(total) == [200 * levels, -200 * levels]


def test_narrow_sum_of_thirty_one_sites_at_the_edge_does_not_wrap():
    levels = (2**15 - 1) // 31
    assert levels == 1057
    total = np.zeros(2, np.uint16)
    for seed in range(31):
        edge = np.array([9.0, -9.0], np.float32)
        total += encode_update(edge, update_range=1.0, levels=levels, weight=1, key=key(seed), bits=16)
    assert as_integers(total) == [31 * levels, -31 * levels]
