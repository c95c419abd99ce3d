"""Step 4 of 12, for tasks that compare patients: one gradient for a bucket of units, clipped as one row; sensitivity 2 C.

Comes in: views of all m units of ONE bucket. Goes out: one row float32 [1, *shape] for each parameter, by one ordinary forward
and backward pass of the bucket's scalar loss, and its `ClippedSum`, float64, of reach 2. Group clipping, as in Huang et al.,
"DP-CLIP" (arXiv:2306.08173), with buckets that no unit can shift; NT-Xent over them is objectives/simclr_buckets.py.

Sensitivity. Each sampled unit falls into one of G buckets by its own coin (sampling.py), a pseudo-random function of (step
key, unit id); G is a function of plan and nominal size, never of the data. A bucket is never padded, cut, split or filled
up from others: each of these lets one unit shift others. Its row is a function of its units, their coins and released
weights (objectives/base.py, `BucketModel`), is zero unless all of it is finite, and is clipped to C / (1 + GAMMA), so:
  one unit more or less   its bucket B becomes B + j, every other bucket has the same units in the same order and so the same
                          row: ||clip(g(B + j)) - clip(g(B))|| <= 2 C, by the triangle inequality, and no less can be promised
                          (a test has a case above 1.99 C)
  one unit for another    leaves one bucket, enters the same or another: at most 4 C
GAMMA covers the rounding of norms and of the sum as for rows of units: there are no more buckets than units.

Accounting. Given the coins of all other units, the sum is S without unit j and, with probability q, S + v with it, where
||v|| <= 2 C whatever j's own bucket and draw are: noise N(0, (sigma 2 C)^2) on it is the Poisson-subsampled Gaussian with
multiplier sigma, for each value of those coins, and so for their mixture (the hockey-stick divergence is jointly convex, and
the coins have the same law in both worlds). The ledger's sigma and q therefore mean what they mean for any other task. For
replace-one: S + v against S + w, each with probability q, ||v||, ||w|| <= 2 C = the sensitivity: the pair that the ledger's
replace-one accounting has, v and w of the sensitivity's length. What it costs is utility: a step of q N units has about
q N / bucket_size rows of norm C in place of q N, under twice the noise.

What this does not bound: memory. A bucket is as large as the coins make it; planner.py demands room for one that is many times
the nominal size, and a device that has none for a larger one fails the round (`ConfigError`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_core.objectives.base import BucketModel
from ssl_core.privacy.gradients import GAMMA, ClippedSum, check_model, clip_and_sum, empty_sum, reach_of, units_of


class BucketEngine:
    """Engine of every `BucketModel`: views are those of one bucket, `rows` has one row."""

    name = "buckets"
    gamma = GAMMA
    reason = "the task compares the patients of a bucket, whose gradient is one"

    def __init__(self, model: BucketModel) -> None:
        check_model(model)
        self._model = model

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views of the m >= 1 units of a bucket to its gradient, float32 [1, *shape], one tensor per parameter."""
        parameters = list(self._model.parameters())
        found = torch.autograd.grad(self._model(views), parameters, allow_unused=True)
        return tuple((torch.zeros_like(p) if g is None else g).unsqueeze(0) for p, g in zip(parameters, found, strict=True))

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views of the m >= 0 units of ONE bucket to its gradient, clipped to `clip_norm`."""
        if not units_of(views):
            return empty_sum(tuple(self._model.parameters()), clip_norm, reach_of(self._model))
        return clip_and_sum(self.rows(views), clip_norm, reach_of(self._model))


def largest_bucket(bucket_size: int) -> int:
    """For how many units in one bucket there must be memory.

    By Chernoff's bound the chance that a bucket has more is below 1e-15, at a site of up to three times its nominal size
    and for every `bucket_size` from 8 to 64. Public: of the plan alone.
    """
    return 4 * bucket_size + 64
