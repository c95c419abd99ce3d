"""Step 7: unbiased rounding on the public grid, local clipping, no wrap; and the way back."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.ring import decode_mean, encode_update
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream


def stream(seed=0):
    return AesCtrStream(Secret(seed.to_bytes(32, "big")))


def as_integers(vector):
    return [int(value) for value in vector.view(np.int32)]


def plain_encode(update, update_range, levels, weight, seed):
    """The same in exact rational arithmetic, from the same uniforms."""
    uniforms = stream(seed).uniform(len(update))
    out = []
    for value, uniform in zip(update, uniforms, strict=True):
        scaled = Fraction(float(value)) * Fraction(levels) / Fraction(update_range)
        scaled = min(max(scaled, -levels), levels)
        whole = math.floor(scaled)
        out.append((whole + (1 - Fraction(float(uniform)) < scaled - whole)) * weight)
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
    found = encode_update(update, update_range=2.0, levels=levels, weight=weight, stream=stream(seed))
    assert as_integers(found) == plain_encode(update, 2.0, levels, weight, seed)


def test_rounding_is_unbiased():
    count = 400_000
    for fraction in (0.03, 0.5, 0.9):
        update = np.full(count, 7 + fraction, np.float32)
        found = encode_update(update, update_range=1024.0, levels=1024, weight=1, stream=stream(1)).view(np.int32)
        assert set(np.unique(found)) == {7, 8}
        deviation = math.sqrt(fraction * (1 - fraction) / count)
        assert abs(found.mean() - 7 - fraction) < 5 * deviation


def test_whole_numbers_are_never_moved():
    update = np.arange(-1024, 1025, dtype=np.float32)
    found = encode_update(update, update_range=1024.0, levels=1024, weight=3, stream=stream())
    assert as_integers(found) == [3 * value for value in range(-1024, 1025)]


def test_clipping_is_local_and_coordinate_by_coordinate():
    update = np.array([1e30, -1e30, 2.0, 0.5, np.finfo(np.float32).max], np.float32)
    found = encode_update(update, update_range=1.0, levels=2048, weight=2, stream=stream())
    assert as_integers(found) == [4096, -4096, 4096, 2048, 4096]


def test_chunks_do_not_show():
    update = np.random.default_rng(0).normal(size=70_001).astype(np.float32)
    found = encode_update(update, update_range=4.0, levels=1 << 20, weight=1, stream=stream(3))
    assert as_integers(found) == plain_encode(update, 4.0, 1 << 20, 1, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_a_broken_promise(value):
    update = np.array([0.0, value], np.float32)
    with pytest.raises(AssertionError, match="update is not finite"):
        encode_update(update, update_range=1.0, levels=2048, weight=1, stream=stream())


@pytest.mark.parametrize("update", [np.zeros(3), np.zeros((1, 3), np.float32), np.zeros(3, np.float16)])
def test_other_types_are_refused(update):
    with pytest.raises(ProtocolError, match="not a float32 vector"):
        encode_update(update, update_range=1.0, levels=2048, weight=1, stream=stream())


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9), st.integers(1, 1000))
def test_decoding_is_one_product_and_one_quotient(values, weight):
    total = np.array(values, np.int32).view(np.uint32)
    found = decode_mean(total, update_range=0.3, levels=10_737_418, weight=weight)
    assert found.dtype == np.float64
    assert found.tolist() == [value * (0.3 / 10_737_418) / float(weight) for value in values]


def test_sum_of_two_hundred_sites_at_the_edge_does_not_wrap():
    levels = (2**31 - 1) // 200
    assert levels == 10_737_418
    total = np.zeros(2, np.uint32)
    for seed in range(200):
        edge = np.array([9.0, -9.0], np.float32)
        total += encode_update(edge, update_range=1.0, levels=levels, weight=1, stream=stream(seed))
    assert as_integers(total) == [200 * levels, -200 * levels]
