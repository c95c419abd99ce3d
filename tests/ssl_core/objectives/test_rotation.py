"""Rotation: what is shown, the loss against plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from tests_transformer import learn, named_weights

from ssl_core.data.patients import group
from ssl_core.objectives.rotation import RotationModel
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=4)


def test_four_views_of_one_image_are_its_four_rotations() -> None:
    model = RotationModel(DATA, size="nano")
    image = np.arange(1, 65, dtype=np.float32)
    coins = 1.0 - np.random.default_rng(2).random((50, 2))
    views = {n: v.numpy() for n, v in model.draw(group(["p"], image[None]), np.zeros(50, np.int64), coins).items()}
    assert {int(turns[0]) for turns in views["turns"]} == {0, 1, 2, 3} and (views["weight"] == 0.25).all()
    for shown, turns in zip(views["shown"], views["turns"], strict=True):
        assert sorted(turns) == [0, 1, 2, 3]
        for view, turn in zip(shown, turns, strict=True):
            assert np.array_equal(view.reshape(8, 8), np.rot90(image.reshape(8, 8), turn))


def test_views_of_a_patient_with_many_images_show_several_of_them() -> None:
    model = RotationModel(DATA, size="nano")
    images = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    views = model.draw(group(["p"] * 4, images), np.array([0]), np.array([[0.4, 0.7]]))
    found = set()
    for view, turn in zip(views["shown"][0].numpy(), views["turns"][0].tolist(), strict=True):
        straight = np.rot90(view.reshape(8, 8), -turn).ravel()
        found.add(int(np.flatnonzero((images == straight).all(axis=1))[0]))
    assert found == {0, 1, 2, 3}


def test_the_loss_is_the_mean_surprise_at_the_turns(rotation_task: Any) -> None:
    task, named = rotation_task, named_weights(rotation_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        features = task.model.encoder.features(views["shown"][unit].numpy()).astype(np.float64)
        logits = log_softmax(features @ named["head.weight"].T + named["head.bias"], axis=1)
        surprise = -logits[np.arange(3), views["turns"][unit].numpy()]
        expected = float((views["weight"][unit].numpy() * surprise).sum())
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_it_learns_which_side_of_an_image_is_bright() -> None:
    """Guessing has the surprise ln 4 = 1.386."""
    rng = np.random.default_rng(4)
    images = (rng.normal(size=(128, 8, 8)) + np.linspace(1.5, -1.5, 8)[:, None]).reshape(128, 64).astype(np.float32)
    model = RotationModel(DATA.model_copy(update={"records_per_patient": 1}), size="nano")
    losses = learn(model, group([f"p{n:03d}" for n in range(128)], images), rng, 80)
    assert losses[0] > 1.1 and np.mean(losses[-5:]) < 0.6
