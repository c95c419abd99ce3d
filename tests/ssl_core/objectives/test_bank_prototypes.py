"""SwAV and DINO with a public bank: Sinkhorn and the losses against plain loops, and what collapse costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from tests_bank import directions, moved_on, unit_rows
from tests_transformer import learn

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.bank_model import Bank
from ssl_core.objectives.dino_bank import DinoBankModel
from ssl_core.objectives.prototypes import PrototypesModel, Softness
from ssl_core.objectives.sinkhorn import prototype_factors
from ssl_core.objectives.swav_bank import SwavBankModel
from ssl_core.spec.data import ImageData

BOTH = pytest.mark.parametrize("name", ["swav_bank_task", "dino_bank_task"])


def published(scores: np.ndarray, iterations: int) -> np.ndarray:
    """As `distributed_sinkhorn` of SwAV's authors, entry by entry: scores / epsilon [n, P] to assignments [n, P]."""
    count, prototypes = scores.shape
    q = np.exp(scores.astype(np.float64)).T
    q /= q.sum()
    for _ in range(iterations):
        for row in range(prototypes):
            q[row] /= q[row].sum() * prototypes
        for column in range(count):
            q[:, column] /= q[:, column].sum() * count
    out: np.ndarray = (q * count).T
    return out


@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_the_factors_give_the_published_assignment(iterations: int) -> None:
    scores = np.random.default_rng(1).uniform(-1, 1, (40, 7)).astype(np.float32) / np.float32(0.05)
    factors = prototype_factors(torch.from_numpy(scores), iterations).numpy()
    assert softmax(scores + factors, axis=1) == pytest.approx(published(scores, iterations), abs=1e-4)


def test_after_many_turns_the_prototypes_share_the_bank_equally() -> None:
    scores = np.random.default_rng(2).normal(size=(90, 6)).astype(np.float32) * 4 + np.arange(6, dtype=np.float32) * 5
    factors = prototype_factors(torch.from_numpy(scores), 50).numpy()
    assert softmax(scores, axis=1).sum(axis=0).max() > 60
    assert softmax(scores + factors, axis=1).sum(axis=0) == pytest.approx(np.full(6, 15.0), abs=0.5)


@BOTH
def test_the_loss_is_the_cross_entropy_to_what_the_other_look_belongs_to(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    model = task.model
    begun = moved_on(model)
    # Lengths say nothing: of the student's prototypes one counts as any other.
    with torch.no_grad():
        model.prototypes.weight[0] *= 5.0
    now, then = (unit_rows(each.prototypes.weight.detach().numpy().astype(np.float64)) for each in (model, begun))
    of_bank = directions(begun, model.bank) @ then.T / 0.05
    if name == "dino_bank_task":
        offsets = -np.array([np.mean(column) for column in of_bank.T])
    else:
        # What brings the scores of one record to its published assignment does so for all.
        offsets = np.log(published(of_bank, 50)[0]) - of_bank[0]
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        guessed = log_softmax(directions(model, views["shown"][unit]) @ now.T / 0.1, axis=1)
        belonging = softmax(directions(begun, views["shown"][unit]) @ then.T / 0.05 + offsets, axis=1)
        expected = 0.0
        for record in range(3):
            for look in (0, 1):
                own, other = guessed[2 * record + look], belonging[2 * record + 1 - look]
                expected -= float(views["weight"][unit, record]) * sum(other * own) / 2
        loss = model({part: view[unit] for part, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=2e-4, abs=1e-6)


@BOTH
def test_the_target_has_no_gradient_and_the_prototypes_have_one(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(4))
    shown = views["shown"].requires_grad_(True)
    assert not task.model.slowly_looking(shown).requires_grad
    (found,) = torch.autograd.grad(task.model.losses(views).sum(), [task.model.prototypes.weight])
    assert found.any()


@pytest.mark.parametrize("kind", [SwavBankModel, DinoBankModel])
def test_it_learns_what_the_other_look_belongs_to(kind: type[PrototypesModel]) -> None:
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=8, width=8)
    how = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)
    encoder, soft = ResNet(data, size="nano"), Softness(0.1, 0.05)
    model = kind(data, encoder, projector=16, prototypes=8, soft=soft, bank=Bank(64, 1), how=how)
    losses = learn(model, group([f"p{n:03d}" for n in range(64)], rng.normal(size=(64, 64)).astype(np.float32)), rng, 60)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
