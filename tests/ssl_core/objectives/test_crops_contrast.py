"""Contrast of one's own crops: the loss against a loop over looks, what a bad record counts, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests_transformer import gelu, layer_norm, learn, linear, named_weights

from ssl_core.data.patients import group
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.crops_contrast import CropsContrastModel
from ssl_core.spec.data import ImageData, SignalData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.4, gain=0.2, noise=0.1, flip=False)


def _model(data: ImageData = DATA, crops: int = 3, temperature: float = 0.5) -> CropsContrastModel:
    model = CropsContrastModel(data, ResNet(data, size="nano"), projector=8, crops=crops, temperature=temperature, how=HOW)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def _loop(z: np.ndarray, temperature: float) -> float:
    rows = [row / math.sqrt(float(row @ row) + 1e-6) for row in z]
    total = 0.0
    for place, row in enumerate(rows):
        chances = {other: math.exp(float(row @ rows[other]) / temperature) for other in range(len(rows)) if other != place}
        total -= math.log(chances[place ^ 1] / sum(chances.values()))
    return total / len(rows)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_the_loss_is_that_of_a_loop_over_the_looks_at_real_records(bad: int) -> None:
    model = _model()
    images = np.random.default_rng(3).normal(size=(2, 64)).astype(np.float32)
    images[:bad] = 0.0
    coins = 1.0 - np.random.default_rng(4).random((5, model.coins))
    views = model.draw(group(["p", "p"], images), np.zeros(5, np.int64), coins)
    named = named_weights(model)
    for unit in range(5):
        features = model.encoder.features(views["shown"][unit].numpy()).astype(np.float64)
        hidden = gelu(layer_norm(named, "project.norm", linear(named, "project.first", features)))
        z = (hidden @ named["project.second.weight"].T).reshape(2, 6, 8)[views["real"][unit].numpy() == 1].reshape(-1, 8)
        loss = model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(_loop(z, 0.5) if len(z) else 0.0, rel=1e-4, abs=1e-6)


def test_what_is_shown_of_a_bad_record_reaches_nothing() -> None:
    model = _model()
    images = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float32)
    images[1] = 0.0
    views = model.draw(
        group(["p", "p"], images), np.zeros(4, np.int64), 1.0 - np.random.default_rng(6).random((4, model.coins))
    )
    other = dict(views)
    real = views["real"].repeat_interleave(6, dim=1)[..., None] == 1
    other["shown"] = torch.where(real, views["shown"], 7.0 + views["shown"])
    assert torch.equal(model.losses(other), model.losses(views))


@pytest.mark.parametrize("crops", [2, 4, 5, 8])
@pytest.mark.parametrize(
    "data",
    [
        ImageData(kind="image", height=9, width=13, records_per_patient=2),
        SignalData(
            kind="signal", channels=2, samples=83, rate_hz=100.0, units=("mV", "mV"), typical=(1.0, 1.0), records_per_patient=2
        ),
    ],
    ids=["image", "signal"],
)
def test_no_two_crops_of_a_record_show_the_same_and_both_looks_at_a_crop_do(data: ImageData | SignalData, crops: int) -> None:
    """Records whose values say where they stand, from 1 on: a look's values then tell what it shows, 0 being empty."""
    how = Augmentation(crop=0.3, gain=0.0, noise=0.0, flip=False)
    encoder = ResNet(data, size="nano") if isinstance(data, ImageData) else ConvSignal(data, size="nano")
    model = CropsContrastModel(data, encoder, projector=8, crops=crops, temperature=0.5, how=how)
    coins = 1.0 - np.random.default_rng(crops).random((20, model.coins))
    for axis in range(2 if isinstance(data, ImageData) else 1):
        size = (9, 13)[axis] if isinstance(data, ImageData) else 83
        place = np.arange(1.0, size + 1)
        if isinstance(data, ImageData):
            record = np.broadcast_to(place[:, None] if axis == 0 else place, (9, 13)).reshape(-1)
        else:
            record = np.tile(place, 2)
        views = model.draw(group(["p", "p"], np.tile(record, (2, 1)).astype(np.float32)), np.zeros(20, np.int64), coins)
        shown = views["shown"].numpy().reshape(20, 2, crops, 2, -1)
        first = np.where(shown > 0, shown, np.inf).min(axis=-1)
        last = shown.max(axis=-1)
        np.testing.assert_array_equal(first[..., 0], first[..., 1])
        np.testing.assert_array_equal(last[..., 0], last[..., 1])
        # Parts that are one above the other have the same columns: apart are those whose windows differ along this axis.
        windows = np.stack([part[axis] for part in model.parts[: 2 * crops : 2]])
        assert (first[..., 0] >= windows[:, 0] + 1 - 1e-4).all() and (last[..., 0] <= windows[:, 1] + 1e-4).all()
    taken = np.zeros((size,) if isinstance(data, SignalData) else (9, 13), int)
    for part in model.parts[: 2 * crops : 2]:
        taken[tuple(slice(*axis) for axis in part)] += 1
    assert taken.max() == 1 and taken.sum() > 0.6 * taken.size


def test_it_learns_to_tell_the_parts_of_an_image_apart() -> None:
    """Guessing among 2 x 8 - 1 looks has the surprise ln 15 = 2.71."""
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=16, width=16)
    slope = np.linspace(-2, 2, 16)
    images = (slope[:, None] * rng.choice([-1, 1], (64, 1, 1)) + slope * rng.normal(size=(64, 1, 1))).reshape(64, 256)
    model = CropsContrastModel(data, ResNet(data, size="nano"), projector=16, crops=8, temperature=0.2, how=HOW)
    losses = learn(model, group([f"p{n:03d}" for n in range(64)], images.astype(np.float32)), rng, 60)
    assert losses[0] > 2.0 and np.mean(losses[-5:]) < 0.6 * losses[0]
