"""Step 9 of 12: when an answer that was made from patients' records leaves: at once, or at multiples of a time that is set.

How long training takes depends on how many patients were sampled and on what their records hold (docs/privacy.md, "Timing").
With `answer_grid_s` in policy.toml, the answers to START and KEYS, refusals too, leave a whole number of so many seconds after
the question came. While they take less than that, their time tells nothing of the records; one that takes longer leaves a whole
such time later, and tells that it did.
"""

from __future__ import annotations

import math
import time

from client.home import SiteHome
from ssl_core.parcel import IncomingKind

_OF_RECORDS = frozenset({IncomingKind.START, IncomingKind.KEYS})


def grid_of(home: SiteHome, kind: str) -> float:
    """Seconds between the times at which an answer to `kind` may leave; 0: at once. Raises `ConfigError`, so ask before."""
    return home.policy.answer_grid_s if kind in _OF_RECORDS else 0.0


def wait_for_grid(asked: float, grid_s: float) -> None:
    """Sleep until the answer to what was asked at the monotonic time `asked` may leave."""
    if grid_s > 0:
        taken = time.monotonic() - asked
        # The division may be rounded to a whole number that is a little too small.
        time.sleep(max(0.0, max(1, math.ceil(taken / grid_s)) * grid_s - taken))
