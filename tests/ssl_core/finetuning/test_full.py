"""Training many draws at once is training each alone; encoding many parameter sets at once is `embed` of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_core.data.labels import read_labels
from ssl_core.data.patients import Patients
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import DataError
from ssl_core.finetuning import full
from ssl_core.finetuning.batched import encode, prepare, stack
from ssl_core.finetuning.full import FROM_PRETRAINED, FROM_SCRATCH, TuneSettings, fit_full
from ssl_core.objectives.build import build_model


@pytest.fixture
def task(kind: str, tmp_path: Path, small: Any) -> tuple[Encoder, Patients, np.ndarray]:
    source, labels = small.write_site(tmp_path, kind, patients=60, seed=1)
    plan = small.make_plan(kind)
    patients = load_patients(read_source(source), plan.data)
    index, values = read_labels(labels).align(patients)
    return build_model(plan).encoder, patients.take(index), values


def test_encode_is_embed(task: tuple[Encoder, Patients, np.ndarray]) -> None:
    encoder, patients, _ = task
    inputs = prepare(encoder, patients.records)
    features = encode(encoder, stack(encoder, 3), inputs.expand(3, -1, -1))
    assert features.shape == (3, len(patients.records), encoder.feature_width)
    for own in features:
        torch.testing.assert_close(own, encoder.embed(patients.records), rtol=1e-5, atol=1e-6)


def test_draws_do_not_touch_each_other(task: tuple[Encoder, Patients, np.ndarray]) -> None:
    encoder, patients, labels = task
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(len(patients))[:20] for _ in range(3)])
    settings = TuneSettings(rate=0.05, shrink=0.01, steps=8)
    inputs = prepare(encoder, patients.records)
    together = fit_full(encoder, patients, index, labels, exclusive=False, settings=settings).scores(patients, inputs)
    for draw in range(3):
        alone = fit_full(encoder, patients, index[draw : draw + 1], labels, exclusive=False, settings=settings)
        np.testing.assert_allclose(alone.scores(patients, inputs)[0], together[draw], rtol=1e-3, atol=1e-4)


def test_other_patients_labels_do_not_matter(task: tuple[Encoder, Patients, np.ndarray]) -> None:
    encoder, patients, labels = task
    index = np.arange(20, dtype=np.int64)[None]
    changed = labels.copy()
    changed[20:] = 1 - changed[20:]
    one, other = (
        fit_full(encoder, patients, index, given, exclusive=False, settings=FROM_PRETRAINED).weight
        for given in (labels, changed)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("settings", [FROM_SCRATCH, FROM_PRETRAINED])
def test_it_learns_and_leaves_the_encoder_as_it_was(task: tuple[Encoder, Patients, np.ndarray], settings: TuneSettings) -> None:
    from ssl_core.evaluation.auroc import macro_auroc

    encoder, patients, labels = task
    before = to_vector(encoder)
    index = np.arange(40, dtype=np.int64)[None]
    tuned = fit_full(encoder, patients, index, labels, exclusive=False, settings=settings)
    scores = tuned.scores(patients, prepare(encoder, patients.records))[0]
    assert macro_auroc(scores[40:], labels[40:]) > 0.85
    np.testing.assert_array_equal(before, to_vector(encoder))


def test_exclusive_classes_use_softmax(task: tuple[Encoder, Patients, np.ndarray]) -> None:
    encoder, patients, labels = task
    kinds = labels[:, 0] + labels[:, 1]
    classes = np.eye(3, dtype=np.int8)[kinds]
    index = np.arange(40, dtype=np.int64)[None]
    tuned = fit_full(encoder, patients, index, classes, exclusive=True, settings=FROM_PRETRAINED)
    scores = tuned.scores(patients, prepare(encoder, patients.records))[0]
    assert (scores[:40].argmax(axis=1) == kinds[:40]).mean() > 0.8


def test_losses_are_torchs_own_summed_over_draws() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 1]])
    targets = torch.nn.functional.one_hot(classes, 3).float()
    expected = sum(torch.nn.functional.cross_entropy(logits[d], classes[d]) for d in range(2))
    torch.testing.assert_close(full._loss(logits, targets, True), expected)
    expected = sum(torch.nn.functional.binary_cross_entropy_with_logits(logits[d], targets[d]) for d in range(2))
    torch.testing.assert_close(full._loss(logits, targets, False), expected)


def test_labels_that_do_not_fit_are_refused(task: tuple[Encoder, Patients, np.ndarray]) -> None:
    encoder, patients, labels = task
    with pytest.raises(DataError, match="do not fit"):
        fit_full(encoder, patients, np.zeros((1, 2), np.int64), labels[:-1], exclusive=False, settings=FROM_PRETRAINED)
