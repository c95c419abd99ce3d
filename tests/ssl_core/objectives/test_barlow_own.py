"""Barlow Twins of one's own crops: the loss against the published code, a bad record among good ones, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.barlow_own import BarlowOwnModel
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.5, gain=0.2, noise=0.1, flip=False)


def published(first: torch.Tensor, second: torch.Tensor, redundancy: float) -> float:
    """As in the authors' main.py, with torch's own batch norm at epsilon 0.01, for embeddings [n, d]."""
    norm = torch.nn.BatchNorm1d(first.shape[1], eps=0.01, affine=False, track_running_stats=False)
    c = norm(first).T @ norm(second) / len(first)
    on_diag = (torch.diagonal(c) - 1).pow(2).sum()
    off_diag = c.flatten()[:-1].view(len(c) - 1, len(c) + 1)[:, 1:].pow(2).sum()
    return float(on_diag + redundancy * off_diag)


def test_the_loss_is_that_of_the_published_code_over_the_crops_of_real_records(barlow_task: Any) -> None:
    model = barlow_task.model
    views = barlow_task.views(barlow_task.patients, np.arange(len(barlow_task.patients)))
    for unit in range(len(barlow_task.patients)):
        with torch.no_grad():
            made = model.project(model.encoder(views["shown"][unit])).double().view(3, 3, 2, -1)
        first, second = made[views["real"][unit] == 1].flatten(0, 1).unbind(1)
        expected = published(first, second, 0.1) if len(first) else 0.0
        loss = model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_bad_record_among_good_ones_counts_nothing() -> None:
    model = _model(DATA)
    images = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float32)
    images[1] = 0.0
    coins = 1.0 - np.random.default_rng(6).random((4, model.coins))
    views = model.draw(group(["p", "p"], images), np.zeros(4, np.int64), coins)
    other = views["shown"].clone()
    other.view(4, 2, 6, 64)[views["real"] == 0] = 3.0
    assert torch.equal(model.losses(views), model.losses(views | {"shown": other})) and (model.losses(views) > 0).all()


def test_both_looks_come_to_say_the_same() -> None:
    rng = np.random.default_rng(4)
    model = _model(DATA.model_copy(update={"records_per_patient": 1}))
    patients, index = group([f"p{n:02d}" for n in range(32)], rng.normal(size=(32, 64)).astype(np.float32)), np.arange(32)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for _ in range(60):
        loss = model.losses(model.draw(patients, index, 1.0 - rng.random((32, model.coins)))).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def _model(data: ImageData) -> BarlowOwnModel:
    model = BarlowOwnModel(data, ResNet(data, size="nano"), projector=8, crops=3, redundancy=0.1, how=HOW)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model
