"""Label draws hold two of each class where the pool has them, are distinct patients, and repeat by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import DataError
from ssl_core.evaluation.draws import draw_labels


def pool(seed: int, size: int = 800, groups: int = 10) -> np.ndarray:
    """Prevalences .03 to .32, as in the demo and rarer."""
    rng = np.random.default_rng(seed)
    return (rng.random((size, groups)) < rng.uniform(0.03, 0.32, groups)).astype(np.int8)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), budget=st.sampled_from([20, 50, 200]))
def test_two_positives_and_negatives_of_every_group(seed: int, budget: int) -> None:
    labels = pool(seed)
    draws = draw_labels(labels, budget, count=3, seed=seed)
    assert draws.index.shape == (3, budget) and draws.short == ()
    for index in draws.index:
        assert len(set(index.tolist())) == budget
        assert labels[index].sum(axis=0).min() >= 2
        assert (1 - labels[index]).sum(axis=0).min() >= 2


def test_of_labels_of_records_patients_are_drawn_who_hold_what_any_record_of_theirs_does() -> None:
    labels = pool(2, size=900, groups=3)
    owners = np.random.default_rng(3).integers(0, 200, 900)
    owners[:200] = np.arange(200)
    draws = draw_labels(labels, 20, count=4, seed=1, owners=owners)
    assert draws.index.shape == (4, 20) and draws.index.max() < 200
    for index in draws.index:
        held = np.isin(owners, index)
        for value in (0, 1):
            assert all(len(set(owners[held & (labels[:, k] == value)])) >= 2 for k in range(3))
    alone = draw_labels(labels, 20, count=4, seed=1)
    assert np.array_equal(draw_labels(labels, 20, count=4, seed=1, owners=np.arange(900)).index, alone.index)
    with pytest.raises(DataError, match="budget"):
        draw_labels(labels, 201, count=1, seed=0, owners=owners)


def test_a_group_that_the_pool_lacks_gives_what_exists_and_is_named() -> None:
    labels = pool(1, groups=4)
    labels[:, 1] = 0
    labels[7, 1] = 1
    labels[:, 3] = 1
    draws = draw_labels(labels, 20, count=5, seed=0)
    assert draws.short == (1, 3)
    assert (draws.index == 7).any(axis=1).all()


def test_draws_repeat_by_seed_and_differ_between_seeds_and_draws() -> None:
    labels = pool(2)
    first, again, other = (draw_labels(labels, 50, count=4, seed=seed).index for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({tuple(sorted(row)) for row in first.tolist()}) == 4


def test_common_groups_are_sampled_evenly() -> None:
    labels = np.tile(np.array([[0], [1]], np.int8), (50, 1))
    times = np.bincount(draw_labels(labels, 20, count=400, seed=0).index.ravel(), minlength=100)
    # 400 draws of 20 among 100: mean 80, standard deviation 8.
    assert times.min() > 40 and times.max() < 120


@pytest.mark.parametrize("budget", [0, 1, 801])
def test_budgets_that_do_not_fit_are_refused(budget: int) -> None:
    with pytest.raises(DataError, match="budget"):
        draw_labels(pool(1), budget, count=1, seed=0)
