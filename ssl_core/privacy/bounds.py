"""Step 4 of 12, fast path: bounds of per-unit norms that hold however float32 rounds.

Comes in: rows, or tokens' inputs and gradients. Goes out: `Bound`, of which `upper` is never below the true square.

Rounding, u = 2^-24, gamma_k = k u / (1 - k u), any order of summation (Higham 2002, section 3.1). m = sum_t ||a_t|| ||g_t||
is what the norm would be without cancellation; it may be far above ||row||, and then float32 Gram matrices give any
norm between 0 and sqrt(eps) m. So no norm is believed.
  Gram:     inner products in float32 over k = max(128, 2^15 / T) columns at most, then over the n sums of so many columns: no
            term meets more than e = k + n + 4 roundings, that of a square root among them. Where the layer has a bias, 1 is
            added to the inner products of its inputs, as by a column of ones more: its row is the last column of theirs.
            Their products again in float32 or better, and the sum of these over one token in float32 for T up to 64, then
            in float64, so that |found - ||row||^2| <= eps m^2 + w, 1 + eps = (1 + gamma_e of a) (1 + that of g) (1 + gamma_T)
            or, beyond 64, (1 + u) last; m^2 is about T ||row||^2 for tokens that have nothing in common; what that takes
            of a norm, eps T / 2 + gamma_1089 sqrt(T) + 2^-12, is within GAMMA up to T = 256. w = T^2 2^-120 is more than
            what vanishes of T^2 products. upper = found + eps m^2 + w.
  Lookups:  <a_t, a_t'> is 0 or 1 exactly, so eps = gamma_e, and m^2 = sum over equal i_t = i_t' of norms; the sum over
            pairs of tokens in float64.
  Rows:     the row is what was written out; its norm errs by 1.23e-4 at most (gradients.py), and r = 1.3e-4 is taken.
            upper = (found (1 + r) + v)^2 = m^2.
||a_t||, ||g_t|| are taken from the diagonals with FLOOR added to their squares for each k columns: products below 2^-126 may
vanish, in a Gram entry up to 2^-126 a column, and gamma_k FLOOR is more than that. v = VANISHED is more than what so vanishes
from the norm of 2^40 entries, and nothing beside the least C, 1e-6; so is what vanishes of g_t times a unit's factor, at
most 2^-126 an entry, since ||a_t|| above 2^64 gives no finite bound, and likewise with a and g changed about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import add

import torch
from torch import Tensor

from ssl_core.privacy.gradients import row_norms

UNIT = 2.0**-24
FLOOR = 2.0**-100
VANISHED = 2.0**-40
_LOST = 2.0**-120
_NORM_ERROR = 1.3e-4
_COLUMNS = 1 << 15
_LEAST_COLUMNS = 128
_MOST_SUMMED = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """Of some parameters, float64 [b] each: `square` of the norm as found, `upper` >= its true square, `mass` m^2.

    `mass` is 0 where all is added up in float64.
    """

    square: Tensor
    upper: Tensor
    mass: Tensor

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.square + other.square, self.upper + other.upper, self.mass + other.mass)


@dataclass(frozen=True, slots=True)
class Inner:
    """What a layer's Gram matrices leave for its bound.

    sums [b, T]: of both matrices' product, over the second token, float32 or float64; ours, theirs float32 [b, T]: the
    diagonals, of inputs and of gradients; error: eps; floors: how often FLOOR is added to ours and to theirs.
    """

    sums: Tensor
    ours: Tensor
    theirs: Tensor
    error: float
    floors: tuple[int, int]

    @classmethod
    def joined(cls, some: list[Inner]) -> Inner:
        """Of one layer, for some units and for others."""
        if len(some) == 1:
            return some[0]
        sums, ours, theirs = (torch.cat([getattr(one, name) for one in some]) for name in ("sums", "ours", "theirs"))
        return cls(sums, ours, theirs, some[0].error, some[0].floors)


def gamma_of(terms: int) -> float:
    """Bound of the relative error of a float32 sum of so many products, in any order."""
    return terms * UNIT / (1.0 - terms * UNIT)


def gram(values: Tensor) -> Tensor:
    """float32 [b, T, p] to inner products float32 [b, T, T]."""
    parts = [torch.bmm(part, part.transpose(1, 2)) for part in torch.split(values, _columns(values), dim=2)]
    return reduce(Tensor.add_, parts)


def gram_error(values: Tensor) -> float:
    """Relative error of an inner product beside that of its tokens' lengths, and of their square root."""
    return gamma_of(_columns(values) + _parts(values) + 4)


def inner(inputs: Tensor, grads: Tensor, ones: bool) -> Inner:
    """Float32 [b, T, p] and [b, T, d]; with `ones` a column of ones more in `inputs`."""
    ours, theirs = gram(inputs), gram(grads)
    if ones:
        ours += 1.0
    squares = (ours.diagonal(dim1=1, dim2=2).clone(), theirs.diagonal(dim1=1, dim2=2).clone())
    tokens, both = inputs.shape[1], ours.mul_(theirs)
    few = tokens <= _MOST_SUMMED
    error = (1.0 + gram_error(inputs)) * (1.0 + gram_error(grads)) * (1.0 + (gamma_of(tokens) if few else UNIT)) - 1.0
    sums = both.sum(dim=2, dtype=torch.float32 if few else torch.float64)
    return Inner(sums, *squares, error, (_parts(inputs), _parts(grads)))


def bound_of_inner(found: Sequence[Inner]) -> Bound:
    """Of all layers' products; those of equally many tokens are brought together, since each operation has its price."""
    by_tokens = groupby(sorted(found, key=lambda one: one.sums.shape[1]), key=lambda one: one.sums.shape[1])
    return reduce(add, (_bound_of_equals(list(some), tokens) for tokens, some in by_tokens))


def _bound_of_equals(found: list[Inner], tokens: int) -> Bound:
    device = found[0].sums.device
    lengths = [
        torch.stack([getattr(one, side) for one in found]).double()
        + FLOOR * torch.tensor([one.floors[place] for one in found], device=device)[:, None, None]
        for place, side in enumerate(("ours", "theirs"))
    ]
    error = torch.tensor([one.error for one in found], dtype=torch.float64, device=device)[:, None]
    mass = (lengths[0] * lengths[1]).sqrt().sum(dim=2).square() * (1.0 + 4.0 * error)
    square = _squared(torch.stack([one.sums for one in found]).sum(dim=2, dtype=torch.float64))
    upper = square + error * mass + _LOST * tokens**2
    return Bound(*(_over_layers(each) for each in (square, upper, mass)))


def _over_layers(each: Tensor) -> Tensor:
    """float64 [layers, b] to [b]: along rows of memory, where the order is the same whatever b is; down columns it is not."""
    return each.t().contiguous().sum(dim=1)


def bound_of_rows(rows: Sequence[Tensor]) -> Bound:
    """Of rows float32 [b, *shape] that are written out."""
    norm = row_norms(rows)
    upper = (norm * (1.0 + _NORM_ERROR) + VANISHED).square()
    return Bound(norm.square(), upper, upper)


def bound_of_lookups(index: Tensor, grads: Tensor) -> Bound:
    """Of tables: index int64 [b, T], gradients float32 [b, T, d]."""
    same = index[:, :, None] == index[:, None, :]
    theirs = gram(grads).double()
    lengths = (theirs.diagonal(dim1=1, dim2=2) + FLOOR * _parts(grads)).sqrt()
    error = gram_error(grads)
    mass = torch.where(same, lengths[:, :, None] * lengths[:, None, :], 0.0).sum(dim=(1, 2)) * (1.0 + 4.0 * error)
    # A NaN must be seen wherever it stands, so nothing is left out by `where` before this sum.
    square = _squared((theirs * same).sum(dim=(1, 2)))
    return Bound(square, square + error * mass, torch.zeros_like(mass))


def joined(parts: list[Bound]) -> Bound:
    """Bounds of some units and of others."""
    if len(parts) == 1:
        return parts[0]
    return Bound(*(torch.cat(column) for column in zip(*((p.square, p.upper, p.mass) for p in parts), strict=True)))


def _squared(found: Tensor) -> Tensor:
    """A sum of products as the square that it stands for: rounding may leave it below 0, an infinity of any sign is one."""
    return torch.where(found.isinf(), torch.inf, found.clamp(min=0.0))


def _columns(values: Tensor) -> int:
    return min(values.shape[2], max(_LEAST_COLUMNS, _COLUMNS // values.shape[1]))


def _parts(values: Tensor) -> int:
    return math.ceil(values.shape[2] / _columns(values))
