"""Step 13: has an encoder collapsed? Five numbers of its features, for a site's own staff.

Comes in: features float32 [m, F] of m records, whose each is, int64 [m]; for the probe, labels 0/1 [m, K]. Goes out: `Health`.
Effective rank: Roy and Vetterli, "The effective rank" (EUSIPCO 2007), section 2: e to the entropy of the singular values, of
the centred features; 1 to min(m - 1, F). It shows a collapse to few directions and knows no scale: features in one point, plus
the rounding of float32, have full rank. Alignment and uniformity: Wang and Isola, "Understanding contrastive representation
learning" (ICML 2020), section 4.1, with alpha = t = 2, of features of length 1; a pair is two records of one patient.
Apart: 1 less the mean cosine of two records of different patients, half their mean squared distance at length 1: 0 where all
lie in one point, near 1 where they lie in all directions. But for the pairs that count it is the sum of the squares of what
Chen and He, "Exploring Simple Siamese Representation Learning" (CVPR 2021), section 4.1, watch: the standard deviation of each
number of features of length 1. Neighbours: macro AUROC of the 10 nearest records of other patients, by cosine.
All of it is computed from patients: it is not noised, has no type of message, and may change nothing that leaves (ruling 22).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError
from ssl_core.evaluation.auroc import macro_auroc

NEIGHBOURS = 10
# A mean cosine of .999. Encoders before training lay .006 (resnet, chest X-rays) to .9 (words) apart.
ONE_PLACE = 1e-3
_LEAST_NORM = 1e-12

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Health:
    """What an encoder of these features is like; `in_one_place` of them is a word for people and decides nothing.

    alignment: None where no patient has two records. neighbours: None where labels were not given, or have one class.
    apart: None where there is one patient, or where it was written down before there was this number.
    """

    records: int
    effective_rank: float
    alignment: float | None
    uniformity: float
    neighbours: float | None = None
    apart: float | None = None

    @property
    def in_one_place(self) -> bool:
        """Do different patients lie less than `ONE_PLACE` apart?"""
        return self.apart is not None and self.apart < ONE_PLACE


def health(features: npt.NDArray[np.float32], owners: npt.NDArray[np.int64]) -> Health:
    """All but the neighbours; `DataError` for less than three records or features that are not finite."""
    if len(features) < 3 or features.shape[:1] != owners.shape:
        raise DataError("too few records for these numbers", field="records", value=len(features), limit="at least 3")
    if not np.isfinite(features).all():
        raise DataError("features are not finite", field="features", remedy="the encoder has diverged")
    rows = _unit_rows(features)
    # The length of a record whose features are all 0 stays 0: two of them lie in one place.
    lengths = np.square(rows).sum(axis=1)
    squared = np.maximum(lengths[:, None] + lengths[None, :] - 2.0 * rows @ rows.T, 0.0)
    one = owners[:, None] == owners[None, :]
    pairs = np.triu(one, 1)
    return Health(
        records=len(features),
        effective_rank=effective_rank(features),
        alignment=float(squared[pairs].mean()) if pairs.any() else None,
        uniformity=float(np.log(np.exp(-2.0 * squared[np.triu_indices(len(rows), 1)]).mean())),
        apart=None if one.all() else float(squared[~one].mean()) / 2.0,
    )


def effective_rank(features: npt.NDArray[np.floating]) -> float:
    """e to the entropy of the singular values of centred `features` [m, F]; 1 where all rows are equal."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    if values.sum() <= _LEAST_NORM * max(1.0, float(np.abs(features).max())):
        return 1.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def neighbours(features: npt.NDArray[np.float32], owners: npt.NDArray[np.int64], labels: npt.NDArray[np.int8]) -> float | None:
    """Macro AUROC of the share of each label 0/1 [m, K] among the nearest; None where no label has both classes."""
    count = min(NEIGHBOURS, len(np.unique(owners)) - 1)
    both = (labels.min(axis=0, initial=1) == 0) & (labels.max(axis=0, initial=0) == 1)
    if count < 1 or not both.any():
        return None
    rows = _unit_rows(features)
    alike = rows @ rows.T
    alike[owners[:, None] == owners[None, :]] = -np.inf
    nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    return macro_auroc(labels[nearest].mean(axis=1)[:, both], labels[:, both])


def _unit_rows(features: npt.NDArray[np.float32]) -> Matrix:
    wide = features.astype(np.float64)
    rows: Matrix = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _LEAST_NORM)
    return rows
