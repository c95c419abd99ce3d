"""Step 1 of 12: grey images to standardised pooled pixels, each image by itself.

Comes in: any real [m, height, width]. Goes out: float32 [m, (height / pool) * (width / pool)], of values within the plan's
window, with mean 0 and standard deviation 1 within each image; an all-zero row, and True in the mask of bad records
bool [m], where an image has a pixel that is not finite (beyond 1e30 too, where no window bounds it) or no contrast at all.
No statistic of more than one image is ever formed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.spec.data import ImageData

_CHUNK = 1024
_LARGEST = 1e30


def standardise(
    images: npt.NDArray[np.generic], data: ImageData
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Pooled, standardised pixels float32 [m, D]; not finite bool [m]; blank bool [m]."""
    height, width = data.height // data.pool, data.width // data.pool
    out = np.zeros((len(images), height * width), np.float32)
    broken = np.zeros(len(images), np.bool_)
    blank = np.zeros(len(images), np.bool_)
    for begin in range(0, len(images), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        part = np.asarray(images[rows], np.float64)[:, : height * data.pool, : width * data.pool]
        # Bad pixels are replaced before any arithmetic, so that no warning depends on a record.
        part, broken[rows] = bounded(part, data)
        pooled = part.reshape(-1, height, data.pool, width, data.pool).mean(axis=(2, 4)).reshape(-1, height * width)
        centred = pooled - pooled.mean(axis=1, keepdims=True)
        spread = centred.std(axis=1, keepdims=True)
        flat = (spread <= 1e-9 * (1.0 + np.abs(pooled).max(axis=1, keepdims=True))) & ~broken[rows, None]
        blank[rows] = flat[:, 0]
        out[rows] = np.where((spread > 0) & ~flat, centred / np.where(spread > 0, spread, 1.0), 0.0)
    return out, broken, blank


def bounded(images: npt.NDArray[np.float64], data: ImageData) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Images [m, h, w] within the plan's window, zeros for those with a pixel that is not finite; which these are, bool [m]."""
    finite = np.isfinite(images)
    values = np.where(finite, images, 0.0)
    if data.window is not None:
        values = np.clip(values, *data.window)
    broken: npt.NDArray[np.bool_] = np.any(~finite | (np.abs(values) > _LARGEST), axis=(1, 2))
    return np.where(broken[:, None, None], 0.0, values), broken
