"""Step 3 of 12: what masked autoencoding predicts of a hidden patch, a function of that patch alone.

Comes in: patches float32 [..., E], of a signal one channel each. Goes out: float32 [..., E] normalised values, or float32
[..., E // 2] log power. Nothing is said of values that are not finite, so that no warning depends on a record.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_EPSILON = 1e-6
_LEAST_POWER = 1e-2


def normalised(squares: Tensor) -> Tensor:
    """Patches [..., E] with mean 0 and variance 1 each, float32: (x - mean) / sqrt(var + 1e-6), in float64.

    var divides by E - 1, as the code of He et al., "Masked Autoencoders ..." (CVPR 2022), does.
    """
    wide = squares.double()
    centred = wide - wide.mean(dim=-1, keepdim=True)
    variance = centred.square().sum(dim=-1, keepdim=True) / (squares.shape[-1] - 1)
    return (centred / (variance + _EPSILON).sqrt()).float()


def log_power(pieces: Tensor) -> Tensor:
    """Pieces [..., E] to ln(0.01 + |F_f|^2 / E), float32 [..., E // 2], f = 1 .. E // 2, F the Fourier sum around the mean.

    A feature in place of the values, as in Wei et al., "Masked Feature Prediction for Self-Supervised Visual Pre-Training"
    (CVPR 2022), section 3. Power in squared units of `typical`; below 0.01 it hardly counts.
    """
    wide = pieces.double()
    centred = (wide - wide.mean(dim=-1, keepdim=True)).numpy()
    # numpy takes one piece after the other: how a piece is rounded depends on no other piece.
    with np.errstate(all="ignore"):
        found = torch.from_numpy(np.fft.rfft(centred, axis=-1)[..., 1:])
    power = (found.real.square() + found.imag.square()) / pieces.shape[-1]
    target: Tensor = (_LEAST_POWER + power).log().float()
    return target
