"""Step 9 of 12: when an answer that was made from patients' records leaves: at once, or at multiples of a time that is set.

How long training takes depends on how many patients were sampled and on what their records hold (docs/privacy.md, "Timing").
With `answer_grid_s` in policy.toml, the answers to START and KEYS, refusals too, leave a whole number of so many seconds after
the question came. While they take less than that, their time tells nothing of the records; one that takes longer leaves a whole
such time later, and tells that it did.
"""

from __future__ import annotations

import math
import time

from ssl_core.parcel import IncomingKind

_OF_RECORDS = frozenset({IncomingKind.START, IncomingKind.KEYS})


def wait_for_grid(kind: str, asked: float, grid_s: float) -> None:
    """Sleep until the answer to `kind`, asked at the monotonic time `asked`, may leave."""
    if grid_s > 0 and kind in _OF_RECORDS:
        taken = time.monotonic() - asked
        time.sleep(max(1, math.ceil(taken / grid_s)) * grid_s - taken)
