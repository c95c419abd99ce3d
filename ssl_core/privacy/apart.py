"""Before step 6: how far apart two runs of the isolation check are: their rows, and the clipped sums of their views.

Comes in: rows float32 [B, P] of two runs, or their views part by part. Goes out: distances, or `PrivacyError` where two sums
are further apart than the sensitivity that they state themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import Views
from ssl_core.privacy.engines import Engine
from ssl_core.privacy.gradients import Adjacency, ClippedSum

TOLERANCE = 1e-5
Rows = Tensor | Sequence[Tensor]


def same(mine: Rows, theirs: Rows) -> bool:
    """Whether rows float32 [B, P] are equal to TOLERANCE."""
    return bool((differences(mine, theirs) <= TOLERANCE).all())


def differences(mine: Rows, theirs: Rows) -> Tensor:
    """float64 [B]: how far rows float32 [B, P] are apart, in the norm of `mine` or, where that is more, the usual norm.

    What a row loses to rounding is a share of what was added up to it, also where that is nearly zero by chance. Usual is the
    mean, or four medians where that is less: of a few huge rows the mean is theirs, and would excuse coupling in all others.
    """
    norms = _norms(mine)
    apart = torch.stack([(one.double() - other.double()).norm() for one, other in zip(mine, theirs, strict=True)])
    usual = min(float(norms.mean()), 4 * float(norms.median()))
    return torch.where(apart == 0, 0.0, apart / norms.clamp(min=usual))


def sum_of(run: Iterable[Views], engine: Engine, clip_norm: float) -> ClippedSum:
    """The clipped sum of a run's parts."""
    return reduce(add, (engine.clipped_sum(views, clip_norm) for views in run))


def compare_sums(what: str, mine: ClippedSum, theirs: ClippedSum, adjacency: Adjacency) -> float:
    """How far the clipped sums of two runs are apart, in units of C; `PrivacyError` beyond their sensitivity."""
    apart = [one - other for one, other in zip(mine.grads, theirs.grads, strict=True)]
    difference = float(torch.stack([part.norm() for part in apart]).norm())
    bound = mine.sensitivity(adjacency)
    if not difference <= bound:
        raise PrivacyError(
            "one patient changes the clipped sum by more than its sensitivity",
            field=f"pair with one patient {what}",
            value=f"{difference / mine.clip_norm:.6f} C",
            limit=f"{bound / mine.clip_norm:g} C",
        )
    return difference / mine.clip_norm


def tight(rows: Rows) -> float:
    """A clipping norm that binds for most rows."""
    norms: npt.NDArray[np.float64] = _norms(rows).cpu().numpy()
    return max(float(np.median(norms)) / 8, 1e-6)


def _norms(rows: Rows) -> Tensor:
    """float64 [B]; row by row, since a float64 copy of all of them would not stay in the processor's cache."""
    return torch.stack([row.double().norm() for row in rows])
