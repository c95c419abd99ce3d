"""Steps 7, 8 and 10 of 12, the vector alone: update float32 [P] -> words of the ring -> masked words; and sum -> mean.

What ring.py, rotation.py and masks.py do, under the parameters of one study and the context of one round. The masked
words are made and hashed chunk by chunk on all processors: beyond the update and the words (and, at half bandwidth, the
rotated update) memory holds a few chunks. Both widths, plain and masked sum, site and server go through here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum import masks
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.ring import SPAN, Words, check_update, encode_into, encode_update, scale_mean, whole_sum
from ssl_core.secure_sum.rotation import rotate, rotate_back
from ssl_core.secure_sum.statements import little_endian
from ssl_core.secure_sum.threads import in_order
from ssl_core.trust.identity import Secret


def quantise(
    params: SumParams,
    context: bytes,
    site: int,
    update: npt.NDArray[np.float32],
    key: Secret,
    threads: int | None = None,
) -> Words:
    """w q [P] of one site's `update` [P]; `key` [32] is fresh."""
    return encode_update(
        _turned(params, context, update, threads),
        update_range=params.update_range,
        levels=params.levels,
        weight=params.members[site].weight,
        key=key,
        bits=params.bits,
        threads=threads,
    )


def mask_update(
    params: SumParams,
    context: bytes,
    site: int,
    update: npt.NDArray[np.float32],
    key: Secret,
    *,
    add: Sequence[Secret],
    subtract: Sequence[Secret],
    threads: int | None = None,
) -> tuple[Words, bytes]:
    """(words [P], their `vector_hash` [32]): what `quantise` gives, under the mask streams of all keys."""
    values = _turned(params, context, update, threads)
    words = np.empty(values.shape, params.word)

    def work(part: slice) -> None:
        encode_into(
            values[part],
            words[part],
            first=part.start,
            update_range=params.update_range,
            levels=params.levels,
            weight=params.members[site].weight,
            key=key,
        )
        masks.apply_part(words[part], first=part.start, add=add, subtract=subtract)

    hashed = hashlib.sha256()
    for part in in_order(work, len(words), SPAN, threads):
        hashed.update(little_endian(words[part]).data)
    return words, hashed.digest()


def mean_update(
    params: SumParams, context: bytes, total: Words, *, weight: int, threads: int | None = None
) -> npt.NDArray[np.float64]:
    """The mean update float64 [P] (parameter units) of a round's sum [P]; `weight` is the sum of the survivors' weights."""
    values = whole_sum(total)
    if params.rotated:
        values = rotate_back(values, session=params.session, context=context, threads=threads)
    return scale_mean(values, update_range=params.update_range, levels=params.levels, weight=weight)


def _turned(params: SumParams, context: bytes, update: npt.NDArray[np.float32], threads: int | None) -> npt.NDArray[np.float32]:
    check_update(update)
    return rotate(update, session=params.session, context=context, threads=threads) if params.rotated else update
