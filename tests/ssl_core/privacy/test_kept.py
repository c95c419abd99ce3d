"""Norms that are never too small: a search for rows on which float32 loses what the true norm is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_core.privacy.bookkeeping import GAMMA, divisor
from ssl_core.privacy.kept import Bound, Lookups, Products, Rows


def _true(part: Products | Lookups | Rows) -> Tensor:
    """Norms in float64 of the rows that the kept values stand for."""
    if isinstance(part, Rows):
        return part.values.double().flatten(1).norm(dim=1)
    grads = part.grads.double()
    if isinstance(part, Products):
        return torch.bmm(grads.transpose(1, 2), part.inputs.double()).flatten(1).norm(dim=1)
    hot = torch.nn.functional.one_hot(part.index, part.count).double()
    return torch.bmm(hot.transpose(1, 2), grads).flatten(1).norm(dim=1)


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
)
def test_no_unit_adds_more_than_c_however_its_terms_cancel(
    seed: int, tokens: int, wide: int, high: int, left: float, scales: tuple[int, int], clip_exponent: int
) -> None:
    """Also where squares vanish or pass float32; both ways of taking a norm, as shapes have it."""
    inputs, grads = _cancelling(seed, tokens, wide, high, 10.0**left)
    part = Products(inputs * 10.0 ** scales[0], grads * 10.0 ** scales[1], torch.Size((high, wide)))
    clip_norm, bound, true = 10.0**clip_exponent, part.bound(), _true(part)
    assert float(bound.upper.sqrt()) >= float(true) or not bool(bound.upper.isfinite())
    found = divisor([part])
    if found.square() <= torch.finfo(torch.float32).max:
        factor = (clip_norm / found).clamp(max=1.0)
        assert float(part.weighted(factor, None).norm()) <= clip_norm


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
        assert float(divisor([part])) >= true
    gram = 2 * tokens * tokens <= wide * high
    assert worst < 1 - GAMMA if gram else worst < 1


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
    assert torch.allclose(part.rows().double().flatten(1).norm(dim=1), true, rtol=1e-4, atol=1e-5)
    factors = (1e-3 / divisor([part])).clamp(max=1.0)
    assert float(part.weighted(factors, None).norm()) <= units * 1e-3
    hot = torch.nn.functional.one_hot(index, count).double() * factors[:, None, None]
    torch.testing.assert_close(part.weighted(factors, None), torch.einsum("utc,uth->ch", hot, part.grads.double()))


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
        part = Products(inputs, grads, torch.Size((high, wide)))
        torch.testing.assert_close(divisor([part]), (1 + GAMMA) * part.bound().square.sqrt(), rtol=1e-12, atol=0)
        torch.testing.assert_close(part.bound().square.sqrt(), _true(part), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("where", ["inputs", "grads"])
def test_a_unit_that_is_not_finite_is_seen_and_left_out_of_the_sum(bad: float, where: str) -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.tensor([True, False, True])
    makers: list[Callable[[Tensor, Tensor], Products | Lookups | Rows]] = [
        lambda a, g: Products(a, g, torch.Size((6, 5))),
        lambda a, g: Products(a.repeat(1, 5, 1), g.repeat(1, 5, 1), torch.Size((6, 5))),
        lambda _a, g: Lookups(torch.tensor([[0, 1, 1]] * 3), g, 2),
        lambda _a, g: Rows(g),
    ]
    for make in makers:
        inputs, grads = torch.randn(3, 3, 5, generator=generator), torch.randn(3, 3, 6, generator=generator)
        clean = make(inputs.clone(), grads.clone())
        (inputs if where == "inputs" else grads)[1, 2, 3] = bad
        spoilt = make(inputs, grads)
        if where == "inputs" and not isinstance(spoilt, Products):
            continue
        found = divisor([spoilt])
        assert (found.square() <= torch.finfo(torch.float32).max).tolist() == kept.tolist()
        torch.testing.assert_close(found[kept], divisor([clean])[kept])
        factors = torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)
        assert torch.equal(spoilt.weighted(factors, kept), clean.weighted(factors, kept))


def test_bounds_add_up() -> None:
    one = Bound(*(torch.tensor([float(k)]) for k in (1, 2, 3)))
    both = one + one
    assert (both.square, both.upper, both.mass) == (2.0, 4.0, 6.0)
