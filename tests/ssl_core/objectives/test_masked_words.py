"""Masked words: what is hidden and what is seen, and the loss against a plain numpy computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.data.patients import group
from ssl_core.objectives.masked_words import MaskedWordsModel
from ssl_core.spec.data import TextData

TEXT = TextData(kind="text", words=12, codes=2, buckets=32)


@given(st.integers(0, TEXT.words), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_seen_and_hidden_words_divide_the_record(words: int, fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, TEXT.buckets, (1, TEXT.words, TEXT.codes)).astype(np.int32)
    codes[0, words:] = -1
    model = MaskedWordsModel(TEXT, width=4, mask_fraction=fraction)
    views = model.draw(group(["p"], codes), np.array([0]), 1.0 - rng.random((1, model.coins)))
    hidden = min(max(int(np.rint(words * fraction)), 1), words - 1) if words >= 2 else 0
    parts = {"hidden": hidden, "visible": words - hidden}
    for name, count in parts.items():
        per_table = views[name][0].view(TEXT.codes, TEXT.buckets).sum(dim=1)
        assert torch.allclose(per_table, torch.full((TEXT.codes,), 1.0 if count else 0.0), atol=1e-6)
    together = sum(views[name][0, 0].double() * count for name, count in parts.items())
    counts = np.zeros((TEXT.codes, TEXT.buckets))
    for word in codes[0, :words]:
        for table, code in enumerate(word):
            counts[table, code] += 1
    assert torch.is_tensor(together) and np.allclose(together.numpy(), counts.ravel(), atol=1e-5)


def test_every_word_is_hidden_equally_often() -> None:
    codes = np.repeat(np.arange(6, dtype=np.int32)[None, :, None], 2, axis=2)
    padded = np.full((1, TEXT.words, 2), -1, np.int32)
    padded[:, :6] = codes
    model = MaskedWordsModel(TEXT, width=4, mask_fraction=0.5)
    coins = 1.0 - np.random.default_rng(1).random((4000, model.coins))
    views = model.draw(group(["p"], padded), np.zeros(4000, np.int64), coins)
    often = (views["hidden"][:, 0, :6] > 0).double().mean(dim=0)
    assert float((often - 0.5).abs().max()) < 5 * math.sqrt(0.25 / 4000)


def test_every_record_is_drawn_equally_often() -> None:
    codes = np.full((3, TEXT.words, 2), -1, np.int32)
    for record in range(3):
        codes[record, :2] = record
    model = MaskedWordsModel(TEXT, width=4, mask_fraction=0.5)
    coins = 1.0 - np.random.default_rng(2).random((3000, model.coins))
    views = model.draw(group(["p"] * 3, codes), np.zeros(3000, np.int64), coins)
    often = (views["hidden"][:, 0, :3] > 0).double().mean(dim=0)
    assert float((often - 1 / 3).abs().max()) < 5 * math.sqrt(2 / 9 / 3000)


@pytest.mark.parametrize(("name", "count"), [("text_task", 1), ("several_words_task", 3)])
def test_the_loss_agrees_with_numpy(name: str, count: int, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(len(task.patients)))
    named = {name: value.detach().numpy().astype(np.float64) for name, value in task.model.named_parameters()}
    for place in range(len(task.patients)):
        expected = []
        for view in range(count):
            seen, hidden = (views[name][place, view].numpy().astype(np.float64) for name in ("visible", "hidden"))
            mean = named["encoder.table"] @ seen
            normed = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)
            normed = normed * named["encoder.norm.weight"] + named["encoder.norm.bias"]
            logits = (named["head"] @ normed + named["head_bias"]).reshape(TEXT.codes, TEXT.buckets)
            chances = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            expected.append(-(hidden * chances.ravel()).sum())
        loss = task.model({name: view[place] for name, view in views.items()}).item()
        assert loss == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-5)


def test_views_of_a_patient_with_one_record_hide_other_words() -> None:
    codes = np.repeat(np.arange(TEXT.words, dtype=np.int32)[None, :, None], 2, axis=2)
    model = MaskedWordsModel(TEXT.model_copy(update={"records_per_patient": 4}), width=4, mask_fraction=0.5)
    coins = 1.0 - np.random.default_rng(1).random((1, model.coins))
    hidden = model.draw(group(["p"], codes), np.array([0]), coins)["hidden"][0]
    assert len(np.unique(hidden.numpy(), axis=0)) == 4
