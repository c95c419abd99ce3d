from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests_engines import without_patient

from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.privacy.sampling import batches, draw_coins, group_count, poisson_sample
from ssl_core.trust.random import UnitCoins, unit_tag


def _tags(count: int) -> np.ndarray:
    return np.frombuffer(b"".join(unit_tag(f"unit {i}") for i in range(count)), np.uint8).reshape(count, 16)


def test_each_unit_enters_by_its_own_coin_with_the_public_chance(patients: Patients) -> None:
    tags, rate, steps = _tags(400), 0.1, 500
    times = np.zeros(400)
    sizes = []
    for _ in range(steps):
        index = poisson_sample(tags, rate, UnitCoins.fresh())
        times[index] += 1
        sizes.append(len(index))
    # Per unit: binomial(steps, rate), so this is chi-square with 400 degrees of freedom.
    statistic = ((times - steps * rate) ** 2 / (steps * rate * (1 - rate))).sum()
    assert stats.chi2.sf(statistic, 400) > 1e-7 and stats.chi2.cdf(statistic, 400) > 1e-7
    # The size of a sample varies as a binomial does: no fixed batch size, no permutation.
    assert 0.7 < np.var(sizes) / (400 * rate * (1 - rate)) < 1.4
    # A function of step and unit alone, whoever else is there.
    coins = UnitCoins.fresh()
    everyone = poisson_sample(patients.tags, 0.5, coins)
    for place in (0, 7, 39):
        fewer = without_patient(patients, place)
        sampled = {fewer.units[i] for i in poisson_sample(fewer.tags, 0.5, coins)}
        assert sampled == {patients.units[i] for i in everyone} - {patients.units[place]}
    whole = draw_coins(patients.tags, coins, 5)
    assert np.array_equal(draw_coins(patients.tags[3:9], coins, 5), whole[3:9])
    assert not np.array_equal(whole[:, :1], coins.uniform(patients.tags, "sample", 1))


def test_coins_that_are_not_exactly_ours_are_refused() -> None:
    class Known(UnitCoins):
        def uniform(self, tags: np.ndarray, label: str, count: int) -> np.ndarray:
            return np.full((len(tags), count), 0.5)

    class Alike:
        uniform = Known.uniform

    ours = UnitCoins.fresh()
    for coins in (Known.fresh(), Alike(), None, np.random.default_rng(0)):
        with pytest.raises(PrivacyError, match="coins are not ours"):
            poisson_sample(_tags(3), 0.5, coins)
    with pytest.raises(AttributeError):
        ours.uniform = Known.uniform


def test_steps_are_independent_and_bounds_hold() -> None:
    tags = _tags(300)
    first, second = (poisson_sample(tags, 0.5, UnitCoins.fresh()) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(poisson_sample(tags, 1.0, UnitCoins.fresh()), np.arange(300))
    empty = poisson_sample(tags, 1e-12, UnitCoins.fresh())
    assert empty.dtype == np.int64 and empty.shape == (0,)
    assert poisson_sample(_tags(0), 0.5, UnitCoins.fresh()).shape == (0,)
    for rate in (0.0, 1.1, float("nan")):
        with pytest.raises(PrivacyError, match="sampling_rate"):
            poisson_sample(tags, rate, UnitCoins.fresh())


def test_a_large_sample_is_split_not_truncated() -> None:
    index, tags, coins = np.arange(7, 607, 3, dtype=np.int64), _tags(200), UnitCoins.fresh()
    (one,) = batches(index, tags, coins, groups=1, size=200)
    assert np.array_equal(one, index)
    assert [len(part) for part in batches(index, tags, coins, groups=1, size=64)] == [64, 64, 64, 8]
    parts = list(batches(index, tags, coins, groups=13, size=10))
    assert len(parts) > 13 and max(len(part) for part in parts) <= 10
    assert np.array_equal(np.sort(np.concatenate(parts)), index)
    assert list(batches(index[:0], tags[:0], coins, groups=3, size=5)) == []


def test_a_patient_who_leaves_changes_one_group_and_no_other() -> None:
    index, tags, coins = np.arange(500), _tags(500), UnitCoins.fresh()
    whole = [part.tolist() for part in batches(index, tags, coins, groups=20, size=500)]
    for gone in (0, 250, 499):
        rest = np.delete(index, gone)
        left = [part.tolist() for part in batches(rest, tags[rest], coins, groups=20, size=500)]
        assert left == [[unit for unit in part if unit != gone] for part in whole]


def test_groups_are_even_and_few_are_split() -> None:
    rate, nominal, size = 0.1, 20000, 64
    groups = group_count(rate, nominal, size)
    assert groups == 40 and group_count(0.001, 100, 64) == 1
    sizes = []
    for _ in range(20):
        coins = UnitCoins.fresh()
        sizes += [len(part) for part in batches(np.arange(2000), _tags(2000), coins, groups=groups, size=10**6)]
    assert stats.chisquare(np.asarray(sizes)).pvalue > 1e-6
    assert np.mean(np.asarray(sizes) > size) < 0.1
