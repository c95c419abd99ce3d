"""Chunks cover the vector once, come back in order, and an exception ends the run."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ConfigError
from ssl_core.secure_sum.threads import default_threads, in_order, on_all


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 50), st.integers(1, 9), st.sampled_from([None, 1, 2, 7]))
def test_chunks_cover_the_vector_once_and_in_order(length, step, threads):
    seen = []
    found = list(in_order(seen.append, length, step, threads))
    assert [at for part in found for at in range(part.start, part.stop)] == list(range(length))
    assert all(part.start % step == 0 for part in found)
    assert sorted(seen, key=lambda part: part.start) == found


def test_a_slow_first_chunk_is_still_handed_back_first():
    def work(part):
        if part.start == 0:
            time.sleep(0.05)

    assert [part.start for part in in_order(work, 6, 2, 3)] == [0, 2, 4]


def test_as_many_threads_as_asked_for_work_at_once():
    meet = threading.Barrier(3, timeout=30)
    on_all(lambda part: meet.wait() and None, 3, 1, 3)


@pytest.mark.parametrize("threads", [1, 4])
def test_an_exception_ends_the_run(threads):
    done = []

    def work(part):
        if part.start == 3:
            raise ValueError("here")
        done.append(part)

    with pytest.raises(ValueError, match="here"):
        on_all(work, 10_000, 1, threads)
    assert len(done) < 10_000


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads):
    with pytest.raises(ConfigError, match="number of threads is below 1"):
        on_all(lambda part: None, 5, 1, threads)


def test_default_is_at_least_one():
    assert default_threads() >= 1
