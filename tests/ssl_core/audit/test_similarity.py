"""PSNR and SSIM against scikit-image 0.26.0, whose numbers are written here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssl_core.audit.similarity import psnr, ssim
from ssl_core.errors import DataError


def pair(kind):
    rows, columns = np.mgrid[:20, :24].astype(float)
    first = np.sin(rows / 3) + np.cos(columns / 4)
    others = (first + 0.3 * np.sin(rows * columns), np.cos(rows / 5) * np.sin(columns), 0.5 * first + 0.2)
    return first, others[kind]


@pytest.mark.parametrize(
    ("kind", "likeness", "decibels"),
    [(0, 0.8591202926059928, 25.92628715831093), (1, 0.018539169055825283, 11.216588198651628),
     (2, 0.3338632564854672, 17.468818818263706)],
)  # fmt: skip
def test_scikit_images_numbers(kind, likeness, decibels):
    """structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False), peak_signal_noise_ratio."""
    true, found = pair(kind)
    assert ssim(found, true, span=4.0) == pytest.approx(likeness, abs=1e-12)
    assert psnr(found, true, span=4.0) == pytest.approx(decibels, abs=1e-12)


def test_equal_pictures_are_equal():
    true, _ = pair(0)
    assert psnr(true, true, span=4.0) == math.inf
    assert ssim(true, true, span=4.0) == pytest.approx(1.0)


def test_pictures_that_do_not_fit_are_refused():
    for measure in (psnr, ssim):
        with pytest.raises(DataError, match="shape"):
            measure(np.zeros((12, 12)), np.zeros((12, 13)), span=1.0)
    with pytest.raises(DataError, match="smaller than the window"):
        ssim(np.zeros((10, 12)), np.zeros((10, 12)), span=1.0)
