"""Step 1 of 12: the form of a record that is an image with its report, made of its two parts and taken apart again.

A record is float32 [pixels + words * codes]: standardised pixels as of an image, then the codes of each word in its turn, whole
numbers below `buckets`, or -1 where there is no word. One row is padding: zeros, then -1. It stands for every pair that lacks
a usable image or any word, so that no half of a pair is ever seen without the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.spec.data import PairData

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


def padding_row(data: PairData) -> Floats:
    """float32 [pixels + words * codes]: the record that stands for none."""
    pixels, codes = data.shape
    return np.concatenate([np.zeros(pixels, np.float32), np.full(codes, -1, np.float32)])


def joined(pixels: Floats, codes: Codes, data: PairData) -> Floats:
    """An image float32 [pixels] and a report int32 [words, codes] to their record; padding where one of them says nothing."""
    if not pixels.any() or codes[0, 0] < 0:
        return padding_row(data)
    return np.concatenate([pixels, codes.ravel().astype(np.float32)])


def parted(records: Floats, data: PairData) -> tuple[Floats, Codes, npt.NDArray[np.bool_]]:
    """Records [k, values] to pixels float32 [k, pixels], codes int32 [k, words, codes], and which are pairs, bool [k].

    What no reader gives is no word (a code that there is not) or no image (a pixel that is not finite). Of what is no pair the
    pixels are zeros and there is no word.
    """
    count = data.shape[0]
    pixels, found = records[:, :count], records[:, count:].reshape(len(records), data.text.words, data.text.codes)
    with np.errstate(all="ignore"):
        known = (found >= 0) & (found < data.text.buckets) & (found == np.floor(found))
    words = known.all(axis=2)
    pairs = np.isfinite(pixels).all(axis=1) & pixels.any(axis=1) & words.any(axis=1)
    codes = np.where((words & pairs[:, None])[:, :, None], found, -1).astype(np.int32)
    return np.where(pairs[:, None], pixels, np.float32(0)), codes, pairs
