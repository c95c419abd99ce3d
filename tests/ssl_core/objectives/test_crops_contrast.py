"""Contrast of one's own crops: the loss against a loop over looks, what a bad record counts, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests_transformer import gelu, layer_norm, learn, linear, named_weights

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.crops_contrast import CropsContrastModel
from ssl_core.spec.data import ImageData

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


def test_it_learns_to_tell_the_parts_of_an_image_apart() -> None:
    """Guessing among 2 x 8 - 1 looks has the surprise ln 15 = 2.71."""
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=16, width=16)
    slope = np.linspace(-2, 2, 16)
    images = (slope[:, None] * rng.choice([-1, 1], (64, 1, 1)) + slope * rng.normal(size=(64, 1, 1))).reshape(64, 256)
    model = CropsContrastModel(data, ResNet(data, size="nano"), projector=16, crops=8, temperature=0.2, how=HOW)
    losses = learn(model, group([f"p{n:03d}" for n in range(64)], images.astype(np.float32)), rng, 120)
    assert losses[0] > 2.3 and np.mean(losses[-5:]) < 0.75 * losses[0]
