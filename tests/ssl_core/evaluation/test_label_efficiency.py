"""The table of arms, budgets and draws: shared draws, disjoint patients, honest intervals, an encoder's worth seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from ssl_core.data.patients import group
from ssl_core.data.words import encode
from ssl_core.encoders.base import Encoder
from ssl_core.encoders.hashed_words import HashedWords
from ssl_core.errors import DataError
from ssl_core.evaluation.floor import floor_data
from ssl_core.evaluation.label_efficiency import Arm, Labelled, label_efficiency, paired_difference
from ssl_core.spec.data import ImageData, TextData

DATA = TextData(kind="text", words=8, codes=2, buckets=64)


def side(name: str, count: int, seed: int) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < 0.3).astype(np.int8)
    words = [
        [f"finding{k}x{rng.integers(12)}" for k in np.flatnonzero(row)] + [f"filler{n}" for n in rng.integers(0, 50, 4)]
        for row in labels
    ]
    owners = [f"{name}{number:04d}" for number in range(count)]
    return Labelled(group(owners, encode(words, DATA)), group(owners, encode(words, floor_data(DATA))), labels)


def encoder(seed: int, *, knows: bool = False) -> HashedWords:
    """Random; or one whose table puts all words of a finding near each other."""
    torch.manual_seed(seed)
    made = HashedWords(DATA, 16)
    with torch.no_grad():
        made.table.normal_()
        if knows:
            for k in range(3):
                words = [[f"finding{k}x{n}"] for n in range(12)]
                codes = encode(words, DATA)[:, 0] + np.array([0, 64])
                direction = torch.zeros(16)
                direction[k] = 6.0
                columns = torch.from_numpy(np.unique(codes)).long()
                if made.table.shape[0] == 16:
                    made.table[:, columns] += direction[:, None]
                else:
                    made.table[columns] += direction
    return made


POOL, TEST = side("p", 120, 1), side("t", 150, 2)


def test_every_arm_budget_and_draw_is_there() -> None:
    encoders = {Arm.RANDOM: encoder(1), Arm.OWN: encoder(2), Arm.FEDERATED: encoder(3, knows=True)}
    found = label_efficiency(POOL, TEST, encoders, data=DATA, budgets=(20, 50, 200), draws=4)
    assert {(row.arm, row.budget) for row in found.rows} == {(arm, budget) for arm in Arm for budget in (20, 50)}
    assert found.left_out == (200,)
    assert all(len(row.auroc) == 4 and all(0 <= a <= 1 for a in row.auroc) for row in found.rows)
    at20 = {row.arm: np.mean(row.auroc) for row in found.rows if row.budget == 20}
    assert at20[Arm.FEDERATED] > at20[Arm.RANDOM] + 0.03
    assert at20[Arm.COMBINED] > at20[Arm.FLOOR] + 0.01
    assert at20[Arm.FEDERATED_TUNED] > at20[Arm.SCRATCH]


def test_the_same_encoder_scores_the_same_in_two_arms() -> None:
    same = encoder(1)
    found = label_efficiency(
        POOL, TEST, {Arm.RANDOM: same, Arm.OWN: same}, data=DATA, arms=(Arm.RANDOM, Arm.OWN), budgets=(20,), draws=3
    )
    assert found.rows[0].auroc == found.rows[1].auroc


def test_arms_without_an_encoder_are_left_out() -> None:
    found = label_efficiency(POOL, TEST, {}, data=DATA, budgets=(20,), draws=2)
    assert [row.arm for row in found.rows] == [Arm.FLOOR]


class Products(Encoder):
    """Of each two numbers of a record their product, which no linear model on the record knows."""

    feature_width = 3

    def forward(self, records: Any) -> torch.Tensor:
        return records[..., 0:6:2] * records[..., 1:6:2]

    def embed(self, records: Any) -> torch.Tensor:
        return self(torch.from_numpy(np.asarray(records, np.float32)))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_encoder_counts_beside_raw_records_of_any_size(size: float) -> None:
    data = ImageData(kind="image", height=8, width=8)

    def drawn(name: str, count: int, seed: int) -> Labelled:
        records = np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)
        labels = (records[:, 0:6:2] * records[:, 1:6:2] > 0).astype(np.int8)
        owners = [f"{name}{number:04d}" for number in range(count)]
        return Labelled(group(owners, records), group(owners, records * np.float32(size)), labels)

    found = label_efficiency(
        drawn("p", 120, 1), drawn("t", 150, 2), {Arm.FEDERATED: Products()}, data=data, arms=(Arm.FLOOR, Arm.COMBINED),
        budgets=(50,), draws=4,
    )  # fmt: skip
    scores = {row.arm: np.mean(row.auroc) for row in found.rows}
    assert scores[Arm.COMBINED] > scores[Arm.FLOOR] + 0.1


def test_labels_of_test_patients_are_never_trained_on() -> None:
    with pytest.raises(DataError, match="in the label pool and in the test set"):
        label_efficiency(POOL, POOL, {}, data=DATA, budgets=(20,), draws=2)


def test_paired_interval_is_the_t_tests() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.85, 0.02, 10), rng.normal(0.84, 0.02, 10)
    gap = paired_difference(first.tolist(), second.tolist())
    reference = ttest_rel(first, second).confidence_interval(0.95)
    assert gap.mean == pytest.approx(float(np.mean(first - second)))
    assert (gap.low, gap.high) == pytest.approx((reference.low, reference.high))
    with pytest.raises(DataError, match="paired"):
        paired_difference([0.5], [0.4])


def test_sides_must_be_the_same_patients() -> None:
    with pytest.raises(DataError, match="not the same patients"):
        Labelled(POOL.patients, TEST.raw, POOL.labels)
