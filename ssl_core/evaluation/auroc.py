"""Step 13: area under the ROC curve, group by group and macro-averaged; of classes also the balanced accuracy.

Comes in: scores float [n, K] and labels 0/1 [n, K]. Goes out: float64 [K], NaN where a group has one class only, and
their mean over the other groups. Ties count one half: Fawcett, "An introduction to ROC analysis" (Pattern Recognition
Letters 2006), section 7; the rank form is Mann-Whitney's U.
The tests compare it with scikit-learn's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ssl_core.errors import DataError


def auroc(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """float64 [K] for `scores` [n, K] and 0/1 `labels` [n, K]; NaN for a group without both classes."""
    if scores.shape != labels.shape or scores.ndim != 2:
        raise DataError("scores and labels differ in shape", field="scores", value=scores.shape, limit=labels.shape)
    if not np.isfinite(scores).all():
        raise DataError("scores are not finite", field="scores", remedy="check the model that made them")
    positive = labels == 1
    ones = positive.sum(axis=0).astype(np.float64)
    pairs = ones * (len(labels) - ones)
    ranks = np.where(positive, rankdata(scores, axis=0), 0.0).sum(axis=0)
    areas = np.full(scores.shape[1], np.nan)
    np.divide(ranks - ones * (ones + 1) / 2, pairs, out=areas, where=pairs > 0)
    return areas


def macro_auroc(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Mean of `auroc` over the groups that have both classes; `DataError` when there is none."""
    areas = auroc(scores, labels)
    known = areas[~np.isnan(areas)]
    if not len(known):
        raise DataError("no group of the test labels has both classes", field="labels", remedy="add test patients")
    return float(known.mean())


def balanced_accuracy(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Mean over the classes of the share of each that has its own highest score; `labels` 0/1 [n, K], one 1 a row, K > 1.

    Classes without a row do not count: Brodersen et al., "The balanced accuracy and its posterior distribution" (ICPR 2010).
    """
    right = scores.argmax(axis=1) == labels.argmax(axis=1)
    known = labels.sum(axis=0) > 0
    return float(((labels * right[:, None]).sum(axis=0)[known] / labels.sum(axis=0)[known]).mean())
