"""Step 4 of 12, fast path: what a layer keeps of one backward pass, and per-unit norms without per-unit gradients.

A `Part` is the rows of one parameter for b units, written out or as a product that is not carried out:
  Rows      rows float32 [b, *shape], written out: biases, scales of norms, and weights and tables where that is `cheapest`;
  Products  row = sum_t g_t (outer) a_t, inputs a float32 [b, T, p], output gradients g float32 [b, T, d] (weights); a
            convolution's inputs are unfolded a few units at a time, since they are up to p / channels as large as the input;
  Lookups   row = sum_t e_(i_t) (outer) g_t, indices i int64 [b, T], g float32 [b, T, d] (embedding tables).
Where the pass ran in bfloat16, a or g of Products or both lie here in bfloat16, and the row is that of these very numbers: each
is a float32 number, too, and becomes one, exactly, before it is multiplied with anything, for the norm as for the sum.
Norms of Products: Goodfellow, "Efficient Per-Example Gradient Computations" (2015); with a sequence by Gram matrices,
||row||^2 = sum_(t,t') <a_t, a_t'> <g_t, g_t'>: Li et al., "Large Language Models Can Be Strong Differentially Private
Learners" (ICLR 2022), section 4; or from rows written out, whichever costs less: Bu et al., "Differentially Private
Optimization on Large Model at Small Cost" (ICML 2023), section 3.2. Shapes decide, never values. What was written out is
what is added up, too: one product a layer as in a plain step, where theirs writes the rows, drops them, and multiplies again.

Rounding, u = 2^-24, gamma_k = k u / (1 - k u), any order of summation (Higham 2002, section 3.1). m = sum_t ||a_t|| ||g_t||
is what the norm would be without cancellation; it may be far above ||row||, and then float32 Gram matrices give any
norm between 0 and sqrt(eps) m. So no norm is believed: `Bound.upper` is never below the true square.
  Gram:     inner products in float32 over k = max(128, 2^15 / T) columns at most, more columns added up in float64; their
            products again in float32 or better, and the sum of these in float64, so that |found - ||row||^2| <= eps m^2 + w,
            1 + eps = (1 + gamma_(k+4) of a) (1 + that of g) (1 + u); m^2 is about T ||row||^2 for tokens that have nothing
            in common; eps T is within GAMMA up to T = 256. w = T^2 2^-120 is more than what vanishes of T^2 products.
            upper = found + eps m^2 + w.
  Lookups:  <a_t, a_t'> is 0 or 1 exactly, so eps = gamma_(k+4), and m^2 = sum over equal i_t = i_t' of norms.
  Rows:     the row is what was written out; its norm errs by 2^-13 (gradients.py). upper = (found (1 + 2^-13) + v)^2 = m^2.
||a_t||, ||g_t|| are taken from the diagonals with FLOOR added to their squares for each k columns: products below 2^-126 may
vanish, in a Gram entry up to 2^-126 a column, and gamma_k FLOOR is more than that. v = VANISHED is more than what so vanishes
from the norm of 2^40 entries, and nothing beside the least C, 1e-6; so is what vanishes of g_t times a unit's factor, at
most 2^-126 an entry, since ||a_t|| above 2^64 gives no finite bound, and likewise with a and g changed about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ssl_core.privacy.gradients import row_norms

UNIT = 2.0**-24
FLOOR = 2.0**-100
VANISHED = 2.0**-40
_LOST = 2.0**-120
TERMS = 1024
_NORM_ERROR = 2.0**-13
# Measured: per-unit products stay in the processor's cache up to so many entries; beside T^2 (p + d) of the Gram matrices
# writing p d entries and reading them twice is then the less. A table of at most _FEW T rows: 8 ms became 1 of ViT-Tiny's 500.
_MOST_WRITTEN = 1 << 16
_SHORT, _LONG, _FEW = 24, 4, 2
_MOST_ENTRIES = 1 << 22
_COLUMNS = 1 << 15
_LEAST_COLUMNS = 128


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one parameter, float64 [b] each: `square` of the norm as found, `upper` >= its true square, `mass` m^2.

    `mass` is 0 where all is added up in float64.
    """

    square: Tensor
    upper: Tensor
    mass: Tensor

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.square + other.square, self.upper + other.upper, self.mass + other.mass)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows written out, float32 [b, *shape]."""

    values: Tensor

    def rows(self) -> Tensor:
        """float32 [b, *shape]."""
        return self.values

    def bound(self) -> Bound:
        """See the module docstring."""
        norm = row_norms([self.values])
        upper = (norm * (1.0 + _NORM_ERROR) + VANISHED).square()
        return Bound(norm.square(), upper, upper)

    def weighted(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        """sum_i factors[i] row_i, float64 [*shape]; units that are False in `kept` bool [b] count as zero."""
        flat = _without(self.values, kept).flatten(1)
        pieces = zip(torch.split(factors.to(torch.float32), TERMS), torch.split(flat, TERMS), strict=True)
        return _added(some @ rows for some, rows in pieces).view(self.values.shape[1:])


@dataclass(frozen=True, slots=True)
class Products:
    """grads [b, T, d]; inputs [b, T, p] or, with `unfold`, what it makes them of, [b, ...]; each float32 or bfloat16.

    The parameter is [d, p], in memory as `shape`.
    """

    inputs: Tensor
    grads: Tensor
    shape: torch.Size
    unfold: Callable[[Tensor], Tensor] | None = None

    @property
    def _wide(self) -> int:
        return self.shape.numel() // self.grads.shape[2]

    def cheapest(self) -> Rows | Products:
        """Written out where that costs less than Gram matrices; never much more memory than what they are the product of."""
        squared, entries = self.grads.shape[1] ** 2, self.shape.numel()
        short = entries <= _SHORT * squared and entries <= _MOST_WRITTEN
        return Rows(self.rows()) if short or entries <= _LONG * squared else self

    def rows(self) -> Tensor:
        """float32 [b, *shape]."""
        each = 1 if self.unfold is None else self.grads.shape[1] * self._wide
        rows = [torch.bmm(g.float().transpose(1, 2), a.float()) for a, g in self._pieces(self.inputs, self.grads, each)]
        # Joining one piece would copy it.
        return (rows[0] if len(rows) == 1 else torch.cat(rows)).view(len(self.grads), *self.shape)

    def bound(self) -> Bound:
        """See the module docstring."""
        tokens = self.grads.shape[1]
        each = tokens * tokens if self.unfold is None else tokens * (tokens + self._wide)
        return _joined([self._bound(a.float(), g.float()) for a, g in self._pieces(self.inputs, self.grads, each)])

    def _pieces(self, inputs: Tensor, grads: Tensor, each: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and gradients of a few units at a time: so many that `each` entries a unit do not fill the memory."""
        size = max(1, _MOST_ENTRIES // each)
        for some, theirs in zip(torch.split(inputs, size), torch.split(grads, size), strict=True):
            yield some if self.unfold is None else self.unfold(some), theirs

    @staticmethod
    def _bound(inputs: Tensor, grads: Tensor) -> Bound:
        ours, theirs = _gram(inputs), _gram(grads)
        lengths = [_squares(gram, part) for gram, part in ((ours, inputs), (theirs, grads))]
        error = (1.0 + _gram_error(inputs)) * (1.0 + _gram_error(grads)) * (1.0 + UNIT) - 1.0
        mass = (lengths[0] * lengths[1]).sqrt().sum(dim=1).square() * (1.0 + 4.0 * error)
        square = _square((ours * theirs).sum(dim=(1, 2), dtype=torch.float64))
        return Bound(square, square + error * mass + _LOST * inputs.shape[1] ** 2, mass)

    def weighted(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        """sum_i factors[i] row_i, float64 [*shape]: float32 products of TERMS terms, added up in float64."""
        grads, inputs = (_without(part, kept) for part in (self.grads, self.inputs))
        each = factors.to(torch.float32)
        # The smaller of the two is scaled; unfolding is linear, so its argument may be. torch multiplies bfloat16 by float32
        # as float32.
        if inputs.numel() < grads.numel():
            inputs = inputs * each.view(-1, *[1] * (inputs.dim() - 1))
        else:
            grads = grads * each[:, None, None]
        return _added(self._products(inputs, grads)).view(self.shape)

    def _products(self, inputs: Tensor, grads: Tensor) -> Iterator[Tensor]:
        # Without unfolding nothing new is made, so all units are one piece.
        each = self.grads.shape[1] * self._wide if self.unfold is not None else 1
        for some, theirs in self._pieces(inputs, grads, each):
            for g, a in zip(torch.split(theirs.flatten(0, 1), TERMS), torch.split(some.flatten(0, 1), TERMS), strict=True):
                yield g.float().t() @ a.float()


@dataclass(frozen=True, slots=True)
class Lookups:
    """index int64 [b, T], grads float32 [b, T, d], zero where the index is the padding; the parameter is [count, d]."""

    index: Tensor
    grads: Tensor
    count: int

    def cheapest(self) -> Rows | Lookups:
        """Written out where the table has hardly more entries than a unit looks up: positions, or a single mask token."""
        units, tokens = self.index.shape
        if self.count > _FEW * tokens:
            return self
        # As a product: what `scatter_add_` adds up by place is in no fixed order on an accelerator.
        places = self.grads.new_zeros(units, self.count, tokens).scatter_(1, self.index[:, None, :], 1.0)
        return Rows(torch.bmm(places, self.grads))

    def rows(self) -> Tensor:
        """float32 [b, count, d]."""
        out = self.grads.new_zeros(len(self.grads), self.count, self.grads.shape[2])
        places = self.index[:, :, None].expand_as(self.grads)
        return out.scatter_add_(1, places, self.grads)

    def bound(self) -> Bound:
        """See the module docstring."""
        tokens = self.index.shape[1]
        size = max(1, _MOST_ENTRIES // (tokens * tokens))
        pairs = zip(torch.split(self.index, size), torch.split(self.grads, size), strict=True)
        return _joined([self._bound(i, g) for i, g in pairs])

    @staticmethod
    def _bound(index: Tensor, grads: Tensor) -> Bound:
        same = index[:, :, None] == index[:, None, :]
        gram = _gram(grads)
        lengths = _squares(gram, grads).sqrt()
        error = _gram_error(grads)
        mass = torch.where(same, lengths[:, :, None] * lengths[:, None, :], 0.0).sum(dim=(1, 2)) * (1.0 + 4.0 * error)
        # A NaN must be seen wherever it stands, so nothing is left out by `where` before this sum.
        square = _square((gram * same).sum(dim=(1, 2), dtype=torch.float64))
        return Bound(square, square + error * mass, torch.zeros_like(mass))

    def weighted(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        """sum_i factors[i] row_i, float64 [count, d], all of it in float64."""
        scaled = _without(self.grads, kept).double() * factors[:, None, None]
        total = torch.zeros(self.count, scaled.shape[2], dtype=torch.float64, device=scaled.device)
        return total.index_add_(0, self.index.flatten(), scaled.flatten(0, 1))


Part = Rows | Products | Lookups


def _added(products: Iterator[Tensor]) -> Tensor:
    """One float32 product or more to their sum in float64."""
    total = next(products).double()
    for product in products:
        total += product
    return total


def _without(values: Tensor, kept: Tensor | None) -> Tensor:
    """Zeros in place of the units that are not kept: 0 times what is not finite would be no number."""
    return values if kept is None else torch.where(kept.view(-1, *[1] * (values.dim() - 1)), values, 0.0)


def _gram(values: Tensor) -> Tensor:
    """float32 [b, T, p] to inner products [b, T, T] of at most _columns terms in float32; float64 where there are several."""
    parts = [torch.bmm(part, part.transpose(1, 2)) for part in torch.split(values, _columns(values), dim=2)]
    return parts[0] if len(parts) == 1 else reduce(Tensor.add_, parts[1:], parts[0].double())


def _squares(gram: Tensor, values: Tensor) -> Tensor:
    """float64 [b, T]: squares of the lengths of tokens, by the diagonal of their Gram matrix; never 0."""
    return gram.diagonal(dim1=1, dim2=2).double() + FLOOR * math.ceil(values.shape[2] / _columns(values))


def _square(found: Tensor) -> Tensor:
    """A sum of products as the square that it stands for: rounding may leave it below 0, an infinity of any sign is one."""
    return torch.where(found.isinf(), torch.inf, found.clamp(min=0.0))


def _columns(values: Tensor) -> int:
    return min(values.shape[2], max(_LEAST_COLUMNS, _COLUMNS // values.shape[1]))


def _gram_error(values: Tensor) -> float:
    return gamma_of(_columns(values) + 4)


def _joined(parts: list[Bound]) -> Bound:
    if len(parts) == 1:
        return parts[0]
    return Bound(*(torch.cat(column) for column in zip(*((p.square, p.upper, p.mass) for p in parts), strict=True)))


def gamma_of(terms: int) -> float:
    """Bound of the relative error of a float32 sum of so many products, in any order."""
    return terms * UNIT / (1.0 - terms * UNIT)
