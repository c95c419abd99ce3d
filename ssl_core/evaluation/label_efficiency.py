"""Step 13: what an encoder is worth when labels are few: arms x label budgets x label draws, one site.

Comes in: a label pool and test patients (disjoint), encoders by arm. Goes out: `Efficiency`, a plain table of macro
AUROC on the test patients, one number a draw; draws are shared between arms, so differences are paired.
Everything stays at the site (ruling 27): no message carries these numbers; the demo's harness reads the folders.
Intervals (Student's t over draws) say how far the choice of labelled patients moves a difference, for these
encoders and these test patients; they are not intervals for a new study or another hospital.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student

from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.errors import DataError
from ssl_core.evaluation.auroc import macro_auroc
from ssl_core.evaluation.draws import LabelDraws, draw_labels
from ssl_core.evaluation.floor import fit_floor
from ssl_core.finetuning.batched import prepare
from ssl_core.finetuning.full import FROM_PRETRAINED, FROM_SCRATCH, fit_full
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.spec.data import Data

_Array = npt.NDArray[np.float64]
COMBINED_WEIGHT = 0.5
"""Of the encoder's part beside the floor's in the combined arm, both of mean square 1; chosen on label-pool patients."""


class Arm(StrEnum):
    """What is compared; `*_TUNED` train the whole encoder on the labels, as SCRATCH does, the others a linear head."""

    FLOOR = "floor"
    RANDOM = "random"
    SCRATCH = "scratch"
    OWN = "own"
    OWN_TUNED = "own-tuned"
    FEDERATED = "federated"
    FEDERATED_TUNED = "federated-tuned"
    COMBINED = "combined"


_ENCODER = {
    Arm.RANDOM: Arm.RANDOM,
    Arm.SCRATCH: Arm.RANDOM,
    Arm.OWN: Arm.OWN,
    Arm.OWN_TUNED: Arm.OWN,
    Arm.FEDERATED: Arm.FEDERATED,
    Arm.FEDERATED_TUNED: Arm.FEDERATED,
    Arm.COMBINED: Arm.FEDERATED,
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """n patients as the encoder reads them, the same as the floor reads them, and labels 0/1 int8 [n, K]."""

    patients: Patients
    raw: Patients
    labels: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        if self.patients.units != self.raw.units or len(self.labels) != len(self.patients):
            raise DataError("encoder's patients, floor's patients and labels are not the same patients", field="raw")


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Macro AUROC of one arm at one label budget, one number a draw."""

    arm: Arm
    budget: int
    auroc: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Efficiency:
    """`short`: positions of groups that had fewer than two positives or negatives in some draw, by budget."""

    rows: tuple[ArmScores, ...]
    short: Mapping[int, tuple[int, ...]]
    left_out: tuple[int, ...]
    """Budgets larger than the pool."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its interval at level `level`."""

    mean: float
    low: float
    high: float
    level: float = 0.95


def paired_difference(first: Sequence[float], second: Sequence[float], *, level: float = 0.95) -> Interval:
    """first minus second, draw by draw; Student's t over the draws (both sequences in draw order, 2 or more)."""
    if len(first) != len(second) or len(first) < 2:
        raise DataError("paired draws are needed", field="draws", value=(len(first), len(second)), limit="equal, 2 or more")
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    half = student.ppf(0.5 + level / 2, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
    mean = float(differences.mean())
    return Interval(mean, mean - float(half), mean + float(half), level)


def label_efficiency(
    pool: Labelled,
    test: Labelled,
    encoders: Mapping[Arm, Encoder],
    *,
    data: Data,
    exclusive: bool = False,
    arms: Sequence[Arm] = tuple(Arm),
    budgets: Sequence[int] = (20, 50, 200),
    draws: int = 10,
    seed: int = 0,
) -> Efficiency:
    """All arms whose encoder is given (keys RANDOM, OWN, FEDERATED), on `data`; the floor needs none."""
    if set(pool.patients.units) & set(test.patients.units):
        raise DataError("a patient is in the label pool and in the test set", field="test", remedy="split by patient")
    possible = [budget for budget in budgets if budget <= len(pool.labels)]
    chosen = {budget: draw_labels(pool.labels, budget, count=draws, seed=seed) for budget in possible}
    floor = fit_floor(pool.raw, data)
    raw = floor.features(pool.raw), floor.features(test.raw)
    rows: list[ArmScores] = []
    for arm in arms:
        if arm is not Arm.FLOOR and _ENCODER[arm] not in encoders:
            continue
        if arm in (Arm.SCRATCH, Arm.OWN_TUNED, Arm.FEDERATED_TUNED):
            rows += _trained(arm, encoders[_ENCODER[arm]], pool, test, chosen, exclusive)
            continue
        features = raw if arm is Arm.FLOOR else _frozen(encoders[_ENCODER[arm]], pool, test)
        if arm is Arm.COMBINED:
            length = _length(raw[0])
            features = _beside(raw[0] / length, features[0]), _beside(raw[1] / length, features[1])
        rows += _probed(arm, features[0], features[1], pool.labels, test.labels, chosen)
    short = {budget: drawn.short for budget, drawn in chosen.items()}
    return Efficiency(tuple(rows), short, tuple(budget for budget in budgets if budget not in possible))


def _frozen(encoder: Encoder, pool: Labelled, test: Labelled) -> tuple[_Array, _Array]:
    """Standardised features, one row a patient; constants from the pool, without its labels."""
    own = [side.patients.mean_by_unit(encoder.features(side.patients.whole)) for side in (pool, test)]
    scaling = standardise(own[0])
    return scaling(own[0]), scaling(own[1])


def _length(raw: _Array) -> float:
    """Root mean square of the rows [n, F] around their mean: pixels, decibels and words are of very different sizes."""
    return math.sqrt(float(raw.var(axis=0).sum())) or 1.0


def _beside(raw: _Array, features: _Array) -> _Array:
    joined: _Array = np.hstack([raw, COMBINED_WEIGHT * features])
    return joined


def _probed(
    arm: Arm,
    pool: _Array,
    test: _Array,
    pool_labels: npt.NDArray[np.int8],
    test_labels: npt.NDArray[np.int8],
    chosen: Mapping[int, LabelDraws],
) -> list[ArmScores]:
    rows = []
    for budget, drawn in chosen.items():
        heads = [fit_ridge(pool[index], pool_labels[index]) for index in drawn.index]
        # One product for all draws: the raw features are wide.
        scores = test @ np.hstack([head.weight for head in heads])
        blocks = np.split(scores, len(heads), axis=1)
        rows.append(ArmScores(arm, budget, tuple(macro_auroc(block, test_labels) for block in blocks)))
    return rows


def _trained(
    arm: Arm, encoder: Encoder, pool: Labelled, test: Labelled, chosen: Mapping[int, LabelDraws], exclusive: bool
) -> list[ArmScores]:
    settings = FROM_SCRATCH if arm is Arm.SCRATCH else FROM_PRETRAINED
    inputs: list[torch.Tensor] = [prepare(encoder, side.patients.whole) for side in (pool, test)]
    rows = []
    for budget, drawn in chosen.items():
        tuned = fit_full(
            encoder, pool.patients, drawn.index, pool.labels, exclusive=exclusive, settings=settings, inputs=inputs[0]
        )
        scores = tuned.scores(test.patients, inputs[1])
        rows.append(ArmScores(arm, budget, tuple(macro_auroc(own, test.labels) for own in scores)))
    return rows
