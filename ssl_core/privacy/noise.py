"""Step 5 of 12: Gaussian noise from AES-256-CTR for a clipped sum.

Goes out: independent N(0, s^2), float32 [n]. Bytes of an AES-256-CTR stream become 53-bit uniforms in (0, 1], those
become normals by Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958), in float64; one last cast
to float32. For an accelerator the processor makes bytes and uniforms, and the accelerator the rest. The key comes from
the operating system, one per source, is never stored and is drawn anew after a fork; no seed can be given (ruling 17).

Why not torch's generator: it is no cryptographic one, and its float32 normals on CPU stop at 5.77 s (24-bit uniforms),
a value that the guarantee says can be passed. Here the farthest is sqrt(-2 ln 2^-53) = 8.57 s.
Not covered: float32 results have a floating-point structure (Mironov, CCS 2012). What leaves a site is rounded to a
public grid afterwards; the exact answer would be a discrete Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_core.errors import PrivacyError
from ssl_core.trust.random import FreshStream

# What a processor's cache holds; on an accelerator, what is worth a copy.
_CHUNK, _CHUNK_AWAY = 1 << 15, 1 << 20


class GaussianNoise:
    """A source of private noise; it takes no seed, cannot be copied and has nothing to store."""

    __slots__ = ("_device", "_stream")

    def __init__(self, *, device: torch.device | None = None) -> None:
        self._stream = FreshStream()
        self._device = device or torch.device("cpu")

    def normal(self, count: int, standard_deviation: float) -> Tensor:
        """float32 [count] on the source's device, independent draws of N(0, standard_deviation^2)."""
        if not 0.0 < standard_deviation < math.inf:
            raise PrivacyError("noise needs a positive scale", field="standard_deviation", value=standard_deviation)
        out = torch.empty(count, dtype=torch.float32, device=self._device)
        chunk = _CHUNK if self._device.type == "cpu" else _CHUNK_AWAY
        for begin in range(0, count, chunk):
            part = out[begin : begin + chunk]
            normals = box_muller(torch.from_numpy(self._stream.uniform(len(part) + len(part) % 2)).to(self._device))
            part.copy_(normals.mul_(standard_deviation)[: len(part)])
        return out

    def __reduce__(self) -> str:
        raise TypeError("a noise source is never copied or stored")


def box_muller(uniforms: Tensor) -> Tensor:
    """Uniforms in (0, 1] float64 [2 h] to standard normals float64 [2 h], in place: radii from the first half."""
    half = len(uniforms) // 2
    radius = uniforms[:half].log_().mul_(-2.0).sqrt_()
    angle = uniforms[half:].mul_(2.0 * math.pi)
    cosine = torch.cos(angle).mul_(radius)
    angle.sin_().mul_(radius)
    radius.copy_(cosine)
    return uniforms
