"""Contrastive predictive coding: what is asked, the loss against plain numpy, no look ahead, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import learn, linear, named_weights, transformer

from ssl_core.data.patients import group
from ssl_core.objectives.contrastive_predictive import ContrastivePredictiveModel
from ssl_core.spec.data import SignalData

DATA = SignalData(kind="signal", channels=1, samples=80, rate_hz=1.0, units=("mV",), typical=(1.0,))


def test_every_pair_of_present_pieces_is_asked_with_equal_weight() -> None:
    model = ContrastivePredictiveModel(DATA, size="nano", pieces=5, gap=4, ahead=2)
    signal = np.random.default_rng(1).normal(size=(1, 80)).astype(np.float32)
    signal[0, 32:48] = signal[0, 31]
    views = model.draw(group(["p"], signal), np.array([0]), np.full((1, 6), 0.7))
    begin = 16 * np.arange(5) + 3
    expected = np.stack([signal[0, at : at + 12] for at in begin])
    assert np.array_equal(views["shown"][0, 0].numpy(), expected)
    assert views["present"][0, 0].tolist() == [1, 1, 0, 1, 1]
    # One step ahead: 0 to 1 and 3 to 4; two steps: 1 to 3. Pieces 0 to 2 and 2 to 4 would need piece 2.
    third = pytest.approx(1 / 3)
    assert views["weight"][0, 0].tolist() == [[third, 0, 0, third, 0], [0, third, 0, 0, 0]]


def test_the_loss_agrees_with_numpy(predictive_task: Any) -> None:
    task, named = predictive_task, named_weights(predictive_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    compared = 0
    for unit in range(len(task.patients)):
        expected = 0.0
        for record in range(3):
            features = task.model.encoder(views["shown"][unit, record]).detach().numpy().astype(np.float64)
            there = [s for s in range(4) if views["present"][unit, record, s]]
            surprises = []
            for a, t in [(a, t) for a in range(2) for t in range(4) if t in there and t + a + 1 in there]:
                past = [s for s in there if s <= t]
                tokens = features[past] + named["places.weight"][past]
                known = transformer(named, "reader", tokens, depth=1, heads=1, causal=True)[-1]
                said = linear(named, "predict", known).reshape(2, 16)[a]
                scores = {s: np.exp(features[s] @ said / 4.0) for s in there}
                surprises.append(-np.log(scores[t + a + 1] / sum(scores.values())))
            expected += (np.mean(surprises) if surprises else 0.0) / 3
            compared += len(surprises)
        loss = task.model({n: view[unit] for n, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert compared > 200


def test_what_is_absent_changes_no_bit(predictive_task: Any) -> None:
    model, rng = predictive_task.model, np.random.default_rng(3)
    signals = rng.normal(size=(1, 2, 80)).astype(np.float32)
    signals[:, :, 60:] = 0.0
    views = model.draw(group(["p"], signals.reshape(1, 160)), np.array([0]), 1.0 - rng.random((1, model.coins)))
    assert views["present"][0].tolist() == [[1.0, 1.0, 1.0, 0.0]] * 3 and model.losses(views).item() > 0
    other = views["shown"].clone()
    other[..., 3, :] = 5.0
    assert torch.equal(model.losses(views | {"shown": other}), model.losses(views))


def test_it_learns_a_rate_that_rises() -> None:
    """Each piece is a wave faster than the one before; guessing among eight pieces has the surprise ln 8 = 2.08."""
    rng = np.random.default_rng(4)
    rate = np.repeat(np.geomspace(0.1, 1.5, 8), 32)
    waves = np.sin(rng.uniform(0, 2 * np.pi, (128, 1)) + np.cumsum(rate)).astype(np.float32)
    data = DATA.model_copy(update={"samples": 256})
    model = ContrastivePredictiveModel(data, size="nano", pieces=8, gap=4, ahead=2)
    losses = learn(model, group([f"p{n:03d}" for n in range(128)], waves), rng, 80)
    assert losses[0] > 1.8 and np.mean(losses[-5:]) < 0.5
