"""Equal records within and across owners, against a plain count of pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.contents import contents_of
from ssl_core.data.gathering import padding
from ssl_core.data.pair_rows import padding_row
from ssl_core.spec.data import ImageForm, PairData, TextData, TextForm


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12))
def test_repeated_and_shared_are_what_a_loop_finds(rows: list[tuple[str, int]]) -> None:
    owners = [owner for owner, _ in rows]
    records = np.array([[value, value * 2.5] for _, value in rows], np.float32).reshape(len(rows), 2)
    contents = contents_of(records, np.zeros(2, np.float32))
    shared = [bool(v) and any(w == v and p != o for p, w in rows) for o, v in rows]
    repeated = [bool(v) and (o, v) in rows[:place] for place, (o, v) in enumerate(rows)]
    assert contents.shared(owners).tolist() == shared
    assert contents.repeated(owners).tolist() == repeated


def test_padding_equals_nothing() -> None:
    texts = np.full((4, 3, 2), -1, np.int32)
    texts[2:] = 5
    contents = contents_of(texts, padding(TextData(kind="text", words=3)))
    assert contents.shared(["a", "b", "c", "d"]).tolist() == [False, False, True, True]
    assert contents.same.tolist()[:2] == [-1, -1]


def test_padding_of_pairs_is_neither_zeros_nor_minus_ones_and_equals_nothing() -> None:
    data = PairData(kind="pair", image=ImageForm(height=8, width=8), text=TextForm(words=6, buckets=32))
    records = np.stack([padding_row(data)] * 2 + [np.ones(data.values, np.float32)] * 2)
    contents = contents_of(records, padding(data))
    assert contents.shared(["a", "b", "c", "d"]).tolist() == [False, False, True, True]
    assert contents.repeated(["a", "a", "c", "c"]).tolist() == [False, False, False, True]
