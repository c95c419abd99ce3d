"""Step 1 of 12: words of a text to public hash codes; no vocabulary, so nothing is fitted on private text.

Comes in: a text. Goes out: int32 [words, codes], the codes of its first words, -1 where there is no word.
A word is a run of letters and digits of the lower-cased text in Unicode NFC. Its codes are the little-endian 16-bit
parts of BLAKE2b(word, 2 x codes bytes, person "choral-words") modulo `buckets`; code c counts in table c. Several
codes into several tables make full collisions rare at few parameters: Svenstrup et al., "Hash Embeddings for Efficient
Word Representations" (NeurIPS 2017), section 3. Here the weights of the tables are not learnt; the codes are summed.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.spec.data import TextData

_WORD = re.compile(r"[^\W_]+")
_PERSON = b"choral-words"


def split(text: str) -> list[str]:
    """Words of `text`, lower-cased, in order."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return _WORD.findall(text.lower())


def word_codes(word: str, codes: int, buckets: int) -> tuple[int, ...]:
    """`codes` bucket numbers below `buckets` of one word; the same on every machine."""
    digest = hashlib.blake2b(word.encode(), digest_size=2 * codes, person=_PERSON).digest()
    return tuple(int.from_bytes(digest[2 * c : 2 * c + 2], "little") % buckets for c in range(codes))


def encode(texts: Sequence[Sequence[str]], data: TextData) -> npt.NDArray[np.int32]:
    """Words of m texts to int32 [m, data.words, data.codes]; only the first `data.words` words of a text are read."""
    out = np.full((len(texts), data.words, data.codes), -1, np.int32)
    known: dict[str, tuple[int, ...]] = {}
    for row, words in enumerate(texts):
        for column, word in enumerate(words[: data.words]):
            if word not in known:
                known[word] = word_codes(word, data.codes, data.buckets)
            out[row, column] = known[word]
    return out
