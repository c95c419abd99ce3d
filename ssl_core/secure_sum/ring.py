"""Step 7 of 12: update float32 [P] and a public range R -> w q uint32 [P] in Z_2^32; and the sum back to float64 [P].

q = stochastic rounding of x Q / R to [-Q, Q]; the clip is local and coordinate by coordinate; then q is multiplied by
the site's public weight w in integers. With Q = floor((2^31 - 1) / W) no sum of w_i q_i of any sites wraps (ruling 9).
Rounding is unbiased: q = floor(s) + [v < s - floor(s)] with v uniform in [0, 1) from AES-256-CTR, 53 bits;
s - floor(s) is exact in float64. Error of the mean: at most one step R / Q. Noise was added before, so that rounding is
post-processing.
Decoding uses float64 conversion, one product and one quotient, so that all machines agree to the bit (ruling 12).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ProtocolError
from ssl_core.trust.random import AesCtrStream

_CHUNK = 1 << 16


def encode_update(
    update: npt.NDArray[np.float32], *, update_range: float, levels: int, weight: int, stream: AesCtrStream
) -> npt.NDArray[np.uint32]:
    """uint32 [P] of `update` float32 [P] (parameter units), times `weight`; `stream` is fresh and used for this alone.

    A value that is not finite raises AssertionError: the steps before give none, whatever the data are (ruling 15).
    """
    if update.dtype != np.float32 or update.ndim != 1:
        found = f"{update.dtype} {update.ndim}-d"
        raise ProtocolError("update is not a float32 vector", field="update", value=found, limit="float32 1-d")
    if not bool(np.isfinite(update).all()):
        raise AssertionError("update is not finite: a step before the secure sum broke its promise")
    out = np.empty(update.shape, np.uint32)
    for begin in range(0, len(update), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        scaled = np.clip(update[part].astype(np.float64) * (levels / update_range), -levels, levels)
        whole = np.floor(scaled)
        below_one = 1.0 - stream.uniform(len(scaled))
        rounded = whole.astype(np.int64) + (below_one < scaled - whole)
        out[part] = (rounded * weight).astype(np.int32).view(np.uint32)
    return out


def decode_mean(total: npt.NDArray[np.uint32], *, update_range: float, levels: int, weight: int) -> npt.NDArray[np.float64]:
    """float64 [P] (parameter units): the mean of a sum uint32 [P] whose sites' weights add up to `weight`."""
    return total.view(np.int32).astype(np.float64) * (update_range / levels) / float(weight)
