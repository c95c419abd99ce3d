"""VICReg of one's own crops: what is shown, the loss against plain numpy and the published code, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import gelu, layer_norm, learn, linear, named_weights

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import LOOK, PLACE, Augmentation, augmented, parts_of_records
from ssl_core.objectives.vicreg_own import Terms, VicregOwnModel
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.5, gain=0.2, noise=0.1, flip=False)


def make(data: ImageData = DATA, crops: int = 3) -> VicregOwnModel:
    encoder = ResNet(data, size="nano")
    return VicregOwnModel(data, encoder, projector=8, crops=crops, terms=Terms(25.0, 25.0, 1.0), how=HOW)


def published(x: torch.Tensor, y: torch.Tensor, terms: Terms) -> float:
    """As in the authors' main_vicreg.py but for the bent hinge, for embeddings [n, d] of n crops."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    std = [torch.sqrt(z.var(dim=0) + 0.0001) for z in (x, y)]
    std_loss = sum(torch.mean(torch.logaddexp(torch.zeros(()), 10 * (1 - s)) / 10) / 2 for s in std)
    cov = [(z.T @ z) / (len(z) - 1) for z in (x, y)]
    cov_loss = sum((c - torch.diag(torch.diagonal(c))).pow(2).sum() / c.shape[1] for c in cov)
    return float(terms.variance * std_loss + terms.covariance * cov_loss)


def test_both_looks_show_the_same_part() -> None:
    model = make()
    images = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    given = 1.0 - np.random.default_rng(2).random((20, model.coins))
    views = model.draw(group(["p", "p"], images), np.zeros(20, np.int64), given)
    shown = views["shown"].numpy().reshape(20, 2, 3, 2, 64)
    windows = parts_of_records(DATA, 3)
    assert (views["real"] == 1).all()
    for unit in range(20):
        first = int(np.ceil(given[unit, 0] * 2)) - 1
        own = given[unit, 1:].reshape(2, 3, PLACE + 2 * LOOK)
        for record in (0, 1):
            for crop in range(3):
                part, one, other = np.split(own[record, crop], [PLACE, PLACE + LOOK])
                for look, coins in enumerate((one, other)):
                    expected = augmented(
                        images[[(first + record) % 2]], np.concatenate((part, coins))[None], DATA, HOW, windows[crop]
                    )
                    assert np.array_equal(shown[unit, record, crop, look], expected[0])


def test_the_loss_is_that_of_the_published_code_over_the_crops_of_real_records(crops_task: Any) -> None:
    task, named, terms = crops_task, named_weights(crops_task.model), crops_task.model.terms
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        features = task.model.encoder.features(views["shown"][unit].numpy()).astype(np.float64)
        hidden = gelu(layer_norm(named, "project.norm", linear(named, "project.first", features)))
        z = torch.from_numpy(hidden @ named["project.second.weight"].T).view(3, 3, 2, -1)[views["real"][unit] == 1]
        x, y = z.flatten(0, 1).unbind(1)
        expected = published(x, y, terms) + terms.invariance * float((x - y).square().mean()) if len(x) else 0.0
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_bad_record_among_good_ones_counts_nothing() -> None:
    """Two records of which one is zero are the good one alone, whatever is shown of the other."""
    model = make()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    images = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float32)
    images[1] = 0.0
    given = 1.0 - np.random.default_rng(6).random((4, model.coins))
    views = model.draw(group(["p", "p"], images), np.zeros(4, np.int64), given)
    assert (views["real"].sum(dim=1) == 1).all()
    other = views["shown"].clone()
    other.view(4, 2, 6, 64)[views["real"] == 0] = 3.0
    assert torch.equal(model.losses(views), model.losses(views | {"shown": other}))
    assert (model.losses(views) > 0).all()


def test_crops_that_fall_together_are_driven_apart() -> None:
    """The loss of a constant projection is 25 x 0.99; learning brings it well below."""
    rng = np.random.default_rng(4)
    images = rng.normal(size=(32, 64)).astype(np.float32)
    model = make(DATA.model_copy(update={"records_per_patient": 1}), crops=4)
    losses = learn(model, group([f"p{n:02d}" for n in range(32)], images), rng, 60)
    assert losses[0] > 10.0 and np.mean(losses[-5:]) < 0.8 * min(losses[0], 25 * 0.99)
