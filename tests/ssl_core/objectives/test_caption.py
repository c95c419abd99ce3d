"""Caption: the loss by plain numpy, what it learns, and what a pair without a half gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ssl_core.data.pair_rows import parted
from ssl_core.data.patients import group
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.caption import CaptionModel
from ssl_core.spec.data import ImageForm, PairData, TextForm

SAME = Augmentation(crop=1.0, gain=0.0, noise=0.0, flip=False)


def test_the_loss_is_that_of_each_word_by_the_papers_softmax(caption_task: Any) -> None:
    model, index = caption_task.model, np.arange(len(caption_task.patients))
    views = caption_task.views(caption_task.patients, index)
    found = model.losses(views).detach().numpy()
    with torch.no_grad():
        placed = model.encoder.project(model.encoder.image(views["shown"])).double()
        logits = torch.nn.functional.gelu(placed) @ model.head.weight.double().t() + model.head.bias.double()
    text = model.data.text
    chance = logits.view(*logits.shape[:2], text.codes, text.buckets).log_softmax(dim=-1).numpy()
    _, codes, _ = model.looks(caption_task.patients, index, caption_task.coins(caption_task.patients))
    codes = codes.reshape(len(index), model.views, text.words, text.codes)
    for unit, loss in enumerate(found):
        total = 0.0
        for view in range(model.views):
            words = [word for word in codes[unit, view] if word[0] >= 0]
            each = [-sum(chance[unit, view, c, code] for c, code in enumerate(word)) for word in words]
            total += np.mean(each) / model.views if each else 0.0
        np.testing.assert_allclose(loss, total, rtol=1e-4, atol=1e-6)


def test_one_bad_pair_of_a_patient_leaves_the_share_of_the_others(caption_task: Any) -> None:
    patients, model = caption_task.patients, caption_task.model
    unit = int(np.flatnonzero(patients.counts() == 3)[0])
    one, rows = patients.take(np.array([unit])), patients.records[patients.offsets[unit] : patients.offsets[unit] + 3].copy()
    coins = np.full((1, model.coins), 0.5)
    whole = model.draw(one, np.array([0]), coins)
    rows[1] = np.nan
    fewer = model.draw(group(list(one.units) * 3, rows), np.array([0]), coins)
    place = [at for at in range(3) if not fewer["words"][0, at].any()]
    assert len(place) == 1
    kept = [at for at in range(3) if at not in place]
    for name in whole:
        assert torch.equal(whole[name][0, kept], fewer[name][0, kept]) and torch.isfinite(fewer[name]).all()


def test_what_a_report_says_is_learnt_from_the_image_alone() -> None:
    """A bright upper or lower half, and one of two words for it: the image's features tell which after a few steps."""
    data = PairData(kind="pair", image=ImageForm(height=8, width=8), text=TextForm(words=2, codes=1, buckets=16))
    rng = np.random.default_rng(1)
    side = rng.integers(0, 2, 64)
    pixels = rng.normal(0.0, 0.5, (64, 8, 8)).astype(np.float32)
    pixels[side == 0, :4] += 1.0
    pixels[side == 1, 4:] += 1.0
    codes = np.stack([np.where(side == 0, 3, 9), np.full(64, 5)], axis=1).astype(np.float32)
    records = np.hstack([pixels.reshape(64, 64), codes])
    patients = group([f"p{number:02d}" for number in range(64)], records)
    torch.manual_seed(0)
    model = CaptionModel(data, TwoTower(data, size="nano", patch=4, joint=8), how=SAME)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    coins = rng.random((64, model.coins))
    views = model.draw(patients, np.arange(64), coins)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.losses(views).mean()
        loss.backward()
        optimizer.step()
    # Each report has one sure word and one of two: without the image half of its words cost log 2 more.
    bound = -np.log(0.5)
    assert loss.item() < bound + 0.2
    blind = records.copy()
    blind[:, :64] = records[0, :64]
    with torch.no_grad():
        shown = model.draw(group(list(patients.units), blind), np.arange(64), coins)
        assert model.losses(shown).mean().item() > loss.item() + 0.2


def test_parts_of_a_record_enter_as_they_are(caption_task: Any) -> None:
    records = caption_task.patients.records
    pixels, codes, pairs = parted(records, caption_task.model.data)
    bad = np.repeat([unit in caption_task.bad for unit in caption_task.patients.units], caption_task.patients.counts())
    np.testing.assert_array_equal(pairs, ~bad)
    np.testing.assert_array_equal(pixels[pairs], records[pairs, : pixels.shape[1]])
    np.testing.assert_array_equal(codes[pairs].reshape(pairs.sum(), -1), records[pairs, pixels.shape[1] :])
    assert not pixels[~pairs].any() and (codes[~pairs] == -1).all()
