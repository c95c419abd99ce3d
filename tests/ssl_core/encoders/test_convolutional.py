"""Both convolutional encoders: published and listed sizes, features against plain numpy, no record meets another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from tests_transformer import gelu, named_weights, randomise

from ssl_core.encoders import conv_signal, resnet
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.convolution import convolution_range
from ssl_core.encoders.resnet import ResNet
from ssl_core.spec.data import ImageData, SignalData
from ssl_core.spec.encoder import CONV_SIGNAL_STRIDE, RESNET_STRIDE, ConvSignalSize, ResnetSize

SIGNAL = SignalData(kind="signal", channels=2, samples=50, rate_hz=50.0, units=("mV",), typical=(0.5,))
IMAGE = ImageData(kind="image", height=16, width=24, pool=2)
SIGNAL_SIZES: dict[ConvSignalSize, int] = {"nano": 1_000, "small": 72_352, "base": 288_064}
IMAGE_SIZES: dict[ResnetSize, int] = {"nano": 4_952, "10": 1_225_824, "18": 11_170_240}


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_one_place_of_the_last_maps_stands_for_as_much_as_the_plan_is_told() -> None:
    for size in IMAGE_SIZES:
        with torch.device("meta"):
            maps = ResNet(IMAGE, size=size).maps(torch.zeros(1, 1, 128, 64))
        assert maps.shape[2:] == (128 // RESNET_STRIDE[size], 64 // RESNET_STRIDE[size])
    for length in SIGNAL_SIZES:
        with torch.device("meta"):
            frames = ConvSignal(SIGNAL, size=length).frames(torch.zeros(1, 2, 256))
        assert frames.shape[2] == 256 // CONV_SIGNAL_STRIDE[length]


def norm(named: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """GroupNorm of one record's maps [channels, ...], eight channels a group."""
    out = np.zeros_like(x)
    for group in range(0, len(x), 8):
        part = x[group : group + 8]
        out[group : group + 8] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    shape = (-1, *[1] * (x.ndim - 1))
    scaled: np.ndarray = out * named[f"{name}.weight"].reshape(shape) + named[f"{name}.bias"].reshape(shape)
    return scaled


def convolve(named: dict[str, np.ndarray], name: str, x: np.ndarray, stride: int) -> np.ndarray:
    """Maps [in, ...] to [out, ...], zero padding by half the kernel."""
    kernel = named[f"{name}.weight"]
    half = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), *[(half, half)] * (x.ndim - 1)))
    whole = np.stack([sum(correlate(padded[c], k[c], mode="valid") for c in range(len(x))) for k in kernel])
    return whole[(slice(None), *[slice(None, None, stride)] * (x.ndim - 1))]


@pytest.mark.parametrize("size", SIGNAL_SIZES)
def test_sizes_of_the_signal_net_are_the_listed_ones(size: ConvSignalSize) -> None:
    one = SIGNAL.model_copy(update={"channels": 1})
    assert count(ConvSignal(one, size=size)) == SIGNAL_SIZES[size]
    assert f"{size} {SIGNAL_SIZES[size]:,}" in str(conv_signal.__doc__).replace("\n", " ")
    assert count(ConvSignal(SIGNAL, size=size)) - SIGNAL_SIZES[size] == 7 * conv_signal.WIDTHS[size][0]


def test_resnet_18_has_the_published_size_up_to_colour_and_head() -> None:
    colour, head = 2 * 7 * 7 * 64, 513 * 1000
    with torch.device("meta"):
        assert count(ResNet(IMAGE, size="18")) + colour + head == 11_689_512


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_sizes_of_the_residual_net_are_the_listed_ones(size: ResnetSize) -> None:
    with torch.device("meta"):
        assert count(ResNet(IMAGE, size=size)) == IMAGE_SIZES[size]
    assert f"{size} {IMAGE_SIZES[size]:,}" in str(resnet.__doc__).replace("\n", " ")


def test_signal_features_are_the_mean_of_the_last_maps() -> None:
    model = randomise(ConvSignal(SIGNAL, size="nano"))
    signals = np.random.default_rng(3).normal(size=(5, 100)).astype(np.float32)
    out = model.features(signals, chunk=3)
    assert out.dtype == np.float32 and out.shape == (5, model.feature_width) == (5, 16)
    named = named_weights(model)
    for signal, found in zip(signals, out, strict=True):
        maps = signal.reshape(2, 50).astype(np.float64)
        for layer, stride in enumerate((4, 2)):
            maps = gelu(norm(named, f"norms.{layer}", convolve(named, f"layers.{layer}", maps, stride)))
        assert maps.shape == (16, 7)
        np.testing.assert_allclose(found, maps.mean(axis=1), atol=1e-4)


def test_image_features_are_the_mean_of_the_last_maps() -> None:
    model = randomise(ResNet(IMAGE, size="nano"))
    images = np.random.default_rng(4).normal(size=(5, 96)).astype(np.float32)
    out = model.features(images, chunk=3)
    assert out.dtype == np.float32 and out.shape == (5, model.feature_width) == (5, 16)
    named = named_weights(model)
    for image, found in zip(images, out, strict=True):
        maps = gelu(norm(named, "norm", convolve(named, "first", image.reshape(1, 8, 12).astype(np.float64), 1)))
        for block, stride in (("blocks.0", 1), ("blocks.1", 2)):
            inner = gelu(norm(named, f"{block}.first_norm", convolve(named, f"{block}.first", maps, stride)))
            inner = norm(named, f"{block}.second_norm", convolve(named, f"{block}.second", inner, 1))
            if stride == 2:
                maps = norm(named, f"{block}.short_norm", convolve(named, f"{block}.short", maps, 2))
            maps = gelu(inner + maps)
        assert maps.shape == (16, 4, 6)
        np.testing.assert_allclose(found, maps.mean(axis=(1, 2)), atol=1e-4)


def test_resnet_18_halves_the_image_five_times() -> None:
    model = randomise(ResNet(ImageData(kind="image", height=64, width=32), size="18"))
    shapes: list[tuple[int, ...]] = []
    model.blocks.register_forward_hook(lambda _module, given, out: shapes.extend([given[0].shape, out.shape]))
    assert model.features(np.random.default_rng(5).normal(size=(1, 2048)).astype(np.float32)).shape == (1, 512)
    assert shapes == [(1, 64, 16, 8), (1, 512, 2, 1)]


@pytest.mark.parametrize("model", [ConvSignal(SIGNAL, size="nano"), ResNet(IMAGE, size="nano")], ids=["conv1d", "resnet"])
def test_a_record_does_not_meet_another_and_gradients_reach_every_parameter(model: Any) -> None:
    randomise(model)
    width = 100 if isinstance(model, ConvSignal) else 96
    records = np.random.default_rng(6).normal(size=(4, width)).astype(np.float32)
    other = records.copy()
    other[2] = other[2, ::-1] ** 2
    mine, theirs = model.features(records), model.features(other)
    assert np.allclose(mine[[0, 1, 3]], theirs[[0, 1, 3]], atol=1e-6) and not np.allclose(mine[2], theirs[2], atol=0.01)
    model.embed(records).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_convolutions_start_with_the_variance_that_keeps_activations() -> None:
    model = ResNet(IMAGE, size="10")
    for name, inputs in (("first.weight", 9), ("blocks.1.first.weight", 9 * 32), ("blocks.1.short.weight", 32)):
        centre, half_width = convolution_range(model, name)
        assert centre == 0.0 and half_width**2 / 3 == pytest.approx(2 / inputs)
    assert convolution_range(model, "norm.weight") == (1.0, 0.0) and convolution_range(model, "norm.bias") == (0.0, 0.0)
