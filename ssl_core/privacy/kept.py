"""Step 4 of 12, fast path: what a layer keeps of one backward pass, and per-unit norms without per-unit gradients.

A `Part` is the rows of one layer's parameters for b units, written out or as a product that is not carried out:
  Rows      rows float32 [b, *shape], written out: scales and shifts of norms, and weights and tables where that is `cheapest`;
  Products  row = sum_t g_t (outer) a_t, inputs a float32 [b, T, p], output gradients g float32 [b, T, d] (weights); that of
            a bias is sum_t g_t; a convolution's inputs are unfolded a few units at a time, since they are up to
            p / channels as large as the input;
  Lookups   row = sum_t e_(i_t) (outer) g_t, indices i int64 [b, T], g float32 [b, T, d] (embedding tables).
Where the pass ran in bfloat16, a or g of Products or both lie here in bfloat16, and the row is that of these very numbers: each
is a float32 number, too, and becomes one, exactly, before it is multiplied with anything, for the norm as for the sum.
Norms of Products: Goodfellow, "Efficient Per-Example Gradient Computations" (2015); with a sequence by Gram matrices,
||row||^2 = sum_(t,t') <a_t, a_t'> <g_t, g_t'>: Li et al., "Large Language Models Can Be Strong Differentially Private
Learners" (ICLR 2022), section 4; or from rows written out, whichever costs less: Bu et al., "Differentially Private
Optimization on Large Model at Small Cost" (ICML 2023), section 3.2. Shapes decide, never values. What was written out is
what is added up, too: one product a layer as in a plain step, where theirs writes the rows, drops them, and multiplies again.
A bias takes no rows beside a product: it is one column more, of ones, which Gram matrices have for an addition. Its rounding
counts with its weight's, which matters where inputs are far below 1 and gradients cancel; of every task here M / N
(bookkeeping.py) at start weights is at most a tenth more for it, and 2.2 at most where there is a row at all.

Sums: a term meets 3 roundings (the factor's, its product with a or g, that with the other), in a float32 product of TERMS
terms at most TERMS - 1 more; up to PIECES such products are added up in float32 one after the other, PIECES - 1 more, and
further ones in float64: ROUNDINGS in all. What norms can be at most is in bounds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ssl_core.privacy.bounds import Bound, Inner, bound_of_inner, bound_of_lookups, bound_of_rows, inner, joined

TERMS = 1024
PIECES = 64
ROUNDINGS = 3 + (TERMS - 1) + (PIECES - 1)
# Measured: per-unit products stay in the processor's cache up to so many entries; beside T^2 (p + d) of the Gram matrices
# writing p d entries and reading them twice is then the less. A table of at most _FEW T rows: 8 ms became 1 of ViT-Tiny's 500.
_MOST_WRITTEN = 1 << 16
_SHORT, _LONG, _FEW = 24, 4, 2
_MOST_ENTRIES = 1 << 22


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows written out, float32 [b, *shape] of each parameter."""

    values: tuple[Tensor, ...]

    def rows(self) -> tuple[Tensor, ...]:
        """float32 [b, *shape] each."""
        return self.values

    def bound(self) -> Bound:
        """See bounds.py."""
        return bound_of_rows(self.values)

    def weighted(self, factors: Tensor, kept: Tensor | None) -> tuple[Tensor, ...]:
        """sum_i factors[i] row_i, float64 [*shape] each; units that are False in `kept` bool [b] count as zero."""
        each = torch.split(factors.to(torch.float32)[None], TERMS, dim=1)
        found = []
        for rows in self.values:
            pieces = zip(each, torch.split(_without(rows, kept).flatten(1), TERMS), strict=True)
            found.append(_added(some @ theirs for some, theirs in pieces).view(rows.shape[1:]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Products:
    """grads [b, T, d]; inputs [b, T, p] or, with `unfold`, what it makes them of, [b, ...]; each float32 or bfloat16.

    The weight is [d, p], in memory as `shape`; with `bias` there is one, [d].
    """

    inputs: Tensor
    grads: Tensor
    shape: torch.Size
    bias: bool = False
    unfold: Callable[[Tensor], Tensor] | None = None

    @property
    def _wide(self) -> int:
        return self.shape.numel() // self.grads.shape[2]

    def cheapest(self) -> Rows | Products:
        """Written out where that costs less than Gram matrices; never much more memory than what they are the product of."""
        squared, entries = self.grads.shape[1] ** 2, self.shape.numel()
        short = entries <= _SHORT * squared and entries <= _MOST_WRITTEN
        return Rows(self.rows()) if short or entries <= _LONG * squared else self

    def rows(self) -> tuple[Tensor, ...]:
        """float32 [b, *shape] of the weight, and [b, d] of the bias."""
        each = 1 if self.unfold is None else self.grads.shape[1] * self._wide
        rows = [torch.bmm(g.float().transpose(1, 2), a.float()) for a, g in self._pieces(self.inputs, self.grads, each)]
        # Joining one piece would copy it.
        weight = (rows[0] if len(rows) == 1 else torch.cat(rows)).view(len(self.grads), *self.shape)
        return (weight, self.grads.sum(dim=1, dtype=torch.float32)) if self.bias else (weight,)

    def bound(self) -> Bound:
        """See bounds.py."""
        return bound_of_inner([self.inner()])

    def inner(self) -> Inner:
        """What bounds.py takes the bound from."""
        tokens = self.grads.shape[1]
        each = tokens * tokens if self.unfold is None else tokens * (tokens + self._wide)
        pieces = self._pieces(self.inputs, self.grads, each)
        return Inner.joined([inner(a.float(), g.float(), self.bias) for a, g in pieces])

    def _pieces(self, inputs: Tensor, grads: Tensor, each: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and gradients of a few units at a time: so many that `each` entries a unit do not fill the memory."""
        size = max(1, _MOST_ENTRIES // each)
        for some, theirs in zip(torch.split(inputs, size), torch.split(grads, size), strict=True):
            yield some if self.unfold is None else self.unfold(some), theirs

    def weighted(self, factors: Tensor, kept: Tensor | None) -> tuple[Tensor, ...]:
        """sum_i factors[i] row_i, float64 [*shape] of the weight, and [d] of the bias."""
        grads, inputs = (_without(part, kept) for part in (self.grads, self.inputs))
        each = factors.to(torch.float32)
        # The smaller of the two is scaled; unfolding is linear, so its argument may be. torch multiplies bfloat16 by float32
        # as float32.
        if inputs.numel() < grads.numel():
            inputs, ones = inputs * each.view(-1, *[1] * (inputs.dim() - 1)), each
        else:
            grads, ones = grads * each[:, None, None], torch.ones_like(each)
        weight = _added(self._products(inputs, grads)).view(self.shape)
        return (weight, _added(_sums(ones, grads))) if self.bias else (weight,)

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
        return Rows((torch.bmm(places, self.grads),))

    def rows(self) -> tuple[Tensor, ...]:
        """float32 [b, count, d]."""
        out = self.grads.new_zeros(len(self.grads), self.count, self.grads.shape[2])
        places = self.index[:, :, None].expand_as(self.grads)
        return (out.scatter_add_(1, places, self.grads),)

    def bound(self) -> Bound:
        """See bounds.py."""
        tokens = self.index.shape[1]
        size = max(1, _MOST_ENTRIES // (tokens * tokens))
        pairs = zip(torch.split(self.index, size), torch.split(self.grads, size), strict=True)
        return joined([bound_of_lookups(i, g) for i, g in pairs])

    def weighted(self, factors: Tensor, kept: Tensor | None) -> tuple[Tensor, ...]:
        """sum_i factors[i] row_i, float64 [count, d], all of it in float64."""
        scaled = _without(self.grads, kept).double() * factors[:, None, None]
        total = torch.zeros(self.count, scaled.shape[2], dtype=torch.float64, device=scaled.device)
        return (total.index_add_(0, self.index.flatten(), scaled.flatten(0, 1)),)


Part = Rows | Products | Lookups


def _sums(ones: Tensor, grads: Tensor) -> Iterator[Tensor]:
    """Gradients [b, T, d] by a factor [b] of each unit, over all tokens, TERMS at a time, to float32 [d]."""
    each = ones[:, None].expand(grads.shape[:2]).flatten()
    for some, theirs in zip(torch.split(each, TERMS), torch.split(grads.flatten(0, 1), TERMS), strict=True):
        yield some @ theirs.float()


def _added(products: Iterator[Tensor]) -> Tensor:
    """Float32 products of TERMS terms to their sum in float64; PIECES of them at a time in float32."""
    found = [_in_float32(first, islice(products, PIECES - 1)).double() for first in products]
    for more in found[1:]:
        found[0] += more
    return found[0]


def _in_float32(total: Tensor, products: Iterator[Tensor]) -> Tensor:
    for product in products:
        total += product
    return total


def _without(values: Tensor, kept: Tensor | None) -> Tensor:
    """Zeros in place of the units that are not kept: 0 times what is not finite would be no number."""
    return values if kept is None else torch.where(kept.view(-1, *[1] * (values.dim() - 1)), values, 0.0)
