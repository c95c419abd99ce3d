"""Masks cancel, are independent, look uniform, and are AES-256-CTR block by block."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import masks
from ssl_core.secure_sum.masks import apply, apply_part, pair_mask, self_mask
from ssl_core.secure_sum.ring import SPAN
from ssl_core.trust.identity import Secret


def keys(count, label="key"):
    return [Secret(hashlib.sha256(f"{label} {at}".encode()).digest()) for at in range(count)]


def blocks(key, words, size=4):
    """The stream from AES in ECB mode over counters 0, 1, ...: another way to the same bytes."""
    count = -(-words * size // 16)
    counters = b"".join(at.to_bytes(16, "big") for at in range(count))
    cipher = Cipher(algorithms.AES256(key.reveal()), modes.ECB()).encryptor()  # noqa: S305 - an oracle for CTR
    return np.frombuffer(cipher.update(counters), f"<u{size}")[:words]


SIZES = pytest.mark.parametrize("size", [4, 2])


@SIZES
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 3), st.integers(0, 3))
def test_masks_are_aes_in_counter_mode(size, words, plus, minus):
    vector = np.arange(words, dtype=f"u{size}")
    add, subtract = keys(plus, "plus"), keys(minus, "minus")
    expected = [
        (at + sum(int(blocks(k, words, size)[at]) for k in add) - sum(int(blocks(k, words, size)[at]) for k in subtract))
        % 2 ** (8 * size)
        for at in range(words)
    ]
    apply(vector, add=add, subtract=subtract)
    assert vector.tolist() == expected


@SIZES
@pytest.mark.parametrize("around", [masks._PIECE, 2 * masks._PIECE, 4 * SPAN])
def test_chunks_continue_the_stream(size, around):
    key = keys(1)
    for words in (around // size - 1, around // size, around // size + 5):
        vector = np.zeros(words, f"u{size}")
        apply(vector, add=key, subtract=[])
        assert (vector == blocks(key[0], words, size)).all()


@SIZES
def test_threads_do_not_show(size):
    add, subtract = keys(3, "plus"), keys(70, "minus")
    vectors = []
    for threads in (1, 2, 5):
        vector = np.arange(3 * SPAN + 11, dtype=np.uint32).astype(f"u{size}")
        apply(vector, add=add, subtract=subtract, threads=threads)
        vectors.append(vector)
    assert (vectors[0] == vectors[1]).all() and (vectors[0] == vectors[2]).all()
    part = np.arange(8, 500, dtype=np.uint32).astype(f"u{size}")
    apply_part(part, first=8, add=add, subtract=subtract)
    assert (part == vectors[0][8:500]).all()


def test_more_keys_than_one_batch_cancel():
    many = keys(2 * masks._STREAMS + 3)
    vector = np.arange(100, dtype=np.uint32)
    apply(vector, add=many, subtract=[])
    assert (vector != np.arange(100)).any()
    apply(vector, add=[], subtract=many)
    assert (vector == np.arange(100)).all()


def test_self_and_pair_masks_of_one_element_differ():
    assert self_mask(7).reveal() != pair_mask(7).reveal()
    assert pair_mask(7).reveal() != pair_mask(8).reveal()


def uniform(words):
    """p-values of bytes and of words against the uniform law."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    return stats.chisquare(counts).pvalue, stats.kstest(words / 2**32, "uniform").pvalue


def test_masked_vector_looks_uniform_and_the_plain_one_does_not(kit):
    federation = kit.Federation(kit.make_params(4, dimension=40_000))
    updates = federation.whole_updates(1, size=1000)
    federation.begin(1)
    vectors = {name: federation.sites[name].upload(1, updates[name])[1] for name in federation.names}
    for vector in vectors.values():
        assert min(uniform(vector)) > 1e-4
    partial = vectors[federation.names[0]] + vectors[federation.names[1]]
    assert min(uniform(partial)) > 1e-4
    everyone = sum(vectors.values(), np.zeros(40_000, np.uint32))
    assert min(uniform(everyone)) > 1e-4, "the self masks still hide the sum of all"
    assert max(uniform(updates[federation.names[0]].astype(np.int32).view(np.uint32))) < 1e-9


def test_masks_of_two_rounds_and_two_pairs_share_no_block(kit):
    """Zero updates: what is uploaded is the mask alone. No 16-byte block comes twice."""
    federation = kit.Federation(kit.make_params(4, dimension=4_000))
    zeros = {name: np.zeros(4_000, np.float32) for name in federation.names}
    seen = []
    for round in (1, 2, 3):
        federation.begin(round)
        for name in federation.names:
            data = federation.sites[name].upload(round, zeros[name])[1].tobytes()
            seen += [data[at : at + 16] for at in range(0, len(data), 16)]
        federation.coordinator.void()
    assert len(set(seen)) == len(seen) == 3 * 4 * 1000


def test_sum_with_one_site_on_another_model_is_void_and_noise(kit):
    """A server that shows one site another model gets nothing: its masks do not cancel."""
    federation = kit.Federation(kit.make_params(4, dimension=20_000))
    updates = federation.whole_updates(2, size=1000)
    federation.begin(1)
    good = {name: federation.sites[name].upload(1, updates[name]) for name in federation.names[1:]}
    other = kit.Federation(federation.params, initial=np.ones(20_000, np.float32))
    other.begin(1)
    odd = other.sites[other.names[0]].upload(1, updates[other.names[0]])
    with pytest.raises(ProtocolError, match="upload is of another round; field: site; value: site-00"):
        federation.coordinator.add_upload(other.names[0], *odd)
    total = odd[1] + sum((vector for _, vector in good.values()), np.zeros(20_000, np.uint32))
    assert min(uniform(total)) > 1e-4
