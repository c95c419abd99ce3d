"""A record that is an image with its report: one padding row, codes that stay exact, what no reader gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.pair_rows import joined, padding_row, parted
from ssl_core.spec.data import ImageForm, PairData, TextForm

DATA = PairData(kind="pair", image=ImageForm(height=8, width=8, pool=4), text=TextForm(words=3, codes=2, buckets=1 << 16))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_what_is_joined_is_parted_again_exactly(words: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.standard_normal(4).astype(np.float32)
    codes = np.full((3, 2), -1, np.int32)
    codes[:words] = rng.integers(0, 1 << 16, (words, 2))
    record = joined(pixels, codes, DATA)
    assert record.dtype == np.float32 and record.shape == (DATA.values,) == (10,)
    found_pixels, found_codes, pairs = parted(record[None], DATA)
    assert pairs.tolist() == [words > 0] and found_codes.dtype == np.int32
    if words:
        assert np.array_equal(found_pixels[0], pixels) and np.array_equal(found_codes[0], codes)
    else:
        assert record.tobytes() == padding_row(DATA).tobytes()


def test_a_half_is_padding() -> None:
    codes = np.array([[1, 2], [-1, -1], [-1, -1]], np.int32)
    assert joined(np.zeros(4, np.float32), codes, DATA).tobytes() == padding_row(DATA).tobytes()
    assert parted(padding_row(DATA)[None], DATA)[2].tolist() == [False]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32), min_size=10, max_size=10))
def test_of_any_numbers_at_all_codes_can_be_looked_up_and_pixels_are_finite(values: list[float]) -> None:
    record = np.array([values], np.float32)
    pixels, codes, (pair,) = parted(record, DATA)
    assert np.isfinite(pixels).all() and ((codes >= -1) & (codes < 1 << 16)).all()
    # A word has all of its codes or none.
    assert ((codes >= 0).all(axis=2) == (codes >= 0).any(axis=2)).all()
    assert pair == (bool(pixels.any()) and bool((codes >= 0).any()))


def test_the_parts_are_those_of_studies_of_one_kind() -> None:
    data = PairData(
        kind="pair", image=ImageForm(height=8, width=16, pool=2, fit="pad", window=(-5.0, 9.0)), text=TextForm(words=5, codes=3)
    )
    assert (data.pixels.shape, data.pixels.values, data.pixels.fit, data.pixels.window) == ((8, 16), 32, "pad", (-5.0, 9.0))
    assert (data.words.words, data.words.codes, data.words.buckets) == (5, 3, 512)
    assert data.shape == (32, 15) and data.values == 47
    assert data.model_dump(mode="json")["image"] == {"height": 8, "width": 16, "pool": 2, "fit": "pad", "window": [-5.0, 9.0]}
