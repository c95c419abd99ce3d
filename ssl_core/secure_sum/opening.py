"""Takes the masks off a sum: t shares of each survivor's b_i, and the pair elements of those that were lost.

Comes in: the sum of the survivors' masked vectors, uint32 [P], their uploads' parts, their checked answers. Goes out,
in place: the sum of w_i q_i. Each b_i is checked against its commitment before any mask is removed (ruling 10), so
that a wrong share gives `RoundVoid`, never a wrong sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ssl_core.errors import RoundVoid
from ssl_core.secure_sum import masks, sealing, shamir
from ssl_core.secure_sum.messages import Answer, Parts
from ssl_core.secure_sum.params import SumParams
from ssl_core.trust.identity import Secret

Sites = tuple[int, ...]


def remove_masks(
    params: SumParams,
    context: bytes,
    participants: Sites,
    survivors: Sites,
    parts: Mapping[int, Parts],
    answers: Mapping[int, Answer],
    vector: npt.NDArray[np.uint32],
) -> None:
    """Turn the survivors' masked sum into the sum of w_i q_i, in place; unchanged if a secret is wrong."""
    helpers = sorted(answers)[: params.thresholds(len(participants)).shares]
    place = {site: at for at, site in enumerate(participants)}
    add: list[Secret] = []
    subtract: list[Secret] = []
    for site in survivors:
        own = shamir.combine({shamir.point(helper): _value(answers[helper], place[site]) for helper in helpers})
        if sealing.commit_self(context, own) != parts[site].commitments[place[site]]:
            name = params.members[site].name
            raise RoundVoid("self mask cannot be recovered: a share of it is wrong", field="site", value=name)
        subtract.append(masks.self_mask(own))
        for lost in participants:
            if lost not in survivors:
                key = masks.pair_mask(_value(answers[site], place[lost]))
                (subtract if lost < site else add).append(key)
    masks.apply(vector, add=add, subtract=subtract)


def _value(answer: Answer, at: int) -> int:
    return shamir.from_bytes(answer.values[at].reveal())
