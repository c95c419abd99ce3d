"""BYOL: the slow weights are those that the round began with, and no parameters; the loss against SimSiam's and plain numpy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests_tasks import plan
from tests_transformer import learn

from ssl_core.config import SpeedSpec
from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.build import build_model
from ssl_core.objectives.byol import ByolModel
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)


def _model(seed: int = 1) -> ByolModel:
    model = ByolModel(DATA, ResNet(DATA, size="nano"), projector=16, predictor=8, how=HOW)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.start_round()
    return model


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_target_is_what_the_slow_weights_make_of_the_other_look() -> None:
    model, slow = _model(1), _model(2)
    model.__dict__["slow"] = slow.encoder.requires_grad_(False), slow.project.requires_grad_(False)
    images = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    views = model.draw(
        group(["p", "p"], images), np.zeros(4, np.int64), 1.0 - np.random.default_rng(2).random((4, model.coins))
    )
    with torch.no_grad():
        target = slow.project(slow.encoder(views["shown"])).numpy().astype(np.float64)
        guess = model.predict(model.project(model.encoder(views["shown"]))).numpy().astype(np.float64)
    for unit in range(4):
        ways = [1 - _cosine(guess[unit, one], target[unit, one ^ 1]) for one in range(4)]
        loss = model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(float(np.mean(ways)), rel=1e-4)


def test_the_slow_weights_are_no_parameters_and_move_with_the_round_alone() -> None:
    model = _model()
    names = [name for name, _ in model.named_parameters()]
    assert not any("slow" in name for name in names) and not list(model.buffers())
    before = [parameter.clone() for parameter in model.__dict__["slow"][0].parameters()]
    load_vector(model, np.full_like(to_vector(model), 0.25))
    assert all(torch.equal(a, b) for a, b in zip(before, model.__dict__["slow"][0].parameters(), strict=True))
    model.start_round()
    assert all(bool((parameter == 0.25).all()) for parameter in model.__dict__["slow"][0].parameters())
    assert all(not parameter.requires_grad for part in model.__dict__["slow"] for parameter in part.parameters())
    # As `to(device)` would, whatever the device.
    doubled = copy.deepcopy(model).double()
    assert all(parameter.dtype == torch.float64 for part in doubled.__dict__["slow"] for parameter in part.parameters())


def test_a_round_begins_with_the_weights_that_it_is_given() -> None:
    given = plan(("image", "resnet", "byol"), 1)
    model = build_model(given)
    start = to_vector(model) + np.float32(0.01)
    train_round(
        model=model, patients=synthetic_patients(given.data, 30), plan=given, nominal_size=9000, start=start, first_step=0,
        total_steps=4, state=None, speed=SpeedSpec(chunk=8),
    )  # fmt: skip
    slow = np.concatenate([parameter.numpy().ravel() for parameter in model.__dict__["slow"][0].parameters()])
    count = sum(parameter.numel() for parameter in model.encoder.parameters())
    names = [name for name, _ in model.named_parameters()]
    assert all(name.startswith("encoder.") for name in names[: len(list(model.encoder.parameters()))])
    assert np.array_equal(slow, start[:count]) and not np.array_equal(to_vector(model)[:count], slow)


def test_it_learns_to_predict_the_other_look() -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(64, 64)).astype(np.float32)
    model = ByolModel(
        DATA.model_copy(update={"records_per_patient": 1}), ResNet(DATA, size="nano"), projector=16, predictor=8, how=HOW
    )
    losses = learn(model, group([f"p{n:03d}" for n in range(64)], images), rng, 60)
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
