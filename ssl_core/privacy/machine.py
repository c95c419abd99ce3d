"""Steps 2 to 5 of 12: the device and the threads that a site computes on, for training and for the check before it alike.

Comes in: the site's `SpeedSpec`. Goes out: a torch device, or `ConfigError` where the machine has none such; `PrivacyError`
where torch is set to products less exact than float32. Nothing here changes what is released in distribution.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssl_core.config import SpeedSpec
from ssl_core.errors import ConfigError, PrivacyError

# mallopt's parameters, glibc malloc.h; 32 MiB is the greatest threshold that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_THRESHOLD, _NEVER = 32 << 20, (1 << 31) - 1


def training_device(speed: SpeedSpec) -> torch.device:
    """The device that `speed` names; of a CUDA device, convolutions are float32 from here on, for the rest of this process."""
    if speed.device == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("no CUDA device is there", field="speed.device", value="cuda", remedy='set device = "cpu"')
        # By default cuDNN convolves float32 numbers in TensorFloat-32, ten bits each, and the engines would differ by those. No
        # promise hangs on it: what is clipped and summed is made by products (`check_products`).
        torch.backends.cudnn.allow_tf32 = False
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


def check_products(device: torch.device) -> None:
    """Refuse settings under which what is computed of kept values in float32 would be less exact than that."""
    precision = _matmul_precision()
    if precision != "highest":
        raise PrivacyError(
            "products are less exact than float32",
            field="float32_matmul_precision",
            value=precision,
            remedy='torch.set_float32_matmul_precision("highest")',
        )
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        raise PrivacyError(
            "products are less exact than float32",
            field="torch.autocast",
            value="enabled by the caller",
            remedy="call the engine outside of it; it turns autocast on for the forward pass alone",
        )


def _matmul_precision() -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:
        # torch has two ways to set it, and refuses to say what holds where both were used.
        return "set by torch.backends"
