"""SimCLR and MoCo with a public bank: the loss against a loop in plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests_bank import directions, moved_on
from tests_transformer import learn

from ssl_core.data.patients import group
from ssl_core.encoders.resnet import ResNet
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.bank_model import Bank
from ssl_core.objectives.moco_bank import MocoBankModel
from ssl_core.objectives.simclr_bank import SimclrBankModel
from ssl_core.procedural.images import procedural_images
from ssl_core.spec.data import ImageData

TWO = pytest.mark.parametrize("name", ["simclr_bank_task", "moco_bank_task"])


@TWO
def test_the_loss_is_the_mean_surprise_at_the_other_look_among_the_keys(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    model = task.model
    begun = moved_on(model)
    keys = directions(begun, model.bank)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        looks = directions(model, views["shown"][unit])
        partners = looks if name == "simclr_bank_task" else directions(begun, views["shown"][unit])
        expected = 0.0
        for record in range(3):
            for look in (0, 1):
                own, other = looks[2 * record + look], partners[2 * record + 1 - look]
                right = np.exp(own @ other / 0.2)
                wrong = sum(np.exp(own @ key / 0.2) for key in keys)
                expected += float(views["weight"][unit, record]) * -np.log(right / (right + wrong)) / 2
        loss = model({part: view[unit] for part, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", [SimclrBankModel, MocoBankModel])
def test_it_learns_to_know_the_other_look_from_made_up_records(kind: type[SimclrBankModel]) -> None:
    """Guessing has the surprise ln 65 = 4.2; for MoCo the target is what start weights make of the other look."""
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=8, width=8)
    how = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)
    model = kind(data, ResNet(data, size="nano"), projector=16, temperature=0.1, bank=Bank(64, 1), how=how)
    losses = learn(model, group([f"p{n:03d}" for n in range(64)], procedural_images(9, 64, data)), rng, 60)
    assert losses[0] > 3.0 and np.mean(losses[-5:]) < 0.93 * losses[0]


def test_within_a_round_simclr_may_leave_the_keys_behind_and_moco_may_not() -> None:
    """What simclr_bank.py says is lost: patients made by the bank's own generator all come to lie away from its keys."""
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=8, width=8)
    how = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)
    patients, alike = procedural_images(9, 64, data), []
    for kind in (SimclrBankModel, MocoBankModel):
        model = kind(data, ResNet(data, size="nano"), projector=16, temperature=0.1, bank=Bank(64, 1), how=how)
        learn(model, group([f"p{n:03d}" for n in range(64)], patients), rng, 60)
        placed = directions(model, patients)
        alike.append(float((placed @ placed.T).mean()))
    assert alike[0] > 0.95 > 0.8 > alike[1], alike
