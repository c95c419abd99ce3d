"""Next token: what is read and predicted, the loss against plain numpy, no look ahead, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import learn, linear, named_weights, surprise, text_tokens

from ssl_core.data.patients import group
from ssl_core.objectives.next_token import NextTokenModel
from ssl_core.spec.data import TextData

TEXT = TextData(kind="text", words=12, codes=2, buckets=32, records_per_patient=3)


def words_of(view: dict[str, np.ndarray], record: int) -> list[tuple[int, ...]]:
    """The words of one record as the model is shown them."""
    rows = view["rows"].reshape(3, TEXT.words, 2)[record] - np.array([0, TEXT.buckets + 1])
    count = int(view["real"].reshape(3, TEXT.words)[record].sum())
    return [tuple(word) for word in rows[:count].tolist()]


def test_every_word_but_the_first_is_predicted_with_equal_weight() -> None:
    codes = np.random.default_rng(1).integers(0, 32, (3, 12, 2)).astype(np.int32)
    codes[1, 5:], codes[2, 1:] = -1, -1
    model = NextTokenModel(TEXT, size="nano")
    views = {n: v[0].numpy() for n, v in model.draw(group(["p"] * 3, codes), np.array([0]), np.array([[0.2]])).items()}
    assert model.coins == 1
    for record, count in ((0, 12), (1, 5), (2, 1)):
        assert words_of(views, record) == [tuple(word) for word in codes[record, :count].tolist()]
        weight = views["weight"].reshape(3, 11)[record]
        np.testing.assert_allclose(weight, (np.arange(11) < count - 1) / max(count - 1, 1) / 3, rtol=1e-6)
        targets = views["targets"].reshape(3, 11, 2)[record]
        assert np.array_equal(targets[: count - 1], codes[record, 1:count])


def test_the_loss_agrees_with_numpy_where_a_word_sees_its_past_alone(next_task: Any) -> None:
    """Each prediction is made from a record that ends there: nothing later exists for it."""
    task, named = next_task, named_weights(next_task.model)
    views = task.views(task.patients, np.arange(len(task.patients)))
    compared = 0
    for unit in range(0, len(task.patients), 3):
        view = {name: value[unit].numpy() for name, value in views.items()}
        expected = []
        for record in range(3):
            words = words_of(view, record)
            found = []
            for end in range(1, len(words)):
                tokens = text_tokens(named, "encoder.", words[:end], buckets=32, codes=2, depth=2, heads=2, causal=True)
                found.append(surprise(linear(named, "head", tokens[-1]), words[end], 32))
            expected.append(np.mean(found) if found else 0.0)
            compared += len(found)
        loss = task.model({name: value[unit] for name, value in views.items()}).item()
        assert loss == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)
    assert compared > 50


@pytest.mark.parametrize("changed", [1, 6, 11])
def test_a_later_word_changes_no_bit_of_an_earlier_prediction(changed: int) -> None:
    data = TEXT.model_copy(update={"records_per_patient": 1})
    model = NextTokenModel(data, size="nano")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    codes = np.random.default_rng(2).integers(0, 32, (1, 12, 2)).astype(np.int32)
    other = codes.copy()
    other[0, changed] = (other[0, changed] + 1) % 32
    before, after = (
        model.log_chances(model.draw(group(["p"], each), np.array([0]), np.array([[1.0]]))) for each in (codes, other)
    )
    assert before.shape == (1, 11, 2, 32)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert changed == 11 or (before[:, changed:] != after[:, changed:]).any(dim=-1).all()
    torch.testing.assert_close(before.exp().sum(dim=-1), torch.ones(1, 11, 2))


def test_it_learns_to_count() -> None:
    """Each word is the one before it plus 3, modulo 16; guessing has the surprise log 16 = 2.77."""
    rng = np.random.default_rng(5)
    data = TextData(kind="text", words=6, codes=1, buckets=16)
    codes = ((rng.integers(0, 16, (256, 1)) + 3 * np.arange(6)) % 16).astype(np.int32)[:, :, None]
    losses = learn(NextTokenModel(data, size="nano"), group([f"p{n:03d}" for n in range(256)], codes), rng, 100)
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 0.5
