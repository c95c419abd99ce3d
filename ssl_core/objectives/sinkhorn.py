"""Step 3 of 12: Sinkhorn's factors: one number a prototype, by which it takes an equal share of a set of records.

Comes in: scores float32 [n, P] of n public records, already divided by the smoothing epsilon. Goes out: float32 [P], to be
added to any record's scores before the softmax over prototypes. Paper: Cuturi, "Sinkhorn Distances" (NeurIPS 2013), algorithm
1, in logarithms; as used in Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (SwAV,
NeurIPS 2020), section 3.1, equation 4: Q = diag(u) exp(scores) diag(v). Here u is kept and v, a record's own factor, is the
softmax's: so a record that was not among the n gets the assignment that these n prescribe, and changes nobody's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def prototype_factors(scores: Tensor, iterations: int) -> Tensor:
    """log u, float32 [P], after so many turns of: equal prototypes, then equal records. A constant in it means nothing."""
    own = torch.zeros_like(scores[:, 0])
    factors = torch.zeros_like(scores[0])
    for _ in range(iterations):
        factors = -(scores + own[:, None]).logsumexp(dim=0)
        own = -(scores + factors).logsumexp(dim=1)
    return factors
