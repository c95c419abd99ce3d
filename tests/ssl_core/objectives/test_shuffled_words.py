"""Shuffled order of words: what is shown, the loss against a second transformer in plain numpy, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from tests_transformer import learn, linear, named_weights, text_tokens

from ssl_core.data.patients import group
from ssl_core.objectives.shuffled_words import ShuffledWordsModel
from ssl_core.spec.data import TextData

DATA = TextData(kind="text", words=14, codes=2, buckets=32, records_per_patient=2)


def test_segments_are_shown_in_another_order_and_what_is_left_over_is_not() -> None:
    model = ShuffledWordsModel(DATA, size="nano", segments=3)
    records = np.full((2, 14, 2), -1, np.int32)
    for record, words in enumerate((11, 14)):
        records[record, :words] = np.stack((np.arange(words), np.arange(words) + 16), axis=1)
    coins = 1.0 - np.random.default_rng(2).random((100, model.coins))
    drawn = model.draw(group(["p", "p"], records), np.zeros(100, np.int64), coins)
    views = {name: view.numpy() for name, view in drawn.items()}
    assert views["weight"].tolist() == [[0.5, 0.5]] * 100
    rows, places = views["rows"].reshape(200, 3, 4, 2), views["places"].reshape(200, 3, 4)
    real, orders = views["real"].reshape(200, 3, 4), set()
    for shown, at, filled, origins in zip(rows, places, real, views["origins"].reshape(200, 3), strict=True):
        length = int(filled[0].sum())
        assert length in (3, 4) and (filled == (np.arange(4) < length)).all()
        for number, origin in enumerate(origins):
            words = np.arange(origin * length, (origin + 1) * length)
            # Code 0 at its number, code 1 in the second table of 33 rows.
            assert np.array_equal(shown[number, :length], np.stack((words, words + 16 + 33), axis=1))
            assert np.array_equal(shown[number, length:], np.tile([32, 65], (4 - length, 1)))
            assert np.array_equal(at[number, :length], np.arange(number * length, (number + 1) * length))
        orders.add((length, *origins.tolist()))
    assert len(orders) == 12


def test_the_loss_is_the_mean_surprise_at_the_origins(shuffled_words_task: Any) -> None:
    task, named = shuffled_words_task, named_weights(shuffled_words_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(len(task.patients)):
        rows = views["rows"][unit].numpy().reshape(3, 3, 4, 2)
        real = views["real"][unit].numpy().reshape(3, 3, 4)
        expected = 0.0
        for record in range(3):
            length = int(real[record, 0].sum())
            if not length:
                assert views["weight"][unit, record] == 0
                continue
            words = [(int(a), int(b) - 33) for a, b in rows[record, :, :length].reshape(-1, 2)]
            tokens = text_tokens(named, "encoder.", list(words), buckets=32, codes=2, depth=2, heads=2)
            logits = linear(named, "head", tokens.reshape(3, length, -1).mean(axis=1))
            origins = views["origins"][unit, record].numpy()
            expected -= log_softmax(logits, axis=1)[np.arange(3), origins].mean() / 3
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_it_learns_the_order_of_words_that_follow_each_other() -> None:
    """Guessing has the surprise ln 3 = 1.1."""
    rng = np.random.default_rng(4)
    data = DATA.model_copy(update={"records_per_patient": 1, "words": 12})
    begin = rng.integers(0, 4, (200, 1, 1))
    records = np.broadcast_to(2 * np.arange(12)[None, :, None] + begin, (200, 12, 2)).astype(np.int32)
    model = ShuffledWordsModel(data, size="nano", segments=3)
    losses = learn(model, group([f"p{n:03d}" for n in range(200)], records), rng, 60)
    assert losses[0] > 0.9 and np.mean(losses[-5:]) < 0.3
