"""Audit, the probe for tasks that compare patients: canaries that turn the row of a bucket round, by 2 C and no less.

Two patients hold a bucket at -C; a canary that is there and whose turn it is pulls it to +C. That is the most that one unit may
change (buckets.py), and it goes through the product's `train_round`: buckets, clipping of a whole bucket, Opacus' optimizer,
noise. Everybody is sampled in every step and falls into one bucket, so that its coins have nothing to hide.
Canary j has its turn in step j alone and is nothing in the others: of all that a round releases, it is in one release, and its
epsilon is that of one. So one round has as many canaries as steps, each against what the accountant says of a single step.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.audit.canary import NOMINAL_SIZE, Observed, Watching, canaries, canary_plan, observe
from ssl_core.config import StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.objectives.base import BucketModel, Views

SIZE = 64
_HOLDERS = 2
"""A bucket of one unit has no gradient (objectives/base.py), so that two hold it."""
LOUD = 1e3
_ALWAYS = -1.0


class TurningModel(Watching, BucketModel):
    """The gradient of a bucket is the sum of what its units pull with in this step, half of it in each of two layers."""

    bucket_size = NOMINAL_SIZE

    def __init__(self, size: int, watched: Patients) -> None:
        super().__init__(size, watched)
        self._step = 0

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """pull: float32 [B], of the units whose turn it is; there is one bucket a step, so draws of `watched` count steps."""
        records = patients.records[patients.offsets[index]]
        turn = (records[:, 1] == self._step) | (records[:, 1] == _ALWAYS)
        self._step += self.note(patients, index, uniforms)
        return {"pull": torch.from_numpy(np.where(turn, records[:, 0], np.float32(0.0)))}

    def forward(self, views: Views) -> Tensor:
        """The loss of a bucket, float32 scalar: linear in the weights, so that its gradient is the same everywhere."""
        pull = views["pull"].sum() * float(len(views["pull"]) > 1)
        found: Tensor = pull * math.sqrt(0.5) * (self.first.weight[0, 0] + self.second.weight[0, 0])
        return found


def turning(inside: npt.NDArray[np.bool_], *, pull: float = LOUD) -> Patients:
    """The two holders, and canary j for each True in `inside` [m], which pulls so hard in its turn."""
    turns = np.concatenate([np.full(_HOLDERS, _ALWAYS), np.flatnonzero(inside)])
    pulls = np.concatenate([np.full(_HOLDERS, -1.0), np.full(int(inside.sum()), pull)])
    records = np.zeros((len(turns), SIZE), np.float32)
    records[:, 0], records[:, 1] = pulls, turns
    return canaries(records)


def bucket_plan(noise_multiplier: float, steps: int, *, size: int = SIZE) -> StudyPlan:
    """Everybody in every step; sizes as of `canary_plan`."""
    return canary_plan(size=size, sampling_rate=1.0, noise_multiplier=noise_multiplier, steps=steps)


def observe_buckets(plan: StudyPlan, patients: Patients, *, rounds: int = 1) -> Observed:
    """As `observe`, of a model whose patients share a bucket."""
    return observe(plan, patients, rounds=rounds, kind=TurningModel)


def along(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Released sums [T, SIZE], in C, to their size [T] along the direction in which canaries turn a bucket."""
    found: npt.NDArray[np.float64] = (sums[:, 0] + sums[:, sums.shape[1] // 2]) * math.sqrt(0.5)
    return found
