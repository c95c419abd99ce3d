"""Shuffled order: what is shown, the loss against plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tests_transformer import learn, named_weights

from ssl_core.data.patients import group
from ssl_core.objectives.shuffled_order import ShuffledOrderModel
from ssl_core.spec.data import SignalData

DATA = SignalData(kind="signal", channels=2, samples=43, rate_hz=1.0, units=("mV",), typical=(1.0,), records_per_patient=2)


def test_segments_are_shown_in_another_order_and_late() -> None:
    model = ShuffledOrderModel(DATA, size="nano", segments=4, gap=2)
    signals = (np.arange(2 * 86).reshape(2, 86) + 1).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((200, model.coins))
    views = {n: v.numpy() for n, v in model.draw(group(["p", "p"], signals), np.zeros(200, np.int64), coins).items()}
    assert views["shown"].shape == (200, 2, 2, 32) and (views["weight"] == 0.125).all()
    assert np.array_equal(np.sort(views["places"], axis=2), np.broadcast_to(np.arange(4), (200, 2, 4)))
    late = set()
    for shown, places in zip(views["shown"].reshape(400, 2, 4, 8), views["places"].reshape(400, 4), strict=True):
        record = int(shown[0, 0, 0] - 1) // 86
        for at, place in enumerate(places):
            begin = int(shown[0, at, 0] - 1) % 86 - 10 * place
            late.add(begin)
            for channel in range(2):
                expected = signals[record].reshape(2, 43)[channel, 10 * place + begin : 10 * place + begin + 8]
                assert np.array_equal(shown[channel, at], expected)
    assert late == {0, 1, 2}
    orders = np.unique(views["places"].reshape(400, 4), axis=0)
    assert len(orders) == 24


def test_the_loss_is_the_mean_surprise_at_the_places(order_task: Any) -> None:
    task, named = order_task, named_weights(order_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        expected = 0.0
        for record in range(3):
            shown = views["shown"][unit, record]
            maps = task.model.encoder.frames(shown[None])[0].detach().numpy().astype(np.float64)
            frames = maps.shape[1]
            parts = [maps[:, s * frames // 4 : -(-(s + 1) * frames // 4)].mean(axis=1) for s in range(4)]
            joined = np.stack(parts, axis=1).ravel()
            logits = (named["head.weight"] @ joined + named["head.bias"]).reshape(4, 4)
            places = views["places"][unit, record].numpy()
            surprise = -log_softmax(logits, axis=1)[np.arange(4), places]
            expected += float(views["weight"][unit, record].numpy() @ surprise)
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_of_segments_that_say_nothing_it_is_not_asked_where_they_came_from() -> None:
    """The same input with their places swapped is the same loss; a record with one segment left asks nothing."""
    model = ShuffledOrderModel(DATA, size="nano", segments=4, gap=2)
    signals = np.random.default_rng(7).normal(size=(3, 2, 43)).astype(np.float32)
    signals[0, :, 20:] = 0.0
    signals[1, :, 10:], signals[2] = 3.0, 0.0
    patients = group(["p", "q", "r"], signals.reshape(3, 86))
    views = model.draw(patients, np.arange(3).repeat(50), 1.0 - np.random.default_rng(8).random((150, model.coins)))
    said = views["places"].numpy()[:50] < 2
    np.testing.assert_array_equal(views["weight"].numpy()[:50], np.where(said, np.float32(0.25), 0))
    assert not views["weight"][50:].any() and not model.losses(views)[50:].any()
    swapped = {name: view[:50].clone() for name, view in views.items()}
    swapped["places"][~torch.from_numpy(said)] = 5 - swapped["places"][~torch.from_numpy(said)]
    assert torch.equal(model.losses(swapped), model.losses(views)[:50]) and bool(model.losses(swapped).all())


def test_it_learns_the_order_of_a_rising_tone() -> None:
    """Guessing has the surprise ln 4 = 1.386."""
    rng = np.random.default_rng(4)
    time = np.arange(128)
    phase = rng.uniform(0, 2 * np.pi, (256, 1))
    tones = np.sin(phase + 0.1 * time + 0.004 * time**2).astype(np.float32)
    data = SignalData(kind="signal", channels=1, samples=128, rate_hz=1.0, units=("mV",), typical=(1.0,))
    model = ShuffledOrderModel(data, size="nano", segments=4, gap=4)
    losses = learn(model, group([f"p{n:03d}" for n in range(256)], tones), rng, 150)
    assert losses[0] > 1.3 and np.mean(losses[-5:]) < 0.5
