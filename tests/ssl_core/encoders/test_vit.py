"""The vision transformer: published sizes, squares, features against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests_transformer import image_tokens, named_weights, randomise

from ssl_core.encoders.vit import SHAPES, VisionTransformer
from ssl_core.spec.data import ImageData
from ssl_core.spec.encoder import VitSize

IMAGE = ImageData(kind="image", height=16, width=8, pool=2)

# timm's vit_{tiny,small,base}_patch16_224 without their heads: colour, 196 squares of 16 x 16, a class token.
PUBLISHED: dict[VitSize, int] = {"tiny": 5_524_416, "small": 21_665_664, "base": 85_798_656}


def parameters(height: int, patch: int, size: VitSize) -> int:
    with torch.device("meta"):
        model = VisionTransformer(ImageData(kind="image", height=height, width=height), size=size, patch=patch)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_the_published_ones_up_to_colour_and_class_token(size: VitSize) -> None:
    width = SHAPES[size].width
    colour, class_token, its_position = 2 * 16 * 16 * width, width, width
    assert parameters(224, 16, size) + colour + class_token + its_position == PUBLISHED[size]


@pytest.mark.parametrize("size", SHAPES)
def test_sizes_follow_the_formula(size: VitSize) -> None:
    width, depth, heads = SHAPES[size]
    block = (4 + 8) * width * width + (3 + 1 + 4 + 1) * width + 4 * width
    assert parameters(64, 8, size) == (64 + 1) * width + 64 * width + depth * block + 2 * width
    assert width % heads == 0


def test_squares_are_cut_row_by_row() -> None:
    model = VisionTransformer(IMAGE, size="nano", patch=2)
    pixels = torch.arange(32.0).reshape(8, 4)
    squares = model.cut(pixels.reshape(1, 32))
    assert squares.shape == (1, 8, 4) and model.squares == 8
    for row in range(4):
        for column in range(2):
            expected = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(4)
            assert torch.equal(squares[0, 2 * row + column], expected)


def test_features_are_the_mean_of_the_last_tokens() -> None:
    model = randomise(VisionTransformer(IMAGE, size="nano", patch=2))
    images = np.random.default_rng(3).normal(size=(6, 32)).astype(np.float32)
    out = model.features(images, chunk=4)
    assert out.dtype == np.float32 and out.shape == (6, model.feature_width) == (6, 32)
    named = named_weights(model)
    for image, found in zip(images, out, strict=True):
        squares = image.reshape(4, 2, 2, 2).transpose(0, 2, 1, 3).reshape(8, 4).astype(np.float64)
        expected = image_tokens(named, "", squares, list(range(8)), depth=2, heads=2).mean(axis=0)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert model.features(images[:0]).shape == (0, 32)


def test_squares_may_come_in_any_order() -> None:
    model = randomise(VisionTransformer(IMAGE, size="nano", patch=2))
    squares = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    places, order = torch.tensor([6, 0, 3, 1, 7]), torch.tensor([4, 2, 0, 1, 3])
    straight, mixed = model.tokens(squares, places), model.tokens(squares[order], places[order])
    torch.testing.assert_close(mixed, straight[order], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.tokens(squares, places.flip(0)), straight, atol=1e-2)


def test_embed_gives_gradients_for_fine_tuning() -> None:
    model = randomise(VisionTransformer(IMAGE, size="nano", patch=2))
    model.embed(np.ones((2, 32), np.float32))[:, 0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
