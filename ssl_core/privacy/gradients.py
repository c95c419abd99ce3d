"""Step 4 of 12: losses of units -> the sum of their clipped gradients, which knows its own sensitivity.

Comes in: views of b units. Goes out: per-unit rows float32 [b, *shape] for each parameter, then `ClippedSum`, float64.
The general engine stands here; engines.py has the contract and the choice, bookkeeping.py the fast path.
Rows: `vmap` of `grad` over the loss of one unit (Bradbury et al., JAX, 2018; torch.func). Clipping: Abadi et al., "Deep
Learning with Differential Privacy" (CCS 2016), algorithm 1.

Sensitivity. Row i is a function of unit i (objectives/base.py). A row is scaled to norm at most C / (1 + GAMMA) by its
own norm alone; a row that has a NaN, an infinity or a norm whose square is beyond float32 becomes exactly zero, decided
from that row alone and before summation (ruling 15). So one unit adds a vector of norm at most C, and none changes
another's, since passes are of shapes in which rows are the same to the last bit (`InShapes`, shapes.py).
Where a row is that of a bucket of units (buckets.py), one unit changes one row to another: a reach of 2 C, not of C.

GAMMA bounds every rounding error of this file, relative to C, for up to 10^6 units in one step, u = 2^-24:
  norm: squares are added in float32 in blocks of K = 4096, in any order, then in float64:  (K + 4) u / 2 <= 1.23e-4
  sum:  scaling and adding in float64 errs by at most  B^2 2^-53 <= 1.12e-4  at B = 10^6 (any order, Higham 2002, 4.2)
Together below 2^-12 = 2.44e-4. Squares below 2^-149 vanish: at most 2^-74 an entry, nothing beside C >= 1e-6.
Rounding of the sum itself matters, not only of the rows: Casacuberta et al., "Widespread Underestimation of Sensitivity
in Differentially Private Libraries" (CCS 2022). Hence float64 where the rows meet.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel

Adjacency = Literal["add-or-remove-one", "replace-one"]

GAMMA = 2.0**-12
LEAST_CLIP_NORM = 1e-6
MOST_SQUARE = torch.finfo(torch.float32).max
_BLOCK = 4096
_TILE_COLUMNS = 16384
_TILE = {"cpu": 8 * _TILE_COLUMNS}
_TILE_ELSEWHERE = 256 * _TILE_COLUMNS


@dataclass(frozen=True, slots=True)
class ClippedSum:
    """Sum of clipped rows, one float64 tensor per parameter in the order of `named_parameters`.

    reach: 1 where a unit has a row of its own, which it adds; 2 where it shares one, which it changes (`reach_of`).
    """

    grads: tuple[Tensor, ...]
    clip_norm: float
    reach: int = 1

    def sensitivity(self, adjacency: Adjacency = "add-or-remove-one") -> float:
        """Greatest change of the sum in L2 norm when one unit is added or removed (reach x C) or replaced (twice that)."""
        return (1.0 if adjacency == "add-or-remove-one" else 2.0) * self.reach * self.clip_norm

    def __add__(self, other: ClippedSum) -> ClippedSum:
        """The sum over two sets of units that share none, in no row either; the sensitivity stays the same."""
        if self.clip_norm != other.clip_norm:
            raise PrivacyError("sums of two clipping norms were added", field="clip_norm", value=other.clip_norm)
        if self.reach != other.reach:
            raise PrivacyError("sums of units and of buckets were added", field="reach", value=other.reach, limit=self.reach)
        pairs = zip(self.grads, other.grads, strict=True)
        return ClippedSum(tuple(mine + theirs for mine, theirs in pairs), self.clip_norm, self.reach)


def reach_of(model: nn.Module) -> int:
    """By how many C one unit, added or removed, may change the clipped sum of `model`'s gradients."""
    return 2 if isinstance(model, BucketModel) else 1


class InShapes(ABC):
    """An engine that passes units through the model many at once, in shapes that are chosen for it beforehand (shapes.py)."""

    _shapes: tuple[int, ...] = ()

    def within(self, shapes: tuple[int, ...]) -> Self:
        """The same engine, each of whose passes is of as many units as one of `shapes`, ascending: the first that holds it.

        More units than the last are refused. Without `within`, and of no shapes, passes are of the units there are.
        """
        other = copy.copy(self)
        other._shapes = shapes
        return other

    @abstractmethod
    def made_of(self, views: dict[str, Tensor]) -> list[Tensor]:
        """Views of b >= 1 units to all tensors [b, ...] that the parts of a clipped sum are made of: for checks."""

    def _filled(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """The units there are, then nobody, zeros, up to the first shape that holds them; `PrivacyError` where none does."""
        units = units_of(views)
        if not self._shapes or units in self._shapes:
            return views
        room = next((shape for shape in self._shapes if shape > units), None)
        if room is None:
            raise PrivacyError("batch has more units than its shape has places", field="room", limit=self._shapes[-1])
        return {name: torch.cat([view, view.new_zeros(room - units, *view.shape[1:])]) for name, view in views.items()}


class PerUnitGradients(InShapes):
    """Engine "vmap": rows of single units for a fixed model; `PrivacyError` for a model whose units could meet.

    `reason`: why it and not the fast path was chosen, for people; a function of the model alone.
    """

    name = "vmap"
    gamma = GAMMA

    def __init__(self, model: nn.Module, *, reason: str = "it was asked for") -> None:
        check_model(model)
        self.reason = reason
        self._model = model
        self._rows = vmap(grad(self._loss), in_dims=(None, 0), randomness="error")

    def _loss(self, parameters: dict[str, Tensor], views: dict[str, Tensor]) -> Tensor:
        loss: Tensor = functional_call(self._model, parameters, (views,))
        return loss

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], one tensor per parameter."""
        parameters = {name: parameter.detach() for name, parameter in self._model.named_parameters()}
        found: dict[str, Tensor] = self._rows(parameters, self._filled(views))
        return tuple(found[name][: units_of(views)] for name in parameters)

    def made_of(self, views: dict[str, Tensor]) -> list[Tensor]:
        """The rows."""
        return list(self.rows(views))

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views with leading dimension b >= 0 to the sum of their rows, each clipped to `clip_norm`."""
        if not units_of(views):
            return empty_sum(tuple(self._model.parameters()), clip_norm)
        return clip_and_sum(self.rows(views), clip_norm)


def units_of(views: dict[str, Tensor]) -> int:
    """How many units the views have; `PrivacyError` where they do not agree."""
    counts = {len(view) for view in views.values()}
    if len(counts) != 1:
        raise PrivacyError("views are of different numbers of units", field="views", value=sorted(counts))
    return counts.pop()


def empty_sum(parameters: Sequence[Tensor], clip_norm: float, reach: int = 1) -> ClippedSum:
    """The sum over no units: float64 zeros in the shapes of `parameters`."""
    check_clip_norm(clip_norm)
    zeros = tuple(torch.zeros(p.shape, dtype=torch.float64, device=p.device) for p in parameters)
    return ClippedSum(zeros, clip_norm, reach)


def check_clip_norm(clip_norm: float) -> None:
    """Refuse a norm that is not finite or so small that what is beneath float32 would count."""
    if not LEAST_CLIP_NORM <= clip_norm < float("inf"):
        raise PrivacyError(
            "clipping norm is out of range", field="max_grad_norm", value=clip_norm, limit=f"at least {LEAST_CLIP_NORM}"
        )


def check_model(model: nn.Module) -> None:
    """Refuse what could carry one unit into another or change without noise: buffers, batch statistics, dropout.

    And a module under two names: a functional call swaps its parameters twice and puts the wrong ones back.
    """
    seen: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if seen.setdefault(module, name) != name:
            raise PrivacyError(
                "model has a module under two names, which torch's functional calls would leave changed",
                field=name,
                value=seen[module],
                remedy="register it once, and let the others refer to it",
            )
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm | _DropoutNd):
            raise PrivacyError(
                "model has a layer that couples units or draws randomness of its own",
                field=name or "model",
                value=type(module).__name__,
                remedy="use LayerNorm or GroupNorm; take randomness from the unit's coins",
            )
    for name, _ in model.named_buffers():
        raise PrivacyError(
            "model has a buffer: it could change without noise",
            field=name,
            remedy="make it a constant of the plan or a parameter",
        )
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.requires_grad:
            raise PrivacyError(
                "every parameter must be trained in float32", field=name, value=parameter.dtype, limit="torch.float32"
            )


def row_norms(rows: Sequence[Tensor]) -> Tensor:
    """float64 [b] norms over all parameters; not finite where a row has an entry that is not, or beyond float32."""
    squares = torch.zeros(len(rows[0]), dtype=torch.float64, device=rows[0].device)
    for part in rows:
        flat = part.reshape(len(part), math.prod(part.shape[1:]))
        whole = flat.shape[1] // _BLOCK * _BLOCK
        if whole:
            blocks = torch.linalg.vector_norm(flat[:, :whole].reshape(len(flat), whole // _BLOCK, _BLOCK), dim=2)
            squares += blocks.double().square().sum(dim=1)
        if whole < flat.shape[1]:
            squares += torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square()
    return squares.sqrt()


def clip_and_sum(rows: Sequence[Tensor], clip_norm: float, reach: int = 1) -> ClippedSum:
    """Rows float32 [b, *shape] (b may be 0) to their clipped sum; `rows` are left as they are."""
    check_clip_norm(clip_norm)
    norms = row_norms(rows)
    finite = norms.square() <= MOST_SQUARE
    if not bool(finite.all()):
        rows = [torch.where(finite.view(-1, *[1] * (part.dim() - 1)), part, 0.0) for part in rows]
        norms = torch.where(finite, norms, 0.0)
    factors = (clip_norm / (1.0 + GAMMA) / norms).clamp(max=1.0)
    return ClippedSum(tuple(weighted_sum(part, factors) for part in rows), clip_norm, reach)


def weighted_sum(part: Tensor, factors: Tensor) -> Tensor:
    """sum_i factors[i] part[i] in float64, in tiles that stay in the processor's cache."""
    flat = part.reshape(len(part), math.prod(part.shape[1:]))
    total = torch.zeros(flat.shape[1], dtype=torch.float64, device=part.device)
    width = min(_TILE_COLUMNS, max(1, flat.shape[1]))
    height = min(len(flat), _TILE.get(part.device.type, _TILE_ELSEWHERE) // width)
    scratch = torch.empty(height * width, dtype=torch.float64, device=part.device)
    for left in range(0, flat.shape[1], _TILE_COLUMNS):
        into = total[left : left + _TILE_COLUMNS]
        for top in range(0, len(flat), max(1, height)):
            tile = flat[top : top + height, left : left + _TILE_COLUMNS]
            wide = scratch[: tile.numel()].view(tile.shape).copy_(tile)
            into.addmv_(wide.t(), factors[top : top + height])
    return total.view(part.shape[1:])
