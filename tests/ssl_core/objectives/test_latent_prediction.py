"""Latent prediction: which patches are hidden, the loss against plain numpy, the stopped gradient, and that it learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests_transformer import image_tokens, learn, linear, named_weights, signal_tokens, transformer

from ssl_core.data.patients import group
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.objectives.latent_prediction import LatentPredictionModel, farthest_first
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=16, width=8, records_per_patient=2)


def make(data: ImageData = DATA, blocks: int = 1) -> LatentPredictionModel:
    encoder = VisionTransformer(data, size="nano", patch=2)
    return LatentPredictionModel(data, encoder, mask_fraction=0.25, blocks=blocks, decoder_width=32, decoder_depth=1)


def test_hidden_patches_are_the_nearest_to_the_points() -> None:
    rng = np.random.default_rng(1)
    for grid in ((5, 7), (12,)):
        points = 1.0 - rng.random((20, 3, len(grid)))
        order = farthest_first(points, grid)
        for unit in range(20):
            far = []
            for place in np.ndindex(grid):
                middle = np.array(place) + 0.5
                far.append(min(max(abs(middle - point * grid)) for point in points[unit]))
            assert np.array_equal(np.sort(order[unit]), np.arange(len(far)))
            assert (np.diff(np.array(far)[order[unit]]) <= 1e-12).all()


def test_one_point_hides_one_block_and_every_patch_can_be_hidden() -> None:
    model = make()
    coins = 1.0 - np.random.default_rng(2).random((2000, model.coins))
    views = model.draw(group(["p"], np.ones((1, 128), np.float32)), np.zeros(2000, np.int64), coins)
    assert (model.squares, model.hidden) == (32, 8)
    hidden = views["order"].numpy().reshape(4000, 32)[:, 24:]
    rows, columns = np.divmod(hidden, 4)
    # A block of eight in a grid four wide: never wider or higher than it has to be at an edge.
    assert (np.ptp(rows, axis=1) <= 4).all() and (np.ptp(columns, axis=1) <= 3).all()
    assert (np.bincount(hidden.ravel(), minlength=32) > 0).all()


def test_patches_stand_in_their_order() -> None:
    model = make()
    images = np.random.default_rng(3).normal(size=(1, 128)).astype(np.float32)
    coins = 1.0 - np.random.default_rng(4).random((10, model.coins))
    views = model.draw(group(["p"], images), np.zeros(10, np.int64), coins)
    squares = images.reshape(8, 2, 4, 2).transpose(0, 2, 1, 3).reshape(32, 4)
    assert np.array_equal(views["patches"].numpy(), squares[views["order"].numpy()])


@pytest.mark.parametrize(("name", "encode"), [("latent_task", image_tokens), ("latent_signal_task", signal_tokens)])
def test_the_loss_agrees_with_numpy(name: str, encode: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    """The encoder here is given the seen patches alone, and then all: out of sight is as good as absent."""
    task: Any = request.getfixturevalue(name)
    model, named = task.model, named_weights(task.model)
    total, shown = model.squares, model.squares - model.hidden
    views = task.views(task.patients, np.arange(len(task.patients)))
    for unit in range(0, len(task.patients), 4):
        order = views["order"][unit].reshape(3, total).tolist()
        patches = views["patches"][unit].numpy().astype(np.float64).reshape(3, total, -1)
        expected = 0.0
        for record, weight in enumerate(views["weight"][unit].tolist()):
            places = order[record]
            context = encode(named, "encoder.", patches[record, :shown], places[:shown], depth=2, heads=2)
            whole = encode(named, "encoder.", patches[record], places, depth=2, heads=2)[shown:]
            target = (whole - whole.mean(axis=1, keepdims=True)) / np.sqrt(whole.var(axis=1, keepdims=True) + 1e-6)
            masks = np.repeat(named["mask.weight"], model.hidden, axis=0)
            tokens = np.concatenate([linear(named, "bridge", context), masks]) + named["places.weight"][places]
            hidden = transformer(named, "decoder", tokens, depth=1, heads=1)[shown:]
            expected += weight * float(((linear(named, "head", hidden) - target) ** 2).mean())
        loss = model({key: view[unit] for key, view in views.items()}).item()
        assert loss == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_what_is_hidden_does_not_reach_the_prediction(latent_task: Any) -> None:
    """Two units with the same seen patches have the same prediction; only the target differs."""
    task = latent_task
    views = task.views(task.patients, np.arange(1))
    seen: list[torch.Tensor] = []
    task.model.head.register_forward_hook(lambda _module, _given, out: seen.append(out.detach()))
    other = views["patches"].clone()
    shown = task.model.squares - task.model.hidden
    other.view(1, 3, task.model.squares, -1)[:, :, shown:] += 1.0
    losses = [task.model.losses(views | {"patches": patches}) for patches in (views["patches"], other)]
    assert torch.equal(seen[0], seen[1]) and not torch.equal(losses[0], losses[1])


def test_the_gradient_is_that_of_a_prediction_of_a_fixed_target(latent_task: Any) -> None:
    """The loss with a second model's targets, that nothing is learnt of, has the same gradient."""
    task = latent_task
    model, frozen = task.model, copy.deepcopy(task.model).requires_grad_(False)
    views = {name: view[0] for name, view in task.views(task.patients, np.arange(1)).items()}
    total, shown = model.squares, model.squares - model.hidden
    patches, order = views["patches"].view(3, total, -1), views["order"].view(3, total)
    latent = frozen.encoder.tokens(patches, order)[:, shown:]
    target = torch.nn.functional.layer_norm(latent, latent.shape[-1:], eps=1e-6)
    context = model.encoder.tokens(patches[:, :shown], order[:, :shown]).flatten(0, 1)
    errors = (model.head(model.filled(context, views["order"])).view_as(target) - target).square().mean(dim=(1, 2))
    wanted = torch.autograd.grad((views["weight"] * errors).sum(), list(model.parameters()))
    for (name, parameter), row in zip(model.named_parameters(), wanted, strict=True):
        found = torch.autograd.grad(model(views), parameter)[0]
        assert float((found - row).norm()) <= 1e-4 * float(row.norm()) + 1e-6, name


def test_it_learns_to_predict_hidden_latents() -> None:
    """Each image is one random wave across: what is hidden follows from what is seen."""
    rng = np.random.default_rng(5)
    x = np.arange(8)
    waves = np.sin(x * rng.uniform(0.5, 2.0, (64, 1)) + rng.uniform(0, 6, (64, 1)))
    images = np.repeat(waves[:, None, :], 16, axis=1).reshape(64, 128).astype(np.float32)
    model = make(DATA.model_copy(update={"records_per_patient": 1}), blocks=2)
    losses = learn(model, group([f"p{n:02d}" for n in range(64)], images), rng, 80)
    assert losses[0] > 1.0 and np.mean(losses[-5:]) < 0.5 * losses[0]
