"""Masked image: squares, shift, scale, the records drawn, and the loss against a plain numpy computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from ssl_core.data.patients import group
from ssl_core.objectives.masked_image import MaskedImageModel
from ssl_core.spec.data import ImageData


def test_half_of_the_squares_are_hidden_and_the_rest_is_scaled() -> None:
    data = ImageData(kind="image", height=16, width=8, records_per_patient=1)
    model = MaskedImageModel(data, hidden=8, code=4, patch=4, mask_fraction=0.5, shift=0)
    image = np.random.default_rng(1).normal(size=(1, 128)).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((50, model.coins))
    views = model.draw(group(["p"], image), np.zeros(50, np.int64), coins)
    seen, target = views["seen"].numpy(), views["target"].numpy()
    assert np.array_equal(target, np.broadcast_to(image, target.shape))
    squares = (seen != 0).reshape(50, 4, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(50, 8, 16)
    assert (squares.all(axis=2) | ~squares.any(axis=2)).all() and (squares.any(axis=2).sum(axis=1) == 4).all()
    assert np.allclose(seen[seen != 0], 2.0 * target[seen != 0])
    assert len({s.tobytes() for s in squares}) > 30


def test_the_shift_moves_the_image_by_at_most_its_pixels() -> None:
    data = ImageData(kind="image", height=8, width=8)
    model = MaskedImageModel(data, hidden=8, code=4, patch=4, mask_fraction=0.5, shift=1)
    image = np.arange(1, 65, dtype=np.float32).reshape(8, 8)
    padded = np.pad(image, 1, mode="edge")
    legal = {padded[i : i + 8, j : j + 8].tobytes() for i in range(3) for j in range(3)}
    coins = 1.0 - np.random.default_rng(3).random((300, model.coins))
    target = model.draw(group(["p"], image.reshape(1, -1)), np.zeros(300, np.int64), coins)["target"].numpy()
    assert {row.tobytes() for row in target.reshape(300, 8, 8)} == legal


def test_records_are_distinct_where_the_unit_has_enough_and_equally_likely() -> None:
    data = ImageData(kind="image", height=8, width=8, records_per_patient=3)
    model = MaskedImageModel(data, hidden=8, code=4, patch=4, mask_fraction=0.5, shift=0)
    for count in (1, 2, 3, 5, 7):
        records = np.repeat(np.arange(1, count + 1, dtype=np.float32)[:, None], 64, axis=1)
        coins = 1.0 - np.random.default_rng(count).random((4000, model.coins))
        views = model.draw(group(["p"] * count, records), np.zeros(4000, np.int64), coins)
        drawn = views["target"][:, :, 0].numpy().astype(int)
        assert all(len(set(row)) == min(3, count) for row in drawn.tolist())
        often = np.bincount(drawn.ravel(), minlength=count + 1)[1:] / drawn.size
        assert np.abs(often - 1 / count).max() < 0.03


def test_a_bad_record_among_good_ones_weighs_nothing() -> None:
    data = ImageData(kind="image", height=8, width=8, records_per_patient=2)
    model = MaskedImageModel(data, hidden=8, code=4, patch=4, mask_fraction=0.5, shift=1)
    records = np.stack([np.zeros(64, np.float32), np.ones(64, np.float32)])
    views = model.draw(group(["p", "p"], records), np.array([0]), np.full((1, model.coins), 0.3))
    assert sorted(views["weight"][0].tolist()) == [0.0, 0.5]


def test_the_loss_agrees_with_numpy(image_task: Any) -> None:
    task = image_task
    views = task.views(task.patients, np.arange(len(task.patients)))
    named = {name: value.detach().numpy().astype(np.float64) for name, value in task.model.named_parameters()}

    def gelu(x: np.ndarray) -> np.ndarray:
        out: np.ndarray = 0.5 * x * (1 + erf(x / np.sqrt(2)))
        return out

    for place in range(len(task.patients)):
        seen, target, weight = (views[n][place].numpy().astype(np.float64) for n in ("seen", "target", "weight"))
        hidden = gelu(seen @ named["encoder.first.weight"].T + named["encoder.first.bias"])
        hidden = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)
        hidden = hidden * named["encoder.norm.weight"] + named["encoder.norm.bias"]
        code = gelu(hidden @ named["encoder.second.weight"].T + named["encoder.second.bias"])
        errors = (code @ named["decoder.weight"].T + named["decoder.bias"] - target) ** 2
        loss = task.model({name: view[place] for name, view in views.items()}).item()
        assert loss == pytest.approx(float(weight @ errors.mean(axis=1)), rel=1e-4)
    assert views["seen"].shape == (len(task.patients), 3, 64)
