"""Siamese prediction: what is shown, the loss against plain numpy, the stopped gradient, and that it learns."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import gelu, layer_norm, learn, linear, named_weights

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.objectives.simsiam import SimSiamModel
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)


def make(data: ImageData = DATA) -> SimSiamModel:
    return SimSiamModel(data, ResNet(data, size="nano"), projector=16, predictor=8, how=HOW)


def test_two_different_looks_at_each_record_follow_one_another() -> None:
    model = make()
    images = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    given = 1.0 - np.random.default_rng(2).random((30, model.coins))
    views = model.draw(group(["p", "p"], images), np.zeros(30, np.int64), given)
    shown = views["shown"].numpy().reshape(30, 2, 2, 64)
    assert (views["weight"] == 0.5).all()
    for unit in range(30):
        first = int(np.ceil(given[unit, 0] * 2)) - 1
        for record in (0, 1):
            for look in (0, 1):
                coins = given[unit, 1:].reshape(2, 2, COINS)[record, look]
                expected = augmented(images[[(first + record) % 2]], coins[None], DATA, HOW)[0]
                assert np.array_equal(shown[unit, record, look], expected)
        assert not np.array_equal(shown[unit, :, 0], shown[unit, :, 1])


def test_the_loss_is_one_minus_the_cosine_both_ways(siamese_task: Any) -> None:
    task, named = siamese_task, named_weights(siamese_task.model)

    def head(name: str, x: np.ndarray) -> np.ndarray:
        hidden = gelu(layer_norm(named, f"{name}.norm", linear(named, f"{name}.first", x)))
        return linear(named, f"{name}.second", hidden)

    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        features = task.model.encoder.features(views["shown"][unit].numpy()).astype(np.float64)
        target = layer_norm(named, "project.last", head("project", features))
        predicted = head("predict", target)
        expected = 0.0
        for record, weight in enumerate(views["weight"][unit].tolist()):
            for one, other in ((2 * record, 2 * record + 1), (2 * record + 1, 2 * record)):
                lengths = np.linalg.norm(predicted[one]) * np.linalg.norm(target[other])
                if weight:
                    expected += weight / 2 * (1 - predicted[one] @ target[other] / lengths)
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_gradient_is_that_of_a_prediction_of_a_fixed_target(siamese_task: Any) -> None:
    """The target by a second model, that nothing is learnt of; with its gradient, the row would be another."""
    task = siamese_task
    frozen = copy.deepcopy(task.model).requires_grad_(False)
    views = task.views(task.patients, np.arange(len(task.patients)))
    rows = task.rows(views)
    names = [name for name, _ in task.model.named_parameters()]
    for unit in (0, 7):
        shown, weight = views["shown"][unit], views["weight"][unit]
        target = frozen.project(frozen.encoder(shown)).unflatten(0, (-1, 2)).flip(1)

        def row(target: torch.Tensor, shown: torch.Tensor = shown, weight: torch.Tensor = weight) -> torch.Tensor:
            predicted = task.model.predict(task.model.project(task.model.encoder(shown))).unflatten(0, (-1, 2))
            cosine = torch.nn.functional.cosine_similarity(predicted, target, dim=-1)
            loss = (weight * (1 - cosine).mean(dim=1)).sum()
            found = torch.autograd.grad(loss, list(task.model.parameters()))
            return torch.cat([part.flatten() for part in found])

        found = torch.cat([rows[name][unit].flatten() for name in names])
        fixed = row(target)
        assert float((found - fixed).norm()) <= 1e-4 * float(fixed.norm())
        moving = task.model.project(task.model.encoder(shown)).unflatten(0, (-1, 2)).flip(1)
        assert float((row(moving) - fixed).norm()) > 1e-2 * float(fixed.norm())


def test_it_learns_to_predict_one_look_from_the_other() -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(64, 64)).astype(np.float32)
    losses = learn(
        make(DATA.model_copy(update={"records_per_patient": 1})), group([f"p{n:02d}" for n in range(64)], images), rng, 60
    )
    assert losses[0] > 0.5 and np.mean(losses[-5:]) < 0.5 * losses[0]
