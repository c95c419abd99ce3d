"""Noise from one coin: the generator against its published words and a plain one, the distribution, nothing shared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from ssl_core.objectives.coin_noise import gaussian

MASK = (1 << 64) - 1


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 in whole numbers: Salmon et al. (2011), section 3.3 and table 2."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & MASK, (first >> 64) ^ c3 ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


def test_the_plain_generator_gives_the_published_words() -> None:
    """Random123's kat_vectors: counter and key of zeros, and of ones."""
    assert philox((0, 0, 0, 0), (0, 0)) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip
    assert philox((MASK,) * 4, (MASK, MASK)) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    ]  # fmt: skip


@pytest.mark.parametrize("coin", [2.0**-53, 0.125, 0.3 + 2.0**-53, 1.0])
@pytest.mark.parametrize("count", [1, 7, 16, 21])
def test_noise_is_that_of_the_plain_generator(coin: float, count: int) -> None:
    words: list[int] = []
    for block in range(1, -(-count // 8) + 1):
        for word in philox((block, 0, 0, 0), (int(coin * 2**53), 0)):
            words += [word & 0xFFFFFFFF, word >> 32]
    expected = ndtri((np.array(words[:count]) + 0.5) / 2**32).astype(np.float32)
    assert np.array_equal(gaussian(np.array([coin]), count)[0], expected)


def test_noise_is_normal_finite_and_one_coin_has_nothing_to_do_with_another() -> None:
    coins = 1.0 - np.random.default_rng(4).random((6, 5))
    noise = gaussian(coins, 2000)
    assert noise.shape == (6, 5, 2000) and noise.dtype == np.float32 and np.abs(noise).max() < 6.4
    assert kstest(noise.ravel(), "norm").pvalue > 1e-6
    apart = noise.reshape(30, 2000)
    assert np.abs(np.corrcoef(apart) - np.eye(30)).max() < 6 / np.sqrt(2000)
    near = gaussian(np.array([0.5, 0.5 + 2.0**-53]), 2000)
    assert abs(np.corrcoef(near)[0, 1]) < 6 / np.sqrt(2000)


def test_noise_of_a_coin_is_the_same_beside_any_others() -> None:
    coins = 1.0 - np.random.default_rng(5).random(9)
    together = gaussian(coins, 50)
    for place, coin in enumerate(coins):
        assert np.array_equal(gaussian(np.array([[coin]]), 50)[0, 0], together[place])
        assert np.array_equal(gaussian(np.array([coin]), 20)[0], together[place, :20])
    assert gaussian(np.zeros((0, 3)), 4).shape == (0, 3, 4)
