"""Segments of signals: where they lie, what is in them, which are absent."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_core.objectives.segments import begins, cut, present


def test_segments_are_slices_of_every_channel() -> None:
    records = np.arange(2 * 3 * 2 * 40, dtype=np.float32).reshape(2, 3, 80)
    begin = np.random.default_rng(1).integers(0, 33, (2, 3, 2, 5))
    found = cut(records, begin, channels=2, length=7)
    assert found.shape == (2, 3, 2, 5, 2, 7) and found.flags.c_contiguous
    for place in np.ndindex(2, 3, 2, 5):
        signal = records[place[:2]].reshape(2, 40)
        assert np.array_equal(found[place], signal[:, begin[place] : begin[place] + 7])
    assert cut(records[:0], begin[:0], channels=2, length=7).shape == (0, 3, 2, 5, 2, 7)


@pytest.mark.parametrize(("coin", "late"), [(2.0**-53, 0), (0.25, 0), (0.5, 1), (1.0, 3)])
def test_segments_begin_late_by_their_coin(coin: float, late: int) -> None:
    places = np.array([[0, 4, 2]])
    assert np.array_equal(begins(places, np.full((1, 3), coin), 10, 3), 10 * places + late)


def test_a_segment_in_which_no_channel_changes_is_absent() -> None:
    segments = np.full((4, 2, 6), 3.0, np.float32)
    segments[1, 1, 5] = 3.5
    segments[2, 1] = -1.0
    segments[3] = np.nan
    assert present(segments).tolist() == [False, True, False, True]
