"""Bounds of norms, term by term as bounds.py states them; that they hold is searched for in test_kept.py."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_core.privacy.bookkeeping import divisor
from ssl_core.privacy.bounds import Bound, bound_of_inner, bound_of_lookups, gram, inner
from ssl_core.privacy.kept import Lookups, Products


@pytest.mark.parametrize(("tokens", "wide", "high"), [(1, 1, 1), (7, 130, 9), (64, 700, 513), (65, 513, 700), (300, 300, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_bounds_are_those_of_the_docstring(tokens: int, wide: int, high: int, bias: bool) -> None:
    """Each term of eps, m and upper, from the same Gram matrices, in literal numbers."""

    def gamma(terms: int) -> float:
        return terms * 2.0**-24 / (1 - terms * 2.0**-24)

    def roundings(size: int) -> tuple[int, int]:
        columns = min(size, max(128, 2**15 // tokens))
        return columns + math.ceil(size / columns) + 4, math.ceil(size / columns)

    generator = torch.Generator().manual_seed(0)
    inputs, grads = (torch.randn(2, tokens, size, generator=generator) for size in (wide, high))
    (ours_e, ours_n), (theirs_e, theirs_n) = roundings(wide), roundings(high)
    eps = (1 + gamma(ours_e)) * (1 + gamma(theirs_e)) * (1 + (gamma(tokens) if tokens <= 64 else 2.0**-24)) - 1
    assert inner(inputs, grads, bias).error == eps
    ours, theirs = gram(inputs) + float(bias), gram(grads)
    floors = [part.diagonal(dim1=1, dim2=2).double() + n * 2.0**-100 for part, n in ((ours, ours_n), (theirs, theirs_n))]
    mass = (floors[0] * floors[1]).sqrt().sum(dim=1).square() * (1 + 4 * eps)
    found = bound_of_inner([inner(inputs, grads, bias)])
    torch.testing.assert_close(found.mass, mass, rtol=1e-14, atol=0)
    torch.testing.assert_close(found.square, (ours.double() * theirs.double()).sum(dim=(1, 2)), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.upper, found.square + eps * mass + tokens**2 * 2.0**-120, rtol=1e-14, atol=0)
    index = torch.randint(0, 3, (2, tokens), generator=generator)
    same, lengths = index[:, :, None] == index[:, None, :], floors[1].sqrt()
    table, eps = bound_of_lookups(index, grads), gamma(theirs_e)
    mass = (same * lengths[:, :, None] * lengths[:, None, :]).sum(dim=(1, 2)) * (1 + 4 * eps)
    torch.testing.assert_close(table.square, (same * theirs.double()).sum(dim=(1, 2)), rtol=1e-12, atol=0)
    torch.testing.assert_close(table.upper, table.square + eps * mass, rtol=1e-14, atol=0)


def test_the_divisor_is_the_one_of_the_docstring() -> None:
    """Each term of it, where it counts: norm as found, upper bound, rounding of the sum, and what is for float64."""
    u = 2.0**-24
    gamma = 1089 * u / (1 - 1089 * u)
    cases = (
        (1.0, 1.0, 0.0),
        (0.0, 4.0, 0.0),
        (0.0, 1.0, 1e8),
        (0.0, 0.0, 1e8),
        (9.0, 9.0, 1e4),
        (9.0, 9.1, 10.0),
        (9.0, 9.8, 1e2),
    )
    for square, upper, mass in cases:
        found = divisor([Bound(*(torch.tensor([part], dtype=torch.float64) for part in (square, upper, mass)))])
        own = max((1 + 2.0**-8) * math.sqrt(square), (1 + 2.0**-12) * (math.sqrt(upper) + gamma * math.sqrt(mass)))
        wanted = max(own, 512 * gamma * math.sqrt(mass))
        torch.testing.assert_close(found, torch.tensor([wanted], dtype=torch.float64), rtol=1e-14, atol=0)


def test_what_vanishes_in_the_smallest_floors_is_in_the_bound() -> None:
    """Numbers whose products are below float32: nothing is found, and the true norm is still not above the bound."""
    tiny = torch.full((1, 1, 1), 2.0**-38)
    part = Products(tiny, tiny, torch.Size((1, 1)))
    assert float(part.bound().upper) >= 2.0**-152
    zero = torch.zeros(1, 3, 4)
    for index in (torch.zeros(1, 3, dtype=torch.long), torch.arange(3)[None]):
        assert float(Lookups(index, zero, 3).bound().upper) > 0.0


def test_a_bound_has_the_same_bits_however_many_units_there_are() -> None:
    """Of layers whose parts are of many sizes: sums of like numbers are often exact in float64, whatever their order."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10.0 ** (6.0 * torch.rand(40, generator=generator) - 3.0)
    layers = [[size * torch.randn(1, 3, 5, generator=generator) for _ in range(2)] for size in sizes]
    alone = bound_of_inner([inner(*layer, True) for layer in layers])
    for units in (2, 3, 8, 28, 64):
        many = bound_of_inner([inner(*(part.expand(units, 3, 5).contiguous() for part in layer), True) for layer in layers])
        for name in ("square", "upper", "mass"):
            assert torch.equal(getattr(many, name), getattr(alone, name).expand(units)), (name, units)


def test_layers_are_bounded_together_as_each_by_itself() -> None:
    """Of two numbers of tokens, and of so many units that their Gram matrices are taken a few at a time."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        Products(*(torch.randn(3, tokens, size, generator=generator) for size in (9, 5)), torch.Size((5, 9)), bias=bias)
        for tokens, bias in ((4, True), (1300, False), (4, False), (1300, True))
    ]
    true = [torch.cat([row.double().flatten(1) for row in part.rows()], dim=1).norm(dim=1) for part in parts]
    together, each = bound_of_inner([part.inner() for part in parts]), [part.bound() for part in parts]
    for name in ("square", "upper", "mass"):
        torch.testing.assert_close(getattr(together, name), sum(getattr(bound, name) for bound in each), rtol=1e-12, atol=0)
    torch.testing.assert_close(together.square.sqrt(), torch.stack(true).norm(dim=0), rtol=1e-6, atol=0)


def test_bounds_add_up() -> None:
    one = Bound(*(torch.tensor([float(k)]) for k in (1, 2, 3)))
    both = one + one
    assert (both.square, both.upper, both.mass) == (2.0, 4.0, 6.0)
