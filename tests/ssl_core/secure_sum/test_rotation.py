"""Step 7 at half bandwidth: the rotation against a plain reference, its inverse to the bit, and what it is good for."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from ssl_core.secure_sum.ring import decode_mean, encode_update, scale_mean, whole_sum
from ssl_core.secure_sum.rotation import rotate, rotate_back
from ssl_core.trust.identity import Secret

SESSION, CONTEXT = hashlib.sha256(b"session").digest(), hashlib.sha256(b"context").digest()
WORDS = {"session": SESSION, "context": CONTEXT}
VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "secure_sum" / "rotation.json"


def tagged(tag, part):
    framed = b"".join(struct.pack(">I", len(each)) + each for each in (b"choral/sum/v1/" + tag, part))
    return hashlib.sha256(framed).digest()


def stream(key, count, first=0):
    """AES-256 block by block, another way to the counter's stream."""
    counters = b"".join(at.to_bytes(16, "big") for at in range(first, first + -(-count // 16)))
    return Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counters)[:count]  # noqa: S305


def places(length, session):
    """For each coordinate of the placed vector, where it comes from."""
    lines = length // 16
    low = lines.bit_length()
    draws = struct.unpack(f"<{lines}Q", stream(tagged(b"rotation/order", session), 8 * lines))
    order = sorted(range(lines), key=lambda at: (draws[at] >> low, at))
    return [16 * order[line] + column for column in range(16) for line in range(lines)] + list(range(16 * lines, length))


def signs(block, count, context):
    data = stream(tagged(b"rotation/signs", context), -(-count // 8), first=block * 2**16 // 128)
    return np.array([1 - 2 * (data[at // 8] >> at % 8 & 1) for at in range(count)])


def spectrum(values):
    """Walsh-Hadamard by definition, its rows and columns then exchanged; two factors where the matrix would not fit."""
    bits = len(values).bit_length() - 1
    rows, columns = 1 << bits // 2, 1 << (bits - bits // 2)
    return (hadamard(rows) @ values.reshape(rows, columns) @ hadamard(columns)).T.reshape(-1) / np.sqrt(len(values))


def reference(update, session=SESSION, context=CONTEXT):
    """float64 [P], from the words of the module docstring."""
    placed = update.astype(np.float64)[places(len(update), session)]
    size = 1 << min(16, len(placed).bit_length() - 1)
    begins = list(range(0, len(placed) - size + 1, size))
    if len(placed) % size:
        begins.append(len(placed) - size)
    for block, begin in enumerate(begins):
        part = slice(begin, begin + size)
        placed[part] = spectrum(placed[part] * signs(block, size, context))
    return placed


def heavy(length, seed=0):
    """Layers of very different scale, heavy tails within: what trained updates look like."""
    generator = np.random.default_rng(seed)
    scales = np.exp(generator.normal(0, 1.5, -(-length // 4096)))
    return (generator.standard_t(3, length) * np.repeat(scales, 4096)[:length] * 1e-3).astype(np.float32)


def test_two_factors_are_the_hadamard_matrix():
    for bits in range(8):
        values = np.random.default_rng(bits).normal(size=1 << bits)
        natural = spectrum(values).reshape(1 << (bits - bits // 2), 1 << bits // 2).T.reshape(-1)
        assert np.allclose(natural, hadamard(1 << bits) @ values / np.sqrt(1 << bits), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_it_agrees_with_the_reference(length, seed):
    update = np.random.default_rng(seed).standard_t(3, length).astype(np.float32)
    found = rotate(update, **WORDS)
    assert found.dtype == np.float32
    assert np.allclose(found, reference(update), rtol=0, atol=2e-6 * np.abs(update).max() * np.sqrt(length))


@pytest.mark.parametrize("length", [2**16, 2**17, 2**16 + 1, 3 * 2**16 + 12_345])
def test_it_agrees_with_the_reference_in_whole_blocks(length):
    update = heavy(length)
    scale = np.sqrt(np.mean(np.square(update, dtype=np.float64)))
    assert np.abs(rotate(update, **WORDS) - reference(update)).max() < 1e-5 * scale


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_there_and_back(length, seed):
    update = np.random.default_rng(seed).standard_t(3, length).astype(np.float32)
    rotated = rotate(update, **WORDS)
    norm = np.linalg.norm(update.astype(np.float64))
    assert np.linalg.norm(rotated.astype(np.float64)) == pytest.approx(norm, rel=1e-5)
    again = rotate_back(rotated.astype(np.float64), **WORDS)
    assert again.dtype == np.float64
    assert np.linalg.norm(again - update) < 2e-6 * norm


@pytest.mark.parametrize("length", [16, 2**12, 2**16, 2**17])
def test_the_way_back_of_whole_numbers_is_exact(length):
    """Whole blocks of an even power of two: integers over a power of two, whatever the order of the sums."""
    words = np.random.default_rng(0).integers(-(2**15), 2**15, length)
    found = rotate_back(words.astype(np.float64), **WORDS)
    size = min(length, 2**16)
    root = int(np.sqrt(size))
    assert root * root == size
    whole = np.empty(length, np.int64)
    for block, begin in enumerate(range(0, length, size)):
        high = 1 << (size.bit_length() - 1) // 2
        natural = words[begin : begin + size].reshape(size // high, high).T
        mixed = hadamard(high).astype(np.int64) @ natural @ hadamard(size // high).astype(np.int64)
        whole[begin : begin + size] = mixed.reshape(-1) * signs(block, size, CONTEXT)
    expected = np.empty(length, np.int64)
    expected[places(length, SESSION)] = whole
    assert (found * root == expected).all()


@pytest.mark.parametrize("length", [50_000, 2**18 + 2**16 + 77])
def test_threads_do_not_show(length):
    update = heavy(length)
    rotated = [rotate(update, threads=threads, **WORDS) for threads in (1, 2, 5)]
    assert rotated[0].tobytes() == rotated[1].tobytes() == rotated[2].tobytes()
    back = [rotate_back(rotated[0].astype(np.float64), threads=threads, **WORDS) for threads in (1, 2, 5)]
    assert back[0].tobytes() == back[1].tobytes() == back[2].tobytes()


def test_the_update_is_not_changed():
    update = heavy(5000)
    kept = update.copy()
    rotate(update, **WORDS)
    assert (update == kept).all()


def test_session_and_context_change_it():
    update = heavy(5000)
    base = rotate(update, **WORDS)
    assert not np.allclose(base, rotate(update, session=SESSION, context=bytes(32)))
    assert not np.allclose(base, rotate(update, session=bytes(32), context=CONTEXT))


def test_numpy_keeps_its_own_buffer_size():
    before = np.getbufsize()
    rotate(heavy(5000), threads=1, **WORDS)
    assert np.getbufsize() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 40])
def test_value_that_is_not_finite_is_a_broken_promise(value, at):
    update = np.zeros(41, np.float32)
    update[at] = value
    with pytest.raises(AssertionError, match="update is not finite"):
        rotate(update, **WORDS)


@pytest.mark.parametrize("length", [1, 15, 31, 2**16, 2**16 + 1000])
def test_largest_floats_stay_finite_and_are_clipped(length):
    update = np.full(length, np.finfo(np.float32).max, np.float32)
    update[::2] *= -1
    rotated = rotate(update, **WORDS)
    assert np.isfinite(rotated).all()
    found = encode_update(rotated, update_range=1.0, levels=1057, weight=31, key=Secret(bytes(32)), bits=16)
    assert np.abs(found.view(np.int16)).max() == 31 * 1057


def test_a_single_large_coordinate_is_spread_over_its_block():
    update = np.zeros(2**17 + 5, np.float32)
    update[7] = 256.0
    rotated = rotate(update, **WORDS)
    assert set(np.unique(np.abs(rotated))) == {0.0, 1.0}
    assert np.count_nonzero(rotated) == 2**16


def test_neighbours_fall_into_different_blocks():
    """A layer of 256 coordinates in a vector of 32 blocks: none gets more than a fair share of it by far."""
    update = np.zeros(2**21, np.float32)
    update[2**20 : 2**20 + 256] = 1.0
    energy = np.square(rotate(update, **WORDS).reshape(32, -1)).sum(axis=1)
    assert energy.sum() == pytest.approx(256, rel=1e-4)
    assert energy.max() < 32


def test_six_root_mean_squares_are_a_sensible_range():
    """Rotated coordinates look Gaussian, so that six deviations clip nothing of a heavy-tailed update."""
    update = heavy(2**20)
    deviation = np.sqrt(np.mean(np.square(update, dtype=np.float64)))
    rotated = np.abs(rotate(update, **WORDS))
    assert np.abs(update).max() > 20 * deviation
    assert rotated.max() < 6 * deviation
    assert np.mean(rotated > 2 * deviation) == pytest.approx(0.0455, abs=0.003)


def errors(count, length=2**18):
    """Relative L2 error of the mean of `count` sites at 16 bits, (plain, rotated); plain knows the largest coordinate."""
    updates = [heavy(length, seed) for seed in range(count)]
    mean = np.mean([update.astype(np.float64) for update in updates], axis=0)
    levels = (2**15 - 1) // count
    largest = max(float(np.abs(update).max()) for update in updates)
    common = {"levels": levels, "weight": 1, "bits": 16}
    plain, rotated = np.zeros(length, np.uint16), np.zeros(length, np.uint16)
    wide = 6 * max(float(np.sqrt(np.mean(np.square(update, dtype=np.float64)))) for update in updates)
    for at, update in enumerate(updates):
        key = Secret(at.to_bytes(32, "big"))
        plain += encode_update(update, update_range=largest, key=key, **common)
        rotated += encode_update(rotate(update, **WORDS), update_range=wide, key=key, **common)
    found = decode_mean(plain, update_range=largest, levels=levels, weight=count)
    turned = scale_mean(rotate_back(whole_sum(rotated), **WORDS), update_range=wide, levels=levels, weight=count)
    return [float(np.linalg.norm(each - mean) / np.linalg.norm(mean)) for each in (found, turned)]


@pytest.mark.parametrize("count", [10, 31])
def test_rotation_is_worth_more_than_two_bits_on_a_heavy_tailed_update(count):
    plain, rotated = errors(count)
    assert rotated < plain / 4
    assert rotated < 4e-4 * count


def test_error_of_the_mean_is_within_a_step():
    """Orthonormal: the error's norm is at most sqrt(P) steps; its deviation is below half a step over sqrt(sites)."""
    length, count = 2**17 + 999, 10
    updates = [heavy(length, seed) for seed in range(count)]
    wide = 6 * max(float(np.sqrt(np.mean(np.square(update, dtype=np.float64)))) for update in updates)
    levels = (2**15 - 1) // count
    total = np.zeros(length, np.uint16)
    for at, update in enumerate(updates):
        key = Secret(at.to_bytes(32, "big"))
        total += encode_update(rotate(update, **WORDS), update_range=wide, levels=levels, weight=1, key=key, bits=16)
    mean = scale_mean(rotate_back(whole_sum(total), **WORDS), update_range=wide, levels=levels, weight=count)
    error = mean - np.mean([update.astype(np.float64) for update in updates], axis=0)
    step = wide / levels
    assert np.linalg.norm(error) <= np.sqrt(length) * step
    assert np.sqrt(np.mean(np.square(error))) < 0.52 * step / np.sqrt(count)


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["cases"], ids=lambda case: f"{len(case['update'])} long")
def test_frozen_vectors(case):
    """Both directions of short vectors, most with an overlapping block, to the bit, for any later version."""
    frozen = json.loads(VECTORS.read_text())
    words = {"session": bytes.fromhex(frozen["session"]), "context": bytes.fromhex(frozen["context"])}
    update = np.array(case["update"], np.float32)
    assert rotate(update, **words).tolist() == case["rotated"]
    assert rotate_back(np.array(case["total"], np.float64), **words).tolist() == case["back"]
    assert np.allclose(rotate(update, **words), reference(update, **words), atol=1e-6)
