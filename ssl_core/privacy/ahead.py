"""Between steps 2 and 4: the next physical batch is drawn and brought to the device while this one is computed.

Comes in: the parts of a sample, int64 [b] each, and `draw`, which gives a part's views. Goes out: each part with a function
that gives its views, waiting for them where they are not there yet. One part is drawn ahead, by the one thread of a round;
order and content of what is drawn are the same as without it. An error of `draw` is raised by that function, where the part
is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ssl_core.objectives.base import Views

Index = npt.NDArray[np.int64]


def drawn_ahead(
    parts: Iterable[Index], draw: Callable[[Index], Views], thread: ThreadPoolExecutor
) -> Iterator[tuple[Index, Callable[[Index], Views]]]:
    """Every part in order, with its views on demand; of an index that is not the whole part, they are drawn anew.

    thread: one worker, for all steps of a round, since starting one takes longer than a small step.
    """
    waiting: tuple[Index, Callable[[Index], Views]] | None = None
    for part in parts:
        following = part, _once(part, thread.submit(draw, part), draw)
        if waiting is not None:
            yield waiting
        waiting = following
    if waiting is not None:
        yield waiting


def _once(part: Index, ready: Future[Views], draw: Callable[[Index], Views]) -> Callable[[Index], Views]:
    # Given away at the first call: where the part does not fit the device, its views must not lie there beside its halves'.
    held = [ready]

    def views(index: Index) -> Views:
        return held.pop().result() if held and index is part else draw(index)

    return views
