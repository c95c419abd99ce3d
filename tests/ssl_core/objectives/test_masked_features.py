"""Masked features: what is hidden, shown and asked; the loss against plain numpy and torch's own losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_transformer import learn, linear, named_weights, transformer
from torch.nn import functional

from ssl_core.data.patients import group
from ssl_core.objectives.masked_features import MaskedFeaturesModel
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData

TABLE = TableData(
    kind="table",
    numeric=tuple(NumericColumn(name=f"n{n}", typical=1.0) for n in range(3)),
    categorical=(CategoricalColumn(name="a", levels=("x", "y")), CategoricalColumn(name="b", levels=("u", "v", "w"))),
    records_per_patient=2,
)
COLUMNS, NUMBERS = 5, 3
FIRST = (0, 1, 2, 3, 6)
"""Outputs: a number each, then "not declared" and two levels, then "not declared" and three."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=5, max_size=5), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_hidden_columns_are_shown_as_hidden_and_asked_for(drawn: list[int], fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.minimum(drawn, np.array(TABLE.codes) - 1)
    values = np.where(codes[:NUMBERS] > 0, rng.normal(size=NUMBERS), 0).astype(np.float32)
    model = MaskedFeaturesModel(TABLE, size="nano", mask_fraction=fraction)
    row = np.concatenate([values, codes]).astype(np.float32)[None]
    views = model.draw(group(["p"], row), np.array([0]), 1.0 - rng.random((1, model.coins)))
    known = int((codes > 0).sum())
    asked = min(max(int(np.rint(known * fraction)), 1), known - 1) if known >= 2 else 0
    assert asked <= model.slots
    for record in range(2):
        own = {name: view[0].numpy().reshape(2, -1, *view.shape[2:])[record] for name, view in views.items()}
        hidden = own["hidden"][:asked].tolist()
        assert len(set(hidden)) == asked and all(codes[column] > 0 for column in hidden)
        shown = [count if column in hidden else codes[column] for column, count in enumerate(TABLE.codes)]
        assert own["codes"].tolist() == shown
        np.testing.assert_array_equal(own["values"], np.where(np.isin(range(NUMBERS), hidden), 0, values))
        for slot, column in enumerate(own["hidden"]):
            weight = 0.5 / asked if slot < asked else 0.0
            pair = [weight, 0.0] if column < NUMBERS else [0.0, weight]
            np.testing.assert_allclose(own["weight"][slot], pair, rtol=1e-6)
            assert own["first"][slot] == FIRST[column] and own["count"][slot] == (1, 1, 1, 3, 4)[column]
            if slot < asked:
                assert own["target"][slot] == FIRST[column] + codes[column] - 1
                assert own["number"][slot] == (values[column] if column < NUMBERS else 0)


def test_every_known_column_is_hidden_equally_often_and_by_coins_of_each_record() -> None:
    row = np.array([[0.5, 0, 1.5, 1, 0, 1, 3, 2]], np.float32)
    model = MaskedFeaturesModel(TABLE, size="nano", mask_fraction=0.4)
    coins = 1.0 - np.random.default_rng(1).random((3000, model.coins))
    views = model.draw(group(["p"], row), np.zeros(3000, np.int64), coins)
    hidden = (views["codes"].numpy().reshape(3000, 2, COLUMNS) == np.array(TABLE.codes)).astype(float)
    assert (hidden.sum(axis=2) == 2).all() and not hidden[:, :, 1].any()
    often = hidden.mean(axis=0)[:, [0, 2, 3, 4]]
    assert np.abs(often - 0.5).max() < 5.5 * math.sqrt(0.25 / 3000)
    assert 0.05 < (hidden[:, 0] == hidden[:, 1]).all(axis=1).mean() < 0.4


def test_the_loss_agrees_with_numpy_one_column_after_the_other(features_task: Any) -> None:
    task = features_task
    data_codes, numbers = task.model.encoder.counts, task.model.encoder.numbers
    views = task.views(task.patients, np.arange(len(task.patients)))
    named = named_weights(task.model)
    rows = np.cumsum([0, *(count + 1 for count in data_codes)])
    firsts = np.cumsum([0, *(count - 1 for count in data_codes)])
    compared = 0
    for unit in range(len(task.patients)):
        expected = 0.0
        values, codes, hidden, number, weight = (
            views[n][unit].numpy() for n in ("values", "codes", "hidden", "number", "weight")
        )
        targets = views["target"][unit].numpy()
        for record in range(3):
            mine = codes.reshape(3, -1)[record]
            x = np.stack([named["encoder.table.weight"][rows[c] + code] for c, code in enumerate(mine)])
            x[:numbers] += values.reshape(3, -1)[record][:, None] * named["encoder.scales.weight"]
            logits = linear(named, "head", transformer(named, "encoder.trunk", x, depth=2, heads=2))
            for slot in range(record * task.model.slots, (record + 1) * task.model.slots):
                column = hidden[slot]
                own = logits[column, firsts[column] : firsts[column + 1]]
                if column < numbers:
                    gap = abs(own[0] - number[slot])
                    found = 0.5 * gap * gap if gap < 1 else gap - 0.5
                else:
                    found = np.log(np.exp(own).sum()) - own[targets[slot] - firsts[column]]
                expected += weight[slot].sum() * found
                compared += weight[slot].any()
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert compared > 60


def test_distances_and_surprises_are_torchs_huber_and_cross_entropy() -> None:
    """With the encoder's part taken away: the head's bias alone is the output."""
    patients = synthetic_patients(TABLE, 40, seed=9)
    model = MaskedFeaturesModel(TABLE, size="nano", mask_fraction=0.6)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.3, -2.0, 1.0, 0.2, -0.4, 1.1, 0.0, 0.5, -1.0, 2.0]))
    views = model.draw(patients, np.arange(40), 1.0 - np.random.default_rng(0).random((40, model.coins)))
    bias = model.head.bias.detach()
    for unit in range(40):
        expected = 0.0
        for slot, column in enumerate(views["hidden"][unit].tolist()):
            weight = float(views["weight"][unit, slot].sum())
            own = bias[FIRST[column] : FIRST[column] + (1, 1, 1, 3, 4)[column]]
            if column < NUMBERS:
                expected += weight * float(functional.huber_loss(own[0], views["number"][unit, slot]))
            else:
                expected += weight * float(functional.cross_entropy(own, views["target"][unit, slot] - FIRST[column]))
        assert model.losses({n: v[unit : unit + 1] for n, v in views.items()}).item() == pytest.approx(
            expected, rel=1e-5, abs=1e-7
        )


def test_a_hidden_value_cannot_be_seen(features_task: Any) -> None:
    """Records that differ in hidden columns alone give the same tokens: another target, the same prediction."""
    task = features_task
    index = np.arange(len(task.patients))
    views = task.views(task.patients, index)
    hidden = views["codes"].numpy() == np.tile(task.model.encoder.counts, 3)
    assert hidden.any()
    other = task.patients.records.copy()
    other[:, : task.model.encoder.numbers] *= 3.0
    changed = type(task.patients)(task.patients.units, task.patients.tags, task.patients.offsets, other)
    again = task.views(changed, index)
    numbers = hidden.reshape(len(index), 3, -1)[:, :, : task.model.encoder.numbers].reshape(len(index), -1)
    assert numbers.any() and torch.equal(again["codes"], views["codes"])
    assert not views["values"].numpy()[numbers].any() and not again["values"].numpy()[numbers].any()
    assert not torch.equal(again["number"], views["number"])


def test_it_learns_what_only_the_other_columns_tell() -> None:
    """All columns of a row follow one hidden coin: alone the best is log 2 of a level, 0.5 of a number."""
    rng = np.random.default_rng(5)
    coin = rng.integers(0, 2, 256)
    signs = (2.0 * coin - 1.0)[:, None] * np.ones((1, 3))
    codes = np.column_stack([np.ones((256, 3)), 2 + coin, 3 + coin])
    patients = group([f"p{n:03d}" for n in range(256)], np.hstack([signs, codes]).astype(np.float32))
    model = MaskedFeaturesModel(TABLE, size="nano", mask_fraction=0.4)
    losses = learn(model, patients, rng, 60)
    assert losses[0] > 0.4 and np.mean(losses[-10:]) < 0.05
