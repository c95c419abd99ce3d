"""Steps 2 to 5 of 12: the device and the threads that a site computes on, for training and for the check before it alike.

Comes in: the site's `SpeedSpec`. Goes out: a torch device, or `ConfigError` where the machine has none such. Nothing
here changes what is released in distribution.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssl_core.config import SpeedSpec
from ssl_core.errors import ConfigError

# mallopt's parameters, glibc malloc.h; 32 MiB is the greatest threshold that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_THRESHOLD, _NEVER = 32 << 20, (1 << 31) - 1


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


def keep_freed_memory() -> bool:
    """Tell the allocator to keep what a step frees for the next step, for the rest of this process; False if it cannot.

    glibc otherwise gives large blocks back at once, and each step pays for every page anew: 6 % of a step of a small ViT.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _MOST_THRESHOLD)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
