"""The signal transformer: sizes, pieces, features against plain numpy, its relation to the vision transformer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import periodogram
from tests_transformer import named_weights, randomise, signal_tokens

from ssl_core.encoders import signal_transformer
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.vit import SHAPES
from ssl_core.spec.data import SignalData
from ssl_core.spec.encoder import VitSize

SIGNAL = SignalData(kind="signal", channels=2, samples=24, rate_hz=50.0, units=("mV",), typical=(0.5,))
# One channel, 60 pieces of 50 samples; the module docstring lists them.
LISTED: dict[VitSize, int] = {"nano": 29_024, "micro": 157_184, "tiny": 5_360_064, "small": 21_336_960, "base": 85_141_248}


def parameters(channels: int, size: VitSize) -> int:
    data = SignalData(kind="signal", channels=channels, samples=3000, rate_hz=100.0, units=("mV",), typical=(0.5,))
    with torch.device("meta"):
        model = SignalTransformer(data, size=size, patch=50)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", SHAPES)
def test_sizes_follow_the_formula_and_are_the_listed_ones(size: VitSize) -> None:
    width, depth, _ = SHAPES[size]
    block = (4 + 8) * width * width + (3 + 1 + 4 + 1) * width + 4 * width
    expected = (50 + 1) * width + 60 * width + depth * block + 2 * width
    assert parameters(1, size) == expected == LISTED[size]
    assert parameters(12, size) == expected + 11 * 50 * width
    assert f"{size} {expected:,}" in str(signal_transformer.__doc__).replace("\n", " ")


def test_pieces_are_of_all_channels_in_the_order_of_time() -> None:
    model = SignalTransformer(SIGNAL, size="nano", patch=6)
    signal = torch.arange(48.0).reshape(2, 24)
    pieces = model.cut(signal.reshape(1, 48))
    assert pieces.shape == (1, 4, 12) and model.squares == 4
    for number in range(4):
        assert torch.equal(pieces[0, number].reshape(2, 6), signal[:, 6 * number : 6 * number + 6])


def test_features_are_the_mean_of_the_last_tokens() -> None:
    model = randomise(SignalTransformer(SIGNAL, size="nano", patch=6))
    signals = np.random.default_rng(3).normal(size=(6, 48)).astype(np.float32)
    out = model.features(signals, chunk=4)
    assert out.dtype == np.float32 and out.shape == (6, model.feature_width) == (6, 32)
    named = named_weights(model)
    for signal, found in zip(signals, out, strict=True):
        pieces = np.stack([signal.reshape(2, 24)[:, a : a + 6].ravel() for a in range(0, 24, 6)]).astype(np.float64)
        expected = signal_tokens(named, "", pieces, [0, 1, 2, 3], depth=2, heads=2).mean(axis=0)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert model.features(signals[:0]).shape == (0, 32)


@pytest.mark.parametrize("patch", [6, 12, 4])
def test_a_token_may_see_spectrum_and_slopes_and_features_the_spread(patch: int) -> None:
    model = randomise(SignalTransformer(SIGNAL, size="nano", patch=patch, pool="mean-deviation", front_end=True))
    signals = np.random.default_rng(5).normal(size=(3, 48)).astype(np.float32)
    out = model.features(signals)
    assert out.shape == (3, model.feature_width) == (3, 64) and model.waves.in_features == 2 * (patch + patch // 2 + patch // 5)
    named = named_weights(model)
    for signal, found in zip(signals, out, strict=True):
        channels = signal.reshape(2, 24).astype(np.float64)
        pieces = []
        for begin in range(0, 24, patch):
            part = channels[:, begin : begin + patch]
            _, power = periodogram(part, fs=1.0, detrend=False, return_onesided=False)
            steps = np.abs(np.diff(part, axis=1))
            steps = np.concatenate([steps, steps[:, -1:]], axis=1)
            slopes = [[steps[channel, 5 * k : 5 * k + 5].mean() for k in range(patch // 5)] for channel in range(2)]
            seen = [
                part.ravel(),
                np.log(0.01 + power[:, 1 : patch // 2 + 1]).ravel() / 2,
                np.log(0.01 + np.array(slopes)).ravel(),
            ]
            pieces.append(np.concatenate(seen))
        tokens = signal_tokens(named, "", np.stack(pieces), [*range(24 // patch)], depth=2, heads=2)
        np.testing.assert_allclose(found, np.concatenate([tokens.mean(axis=0), np.sqrt(tokens.var(axis=0) + 1e-6)]), atol=1e-4)


def test_equal_tokens_have_a_finite_gradient_of_their_spread() -> None:
    model = SignalTransformer(SIGNAL, size="nano", patch=6, pool="mean-deviation")
    tokens = torch.ones(4, 32, requires_grad=True)
    model.pooled(tokens)[32:].sum().backward()
    assert tokens.grad is not None and torch.equal(tokens.grad, torch.zeros(4, 32))


def test_time_and_channel_matter() -> None:
    model = randomise(SignalTransformer(SIGNAL, size="nano", patch=6))
    signal = np.random.default_rng(4).normal(size=(1, 2, 24)).astype(np.float32)
    straight = model.features(signal.reshape(1, 48))
    for other in (signal[:, ::-1], np.roll(signal, 6, axis=2), signal[:, :, ::-1]):
        assert np.abs(model.features(np.ascontiguousarray(other).reshape(1, 48)) - straight).max() > 1e-2


def test_embed_gives_gradients_for_fine_tuning() -> None:
    model = randomise(SignalTransformer(SIGNAL, size="nano", patch=6))
    model.embed(np.ones((2, 48), np.float32))[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
