"""Norms that are never too small: a search for rows on which float32 loses what the true norm is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_core.privacy.bookkeeping import GAMMA, divisor
from ssl_core.privacy.kept import PIECES, ROUNDINGS, TERMS, Lookups, Part, Products, Rows


def _true(part: Part) -> Tensor:
    """Norms in float64 of the rows that the kept values stand for."""
    if isinstance(part, Rows):
        return torch.cat([row.double().flatten(1) for row in part.values], dim=1).norm(dim=1)
    grads = part.grads.double()
    if isinstance(part, Products):
        inputs = part.inputs.double()
        if part.bias:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :, :1])], dim=2)
        return torch.bmm(grads.transpose(1, 2), inputs).flatten(1).norm(dim=1)
    hot = torch.nn.functional.one_hot(part.index, part.count).double()
    return torch.bmm(hot.transpose(1, 2), grads).flatten(1).norm(dim=1)


def _flat(found: tuple[Tensor, ...]) -> Tensor:
    """All of a weighted sum."""
    return torch.cat([part.flatten() for part in found])


def _cancelling(seed: int, tokens: int, wide: int, high: int, left: float) -> tuple[Tensor, Tensor]:
    """Inputs alike up to a share `left`, gradients that add up to nearly nothing: the row is far below its terms."""
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((1, 1, wide)) + left * generator.standard_normal((1, tokens, wide))
    grads = generator.standard_normal((1, tokens, high))
    grads -= grads.mean(axis=1, keepdims=True) * (1.0 - left * generator.random())
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(grads.astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 40),
    wide=st.integers(1, 80),
    high=st.integers(1, 80),
    left=st.floats(-9, 0),
    scales=st.tuples(st.integers(-30, 15), st.integers(-30, 15)),
    clip_exponent=st.integers(-6, 3),
    kinds=st.tuples(*2 * [st.sampled_from([torch.float32, torch.bfloat16])]),
    bias=st.booleans(),
)
def test_no_unit_adds_more_than_c_however_its_terms_cancel(
    seed: int,
    tokens: int,
    wide: int,
    high: int,
    left: float,
    scales: tuple[int, int],
    clip_exponent: int,
    kinds: Any,
    bias: bool,
) -> None:
    """Also where squares vanish or pass float32; kept as a product, of either kind of numbers, and written out; with a bias."""
    pair = zip(_cancelling(seed, tokens, wide, high, 10.0**left), scales, kinds, strict=True)
    inputs, grads = ((part * 10.0**scale).to(kind) for part, scale, kind in pair)
    products = Products(inputs, grads, torch.Size((high, wide)), bias)
    for part in (products, Rows(products.rows())):
        clip_norm, bound, true = 10.0**clip_exponent, part.bound(), _true(part)
        assert float(bound.upper.sqrt()) >= float(true) or not bool(bound.upper.isfinite())
        found = divisor([bound])
        if found.square() <= torch.finfo(torch.float32).max:
            factor = (clip_norm / found).clamp(max=1.0)
            assert float(_flat(part.weighted(factor, None)).norm()) <= clip_norm


@pytest.mark.parametrize(("tokens", "wide", "high"), [(8, 64, 64), (40, 8, 8)])
def test_such_rows_exist_and_the_norm_as_found_would_break_the_promise(tokens: int, wide: int, high: int) -> None:
    """Positive control of the search: float32 alone understates some norm by more than GAMMA, the bound never does."""
    worst = 1.0
    for seed in range(300):
        inputs, grads = _cancelling(seed, tokens, wide, high, 10.0 ** -(1 + seed % 8))
        part = Products(inputs, grads, torch.Size((high, wide)))
        bound, true = part.bound(), float(_true(part))
        worst = min(worst, float(bound.square.sqrt()) / true)
        assert float(bound.upper.sqrt()) >= true
        assert float(divisor([part.bound()])) >= true
    assert worst < 1 - GAMMA


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    units=st.integers(1, 5),
    tokens=st.integers(1, 30),
    high=st.integers(1, 40),
    count=st.integers(1, 9),
    left=st.floats(-8, 0),
)
def test_tables_are_bounded_likewise(seed: int, units: int, tokens: int, high: int, count: int, left: float) -> None:
    generator = np.random.default_rng(seed)
    grads = generator.standard_normal((units, tokens, high))
    grads -= grads.mean(axis=1, keepdims=True) * (1.0 - 10.0**left)
    index = torch.from_numpy(generator.integers(0, count, (units, tokens)))
    part = Lookups(index, torch.from_numpy(grads.astype(np.float32)), count)
    bound, true = part.bound(), _true(part)
    assert (bound.upper.sqrt() >= true).all()
    assert torch.allclose(part.rows()[0].double().flatten(1).norm(dim=1), true, rtol=1e-4, atol=1e-5)
    factors = (1e-3 / divisor([part.bound()])).clamp(max=1.0)
    assert float(_flat(part.weighted(factors, None)).norm()) <= units * 1e-3
    hot = torch.nn.functional.one_hot(index, count).double() * factors[:, None, None]
    torch.testing.assert_close(part.weighted(factors, None)[0], torch.einsum("utc,uth->ch", hot, part.grads.double()))


def test_a_small_table_is_written_out_and_a_large_one_is_not() -> None:
    """By its shapes: the same sum and, but for the mass, the same bound."""
    generator = torch.Generator().manual_seed(0)
    grads, factors = torch.randn(3, 4, 5, generator=generator), torch.rand(3, dtype=torch.float64, generator=generator)
    for count, kind in ((1, Rows), (8, Rows), (9, Lookups)):
        table = Lookups(torch.randint(0, count, (3, 4), generator=generator), grads, count)
        part = table.cheapest()
        assert type(part) is kind
        torch.testing.assert_close(part.weighted(factors, None), table.weighted(factors, None), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(part.bound().square, table.bound().square, rtol=1e-6, atol=0)
        torch.testing.assert_close(part.bound().square.sqrt(), _true(table), rtol=1e-6, atol=0)


def test_ordinary_units_are_clipped_by_their_norm_as_found() -> None:
    """The proof must not cost ordinary units anything beyond GAMMA, or the engines would not agree."""
    generator = torch.Generator().manual_seed(0)
    # ViT-Tiny to ViT-Base at 196 tokens are among them.
    for tokens, wide, high in (
        (1, 192, 192),
        (16, 192, 768),
        (64, 192, 768),
        (196, 384, 1536),
        (196, 768, 3072),
        (400, 20, 30),
    ):
        inputs, grads = (torch.randn(2, tokens, size, generator=generator) for size in (wide, high))
        part = Products(inputs, grads, torch.Size((high, wide)), bias=True).cheapest()
        torch.testing.assert_close(divisor([part.bound()]), (1 + GAMMA) * part.bound().square.sqrt(), rtol=1e-12, atol=0)
        torch.testing.assert_close(part.bound().square.sqrt(), _true(part), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("where", ["inputs", "grads"])
def test_a_unit_that_is_not_finite_is_seen_and_left_out_of_the_sum(bad: float, where: str) -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.tensor([True, False, True])
    of_both: list[Callable[[Tensor, Tensor], Part]] = [
        lambda a, g: Products(a, g, torch.Size((6, 5))),
        lambda a, g: Products(a, g, torch.Size((6, 5)), bias=True),
        lambda a, g: Rows(Products(a, g, torch.Size((6, 5))).rows()),
    ]
    of_grads: list[Callable[[Tensor, Tensor], Part]] = [
        lambda _a, g: Lookups(torch.tensor([[0, 1, 1]] * 3), g, 2),
        lambda _a, g: Rows((g,)),
    ]
    for make in of_both if where == "inputs" else [*of_both, *of_grads]:
        inputs, grads = torch.randn(3, 3, 5, generator=generator), torch.randn(3, 3, 6, generator=generator)
        clean = make(inputs.clone(), grads.clone())
        (inputs if where == "inputs" else grads)[1, 2, 3] = bad
        spoilt = make(inputs, grads)
        found = divisor([spoilt.bound()])
        assert (found.square() <= torch.finfo(torch.float32).max).tolist() == kept.tolist()
        torch.testing.assert_close(found[kept], divisor([clean.bound()])[kept])
        factors = torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)
        assert torch.equal(_flat(spoilt.weighted(factors, kept)), _flat(clean.weighted(factors, kept)))


def test_many_units_written_out_are_added_as_a_loop_would() -> None:
    """More than one float32 product takes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(TERMS + 40, 3, 5, generator=generator)
    factors = torch.rand(len(values), dtype=torch.float64, generator=generator)
    wanted = (values.double() * factors[:, None, None]).sum(dim=0)
    torch.testing.assert_close(Rows((values,)).weighted(factors, None)[0], wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("wide", "high"), [(2, 3), (3, 2)])
def test_many_tokens_are_added_as_in_float64(wide: int, high: int, bias: bool, kind: torch.dtype) -> None:
    """More terms than float32 products take, and more of these products than are added up in float32: either factor scaled."""
    generator = torch.Generator().manual_seed(0)
    tokens = 2 * PIECES + 3
    inputs, grads = (torch.randn(TERMS, tokens, size, generator=generator).to(kind) for size in (wide, high))
    factors = torch.rand(TERMS, dtype=torch.float64, generator=generator)
    found = Products(inputs, grads, torch.Size((high, wide)), bias).weighted(factors, None)
    scaled = grads.double() * factors[:, None, None]
    wanted = [torch.einsum("utd,utp->dp", scaled, inputs.double()), scaled.sum(dim=(0, 1))][: 1 + bias]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == torch.float64
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_so_many_terms_and_products_are_added_in_float32_and_no_more(bias: bool) -> None:
    """Beside 2^24 what is added in float32 vanishes: half of each later product's worth, had it met it in time."""
    tokens = (2 * PIECES + 1) * TERMS
    grads = torch.full((1, tokens, 1), 2.0**-10)
    grads[0, :TERMS] = 2.0**14
    part = Products(torch.ones(1, tokens, 2), grads, torch.Size((1, 2)), bias)
    # The first product is 2^24; with it go PIECES - 1 of 1 each, which vanish; PIECES more of 1 and the last are apart.
    for found in part.weighted(torch.ones(1, dtype=torch.float64), None):
        assert set(found.flatten().tolist()) == {2.0**24 + PIECES + 1}
    assert ROUNDINGS == 1089


def test_a_bias_is_one_more_column_of_ones() -> None:
    """Rows, bound and sum of a weight with its bias are those of a weight that has the column."""
    generator = torch.Generator().manual_seed(0)
    for tokens in (3, 80):
        inputs, grads = (torch.randn(4, tokens, size, generator=generator) for size in (200, 7))
        with_ones = torch.cat([inputs, torch.ones(4, tokens, 1)], dim=2)
        joint = Products(inputs, grads, torch.Size((7, 200)), bias=True)
        whole = Products(with_ones, grads, torch.Size((7, 201)))
        factors = torch.rand(4, dtype=torch.float64, generator=generator)
        for mine, theirs in ((joint.rows(), whole.rows()), (joint.weighted(factors, None), whole.weighted(factors, None))):
            weight, bias = mine
            torch.testing.assert_close(torch.cat([weight, bias[..., None]], dim=-1), theirs[0], rtol=1e-5, atol=1e-5)
        for name in ("square", "upper", "mass"):
            mine, theirs = (getattr(part.bound(), name) for part in (joint, whole))
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=0)


def _within(part: Part, clip_norm: float) -> bool:
    """One unit's part of a clipped sum has norm C at most, whether it is counted or left out."""
    found = divisor([part.bound()])
    finite = found.square() <= torch.finfo(torch.float32).max
    factor = torch.where(finite, (clip_norm / found).clamp(max=1.0), 0.0)
    return float(_flat(part.weighted(factor, None if bool(finite.all()) else finite)).norm()) <= clip_norm


@pytest.mark.parametrize("tokens", [3, 10, 100])
def test_a_product_of_two_tokens_that_passes_float32_below_zero_hides_no_other_token(tokens: int) -> None:
    """The diagonals are finite, the products of the first two tokens, which cancel, are not."""
    inputs, grads = torch.zeros(1, tokens, 200), torch.zeros(1, tokens, 200)
    inputs[0, :2, 0] = torch.tensor([4.2955817e09, 4.2910223e09])
    grads[0, :2, 0] = torch.tensor([4.294353e09, -4.298916e09])
    inputs[0, 2:, 1] = 4.29e9
    grads[0, 2:, 1] = 4.29e9
    part = Products(inputs, grads, torch.Size((200, 200)))
    assert (inputs.square().sum(dim=2) * grads.square().sum(dim=2)).isfinite().all()
    assert _within(part, 1.0)


def test_nor_does_it_in_a_table() -> None:
    """The product of the first two tokens is below the greatest float32, which rounding in its sum may pass."""
    below = 2.0**63 * (1 - 2.0**-23)
    pair = torch.full((2, 4), 2.0**63)
    pair[0, 0] = pair[1, 3] = below
    pair[1] *= -1
    grads = torch.zeros(1, 60, 4)
    grads[0, :2], grads[0, 2:, 0] = pair, 1.8e19
    index = torch.ones(1, 60, dtype=torch.long)
    index[0, :2] = 0
    assert _within(Lookups(index, grads, 2), 1.0)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("clip_norm", [1e-6, 1e-3, 1.0])
def test_what_vanishes_under_large_inputs_or_small_gradients_is_bounded(flush: bool, clip_norm: float) -> None:
    """Factors that bring gradients below 2^-126, beside inputs near the greatest float32; written rows and Gram matrices."""
    rng = np.random.default_rng(1)
    assert torch.set_flush_denormal(flush) or not flush
    try:
        for _ in range(300):
            tokens, wide, high = (int(rng.integers(1, size)) for size in (6, 40, 40))
            scale = 2.0 ** float(rng.uniform(90, 125))
            inputs = torch.from_numpy((rng.standard_normal((1, tokens, wide)) * scale).astype(np.float32))
            grads = torch.from_numpy((rng.standard_normal((1, tokens, high)) * 2.0 ** rng.uniform(-149, 20)).astype(np.float32))
            for part in (Products(inputs, grads, torch.Size((high, wide))), Products(grads, inputs, torch.Size((wide, high)))):
                assert _within(part, clip_norm)
                assert _within(Rows(part.rows()), clip_norm)
        small = torch.full((1, 16, 16384), 2.0**-63.5)
        part = Products(small, torch.full((1, 16, 4), 2.0**60), torch.Size((4, 16384)))
        assert float(part.bound().upper.sqrt()) >= float(_true(part))
    finally:
        torch.set_flush_denormal(False)
