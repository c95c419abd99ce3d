"""Takes the masks off a sum, once every secret that this needs was recovered and checked (recovery.py).

Comes in: the sum of the survivors' masked vectors, words [P]; {i: b_i} of the survivors; {(i, j): e_ij} of survivors i
and lost participants j. Goes out, in place: the sum of w_i q_i.
"""

from __future__ import annotations

from collections.abc import Mapping

from ssl_core.secure_sum import masks
from ssl_core.secure_sum.ring import Words


def remove_masks(own: Mapping[int, int], pairs: Mapping[tuple[int, int], int], vector: Words) -> None:
    """Turn the survivors' masked sum into the sum of w_i q_i, in place."""
    add = [masks.pair_mask(element) for (site, lost), element in pairs.items() if lost > site]
    subtract = [masks.self_mask(element) for element in own.values()]
    subtract += [masks.pair_mask(element) for (site, lost), element in pairs.items() if lost < site]
    masks.apply(vector, add=add, subtract=subtract)
