"""Masked autoencoding: what is seen and what is predicted, the loss against plain numpy, and that it learns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import periodogram
from tests_transformer import image_tokens, learn, linear, named_weights, signal_tokens, transformer

from ssl_core.config import parse
from ssl_core.data.patients import group
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.errors import ConfigError
from ssl_core.objectives.masked_autoencoding import MaskedAutoencodingModel
from ssl_core.objectives.summaries import summary
from ssl_core.objectives.targets import log_power, normalised
from ssl_core.spec.data import ImageData, SignalData
from ssl_core.spec.objective import MaskedAutoencoding

DATA = ImageData(kind="image", height=16, width=8, records_per_patient=2)


def make(fraction: float = 0.75, data: ImageData = DATA) -> MaskedAutoencodingModel:
    encoder = VisionTransformer(data, size="nano", patch=4)
    return MaskedAutoencodingModel(data, encoder, mask_fraction=fraction, decoder_width=32, decoder_depth=1)


def squares_of(image: np.ndarray) -> np.ndarray:
    out: np.ndarray = image.reshape(4, 4, 2, 4).transpose(0, 2, 1, 3).reshape(8, 16)
    return out


@pytest.mark.parametrize(("fraction", "hidden"), [(0.75, 6), (0.5, 4), (0.01, 1), (0.99, 7)])
def test_seen_and_hidden_squares_divide_each_record(fraction: float, hidden: int) -> None:
    model = make(fraction)
    images = np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((50, model.coins))
    views = {n: v.numpy() for n, v in model.draw(group(["p", "p"], images), np.zeros(50, np.int64), coins).items()}
    assert (model.squares, model.hidden) == (8, hidden)
    order = views["order"].reshape(50, 2, 8)
    assert np.array_equal(np.sort(order, axis=2), np.broadcast_to(np.arange(8), order.shape))
    assert len({row.tobytes() for row in order.reshape(100, 8)}) > 90
    seen, target = views["seen"].reshape(50, 2, 8 - hidden, 16), views["target"].reshape(50, 2, hidden, 16)
    for unit in range(50):
        found = [next(n for n in (0, 1) if np.isin(seen[unit, k], images[n]).all()) for k in (0, 1)]
        assert sorted(found) == [0, 1]
        for k, n in enumerate(found):
            squares = squares_of(images[n])[order[unit, k]].astype(np.float64)
            assert np.array_equal(seen[unit, k], squares[: 8 - hidden])
            rest = squares[8 - hidden :]
            scale = np.sqrt(rest.var(axis=1, keepdims=True, ddof=1) + 1e-6)
            np.testing.assert_allclose(target[unit, k], (rest - rest.mean(axis=1, keepdims=True)) / scale, atol=1e-5)


def test_every_square_is_hidden_equally_often() -> None:
    model = make()
    coins = 1.0 - np.random.default_rng(3).random((2000, model.coins))
    views = model.draw(group(["p"], np.ones((1, 128), np.float32)), np.zeros(2000, np.int64), coins)
    often = np.bincount(views["order"].numpy().reshape(4000, 8)[:, 2:].ravel(), minlength=8) / 4000
    assert np.abs(often - 0.75).max() < 5 * np.sqrt(0.1875 / 4000)


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("autoencoding_task", image_tokens),
        ("signal_task", signal_tokens),
        ("summary_task", image_tokens),
        ("summary_signal_task", signal_tokens),
    ],
    ids=["image", "signal", "summary of image", "summary of signal"],
)
def test_the_loss_agrees_with_numpy_which_puts_the_patches_back_in_order(
    name: str, encode: Callable[..., np.ndarray], request: pytest.FixtureRequest
) -> None:
    """The decoder of the paper: tokens and mask tokens in the record's order, positions added, all patches predicted."""
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(len(task.patients)))
    named, model = named_weights(task.model), task.model
    shown = model.squares - model.hidden
    for unit in range(len(task.patients)):
        seen, target, order = (views[n][unit].numpy() for n in ("seen", "target", "order"))
        expected = 0.0
        for record, (own, truth, places) in enumerate(
            zip(*(np.split(array, model.views) for array in (seen, target, order)), strict=True)
        ):
            code = encode(named, "encoder.", own.astype(np.float64), places[:shown].tolist(), depth=2, heads=2)
            image = np.repeat(named["mask.weight"], model.squares, axis=0)
            image[places[:shown]] = linear(named, "bridge", code)
            decoded = transformer(named, "decoder", image + named["places.weight"], depth=1, heads=1)
            errors = (linear(named, "head", decoded)[places[shown:]] - truth) ** 2
            error = errors.mean()
            if "summary" in views:
                features = code.mean(axis=0)
                if name == "summary_task":
                    features = np.concatenate([features, np.sqrt(code.var(axis=0) + 1e-6)])
                missed = linear(named, "summary_head", features) - views["summary"][unit, record].numpy()
                error += 0.7 * (missed**2).mean()
            expected += float(views["weight"][unit, record]) * error
        loss = model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_bad_record_among_good_ones_weighs_nothing() -> None:
    records = np.stack([np.zeros(128, np.float32), np.arange(128, dtype=np.float32)])
    model = make()
    views = model.draw(group(["p", "p"], records), np.array([0]), np.full((1, model.coins), 0.3))
    assert sorted(views["weight"][0].tolist()) == [0.0, 0.5]


def test_squares_without_contrast_and_values_that_are_not_finite_raise_nothing() -> None:
    squares = torch.tensor([[0.1, 0.1, 0.1], [1e30, -1e30, 0.0], [torch.nan, torch.inf, 0.0], [1.0, 2.0, 3.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = normalised(squares)
    assert out[0].abs().max() < 1e-9 and out[2].isnan().all()
    torch.testing.assert_close(out[1], torch.tensor([1.0, -1.0, 0.0]))
    torch.testing.assert_close(out[3], torch.tensor([-1.0, 0.0, 1.0]))


def test_each_channel_of_a_piece_is_normalised_by_itself() -> None:
    data = SignalData(kind="signal", channels=3, samples=12, rate_hz=1.0, units=("mV",), typical=(1.0,))
    encoder = SignalTransformer(data, size="nano", patch=4)
    model = MaskedAutoencodingModel(data, encoder, mask_fraction=0.7, decoder_width=32, decoder_depth=1)
    signal = np.random.default_rng(5).normal(size=(1, 3, 12)) * np.array([1e-2, 1.0, 50.0])[:, None] + 7
    views = model.draw(group(["p"], signal.reshape(1, 36).astype(np.float32)), np.array([0]), np.array([[0.5, 0.1, 0.9, 0.3]]))
    assert views["order"].tolist() == [[0, 2, 1]] and views["weight"].tolist() == [[1.0]]
    pieces = signal[0].reshape(3, 3, 4).transpose(1, 0, 2)
    np.testing.assert_allclose(views["seen"].numpy(), pieces[:1].reshape(1, 1, 12), rtol=1e-6)
    rest = pieces[[2, 1]]
    scale = np.sqrt(rest.var(axis=2, keepdims=True, ddof=1) + 1e-6)
    expected = ((rest - rest.mean(axis=2, keepdims=True)) / scale).reshape(1, 2, 12)
    np.testing.assert_allclose(views["target"].numpy(), expected, atol=1e-3)


def test_the_power_of_each_channel_of_a_piece_may_be_the_target() -> None:
    data = SignalData(kind="signal", channels=2, samples=30, rate_hz=1.0, units=("mV",), typical=(1.0,))
    model = MaskedAutoencodingModel(
        data,
        SignalTransformer(data, size="nano", patch=10),
        mask_fraction=0.7,
        decoder_width=32,
        decoder_depth=1,
        target="log-power",
    )
    signal = np.random.default_rng(5).normal(size=(1, 60)).astype(np.float32)
    views = model.draw(group(["p"], signal), np.array([0]), np.array([[0.5, 0.1, 0.9, 0.3]]))
    assert views["order"].tolist() == [[0, 2, 1]] and model.head.out_features == 10
    pieces = signal.reshape(2, 3, 10).transpose(1, 0, 2)[[2, 1]].astype(np.float64)
    _, power = periodogram(pieces, fs=1.0, detrend="constant", return_onesided=False)
    expected = np.log(1e-2 + power[:, :, 1:6]).reshape(1, 2, 10)
    np.testing.assert_allclose(views["target"].numpy(), expected, atol=1e-5)
    assert model.losses(views).shape == (1,)


def test_log_power_of_what_is_empty_extreme_or_not_finite_raises_nothing() -> None:
    pieces = torch.tensor([[0.0] * 5, [1e30, -1e30, 0.0, 0.0, 0.0], [torch.nan, torch.inf, 0.0, 0.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = log_power(pieces)
    torch.testing.assert_close(out[0], torch.full((2,), np.log(1e-2), dtype=torch.float32))
    assert out[1].isfinite().all() and out[2].isnan().all()


def test_it_learns_to_continue_signals_whose_rate_it_sees() -> None:
    """Zero is the best prediction without the seen pieces, with error 9 / 10."""
    rng = np.random.default_rng(6)
    rate, phase = rng.uniform(0.15, 0.5, (256, 1, 1)), rng.uniform(0, 2 * np.pi, (256, 1, 1))
    lag = np.array([0.0, 1.0])[:, None]
    waves = np.sin(rate * np.arange(80) + phase + lag).reshape(256, 160).astype(np.float32)
    data = SignalData(kind="signal", channels=2, samples=80, rate_hz=10.0, units=("mV",), typical=(1.0,))
    model = MaskedAutoencodingModel(
        data, SignalTransformer(data, size="nano", patch=10), mask_fraction=0.5, decoder_width=32, decoder_depth=1
    )
    losses = learn(model, group([f"p{n:03d}" for n in range(256)], waves), rng, 150)
    assert losses[0] > 9 / 10 and np.mean(losses[-10:]) < 0.6


def test_it_learns_to_continue_waves_that_it_sees_a_part_of() -> None:
    """Zero is the best prediction without the seen squares, with error 15 / 16."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:16, :8]
    angle, phase = rng.uniform(0, np.pi, (256, 1, 1)), rng.uniform(0, 2 * np.pi, (256, 1, 1))
    waves = np.sin(0.8 * (np.cos(angle) * rows + np.sin(angle) * columns) + phase).reshape(256, 128).astype(np.float32)
    data = DATA.model_copy(update={"records_per_patient": 1})
    losses = learn(make(0.5, data), group([f"p{n:03d}" for n in range(256)], waves), rng, 150)
    assert losses[0] > 15 / 16 and np.mean(losses[-10:]) < 0.6


@pytest.mark.parametrize("name", ["summary_task", "summary_signal_task"])
def test_the_summary_is_of_each_records_own_and_its_error_reaches_the_encoder(
    name: str, request: pytest.FixtureRequest
) -> None:
    task: Any = request.getfixturevalue(name)
    model, patients = task.model, task.patients
    views = task.views(patients, np.arange(len(patients)))
    every = {summary(row[None], model.data, model.encoder.size)[0].tobytes() for row in patients.records}
    assert all(own.tobytes() in every for own in views["summary"].flatten(0, 1).numpy())
    encoder = [value for part, value in model.encoder.named_parameters() if "places" not in part]
    found = []
    for weight in (0.0, 0.7):
        model.summary_weight = weight
        found.append(torch.autograd.grad(model.losses(views).sum(), encoder))
    apart = [float((one - other).norm()) / float(one.norm()) for one, other in zip(*found, strict=True)]
    assert min(apart) > 1e-3


def test_without_a_weight_nothing_of_a_summary_is_there() -> None:
    encoder: dict[str, Any] = {"size": "nano", "patch": 4}
    shape: dict[str, Any] = {"mask_fraction": 0.75, "decoder_width": 32, "decoder_depth": 1}
    off = MaskedAutoencodingModel(DATA, VisionTransformer(DATA, **encoder), **shape, summary_weight=0.0)
    on = MaskedAutoencodingModel(DATA, VisionTransformer(DATA, **encoder), **shape, summary_weight=1.0)
    before = {name: value.shape for name, value in make().named_parameters()}
    assert {name: value.shape for name, value in off.named_parameters()} == before
    assert {name for name, _ in on.named_parameters()} - before.keys() == {"summary_head.weight", "summary_head.bias"}
    images = np.random.default_rng(1).normal(size=(2, 128)).astype(np.float32)
    coins = 1.0 - np.random.default_rng(2).random((3, on.coins))
    views = [model.draw(group(["p", "p"], images), np.zeros(3, np.int64), coins) for model in (off, on)]
    assert views[1].keys() - views[0].keys() == {"summary"} and off.coins == on.coins
    assert all(torch.equal(view, views[1][name]) for name, view in views[0].items())
    parts = [
        parse(MaskedAutoencoding, {"name": "masked-autoencoding"} | given, "task") for given in ({}, {"summary_weight": 1.0})
    ]
    assert [part.model_dump().get("summary_weight") for part in parts] == [None, 1.0]
    assert all(parse(MaskedAutoencoding, part.model_dump(), "task") == part for part in parts)
    for wrong in (-0.1, float("inf"), float("nan"), "1"):
        with pytest.raises(ConfigError, match="summary_weight"):
            parse(MaskedAutoencoding, {"name": "masked-autoencoding", "summary_weight": wrong}, "task")


def test_it_learns_what_a_whole_record_is_like_from_a_part_of_it() -> None:
    """Waves of one frequency a record: 1 is the error of who always says the mean of all records."""
    rng = np.random.default_rng(6)
    rate, size, phase = rng.uniform(0.3, 2.5, (256, 1)), rng.uniform(0.3, 3, (256, 1)), rng.uniform(0, 2 * np.pi, (256, 1))
    waves = (size * np.sin(rate * np.arange(80) + phase)).astype(np.float32)
    data = SignalData(kind="signal", channels=1, samples=80, rate_hz=10.0, units=("mV",), typical=(1.0,))
    encoder = SignalTransformer(data, size="nano", patch=10, pool="mean-deviation", front_end=True)
    model = MaskedAutoencodingModel(
        data, encoder, mask_fraction=0.5, decoder_width=32, decoder_depth=1, target="log-power", summary_weight=1.0
    )
    patients = group([f"p{n:03d}" for n in range(256)], waves)
    learn(model, patients, rng, 150)
    views = model.draw(patients, np.arange(256), 1.0 - rng.random((256, model.coins)))
    seen = views["order"][:, : model.squares - model.hidden]
    with torch.no_grad():
        guess = model.summary_head(model.encoder.pooled(model.encoder.tokens(views["seen"], seen)))
    truth = views["summary"][:, 0]
    assert float((guess - truth).square().mean() / (truth - truth.mean(dim=0)).square().mean()) < 0.75
