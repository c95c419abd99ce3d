"""Step 13: a linear head on frozen features: ridge regression, its penalty by leaving one patient out, in closed form.

Comes in: features float [n, F] of labelled patients, targets 0/1 [n, K] (several findings, or one column a class: one
against the rest). Goes out: `LinearHead`, whose scores float64 [n, K] rank patients; they are no chances.
For centred features A and targets, K = A A^T and penalty p the fitted values are H y with H = K (K + p I)^-1 + 1 1^T / n
and the error on patient i of the fit without i is (y_i - (H y)_i) / (1 - H_ii): Allen's PRESS; Golub, Heath and Wahba,
"Generalized cross-validation" (Technometrics 1979), section 1. Exact, the intercept included, since H is linear in y.
Of a patient with several rows all are left out at once, or a penalty would be praised for knowing him again: the errors on
his rows g are (I - H_gg)^-1 (y_g - (H y)_g), by the same argument.
With n <= F the eigenvectors of the n x n kernel are taken, else those of the F x F matrix. All in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError

PENALTIES = 10.0 ** np.arange(-4.0, 3.01, 0.5)
# Numbers of U that are gathered at once.
_AT_ONCE = 1 << 22
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Constants that make features comparable: (x - centre) * scale, rows then of mean squared length 1."""

    centre: _Array
    scale: _Array

    def __call__(self, features: npt.NDArray[np.floating]) -> _Array:
        """features [n, F] to float64 [n, F]."""
        scaled: _Array = (np.asarray(features, np.float64) - self.centre) * self.scale
        return scaled


def standardise(features: npt.NDArray[np.floating]) -> Scaling:
    """Each column by its mean and standard deviation over `features` [n, F] (no labels used), divided by sqrt(F).

    A column that does not vary is set to zero.
    """
    values = np.asarray(features, np.float64)
    spread = values.std(axis=0)
    varies = spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300)
    scale = np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0) / np.sqrt(values.shape[1])
    return Scaling(values.mean(axis=0), scale)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """scores = features @ weight + bias; `penalty` float64 [K] and `loo_error` float64 [K] say what was chosen."""

    weight: _Array
    bias: _Array
    penalty: _Array
    loo_error: _Array

    def scores(self, features: npt.NDArray[np.floating]) -> _Array:
        """features [n, F] to float64 [n, K]."""
        scored: _Array = np.asarray(features, np.float64) @ self.weight + self.bias
        return scored


def fit_ridge(
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.generic],
    *,
    penalties: _Array = PENALTIES,
    owners: npt.NDArray[np.int64] | None = None,
) -> LinearHead:
    """Fit K heads at once; each takes the penalty (times the mean squared row length) with the least LOO error.

    owners: the number of each row's patient, int64 [n], from 0; without, each row is a patient.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise DataError(
            "features and targets do not fit", field="targets", value=y.shape, limit=f"[{len(x)}, K], 2 or more rows"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("features or targets are not finite", field="features", remedy="check the encoder's weights")
    centre_x, centre_y = x.mean(axis=0), y.mean(axis=0)
    a, b = x - centre_x, y - centre_y
    vectors, values = _spectrum(a)
    size = float((a * a).sum()) / len(a)
    projected = vectors.T @ b
    outside = b - vectors @ projected
    blocks = _blocks(owners, len(a), len(values))
    squares = vectors * vectors
    best = np.full(y.shape[1], np.inf)
    dual = np.zeros((len(values), y.shape[1]))
    chosen = np.zeros(y.shape[1])
    for penalty in penalties * (size if size > 0 else 1.0):
        shrink = values / (values + penalty)
        residual = outside + vectors @ ((1.0 - shrink)[:, None] * projected)
        if blocks is None:
            leverage = squares @ shrink + 1.0 / len(a)
            errors = ((residual / np.maximum(1.0 - leverage, 1e-12)[:, None]) ** 2).mean(axis=0)
        else:
            errors = (_left_out(residual, vectors, shrink, blocks) ** 2).mean(axis=0)
        better = errors < best
        best[better], chosen[better] = errors[better], penalty
        dual[:, better] = (projected / (values + penalty)[:, None])[:, better]
    weight = a.T @ (vectors @ dual)
    return LinearHead(weight, centre_y - centre_x @ weight, chosen, best)


def _blocks(owners: npt.NDArray[np.int64] | None, rows: int, rank: int) -> list[npt.NDArray[np.int64]] | None:
    """Rows by patient, int64 [patients, rows of each], patients of equally many together; None where each has one."""
    if owners is None:
        return None
    if len(owners) != rows:
        raise DataError("patients and features do not fit", field="owners", value=len(owners), limit=rows)
    counts = np.bincount(owners)
    if counts.max() == 1:
        return None
    if (counts > 0).sum() < 2:
        raise DataError("all rows are of one patient", field="owners", limit="2 or more patients")
    by_owner = np.split(np.argsort(owners, kind="stable"), np.cumsum(counts)[:-1])
    out = []
    for size in np.unique(counts[counts > 0]):
        alike = np.stack([own for own in by_owner if len(own) == size])
        out += np.array_split(alike, min(len(alike), -(-alike.size * (rank + 1) // _AT_ONCE)))
    return out


def _left_out(residual: _Array, vectors: _Array, shrink: _Array, blocks: Sequence[npt.NDArray[np.int64]]) -> _Array:
    """Errors [n, K] on the rows of each patient of the fit without him."""
    # H = U D U^T; the last column of U is the intercept's.
    whole = np.hstack([vectors, np.full((len(vectors), 1), len(vectors) ** -0.5)])
    weights = np.append(shrink, 1.0)
    out = np.empty_like(residual)
    for rows in blocks:
        part, own = whole[rows], residual[rows]
        across = part.swapaxes(1, 2)
        if part.shape[1] <= part.shape[2]:
            out[rows] = np.linalg.solve(np.eye(part.shape[1]) - (part * weights) @ across, own)
        else:
            # The same inverse by way of the smaller matrix (Woodbury).
            out[rows] = own + part @ np.linalg.solve(np.diag(1.0 / weights) - across @ part, across @ own)
    return out


def _spectrum(a: _Array) -> tuple[_Array, _Array]:
    """Left singular vectors [n, r] and squared singular values [r] of centred features, those above rounding."""
    kernel = len(a) <= a.shape[1]
    values, vectors = np.linalg.eigh(a @ a.T if kernel else a.T @ a)
    kept = values > max(float(values[-1]), 0.0) * 1e-12
    values, vectors = values[kept], vectors[:, kept]
    return (vectors if kernel else a @ (vectors / np.sqrt(values))), values
