"""Jigsaw: what is shown, the loss against plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from tests_transformer import learn, named_weights

from ssl_core.data.patients import group
from ssl_core.objectives.jigsaw import JigsawModel
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=13, width=10, records_per_patient=2)


def test_tiles_are_shown_in_another_order_and_late() -> None:
    model = JigsawModel(DATA, size="nano", grid=2, gap=1)
    images = (np.arange(2 * 130).reshape(2, 130) + 1).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((200, model.coins))
    views = {n: v.numpy() for n, v in model.draw(group(["p", "p"], images), np.zeros(200, np.int64), coins).items()}
    assert views["shown"].shape == (200, 2, 10 * 8) and (views["weight"] == 0.125).all()
    assert np.array_equal(np.sort(views["places"], axis=2), np.broadcast_to(np.arange(4), (200, 2, 4)))
    late = set()
    for shown, places in zip(views["shown"].reshape(400, 10, 8), views["places"].reshape(400, 4), strict=True):
        record = int(shown[0, 0] - 1) // 130
        for at, place in enumerate(places.tolist()):
            tile = shown[5 * (at // 2) : 5 * (at // 2) + 5, 4 * (at % 2) : 4 * (at % 2) + 4]
            row, column = divmod(int(tile[0, 0] - 1) % 130, 10)
            late.add((row - 6 * (place // 2), column - 5 * (place % 2)))
            assert np.array_equal(tile, images[record].reshape(13, 10)[row : row + 5, column : column + 4])
    assert late == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(np.unique(views["places"].reshape(400, 4), axis=0)) == 24


def test_the_loss_is_the_mean_surprise_at_the_places(jigsaw_task: Any) -> None:
    task, named = jigsaw_task, named_weights(jigsaw_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        expected = 0.0
        for record in range(3):
            shown = views["shown"][unit, record].reshape(1, 1, 6, 6)
            maps = task.model.encoder.maps(shown)[0].detach().numpy().astype(np.float64)
            high, wide = maps.shape[1:]
            parts = [
                maps[:, r * high // 2 : -(-(r + 1) * high // 2), c * wide // 2 : -(-(c + 1) * wide // 2)].mean(axis=(1, 2))
                for r in range(2)
                for c in range(2)
            ]
            logits = (named["head.weight"] @ np.concatenate(parts) + named["head.bias"]).reshape(4, 4)
            places = views["places"][unit, record].numpy()
            surprise = -log_softmax(logits, axis=1)[np.arange(4), places]
            expected += float(views["weight"][unit, record].numpy() @ surprise)
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_of_tiles_of_one_shade_it_is_not_asked_where_they_came_from() -> None:
    model = JigsawModel(DATA, size="nano", grid=2, gap=1)
    images = np.random.default_rng(7).normal(size=(3, 13, 10)).astype(np.float32)
    images[0, 6:], images[1, :, 5:], images[2] = 2.0, 0.0, 0.0
    images[1, 6:] = -1.0
    patients = group(["p", "q", "r"], images.reshape(3, 130))
    views = model.draw(patients, np.arange(3).repeat(50), 1.0 - np.random.default_rng(8).random((150, model.coins)))
    said = views["places"].numpy()[:50] < 2
    np.testing.assert_array_equal(views["weight"].numpy()[:50], np.where(said, np.float32(0.25), 0))
    assert not views["weight"][50:].any() and not model.losses(views)[50:].any()


def test_it_learns_which_corner_of_an_image_is_bright() -> None:
    """Guessing has the surprise ln 4 = 1.386."""
    rng = np.random.default_rng(4)
    slope = np.linspace(2, -2, 16)
    images = (rng.normal(size=(128, 16, 16)) + slope[:, None] + 0.5 * slope).reshape(128, 256).astype(np.float32)
    model = JigsawModel(ImageData(kind="image", height=16, width=16), size="nano", grid=2, gap=1)
    losses = learn(model, group([f"p{n:03d}" for n in range(128)], images), rng, 120)
    assert losses[0] > 1.1 and np.mean(losses[-5:]) < 0.7
