"""Steps 2 to 5 of 12: the device and the threads that a site computes on, for training and for the check before it alike.

Comes in: the site's `SpeedSpec`. Goes out: a torch device, or `ConfigError` where the machine has none such. Nothing
here changes what is released in distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssl_core.config import SpeedSpec
from ssl_core.errors import ConfigError


def training_device(speed: SpeedSpec) -> torch.device:
    """The device that `speed` names."""
    if speed.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is there", field="speed.device", value="cuda", remedy='set device = "cpu"')
    return torch.device(speed.device)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with `count` threads inside, as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
