"""Row 34: one image back from what a server sees: a plain update, a secure sum, noise, and both.

The attack, the pictures and what a step releases are those of `choral audit` (ssl_core/audit/inversion.py), with smaller
pictures; here the sum goes through the real protocol.
"""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from tests_federation import Federation, make_params, signed_view

from ssl_core.audit.inversion import SITES, Denoiser, invert, noised_update, picture, plain_update

SIDE = 8
SEEDS = range(7)
STEP = 2.0**-24
"""The grid on which updates are summed here; far finer than what is looked at."""


def summed(updates: list[np.ndarray]) -> np.ndarray:
    """The sum of the sites' updates, by the real protocol."""
    params = make_params(SITES, dimension=len(updates[0]))
    federation = Federation(params)
    weights = [member.weight for member in params.members]
    given = {
        name: np.rint(update / STEP / weight).astype(np.float32)
        for name, update, weight in zip(federation.names, updates, weights, strict=True)
    }
    total = federation.run(1, given)
    assert signed_view(total) == federation.expected(given, federation.names)
    return np.array(signed_view(total)) * STEP


def likeness(found: np.ndarray, picture: np.ndarray) -> float:
    """Correlation: 1 is the image up to brightness and contrast."""
    return float(np.corrcoef(found, picture)[0, 1])


@pytest.fixture(scope="module")
def found():
    """{arm: likeness for each seed}."""
    arms: dict[str, list[float]] = {"plain": [], "sum": [], "noise": [], "both": []}
    for seed in SEEDS:
        pictures = [picture(100 * seed + site, SIDE) for site in range(SITES)]
        model = Denoiser(seed, SIDE)
        plain = [plain_update(model, image) for image in pictures]
        noisy = [noised_update(model, image) for image in pictures]
        for arm, update in (("plain", plain[0]), ("sum", summed(plain)), ("noise", noisy[0]), ("both", summed(noisy))):
            arms[arm].append(likeness(invert(update, SIDE), pictures[0]))
    return arms


def test_row_34_inversion_is_exact_on_a_plain_update_weaker_on_a_sum_and_finds_noise_under_noise(found):
    """Medians over the seeds, and every seed of the first arm: the ordering is no accident of one image."""
    middle = {arm: median(map(abs, values)) for arm, values in found.items()}
    assert min(found["plain"]) > 0.999, "one patient's image, to the pixel"
    assert 0.3 < middle["sum"] < 0.95, "a blend in which the image can be seen: a sum alone is not a guarantee"
    assert middle["noise"] < 0.3 and middle["both"] < 0.3
    assert middle["plain"] > middle["sum"] > max(middle["noise"], middle["both"])


def test_row_34_b_without_the_noise_in_the_noisy_arms_the_image_comes_back(found):
    """Control: the fourth arm fails for the attacker because of the noise, not because of the harness."""
    model, image = Denoiser(0, SIDE), picture(0, SIDE)
    quiet = plain_update(model, image)
    nothing = [np.zeros_like(quiet)] * (SITES - 1)
    assert likeness(invert(summed([quiet, *nothing]), SIDE), image) > 0.999, "a sum of one is no sum"
    loud = noised_update(model, image)
    assert abs(likeness(invert(summed([loud, *nothing]), SIDE), image)) < 0.7
