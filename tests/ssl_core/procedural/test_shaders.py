"""Textures of random programs: finite, scaled, each its own, and finer than noise of the same power would look."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_core.procedural import shaders
from ssl_core.procedural.shaders import FUNCTIONS, shaded


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 57), (8, 3)])
def test_each_texture_is_finite_scaled_and_its_own(height: int, width: int) -> None:
    textures = shaded(np.random.default_rng(1), 300, height, width)
    assert textures.shape == (300, height, width) and textures.dtype == np.float32 and np.isfinite(textures).all()
    assert np.abs(textures.mean(axis=(1, 2))).max() < 1e-5 and np.abs(textures.std(axis=(1, 2)) - 1).max() < 1e-4
    assert len(np.unique(textures.reshape(300, -1), axis=0)) == 300


def test_the_same_generator_gives_the_same_bytes() -> None:
    assert shaded(np.random.default_rng(2), 9, 16, 16).tobytes() == shaded(np.random.default_rng(2), 9, 16, 16).tobytes()
    assert shaded(np.random.default_rng(2), 0, 16, 16).shape == (0, 16, 16)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_keeps_finite_values_finite_and_depends_on_its_phase_or_rate(function: shaders.Function) -> None:
    a, b = np.meshgrid(np.linspace(-9, 9, 41, dtype=np.float32), np.array([-3e4, -1, 0, 1, 3e4], np.float32))
    first, second = (function(a, b, np.full_like(a, rate), np.full_like(a, phase)) for rate, phase in ((2.0, 0.5), (5.0, 1.5)))
    assert np.isfinite(first).all() and first.dtype == np.float32
    assert np.abs(first - second).max() > 0.1


def test_a_program_that_draws_an_even_area_falls_back_on_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaders, "FUNCTIONS", (lambda a, _b, _rate, _phase: np.zeros_like(a),) * len(FUNCTIONS))
    textures = shaded(np.random.default_rng(3), 20, 32, 32)
    assert np.abs(textures.std(axis=(1, 2)) - 1).max() < 1e-4
    # Stripes are the same along one direction: their spectrum has few large entries.
    power = np.sort((np.abs(np.fft.fft2(textures)) ** 2).reshape(20, -1), axis=1)
    assert (power[:, -40:].sum(axis=1) / power.sum(axis=1)).min() > 0.8


def test_they_have_lines_that_noise_of_the_same_power_has_not() -> None:
    """Kurtosis of the differences of neighbours: 3 of anything Gaussian, more where even areas meet at edges."""
    textures = shaded(np.random.default_rng(4), 300, 32, 32)
    spectra = np.abs(np.fft.fft2(textures))
    phases = np.fft.fft2(np.random.default_rng(5).normal(size=textures.shape))
    noise = np.fft.ifft2(spectra * phases / np.abs(phases)).real

    def kurtosis(pictures: np.ndarray) -> float:
        steps = np.diff(pictures, axis=2)
        return float(np.median((steps**4).mean(axis=(1, 2)) / (steps**2).mean(axis=(1, 2)) ** 2))

    assert kurtosis(textures) > 1.2 * kurtosis(noise)
