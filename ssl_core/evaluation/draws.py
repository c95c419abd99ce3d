"""Step 13: which patients of the label pool carry labels in one draw; the same draws for every arm.

Comes in: labels 0/1 [n, K] of the pool, a budget, how many draws, a public seed. Goes out: index int64 [draws, budget],
sorted by chance alone. A draw is a plain random sample that holds at least `least` positives and negatives of every
group; where the pool has fewer of a class, as many as it has. It is therefore not quite a random sample, which every
table must say. When plain sampling does not meet it soon, the fullest sample is mended by as few swaps as it takes.
Of labels of records patients are drawn too, with all their records; one may be a positive and a negative of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError

LEAST = 2
_BATCH = 256
_BATCHES = 8


@dataclass(frozen=True, slots=True)
class LabelDraws:
    """`index` int64 [draws, budget]; `short`: positions of groups with fewer than `least` of a class in some draw."""

    budget: int
    index: npt.NDArray[np.int64]
    short: tuple[int, ...]


def draw_labels(
    labels: npt.NDArray[np.integer],
    budget: int,
    *,
    count: int,
    seed: int,
    least: int = LEAST,
    owners: npt.NDArray[np.int64] | None = None,
) -> LabelDraws:
    """`count` draws of `budget` patients from a pool with `labels` [n, K]; see the module docstring.

    owners: of labels of records, the number of each one's patient, int64 [n] from 0; `index` is of these numbers then.
    """
    # A positive and a negative of a group are two things to hold: [n, 2 K].
    holds = np.concatenate([labels == 1, labels == 0], axis=1)
    if owners is not None:
        of_records, holds = holds, np.zeros((int(owners.max(initial=-1)) + 1, holds.shape[1]), np.bool_)
        np.logical_or.at(holds, owners, of_records)
    if not 2 <= budget <= len(holds):
        raise DataError("label budget does not fit the pool", field="budget", value=budget, limit="2 .. patients in the pool")
    wanted = np.minimum(holds.sum(axis=0), least)
    source = np.random.default_rng([seed, budget])
    index = np.stack([_one(holds, wanted, budget, source) for _ in range(count)])
    missing = (holds[index].sum(axis=1) < least).any(axis=0)
    groups = missing.reshape(2, -1).any(axis=0)
    return LabelDraws(budget, index, tuple(int(group) for group in np.flatnonzero(groups)))


def _one(
    holds: npt.NDArray[np.bool_], wanted: npt.NDArray[np.int64], budget: int, source: np.random.Generator
) -> npt.NDArray[np.int64]:
    best: npt.NDArray[np.int64] | None = None
    most = -1
    for _ in range(_BATCHES):
        samples = source.random((_BATCH, len(holds))).argpartition(budget - 1, axis=1)[:, :budget]
        met = np.minimum(holds[samples].sum(axis=1), wanted).sum(axis=1)
        first = int(met.argmax())
        if met[first] > most:
            best, most = samples[first], int(met[first])
        if most == wanted.sum():
            break
    if best is None:
        raise DataError("no label draw was made", field="budget", value=budget)
    return _mend(holds, wanted, best, source)


def _mend(
    holds: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    source: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Swap in the patient that helps most for one whose loss costs least, while that lessens what is missing."""
    drawn = drawn.copy()
    while True:
        held = holds[drawn].sum(axis=0)
        missing = np.maximum(wanted - held, 0)
        if not missing.any():
            return drawn
        outside = np.setdiff1d(np.arange(len(holds)), drawn)
        if not len(outside):
            return drawn
        after = held - holds[drawn]
        loss = np.maximum(wanted - after, 0).sum(axis=1)
        out = source.permutation(len(drawn))
        out = out[loss[out].argsort(kind="stable")][: min(len(drawn), 8)]
        gains = [np.maximum(wanted - (held - holds[drawn[place]] + holds[outside]), 0).sum(axis=1) for place in out]
        left = np.stack(gains)
        if left.min() >= missing.sum():
            return drawn
        ties = np.argwhere(left == left.min())
        place, patient = ties[source.integers(len(ties))]
        drawn[out[place]] = outside[patient]
