"""The text transformer: published sizes, word order, padding, features against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_transformer import named_weights, randomise, text_tokens

from ssl_core.encoders.text_transformer import SHAPES, TextTransformer
from ssl_core.spec.data import TextData
from ssl_core.spec.encoder import TextTransformerSize

TEXT = TextData(kind="text", words=9, codes=3, buckets=20)

# google/bert_uncased_L-*: 30,522 words, 512 positions, 2 segments, a LayerNorm after the embeddings, a pooler.
PUBLISHED: dict[TextTransformerSize, int] = {"tiny": 4_385_920, "mini": 11_170_560, "small": 28_763_648}


def records() -> np.ndarray:
    codes = np.random.default_rng(2).integers(0, 20, (10, 9, 3)).astype(np.int32)
    for row, record in enumerate(codes):
        record[row:] = -1
    return codes


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_the_published_ones_up_to_the_embeddings(size: TextTransformerSize) -> None:
    with torch.device("meta"):
        model = TextTransformer(TextData(kind="text", words=512, codes=1, buckets=30_521), size=size)
    width = SHAPES[size].width
    segments, pooler = 2 * width, width * width + width
    # Ours has its LayerNorm after the blocks, where that of BERT stands before them: as many parameters.
    assert sum(parameter.numel() for parameter in model.parameters()) + segments + pooler == PUBLISHED[size]


def test_features_are_the_mean_over_the_words_and_padding_counts_for_nothing() -> None:
    model = randomise(TextTransformer(TEXT, size="nano"))
    codes = records()
    out = model.features(codes, chunk=4)
    assert out.dtype == np.float32 and out.shape == (10, model.feature_width) == (10, 32)
    assert not out[0].any()
    named = named_weights(model)
    for row in range(1, 10):
        words = [tuple(word) for word in codes[row, :row].tolist()]
        tokens = text_tokens(named, "", words, buckets=20, codes=3, depth=2, heads=2)
        np.testing.assert_allclose(out[row], tokens.mean(axis=0), atol=5e-5)


def test_with_causal_attention_features_are_the_mean_of_tokens_that_saw_their_past() -> None:
    model = randomise(TextTransformer(TEXT, size="nano", causal=True))
    codes, named = records(), named_weights(model)
    out = model.features(codes)
    for row in range(1, 10):
        words = [tuple(word) for word in codes[row, :row].tolist()]
        tokens = text_tokens(named, "", words, buckets=20, codes=3, depth=2, heads=2, causal=True)
        np.testing.assert_allclose(out[row], tokens.mean(axis=0), atol=5e-5)


def test_the_order_of_words_is_seen() -> None:
    model = randomise(TextTransformer(TEXT, size="nano"))
    codes = records()[9:]
    swapped = codes[:, [1, 0, *range(2, 9)]]
    assert np.abs(model.features(codes) - model.features(swapped)).max() > 1e-3
    model.places.weight.data.zero_()
    assert np.abs(model.features(codes) - model.features(swapped)).max() < 1e-5


def test_words_may_come_in_any_order_with_their_places() -> None:
    model = randomise(TextTransformer(TEXT, size="nano"))
    codes, order = records()[6:7], np.array([8, 2, 5, 0, 7, 3, 1, 6, 4])
    real = torch.from_numpy((codes[:, :, 0] >= 0).astype(np.float32))
    straight = model.tokens(model.prepare(codes), torch.arange(9)[None], real)
    mixed = model.tokens(model.prepare(codes[:, order]), torch.from_numpy(order)[None], real[:, order])
    for place, token in zip(order, mixed[0], strict=True):
        if place < 6:
            torch.testing.assert_close(token, straight[0, place], rtol=1e-4, atol=1e-5)


def test_no_record_is_fine_and_embed_gives_gradients() -> None:
    model = randomise(TextTransformer(TEXT, size="nano"))
    assert model.features(records()[:0]).shape == (0, 32)
    model.embed(records())[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
