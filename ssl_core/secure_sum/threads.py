"""Runs one function over disjoint chunks of a vector on several threads, and hands the chunks back in order.

numpy's loops, AES (`update_into`) and SHA-256 let other threads run, so that chunks are worked on at the same time on
real cores while the caller hashes the ones that are done. What a chunk becomes depends on its place alone: the number
of threads changes the time, never the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ssl_core.errors import ConfigError


def default_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[slice], None], length: int, step: int, threads: int | None = None) -> Iterator[slice]:
    """Call `work` on [0, step), [step, 2 step), ... up to `length`; yields each slice, in order, once it is done.

    `threads` is None for all processors. The first exception of `work` ends the run and is raised here.
    """
    if threads is not None and threads < 1:
        raise ConfigError("number of threads is below 1", field="threads", value=threads, limit=1)
    slices = [slice(begin, min(begin + step, length)) for begin in range(0, length, step)]
    count = min(threads or default_threads(), len(slices))
    if count <= 1:
        for part in slices:
            work(part)
            yield part
        return
    with ThreadPoolExecutor(count) as pool:
        for part, _ in zip(slices, pool.map(work, slices), strict=True):
            yield part


def on_all(work: Callable[[slice], None], length: int, step: int, threads: int | None = None) -> None:
    """`in_order` for a caller that only needs all of it done."""
    for _ in in_order(work, length, step, threads):
        pass
