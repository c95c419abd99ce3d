"""Denoising: the noise and the block, the loss against plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests_transformer import image_tokens, learn, linear, named_weights, signal_tokens

from ssl_core.data.patients import group
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.objectives.coin_noise import gaussian
from ssl_core.objectives.denoising import DenoisingModel
from ssl_core.objectives.targets import log_power
from ssl_core.spec.data import ImageData, SignalData

SIGNAL = SignalData(kind="signal", channels=2, samples=40, rate_hz=1.0, units=("mV",), typical=(1.0,), records_per_patient=2)
IMAGE = ImageData(kind="image", height=8, width=12)


def drawn(model: DenoisingModel, records: np.ndarray, units: int = 60) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    coins = 1.0 - np.random.default_rng(2).random((units, model.coins))
    views = model.draw(group(["p"] * len(records), records), np.zeros(units, np.int64), coins)
    return coins, {name: view.numpy() for name, view in views.items()}


def test_a_signal_gets_the_noise_of_its_coin_and_one_blank_run_in_all_channels() -> None:
    model = DenoisingModel(SIGNAL, SignalTransformer(SIGNAL, size="nano", patch=5), noise=0.5, block=0.3)
    records = np.random.default_rng(1).normal(size=(2, 80)).astype(np.float32)
    coins, views = drawn(model, records)
    assert model.coins == 5 and views["seen"].shape == views["target"].shape == (60, 16, 10)
    assert (views["weight"] == 0.5).all()
    found = set()
    for unit in range(60):
        for view in range(2):
            shown, clean = (
                views[name][unit].reshape(2, 8, 2, 5)[view].transpose(1, 0, 2).reshape(2, 40) for name in ("seen", "target")
            )
            assert (clean.ravel() == records).all(axis=1).any()
            blank = np.flatnonzero((shown == 0).all(axis=0))
            assert len(blank) == 12 and blank[-1] - blank[0] == 11
            found.add(int(blank[0]))
            noised = clean + np.float32(0.5) * gaussian(coins[unit, 1 + 2 * view : 2 + 2 * view], 80).reshape(2, 40)
            noised[:, blank] = 0
            assert np.array_equal(shown, noised)
    assert min(found) == 0 and max(found) == 28 and len(found) > 20


@pytest.mark.parametrize("kind", ["vit", "mlp"])
def test_an_image_gets_one_blank_rectangle(kind: str) -> None:
    encoder: Any = VisionTransformer(IMAGE, size="nano", patch=4) if kind == "vit" else MlpImage(IMAGE, 8, 4)
    model = DenoisingModel(IMAGE, encoder, noise=0.1, block=0.25)
    image = np.random.default_rng(1).normal(size=(1, 96)).astype(np.float32)
    _, views = drawn(model, image)
    corners = set()
    for shown in views["seen"]:
        pixels = shown.reshape(8, 12) if kind == "mlp" else shown.reshape(2, 3, 4, 4).transpose(0, 2, 1, 3).reshape(8, 12)
        blank = pixels == 0
        rows, columns = np.flatnonzero(blank.any(axis=1)), np.flatnonzero(blank.any(axis=0))
        assert blank.sum() == 24 and (len(rows), len(columns)) == (4, 6)
        corners.add((int(rows[0]), int(columns[0])))
        assert np.abs(pixels - image.reshape(8, 12))[~blank].max() < 0.7
    assert len(corners) > 20


@pytest.mark.parametrize("name", ["denoising_task", "denoising_power_task", "denoising_image_task", "denoising_mlp_task"])
def test_the_loss_agrees_with_numpy(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    named = named_weights(task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(0, len(task.patients), 4):
        seen, target = (views[n][unit].numpy().astype(np.float64) for n in ("seen", "target"))
        errors = []
        for record in range(3):
            mine = slice(record * len(seen) // 3, (record + 1) * len(seen) // 3)
            if name == "denoising_mlp_task":
                said = linear(
                    named, "head", task.model.encoder(views["seen"][unit, mine])[1].detach().numpy().astype(np.float64)
                )
            else:
                tokens = image_tokens if name == "denoising_image_task" else signal_tokens
                places = list(range(len(seen[mine])))
                said = linear(named, "head", tokens(named, "encoder.", seen[mine], places, depth=2, heads=2))
            errors.append(np.square(said - target[mine]).mean())
        expected = float((views["weight"][unit].numpy() * errors).sum())
        loss = task.model({n: view[unit] for n, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_log_power_is_that_of_the_clean_pieces(denoising_power_task: Any) -> None:
    task = denoising_power_task
    views = task.views(task.patients, np.arange(len(task.patients)))
    place = int(np.flatnonzero(task.patients.counts() == 1)[0])
    record = task.patients.records[task.patients.offsets[place]]
    pieces = task.model.encoder.cut(views["seen"].new_tensor(record)).reshape(4, 2, 6)
    expected = log_power(pieces).flatten(-2)
    for view in views["target"][place].reshape(3, 4, 6):
        np.testing.assert_array_equal(view.numpy(), expected.numpy())


def test_it_learns_to_take_noise_from_a_wave() -> None:
    """Predicting nothing errs by the wave's mean square 0.5, predicting what is seen by that of the noise, 0.25."""
    rng = np.random.default_rng(4)
    waves = np.sin(rng.uniform(0, 2 * np.pi, (256, 1)) + 0.5 * np.arange(40)).astype(np.float32)
    data = SIGNAL.model_copy(update={"channels": 1, "records_per_patient": 1})
    model = DenoisingModel(data, SignalTransformer(data, size="nano", patch=5), noise=0.5, block=0.0)
    losses = learn(model, group([f"p{n:03d}" for n in range(256)], waves), rng, 120)
    assert losses[0] > 0.45 and np.mean(losses[-5:]) < 0.12
