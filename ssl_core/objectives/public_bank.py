"""Step 3 of 12: the bank: made-up records of nobody, looked at once each, that tasks compare a patient's records with.

Comes in: what a study says of its images or signals, and three constants of its plan: how many, the seed, how a look may
differ. Goes out: float32 [bank, V], as `shown` of looks.py, read-only, the same array for the same constants; and `embedded`,
what modules make of it, float32 [bank, d], without a gradient. Records of ssl_core/procedural; every one is seen through one
look, as a patient's are, so that noise and gain do not tell which is which. The coins of these looks come from the public seed:
there is nobody to protect. Who changes what a generator makes raises `bank_version` of spec/looks.py.

Trap (private-ssl notes, section 2.2): a bank that goes through the weights in training, in one pass with the patients' looks,
collects gradients of all patients in its rows, and no clip bounds them. So it is embedded here, before the round's first step,
at released weights. Same seed, same bytes on one machine; elsewhere the last bits may differ (sin, exp, FFT), which moves a
site's loss by as much, and no privacy: the bank is public either way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.procedural.images import procedural_images
from ssl_core.procedural.signals import procedural_signals
from ssl_core.spec.data import ImageData, SignalData

_CHUNK = 128


@lru_cache(maxsize=4)
def public_bank(data: ImageData | SignalData, count: int, seed: int, how: Augmentation) -> npt.NDArray[np.float32]:
    """float32 [count, V]; `ConfigError` for signals too slow or too short to make (procedural/signals.py)."""
    made = (
        procedural_images(seed, count, data) if isinstance(data, ImageData) else procedural_signals(seed, count, data).records
    )
    coins = 1.0 - np.random.default_rng([seed, count]).random((count, COINS))
    looked = augmented(made, coins, data, how)
    looked.flags.writeable = False
    return looked


def embedded(bank: npt.NDArray[np.float32], by: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """What `by` makes of the bank, a part at a time, float32 [bank, d] on `device`, outside every graph."""
    with torch.no_grad():
        parts = [by(torch.from_numpy(bank[begin : begin + _CHUNK].copy()).to(device)) for begin in range(0, len(bank), _CHUNK)]
    return torch.cat(parts).float()
