"""Step 4 of 12, slowly: one backward pass per unit and exact clipping in float64. The oracle of all engines.

Comes in: views of b units. Goes out: rows float32 [b, *shape] and their clipped sum float64, in the parameters' order.
Rounding: norms, scaling and sum are float64, in any order, so gamma is B^2 2^-53 and less than that of gradients.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_core.privacy.gradients import GAMMA, MOST_SQUARE, ClippedSum, check_clip_norm, check_model, empty_sum, units_of


class LoopEngine:
    """Engine "reference": a loop of single-unit backward passes; slow, and what the other engines are held against."""

    name = "reference"
    gamma = GAMMA
    reason = "it was asked for"

    def __init__(self, model: nn.Module) -> None:
        check_model(model)
        self._model = model

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], one tensor per parameter."""
        return loop_rows(self._model, views)

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views with leading dimension b >= 0 to the sum of their rows, each clipped to `clip_norm`."""
        check_clip_norm(clip_norm)
        total = empty_sum(tuple(self._model.parameters()), clip_norm)
        for unit in range(units_of(views)):
            rows = self.rows({name: view[unit : unit + 1] for name, view in views.items()})
            total = total + ClippedSum(exact_sum(rows, clip_norm / (1.0 + GAMMA)), clip_norm)
        return total


def loop_rows(model: nn.Module, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Gradient of each unit's loss by its own backward pass; parameters that the loss does not reach give zeros."""
    parameters = list(model.parameters())
    units = len(next(iter(views.values())))
    singles = []
    for unit in range(units):
        loss = model({name: view[unit] for name, view in views.items()})
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        singles.append([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])
    return tuple(torch.stack(column) for column in zip(*singles, strict=True))


def exact_sum(rows: Sequence[Tensor], clip_norm: float) -> tuple[Tensor, ...]:
    """Each row scaled to norm at most `clip_norm` in float64, rows that are not finite or beyond float32 left out."""
    wide = [part.double().reshape(len(part), -1) for part in rows]
    whole = torch.cat(wide, dim=1)
    finite = whole.isfinite().all(dim=1)
    norms = torch.where(finite[:, None], whole, 0.0).norm(dim=1)
    finite = finite & (norms.square() <= MOST_SQUARE)
    factors = torch.where(norms > clip_norm, clip_norm / norms.clamp(min=1e-300), 1.0) * finite
    sums = []
    for part, flat in zip(rows, wide, strict=True):
        kept = torch.where(finite[:, None], flat, 0.0)
        sums.append((factors[:, None] * kept).sum(dim=0).view(part.shape[1:]))
    return tuple(sums)
