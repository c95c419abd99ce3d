"""Own contrast: what is shown, the loss against plain numpy, absent segments, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import gelu, learn, linear, named_weights, signal_tokens

from ssl_core.data.patients import group
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.objectives.own_contrast import OwnContrastModel
from ssl_core.spec.data import SignalData

DATA = SignalData(kind="signal", channels=2, samples=43, rate_hz=1.0, units=("mV",), typical=(1.0,), records_per_patient=2)


def made(data: SignalData = DATA, **changes: Any) -> OwnContrastModel:
    shape: dict[str, Any] = {"segments": 4, "gap": 2, "temperature": 0.5, "projection": 8}
    return OwnContrastModel(data, ConvSignal(data, size="nano"), **(shape | changes))


def test_each_segment_is_shown_twice_late_and_larger_or_smaller() -> None:
    model = made()
    signals = (np.arange(2 * 86).reshape(2, 86) + 1).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((200, model.coins))
    views = {n: v.numpy() for n, v in model.draw(group(["p", "p"], signals), np.zeros(200, np.int64), coins).items()}
    assert views["shown"].shape == (200, 2, 2, 4, 16) and (views["present"] == 1).all()
    np.testing.assert_allclose(views["weight"], 1 / 16)
    times, sizes = set(), []
    for place in np.ndindex(200, 2, 2, 4):
        window = views["shown"][place].reshape(2, 8).astype(np.float64)
        size = (window[0, 7] - window[0, 0]) / 7
        straight = np.rint(window / size).astype(int) - 1
        record, at = divmod(int(straight[0, 0]), 86)
        late = at - 10 * place[3]
        assert np.array_equal(straight, record * 86 + at + np.arange(2)[:, None] * 43 + np.arange(8))
        times.add(late)
        sizes.append(size)
    assert times == {0, 1, 2}
    assert 0.79 < min(sizes) < 0.82 and 1.22 < max(sizes) < 1.26 and len(np.unique(np.round(sizes, 6))) > 3000


def test_a_transformer_is_told_places_that_fit_and_say_nothing() -> None:
    data = DATA.model_copy(update={"samples": 48})
    model = OwnContrastModel(
        data, SignalTransformer(data, size="nano", patch=4), segments=4, gap=4, temperature=0.5, projection=8
    )
    signals = np.random.default_rng(1).normal(size=(2, 96)).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((900, model.coins))
    begin = model.draw(group(["p", "p"], signals), np.zeros(900, np.int64), coins)["begin"].numpy()
    assert begin.shape == (900, 2, 2, 4)
    for segment in range(4):
        often = np.bincount(begin[..., segment].ravel(), minlength=11) / 3600
        assert len(often) == 11 and np.abs(often - 1 / 11).max() < 6 * np.sqrt(10 / 121 / 3600)


@pytest.mark.parametrize("name", ["own_task", "own_transformer_task"])
def test_the_loss_agrees_with_numpy(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    named = named_weights(task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        expected = 0.0
        for record in range(3):
            found = []
            for view in range(2):
                for segment in range(4):
                    shown = views["shown"][unit, record, view, segment]
                    if name == "own_task":
                        features = task.model.encoder(shown).detach().numpy().astype(np.float64)
                    else:
                        pieces = shown.numpy().astype(np.float64).reshape(2, 2, 8).transpose(1, 0, 2).reshape(2, 16)
                        begin = int(views["begin"][unit, record, view, segment])
                        features = signal_tokens(named, "encoder.", pieces, [begin, begin + 1], depth=2, heads=2).mean(axis=0)
                    said = linear(named, "project", gelu(linear(named, "widen", features)))
                    found.append(said / np.sqrt((said**2).sum() + 1e-6))
            there = [n for n in range(8) if views["present"][unit, record, n % 4]]
            surprises = []
            for i in there:
                scores = {m: np.exp(found[i] @ found[m] / 0.5) for m in there if m != i}
                surprises.append(-np.log(scores[(i + 4) % 8] / sum(scores.values())))
            if len(there) >= 4:
                expected += np.mean(surprises) / 3
        loss = task.model({n: view[unit] for n, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_is_absent_is_compared_with_nothing(own_task: Any) -> None:
    """The zeros after a short record change no loss, whatever stands in their place, and nothing is asked about them."""
    model, rng = own_task.model, np.random.default_rng(3)
    signals = rng.normal(size=(1, 2, 80)).astype(np.float32)
    signals[:, :, 60:] = 0.0
    coins = 1.0 - rng.random((1, model.coins))
    views = model.draw(group(["p"], signals.reshape(1, 160)), np.array([0]), coins)
    assert views["present"][0].tolist() == [[1.0, 1.0, 1.0, 0.0]] * 3
    torch.testing.assert_close(views["weight"][0], torch.tensor([[1 / 18] * 3 + [0.0]] * 3))
    other = views["shown"].clone()
    other[..., 3, :] = 5.0
    assert torch.equal(model.losses(views | {"shown": other}), model.losses(views))


def test_it_learns_which_windows_have_the_same_rate() -> None:
    """Four segments of four rates; guessing among seven windows has the surprise ln 7 = 1.95."""
    rng = np.random.default_rng(4)
    rate = np.stack([rng.permutation([0.15, 0.4, 0.8, 1.6]) for _ in range(128)])
    waves = np.sin(np.cumsum(np.repeat(rate, 64, axis=1), axis=1)).astype(np.float32)
    data = SignalData(kind="signal", channels=1, samples=256, rate_hz=1.0, units=("mV",), typical=(1.0,))
    model = made(data, gap=20, temperature=0.2)
    losses = learn(model, group([f"p{n:03d}" for n in range(128)], waves), rng, 80)
    assert losses[0] > 1.2 and np.mean(losses[-5:]) < 0.3
