"""Public hashing of words: frozen vectors, and what counts as a word."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest

from ssl_core.data.words import encode, split, word_codes
from ssl_core.spec.data import TextData

FROZEN = [
    ("torax", 2, 512, (27, 267)),
    ("torax", 4, 512, (71, 175, 56, 19)),
    ("é", 2, 512, (207, 279)),
    ("7", 1, 65536, (34096,)),
]


@pytest.mark.parametrize(("word", "codes", "buckets", "expected"), FROZEN)
def test_codes_are_frozen(word: str, codes: int, buckets: int, expected: tuple[int, ...]) -> None:
    assert word_codes(word, codes, buckets) == expected


def test_codes_are_the_16_bit_parts_of_blake2b() -> None:
    digest = hashlib.blake2b(b"derrame", digest_size=4, person=b"choral-words").digest()
    assert word_codes("derrame", 2, 1 << 16) == tuple(np.frombuffer(digest, "<u2").tolist())


def test_words_are_lower_cased_runs_of_letters_and_digits() -> None:
    assert split("Tórax_PA: 2 nódulos, (sin)DERRAME.") == ["tórax", "pa", "2", "nódulos", "sin", "derrame"]
    assert split(" ...\n") == []


def test_composed_and_decomposed_accents_are_one_word() -> None:
    assert split(unicodedata.normalize("NFD", "nódulo pulmón")) == ["nódulo", "pulmón"]


def test_encode_pads_and_cuts() -> None:
    data = TextData(kind="text", words=3, codes=2, buckets=64)
    out = encode([["a", "b"], [], ["a", "b", "c", "d"]], data)
    assert out.shape == (3, 3, 2) and out.dtype == np.int32
    assert (out[0, 2] == -1).all() and (out[1] == -1).all() and (out[2] >= 0).all()
    assert (out[0, :2] == out[2, :2]).all() and tuple(out[2, 2]) == word_codes("c", 2, 64)
