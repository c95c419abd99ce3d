"""Row 34: one image back from what a server sees: a plain update, a secure sum, noise, and both.

The attack is the analytic one on a first linear layer: with a bias, dL/dW = outer(dL/db, x) for one image, so that
x = sum_k dL/db_k dL/dW_k / sum_k (dL/db_k)^2 (Phong et al., IEEE TIFS 2018, section 3; Geiping et al., NeurIPS 2020,
proposition 3.1). Gradients, clipping and noise are the product's, the sum goes through the real protocol.
"""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
import torch
from tests_federation import Federation, make_params, signed_view
from torch import Tensor, nn

from ssl_core.config import PrivacySpec, TrainingSpec
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.gradients import PerUnitGradients
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.optimizer import PrivateOptimizer

SIDE, HIDDEN, SITES = 8, 24, 4
SEEDS = range(7)
STEP = 2.0**-24
"""The grid on which updates are summed here; far finer than what is looked at."""


class Denoiser(nn.Module):
    """A small perceptron that predicts the image it sees: one unit's loss."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(SIDE * SIDE, HIDDEN), nn.Linear(HIDDEN, SIDE * SIDE)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def forward(self, views: dict[str, Tensor]) -> Tensor:
        seen = views["image"]
        return (self.last(torch.tanh(self.first(seen))) - seen).square().mean()


def image(seed: int) -> np.ndarray:
    """A smooth picture: two blobs on a slope, zero mean, unit variance."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    out = draw.normal() * rows + draw.normal() * columns
    for _ in range(2):
        at = draw.random(2)
        out = out + 2 * draw.choice([-1, 1]) * np.exp(-((rows - at[0]) ** 2 + (columns - at[1]) ** 2) / 0.05)
    return ((out - out.mean()) / out.std()).ravel().astype(np.float32)


def update_of(model: nn.Module, picture: np.ndarray, *, noise: bool, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What one step of private training on one image gives, float32 [P]; q N = 1, so that nothing is scaled down."""
    privacy = PrivacySpec(
        unit="patient", adjacency="add-or-remove-one", noise="site", sampling_rate=1.0, noise_multiplier=1.0,
        max_grad_norm=0.5, delta=1e-5,
    )  # fmt: skip
    descent = Descent(model, TrainingSpec(optimizer="sgd", learning_rate=1e-9), total_steps=1, state=None)
    optimizer = PrivateOptimizer(descent, privacy, nominal_size=1, noise=GaussianNoise())
    clipped = PerUnitGradients(model).clipped_sum({"image": torch.from_numpy(picture)[None]}, privacy.max_grad_norm)
    seen: list[np.ndarray] = []
    with monkeypatch.context() as patch:
        if not noise:
            patch.setattr(GaussianNoise, "normal", lambda self, count, scale: torch.zeros(count))
        optimizer.add(clipped)
        optimizer.release(0, seen.append)
    return seen[0]


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


def inverted(update: np.ndarray) -> np.ndarray:
    """The attack: gradients of the first layer -> an image."""
    weights = update[: HIDDEN * SIDE * SIDE].reshape(HIDDEN, SIDE * SIDE).astype(np.float64)
    biases = update[HIDDEN * SIDE * SIDE :][:HIDDEN].astype(np.float64)
    return biases @ weights / (biases @ biases)


def likeness(found: np.ndarray, picture: np.ndarray) -> float:
    """Correlation: 1 is the image up to brightness and contrast."""
    return float(np.corrcoef(found, picture)[0, 1])


@pytest.fixture(scope="module")
def found():
    """{arm: likeness for each seed}."""
    arms: dict[str, list[float]] = {"plain": [], "sum": [], "noise": [], "both": []}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for seed in SEEDS:
            pictures = [image(100 * seed + site) for site in range(SITES)]
            model = Denoiser(seed)
            plain = [update_of(model, picture, noise=False, monkeypatch=monkeypatch) for picture in pictures]
            noisy = [update_of(model, picture, noise=True, monkeypatch=monkeypatch) for picture in pictures]
            for arm, update in (("plain", plain[0]), ("sum", summed(plain)), ("noise", noisy[0]), ("both", summed(noisy))):
                arms[arm].append(likeness(inverted(update), pictures[0]))
    return arms


def test_row_34_inversion_is_exact_on_a_plain_update_weaker_on_a_sum_and_finds_noise_under_noise(found):
    """Medians over the seeds, and every seed of the first arm: the ordering is no accident of one image."""
    middle = {arm: median(map(abs, values)) for arm, values in found.items()}
    assert min(found["plain"]) > 0.999, "one patient's image, to the pixel"
    assert 0.3 < middle["sum"] < 0.95, "a blend in which the image can be seen: a sum alone is not a guarantee"
    assert middle["noise"] < 0.3 and middle["both"] < 0.3
    assert middle["plain"] > middle["sum"] > max(middle["noise"], middle["both"])


def test_row_34_b_without_the_noise_in_the_noisy_arms_the_image_comes_back(found, monkeypatch):
    """Control: the fourth arm fails for the attacker because of the noise, not because of the harness."""
    model, picture = Denoiser(0), image(0)
    quiet = update_of(model, picture, noise=False, monkeypatch=monkeypatch)
    nothing = [np.zeros_like(quiet)] * (SITES - 1)
    assert likeness(inverted(summed([quiet, *nothing])), picture) > 0.999, "a sum of one is no sum"
    loud = update_of(model, picture, noise=True, monkeypatch=monkeypatch)
    assert abs(likeness(inverted(summed([loud, *nothing])), picture)) < 0.7
