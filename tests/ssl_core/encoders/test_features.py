"""Features of both encoders against plain numpy; chunks do not matter; a real array when it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import erf

from ssl_core.data.images import standardise
from ssl_core.encoders.hashed_words import HashedWords, mean_bag
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.spec.data import ImageData, TextData

TEXT = TextData(kind="text", words=9, codes=3, buckets=20)
IMAGE = ImageData(kind="image", height=64, width=64, pool=2)
REAL = Path(__file__).parents[4] / "shared" / "data" / "chest_xray_64.npz"


def randomise(encoder: torch.nn.Module) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return {name: value.detach().numpy().astype(np.float64) for name, value in encoder.named_parameters()}


def normalise(x: np.ndarray, named: dict[str, np.ndarray]) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    out: np.ndarray = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * named["norm.weight"] + named["norm.bias"]
    return out


def test_text_features_are_normalised_means_of_summed_embeddings() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 20, (30, 9, 3)).astype(np.int32)
    for row, record in enumerate(codes):
        record[row % 10 :] = -1
    encoder = HashedWords(TEXT, 16)
    named = randomise(encoder)
    expected = np.zeros((30, 16))
    for row, record in enumerate(codes):
        words = [word for word in record if word[0] >= 0]
        for word in words:
            expected[row] += sum(named["table"][:, table * 20 + code] for table, code in enumerate(word)) / len(words)
    out = encoder.features(codes)
    assert out.dtype == np.float32 and out.shape == (30, encoder.feature_width)
    assert np.allclose(out, normalise(expected, named), atol=1e-5) and np.isfinite(out).all()
    one = encoder(torch.from_numpy(mean_bag(codes[5:6], codes[5:6, :, 0] >= 0, 20))[0])
    assert np.allclose(one.detach().numpy(), out[5], atol=1e-6)


def test_image_features_are_hidden_and_code() -> None:
    encoder = MlpImage(IMAGE, 24, 10)
    named = randomise(encoder)
    images = np.random.default_rng(3).normal(size=(20, 1024)).astype(np.float32)

    def gelu(x: np.ndarray) -> np.ndarray:
        out: np.ndarray = 0.5 * x * (1 + erf(x / np.sqrt(2)))
        return out

    hidden = normalise(gelu(images @ named["first.weight"].T + named["first.bias"]), named)
    code = gelu(hidden @ named["second.weight"].T + named["second.bias"])
    out = encoder.features(images)
    assert out.shape == (20, 34) and np.allclose(out, np.concatenate([hidden, code], axis=1), atol=1e-4)


def test_chunks_do_not_matter_and_no_record_is_fine() -> None:
    encoder = MlpImage(IMAGE, 24, 10)
    randomise(encoder)
    images = np.random.default_rng(4).normal(size=(7, 1024)).astype(np.float32)
    assert np.allclose(encoder.features(images, chunk=2), encoder.features(images), atol=1e-6)
    assert encoder.features(images[:0]).shape == (0, 34)
    assert HashedWords(TEXT, 16).features(np.zeros((0, 9, 3), np.int32)).shape == (0, 16)


def test_embed_gives_gradients_for_fine_tuning() -> None:
    encoder = HashedWords(TEXT, 16)
    randomise(encoder)
    encoder.embed(np.zeros((2, 9, 3), np.int32))[:, 0].sum().backward()
    assert encoder.table.grad is not None and encoder.table.grad.any()


@pytest.mark.skipif(not REAL.is_file(), reason="chest_xray_64.npz is not beside the project")
def test_real_images_have_finite_distinct_features() -> None:
    with np.load(REAL, allow_pickle=False) as array:
        images = array["image"][:300]
    encoder = MlpImage(IMAGE, 256, 128)
    randomise(encoder)
    out = encoder.features(standardise(images, IMAGE)[0])
    assert out.shape == (300, 384) and np.isfinite(out).all() and len(np.unique(out.round(4), axis=0)) == 300
