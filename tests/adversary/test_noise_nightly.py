"""Row 28 without importance sampling: two thousand million plain draws, as the specification has it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ssl_core.privacy.noise import GaussianNoise

END = math.sqrt(48 * math.log(2))
DRAWS = 2_100_000_000
PART = 1 << 22


def beyond(draw):
    """How many of `DRAWS` draws lie beyond the end of 24-bit normals."""
    parts = [PART] * (DRAWS // PART) + [DRAWS % PART]
    return sum(int((draw(count).abs() > END).sum()) for count in parts)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_row_28_e_two_thousand_million_draws_pass_5_77_sigma_as_often_as_they_should():
    """16.9 are expected; none would have a chance of 5 10^-8. torch's own generator gives none."""
    expected = 2 * stats.norm.sf(END) * DRAWS
    source = GaussianNoise()
    found = beyond(lambda count: source.normal(count, 1.0))
    assert min(stats.poisson.cdf(found, expected), stats.poisson.sf(found - 1, expected)) > 1e-6
    assert beyond(lambda count: torch.normal(0.0, 1.0, (count,))) == 0
