"""Step 4 of 12, slowly: one backward pass per unit and exact clipping in float64. The oracle of gradients.py.

Comes in: views of b units. Goes out: rows float32 [b, *shape] and their clipped sum float64, in the parameters' order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
    """Each row scaled to norm at most `clip_norm` in float64, rows with an entry that is not finite left out."""
    wide = [part.double().reshape(len(part), -1) for part in rows]
    whole = torch.cat(wide, dim=1)
    finite = whole.isfinite().all(dim=1)
    norms = torch.where(finite[:, None], whole, 0.0).norm(dim=1)
    factors = torch.where(norms > clip_norm, clip_norm / norms.clamp(min=1e-300), 1.0) * finite
    sums = []
    for part, flat in zip(rows, wide, strict=True):
        kept = torch.where(finite[:, None], flat, 0.0)
        sums.append((factors[:, None] * kept).sum(dim=0).view(part.shape[1:]))
    return tuple(sums)
