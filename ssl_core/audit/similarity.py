"""Audit 4, the yardsticks: how like are two pictures?

Comes in: two float64 [h, w] pictures and the width of their range of values. Goes out: peak signal-to-noise ratio in dB,
10 log10(L^2 / mean squared error), infinite for equal pictures; and the structural similarity of Wang, Bovik, Sheikh and
Simoncelli (IEEE TIP 2004), equation 13 with K1 = 0.01, K2 = 0.03 and the Gaussian window of 11 x 11 (sigma 1.5), meaned
over the places where the whole window fits; 1 for equal pictures, about 0 for unrelated ones.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ssl_core.errors import DataError

Picture = npt.NDArray[np.float64]

_REACH = 5
_SIGMA = 1.5


def psnr(found: Picture, true: Picture, *, span: float) -> float:
    """Decibels; `span` is the width L of the range of values."""
    error = float(np.square(_checked(found, true) - true).mean())
    return 10.0 * math.log10(span * span / error) if error > 0 else math.inf


def ssim(found: Picture, true: Picture, *, span: float) -> float:
    """Mean structural similarity; both sides must be at least 11."""
    _checked(found, true)
    if min(true.shape) < 2 * _REACH + 1:
        raise DataError("picture is smaller than the window", field="picture", value=true.shape, limit="at least 11 x 11")
    mean_a, mean_b = _blurred(found), _blurred(true)
    var_a, var_b = _blurred(found * found) - mean_a**2, _blurred(true * true) - mean_b**2
    shared = _blurred(found * true) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    places = top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(places[_REACH:-_REACH, _REACH:-_REACH].mean())


def _blurred(picture: Picture) -> Picture:
    blurred: Picture = gaussian_filter(picture, _SIGMA, radius=_REACH)
    return blurred


def _checked(found: Picture, true: Picture) -> Picture:
    if found.shape != true.shape or found.ndim != 2:
        raise DataError("pictures differ in shape", field="picture", value=found.shape, limit=true.shape)
    return found
