"""Audit 4: one patient's picture back from what a server sees: a plain update, a sum of sites, noise, and both.

The attack is the analytic one on a first linear layer with a bias: dL/dW = outer(dL/db, x) for one picture, so that
x = sum_k dL/db_k dL/dW_k / sum_k (dL/db_k)^2 (Phong et al., IEEE TIFS 2018, section 3; Geiping et al., NeurIPS 2020,
proposition 3.1). Each site trains one step on one picture, the best case for the attacker.

plain    the clipped gradient as it is before noise: what a federation without privacy sends
summed   the sum of `SITES` plain updates, on the grid and in the ring of the secure sum; masks cancel in it, and
         tests/adversary/test_inversion.py runs the same attack through the whole protocol
noised   what the product's optimizer releases: the same gradient with sigma = 1
both     the sum of noised updates: what a server of the product sees

Pictures are standardised as the product's are, so the attacker standardises what he finds.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.audit.similarity import Picture, psnr, ssim
from ssl_core.config import PrivacySpec, TrainingSpec
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients, reach_of
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.privacy.optimizer import PrivateOptimizer
from ssl_core.secure_sum.ring import decode_mean, encode_update
from ssl_core.trust.identity import Secret

Vector = npt.NDArray[np.float32]
Arm = Literal["plain", "summed", "noised", "both"]

ARMS: tuple[Arm, ...] = get_args(Arm)
SIDE, HIDDEN, SITES, SEEDS = 24, 24, 4, 5
PRIVACY = PrivacySpec(
    unit="patient", adjacency="add-or-remove-one", noise="site", sampling_rate=1.0, noise_multiplier=1.0,
    max_grad_norm=0.5, delta=1e-5,
)  # fmt: skip
_RANGE = 16.0
"""Of the ring: beyond any noised coordinate here."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One picture [side, side], what came back in each arm, and how like it is."""

    true: Picture
    found: dict[Arm, Picture]
    psnr: dict[Arm, float]
    ssim: dict[Arm, float]


class Denoiser(nn.Module):
    """A small perceptron that predicts the picture it sees: one unit's loss."""

    def __init__(self, seed: int, side: int = SIDE) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(side * side, HIDDEN), nn.Linear(HIDDEN, side * side)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def forward(self, views: dict[str, Tensor]) -> Tensor:
        """Mean squared error of one picture, float32 scalar."""
        seen = views["image"]
        error: Tensor = (self.last(torch.tanh(self.first(seen))) - seen).square().mean()
        return error


def picture(seed: int, side: int = SIDE) -> Vector:
    """A smooth picture, float32 [side * side]: two blobs on a slope, zero mean, unit variance."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    out = draw.normal() * rows + draw.normal() * columns
    for _ in range(2):
        at = draw.random(2)
        out = out + 2 * draw.choice([-1, 1]) * np.exp(-((rows - at[0]) ** 2 + (columns - at[1]) ** 2) / 0.05)
    standard: Vector = ((out - out.mean()) / out.std()).ravel().astype(np.float32)
    return standard


def plain_update(model: nn.Module, image: Vector) -> Vector:
    """The clipped gradient of one picture without noise, float32 [P]."""
    total = _clipped(model, image)
    flat: Vector = torch.cat([part.reshape(-1) for part in total.grads]).to(torch.float32).numpy()
    return flat


def noised_update(model: nn.Module, image: Vector) -> Vector:
    """What one private step on one picture releases, float32 [P]; q N = 1, so that nothing is scaled down."""
    descent = Descent(model, TrainingSpec(optimizer="sgd", learning_rate=1e-9), total_steps=1, state=None)
    optimizer = PrivateOptimizer(descent, PRIVACY, nominal_size=1, noise=GaussianNoise(), reach=reach_of(model))
    optimizer.add(_clipped(model, image))
    seen: list[Vector] = []
    optimizer.release(0, seen.append)
    return seen[0]


def _clipped(model: nn.Module, image: Vector) -> ClippedSum:
    return PerUnitGradients(model).clipped_sum({"image": torch.from_numpy(image)[None]}, PRIVACY.max_grad_norm)


def summed(updates: list[Vector]) -> npt.NDArray[np.float64]:
    """Mean of the updates as a server decodes it from the ring's sum, float64 [P]."""
    levels = (2**31 - 1) // len(updates)
    total = np.zeros(len(updates[0]), np.uint32)
    for update in updates:
        total += encode_update(update, update_range=_RANGE, levels=levels, weight=1, key=Secret(secrets.token_bytes(32)))
    return decode_mean(total, update_range=_RANGE, levels=levels, weight=len(updates))


def invert(update: npt.NDArray[np.floating], side: int = SIDE) -> npt.NDArray[np.float64]:
    """The attack: gradients of the first layer [HIDDEN * side^2 weights, HIDDEN biases, ...] -> float64 [side^2]."""
    weights = update[: HIDDEN * side * side].reshape(HIDDEN, side * side).astype(np.float64)
    biases = update[HIDDEN * side * side :][:HIDDEN].astype(np.float64)
    found: npt.NDArray[np.float64] = biases @ weights / (biases @ biases)
    return found


def run_inversion() -> tuple[Trial, ...]:
    """`SEEDS` pictures, models and rounds."""
    return tuple(_trial(seed) for seed in range(SEEDS))


def _trial(seed: int) -> Trial:
    images = [picture(100 * seed + site) for site in range(SITES)]
    model = Denoiser(seed)
    plain = [plain_update(model, image) for image in images]
    noised = [noised_update(model, image) for image in images]
    seen: dict[Arm, npt.NDArray[np.floating]] = {
        "plain": plain[0],
        "summed": summed(plain),
        "noised": noised[0],
        "both": summed(noised),
    }
    true = images[0].astype(np.float64).reshape(SIDE, SIDE)
    span = float(true.max() - true.min())
    found = {arm: _standardised(invert(update)).reshape(SIDE, SIDE) for arm, update in seen.items()}
    return Trial(
        true=true,
        found=found,
        psnr={arm: psnr(image, true, span=span) for arm, image in found.items()},
        ssim={arm: ssim(image, true, span=span) for arm, image in found.items()},
    )


def _standardised(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    standard: npt.NDArray[np.float64] = (image - image.mean()) / image.std()
    return standard
