"""Masked language: what is hidden and what is predicted, the loss against plain numpy, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests_transformer import learn, linear, named_weights, surprise, text_tokens

from ssl_core.data.patients import group
from ssl_core.objectives.masked_language import MaskedLanguageModel
from ssl_core.spec.data import TextData

TEXT = TextData(kind="text", words=12, codes=2, buckets=32)


@given(st.integers(0, TEXT.words), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_hidden_words_come_first_and_are_the_targets(words: int, fraction: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, TEXT.buckets, (1, TEXT.words, TEXT.codes)).astype(np.int32)
    codes[0, words:] = -1
    model = MaskedLanguageModel(TEXT, size="nano", mask_fraction=fraction)
    drawn = model.draw(group(["p"], codes), np.array([0]), 1.0 - rng.random((1, model.coins)))
    views = {name: view[0].numpy() for name, view in drawn.items()}
    hidden = min(max(int(np.rint(words * fraction)), 1), words - 1) if words >= 2 else 0
    assert sorted(views["places"]) == list(range(TEXT.words)) and (views["places"][:words] < words).all()
    assert np.array_equal(views["real"], np.arange(TEXT.words) < words)
    assert hidden <= model.slots == len(views["weight"])
    np.testing.assert_allclose(views["weight"], (np.arange(model.slots) < hidden) / max(hidden, 1), rtol=1e-6)
    rows = views["rows"].reshape(TEXT.words, TEXT.codes) - np.array([0, TEXT.buckets + 1])
    for slot, place in enumerate(views["places"]):
        shown = hidden <= slot < words
        assert np.array_equal(rows[slot], codes[0, place] if shown else [TEXT.buckets] * TEXT.codes)
        if slot < hidden:
            assert np.array_equal(views["targets"][slot], codes[0, place])


def test_every_word_is_hidden_equally_often() -> None:
    codes = np.full((1, TEXT.words, 2), -1, np.int32)
    codes[:, :6] = 3
    model = MaskedLanguageModel(TEXT, size="nano", mask_fraction=0.34)
    coins = 1.0 - np.random.default_rng(1).random((3000, model.coins))
    views = model.draw(group(["p"], codes), np.zeros(3000, np.int64), coins)
    often = np.bincount(views["places"].numpy()[:, :2].ravel(), minlength=TEXT.words) / 3000
    assert np.abs(often[:6] - 1 / 3).max() < 5 * math.sqrt(2 / 9 / 3000) and not often[6:].any()


def test_the_loss_agrees_with_numpy_which_leaves_the_words_in_order(language_task: Any) -> None:
    task = language_task
    views = task.views(task.patients, np.arange(len(task.patients)))
    named, buckets = named_weights(task.model), TEXT.buckets
    compared = 0
    for unit in range(len(task.patients)):
        rows, places, real, targets, weight = (views[n][unit].numpy() for n in ("rows", "places", "real", "targets", "weight"))
        count = int(real.sum())
        words: list[tuple[int, ...] | None] = [None] * count
        for slot in range(count):
            codes = rows.reshape(TEXT.words, 2)[slot] - np.array([0, buckets + 1])
            words[places[slot]] = None if codes[0] == buckets else tuple(codes.tolist())
        hidden = int((weight > 0).sum())
        expected = 0.0
        if hidden:
            tokens = text_tokens(named, "encoder.", words, buckets=buckets, codes=2, depth=2, heads=2)
            logits = linear(named, "head", tokens)
            expected = np.mean([surprise(logits[places[s]], tuple(targets[s].tolist()), buckets) for s in range(hidden)])
            compared += 1
        loss = task.model({name: view[unit] for name, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert compared >= 15


def test_several_records_of_a_patient_are_the_mean_of_single_ones(several_language_task: Any) -> None:
    task = several_language_task
    views = task.views(task.patients, np.arange(len(task.patients)))
    alone = MaskedLanguageModel(TEXT, size="nano", mask_fraction=0.4)
    alone.load_state_dict(task.model.state_dict())
    parts = {name: view.unflatten(1, (3, -1)) for name, view in views.items()}
    single = [alone.losses({n: v[:, k] for n, v in (parts | {"weight": 3 * parts["weight"]}).items()}) for k in range(3)]
    torch.testing.assert_close(task.model.losses(views), sum(single) / 3, rtol=1e-4, atol=1e-5)
    records = {tuple(rows.tolist()) for rows in parts["rows"][task.patients.counts() >= 3].flatten(0, 1)}
    assert len(records) > len(task.patients)


def test_what_stands_where_no_word_is_changes_no_bit(language_task: Any) -> None:
    task = language_task
    views = task.views(task.patients, np.arange(len(task.patients)))
    absent = (views["real"] == 0).repeat_interleave(2, dim=1)
    assert absent.any()
    other = views | {"rows": torch.where(absent, 0, views["rows"])}
    assert torch.equal(task.model.losses(other), task.model.losses(views))


def test_it_learns_what_only_the_other_words_tell() -> None:
    """All words of a record are one of 16: without the others the best loss is log 16 = 2.77 a code table."""
    rng = np.random.default_rng(5)
    data = TextData(kind="text", words=6, codes=1, buckets=16)
    codes = np.repeat(np.arange(256, dtype=np.int32)[:, None, None] % 16, 6, axis=1)
    model = MaskedLanguageModel(data, size="nano", mask_fraction=0.3)
    losses = learn(model, group([f"p{n:03d}" for n in range(256)], codes), rng, 120)
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 0.5
