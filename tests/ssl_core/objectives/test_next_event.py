"""Next event: what is read and predicted, the loss against plain numpy, no look ahead, and that it learns both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tests_transformer import learn, linear, named_weights, randomise, transformer

from ssl_core.data.patients import Patients, group
from ssl_core.objectives.next_event import NextEventModel
from ssl_core.spec.data import EventData

DATA = EventData(kind="events", vocabulary=tuple("abcde"), events=7, gap_hours=(1.0, 24.0), records_per_patient=2)


def patients() -> Patients:
    rng = np.random.default_rng(3)
    records = rng.integers(0, (DATA.codes, DATA.gaps), (12, *DATA.shape)).astype(np.int32)
    records[:, 0, 1] = 0
    for row, length in enumerate([7, 2, 1, 0, 5, 3, 7, 4, 6, 2, 1, 7]):
        records[row, length:] = -1
    return group([f"p{n % 6}" for n in range(12)], records)


def test_the_loss_agrees_with_numpy_where_an_event_sees_its_past_alone() -> None:
    """Each prediction is made from a record that ends there: nothing later exists for it."""
    model = randomise(NextEventModel(DATA, size="nano"))
    named, units = named_weights(model), patients()
    views = model.draw(units, np.arange(len(units)), np.full((len(units), 1), 0.5))
    losses = model.losses(views)
    for unit in range(len(units)):
        codes = views["rows"][unit].numpy().reshape(2, DATA.events, 2)
        real = views["real"][unit].numpy().reshape(2, DATA.events).astype(bool)
        expected = []
        for record in range(2):
            rows = codes[record][real[record]]
            found = []
            for end in range(1, len(rows)):
                x = np.stack([named["encoder.table.weight"][row].sum(axis=0) for row in rows[:end]])
                x = x + named["encoder.places.weight"][:end]
                out = linear(named, "head", transformer(named, "encoder.trunk", x, depth=2, heads=2, causal=True)[-1])
                code, gap = rows[end][0], rows[end][1] - DATA.codes - 1
                found.append(-log_softmax(out[: DATA.codes])[code] - log_softmax(out[DATA.codes :])[gap])
            expected.append(np.mean(found) if found else 0.0)
        assert losses[unit].item() == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)
    assert (losses != 0).sum() >= 4


def test_codes_gaps_and_absent_events_have_rows_of_their_own() -> None:
    model = NextEventModel(DATA, size="nano")
    records = np.array([[[0, 0], [5, 3], [2, 1], *[[-1, -1]] * 4]], np.int32)
    rows = model.encoder.prepare(records).numpy().reshape(7, 2)
    assert rows.tolist() == [[0, 7], [5, 10], [2, 8], *[[6, 7]] * 4]
    assert model.encoder.table.num_embeddings == 11 == rows.max() + 1
    assert model.head.out_features == 6 + 4


@pytest.mark.parametrize("changed", [1, 3, 6])
@pytest.mark.parametrize("part", [0, 1])
def test_a_later_event_changes_no_bit_of_an_earlier_prediction(changed: int, part: int) -> None:
    data = DATA.model_copy(update={"records_per_patient": 1})
    model = randomise(NextEventModel(data, size="nano"))
    records = np.random.default_rng(2).integers(0, 4, (1, 7, 2)).astype(np.int32)
    other = records.copy()
    other[0, changed, part] = (other[0, changed, part] + 1) % 4
    one, two = (
        torch.cat(model.log_chances(model.draw(group(["p"], each), np.array([0]), np.array([[1.0]]))), dim=-1)
        for each in (records, other)
    )
    assert torch.equal(one[:, :changed], two[:, :changed])
    assert changed == 6 or (one[:, changed:] != two[:, changed:]).any(dim=-1).all()
    torch.testing.assert_close(one.exp().sum(dim=-1), torch.full((1, 6), 2.0))


def test_a_record_of_padding_is_a_finite_feature_and_no_gradient() -> None:
    model = randomise(NextEventModel(DATA, size="nano"))
    units = group(["p"], np.full((1, 7, 2), -1, np.int32))
    loss = model.losses(model.draw(units, np.array([0]), np.array([[0.5]]))).sum()
    loss.backward()
    assert loss.item() == 0.0 and all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert not model.encoder.embed(units.records).isnan().any()


def test_it_learns_what_follows_and_when() -> None:
    """Each code is the one before it plus 1 and its gap the code's parity; guessing has log 6 + log 4 = 3.18 at the start."""
    rng = np.random.default_rng(5)
    codes = (rng.integers(0, 5, (256, 1)) + np.arange(7)) % 5
    records = np.stack([codes, 1 + codes % 2], axis=2).astype(np.int32)
    records[:, 0, 1] = 0
    losses = learn(NextEventModel(DATA, size="nano"), group([f"p{n:03d}" for n in range(256)], records), rng, 100)
    assert losses[0] > 2.8 and np.mean(losses[-10:]) < 0.3
