"""Step 13: a linear head for survival: Cox's partial likelihood with a ridge penalty, chosen by cross-validation.

Comes in: features float [n, F], times float [n] above 0, events bool [n]. Goes out: `CoxHead`, whose scores float64 [n] are
logs of the relative risk: higher means sooner. Ties by Breslow (Biometrics 1974). The penalty is the one with the best
cross-validated partial likelihood, the likelihood of all less that of all but the fold (Verweij and van Houwelingen,
"Cross-validation in survival analysis", Statistics in Medicine 1993), over folds that are dealt out in the order of times, so
that each has some events; nothing is drawn by chance. The optimum is found by L-BFGS with the exact gradient (scipy); the
problem is strictly convex. Discrimination is Harrell's concordance index (JAMA 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError

PENALTIES = 10.0 ** np.arange(-3.0, 3.01, 0.5)
_FOLDS = 5
_LEAST_EVENTS = 10
_Array = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CoxHead:
    """scores = features @ weight; `penalty`: the chosen one, for each event."""

    weight: _Array
    penalty: float

    def scores(self, features: npt.NDArray[np.floating]) -> _Array:
        """features [n, F] to logs of relative risk, float64 [n]."""
        scored: _Array = np.asarray(features, np.float64) @ self.weight
        return scored


def fit_cox(features: npt.NDArray[np.floating], time: _Array, event: _Flags, *, penalties: _Array = PENALTIES) -> CoxHead:
    """Fit the head; `DataError` where shapes do not fit, values are not finite, or fewer than ten events are seen."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x) == len(time) == len(event):
        raise DataError("features and outcomes do not fit", field="time", value=len(time), limit=len(x))
    if not (np.isfinite(x).all() and np.isfinite(time).all()):
        raise DataError("features or times are not finite", field="features", remedy="check the encoder's weights")
    if event.sum() < _LEAST_EVENTS:
        raise DataError("too few events are seen to fit a risk", field="event_column", limit=_LEAST_EVENTS)
    order = np.argsort(time, kind="stable")
    # By events and others apart, so that every fold has its share of both.
    fold = np.zeros(len(x), np.int64)
    for kind in (True, False):
        of_kind = order[event[order] == kind]
        fold[of_kind] = np.arange(len(of_kind)) % _FOLDS
    gains = [sum(_gain(x, time, event, fold == held, penalty) for held in range(_FOLDS)) for penalty in penalties]
    chosen = float(penalties[int(np.argmax(gains))])
    return CoxHead(_fit(x, time, event, chosen), chosen)


def _gain(x: _Array, time: _Array, event: _Flags, held: _Flags, penalty: float) -> float:
    weight = _fit(x[~held], time[~held], event[~held], penalty)
    return log_likelihood(x @ weight, time, event)[0] - log_likelihood(x[~held] @ weight, time[~held], event[~held])[0]


def _fit(x: _Array, time: _Array, event: _Flags, penalty: float) -> _Array:
    from scipy.optimize import minimize

    events = max(1, int(event.sum()))

    def loss(weight: _Array) -> tuple[float, _Array]:
        value, slope = log_likelihood(x @ weight, time, event)
        return 0.5 * penalty * float(weight @ weight) - value / events, penalty * weight - x.T @ slope / events

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weight: _Array = np.asarray(found.x, np.float64)
    return weight


def log_likelihood(scores: _Array, time: _Array, event: _Flags) -> tuple[float, _Array]:
    """Breslow's partial log-likelihood and its slope float64 [n] by the scores."""
    order = np.argsort(-time, kind="stable")
    ordered, when, happened = scores[order], time[order], event[order]
    # All in logs, so that no power of any score overflows or vanishes; who is at risk runs from the longest time down.
    sums = np.logaddexp.accumulate(ordered)
    last = np.searchsorted(-when, -when, side="right") - 1
    value = float((ordered - sums[last])[happened].sum())
    # Everybody at risk at an event's time shares its slope: those at or before its last tie in this order.
    events = np.bincount(last[happened], minlength=len(ordered))
    shares = np.where(events > 0, np.log(np.maximum(events, 1)) - sums, -np.inf)
    slope = np.zeros(len(ordered))
    slope[order] = happened - np.exp(ordered + np.logaddexp.accumulate(shares[::-1])[::-1])
    return value, slope


def concordance(scores: npt.NDArray[np.floating], time: _Array, event: _Flags) -> float | None:
    """Harrell's index: of the pairs of which one had the event surely first, the share with the higher score; ties count half.

    None where there is no such pair. A pair of one time counts where one had the event then and the other did not.
    """
    right = pairs = 0.0
    for place in np.flatnonzero(event):
        later = (time > time[place]) | ((time == time[place]) & ~event)
        pairs += float(later.sum())
        right += float((scores[place] > scores[later]).sum()) + 0.5 * float((scores[place] == scores[later]).sum())
    return right / pairs if pairs else None
