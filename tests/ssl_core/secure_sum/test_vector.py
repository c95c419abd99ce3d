"""The vector alone, at both widths: fused and plain ways agree, masks cancel, memory is bounded, a round is within a step."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import masks
from ssl_core.secure_sum.ring import SPAN, encode_update
from ssl_core.secure_sum.rotation import rotate
from ssl_core.secure_sum.statements import vector_hash
from ssl_core.secure_sum.vector import mask_update, mean_update, quantise
from ssl_core.trust.identity import Secret

WIDTHS = pytest.mark.parametrize("bits", [32, 16])
CONTEXT = hashlib.sha256(b"a round").digest()


def keys(count, label="key"):
    return [Secret(hashlib.sha256(f"{label} {at}".encode()).digest()) for at in range(count)]


def params_of(kit, bits, count=5, dimension=1000):
    return replace(kit.make_params(count, dimension=dimension), bits=bits, update_range=6.0)


def update_of(params, seed=0):
    return np.random.default_rng(seed).normal(size=params.dimension).astype(np.float32)


@WIDTHS
@pytest.mark.parametrize("dimension", [1, 37, SPAN + 70_007])
@pytest.mark.parametrize("threads", [1, 3])
def test_one_pass_is_quantise_then_mask_then_hash(kit, bits, dimension, threads):
    params = params_of(kit, bits, dimension=dimension)
    update, (key,) = update_of(params), keys(1, "rounding")
    kept = update.copy()
    add, subtract = keys(3, "plus"), keys(66, "minus")
    found, hashed = mask_update(params, CONTEXT, 2, update, key, add=add, subtract=subtract, threads=threads)
    expected = quantise(params, CONTEXT, 2, update, key)
    masks.apply(expected, add=add, subtract=subtract)
    assert found.dtype == params.word == expected.dtype and found.itemsize == bits // 8
    assert (found == expected).all()
    assert hashed == vector_hash(found) == hashlib.sha256(found.astype(f"<u{bits // 8}").tobytes()).digest()
    assert (update == kept).all()


def test_only_the_narrow_ring_is_rotated(kit):
    update, (key,) = update_of(params_of(kit, 32)), keys(1)
    for bits in (32, 16):
        params = params_of(kit, bits)
        source = update if bits == 32 else rotate(update, session=params.session, context=CONTEXT)
        weight = params.members[3].weight
        grid = {"update_range": 6.0, "levels": params.levels, "weight": weight, "key": key, "bits": bits}
        assert (quantise(params, CONTEXT, 3, update, key) == encode_update(source, **grid)).all()


@WIDTHS
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32))
def test_masks_cancel_and_the_mean_is_within_a_step(kit, bits, dimension, seed):
    params = params_of(kit, bits, dimension=dimension)
    sites = range(len(params.members))
    updates = [update_of(params, seed + site) for site in sites]
    own, rounding = keys(5, "own"), keys(5, "rounding")
    pairs = {(i, j): keys(1, f"{i} {j}")[0] for i in sites for j in sites if i < j}
    total = np.zeros(dimension, params.word)
    plain = np.zeros(dimension, params.word)
    for site in sites:
        add = [own[site], *(pairs[peer, site] for peer in sites if peer < site)]
        subtract = [pairs[site, peer] for peer in sites if peer > site]
        masked, _ = mask_update(params, CONTEXT, site, updates[site], rounding[site], add=add, subtract=subtract)
        total += masked
        plain += quantise(params, CONTEXT, site, updates[site], rounding[site])
    masks.apply(total, add=[], subtract=own)
    assert (total == plain).all()
    weights = [member.weight for member in params.members]
    found = mean_update(params, CONTEXT, total, weight=sum(weights))
    assert found.dtype == np.float64
    step = params.update_range / params.levels
    error = found - np.average([update.astype(np.float64) for update in updates], axis=0, weights=weights)
    assert np.linalg.norm(error) <= (step + 1e-5) * np.sqrt(dimension)


@WIDTHS
def test_decoding_needs_the_round_s_own_context_only_when_rotated(kit, bits):
    params = params_of(kit, bits)
    total = quantise(params, CONTEXT, 0, update_of(params), keys(1)[0])
    same = mean_update(params, CONTEXT, total, weight=1)
    other = mean_update(params, bytes(32), total, weight=1)
    assert np.array_equal(same, other) == (bits == 32)


@WIDTHS
def test_threads_do_not_change_the_mean(kit, bits):
    params = params_of(kit, bits, dimension=SPAN + 100_003)
    total = quantise(params, CONTEXT, 0, update_of(params), keys(1)[0])
    found = {mean_update(params, CONTEXT, total, weight=3, threads=threads).tobytes() for threads in (1, 2, 5)}
    assert len(found) == 1


@WIDTHS
@pytest.mark.parametrize("update", [np.zeros(1000), np.zeros((1, 1000), np.float32)])
def test_other_types_are_refused(kit, bits, update):
    with pytest.raises(ProtocolError, match="not a float32 vector"):
        mask_update(params_of(kit, bits), CONTEXT, 0, update, keys(1)[0], add=[], subtract=[])


@WIDTHS
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("threads", [1, 2])
def test_value_that_is_not_finite_is_a_broken_promise(kit, bits, value, threads):
    params = params_of(kit, bits, dimension=2 * SPAN)
    update = update_of(params)
    update[-1] = value
    with pytest.raises(AssertionError, match="update is not finite"):
        mask_update(params, CONTEXT, 0, update, keys(1)[0], add=[], subtract=[], threads=threads)


@WIDTHS
@pytest.mark.parametrize("threads", [1, 4])
def test_upload_takes_at_most_three_vectors_of_memory(kit, bits, threads):
    """Input included, over everything that numpy and Python allocate; four threads are all that work on 2^20."""
    params = params_of(kit, bits, dimension=1 << 20)
    update, add, subtract = update_of(params), keys(5, "plus"), keys(5, "minus")
    tracemalloc.start()
    mask_update(params, CONTEXT, 0, update, keys(1)[0], add=add, subtract=subtract, threads=threads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert update.nbytes + peak <= 3 * update.nbytes


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("before", [0, 1])
def test_whole_round_at_half_bandwidth(kit, plain, before):
    params = params_of(kit, 16, dimension=3000)
    federation = kit.Federation(params, plain=plain)
    updates = {name: update_of(params, seed) for seed, name in enumerate(federation.names)}
    lost = set(federation.names[:before])
    total = federation.run(1, updates, before=lost)
    assert total.dtype == np.uint16
    members = [member for member in params.members if member.name not in lost]
    mean = np.average(
        [updates[m.name].astype(np.float64) for m in members], axis=0, weights=[member.weight for member in members]
    )
    step = params.update_range / params.levels
    error = federation.coordinator.mean() - mean
    assert np.linalg.norm(error) <= (step + 1e-5) * np.sqrt(params.dimension)
    federation.close(1)
    federation.run(2, updates)
    assert np.abs(federation.coordinator.total().view(np.int16)).max() > 100


def test_vector_of_the_other_ring_is_refused(kit):
    federation = kit.Federation(params_of(kit, 16, dimension=50))
    federation.begin(1)
    name = federation.names[0]
    body, vector = federation.sites[name].upload(1, update_of(federation.params))
    with pytest.raises(ProtocolError, match="masked vector is not of the ring's words"):
        federation.coordinator.add_upload(name, body, vector.astype(np.uint32))
    assert federation.coordinator.add_upload(name, body, vector)
