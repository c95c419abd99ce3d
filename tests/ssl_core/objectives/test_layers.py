"""What an engine that takes gradients layer by layer relies on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

ONCE = [
    "language_task", "autoencoding_task", "signal_task", "features_task", "several_language_task", "next_task",
    "denoising_task", "denoising_image_task", "latent_task", "latent_signal_task",
]  # fmt: skip
NEAR = [
    "language_task", "autoencoding_task", "signal_task", "order_task", "rotation_task", "jigsaw_task", "features_task",
    "next_task", "denoising_task", "denoising_image_task", "denoising_mlp_task", "own_task", "own_transformer_task",
    "predictive_task", "caption_task", "target_task", "cosine_task", "shuffled_words_task",
]  # fmt: skip


@pytest.mark.parametrize("name", ONCE)
def test_every_parameter_is_of_a_layer_that_is_called_once_with_the_batch_first(
    name: str, request: pytest.FixtureRequest
) -> None:
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(5))
    layers = {at: module for at, module in task.model.named_modules() if list(module.parameters(recurse=False))}
    assert {type(module) for module in layers.values()} == {nn.Linear, nn.LayerNorm, nn.Embedding}
    assert len({id(module.weight) for module in layers.values()}) == len(layers)
    calls: Counter[str] = Counter()

    def count(at: str, dimensions: int) -> Any:
        def heard(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            calls[at] += 1
            assert len(given) == 1 and given[0].dim() == dimensions and len(given[0]) == len(out) == 5

        return heard

    for at, module in layers.items():
        module.register_forward_hook(count(at, 2 if isinstance(module, nn.Embedding) else 3))
    task.model.losses(views)
    assert calls == dict.fromkeys(layers, 1)


@pytest.mark.parametrize("name", ["order_task", "rotation_task", "jigsaw_task"])
def test_layers_of_the_convolutional_nets_are_called_once_with_the_units_records_in_front(
    name: str, request: pytest.FixtureRequest
) -> None:
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(5))
    layers = {at: module for at, module in task.model.named_modules() if list(module.parameters(recurse=False))}
    kinds = {type(module) for module in layers.values()}
    assert kinds == {nn.Conv1d if name == "order_task" else nn.Conv2d, nn.GroupNorm, nn.Linear}
    assert len({id(module.weight) for module in layers.values()}) == len(layers)
    seen: dict[str, Tensor] = {}

    def keep(at: str) -> Any:
        def heard(_module: nn.Module, given: tuple[Tensor, ...], _out: Tensor) -> None:
            assert at not in seen and len(given) == 1
            seen[at] = given[0].detach()

        return heard

    for at, module in layers.items():
        module.register_forward_hook(keep(at))
    task.model.losses(views)
    together, seen = seen, {}
    assert together.keys() == layers.keys()
    task.model.losses({key: view[3:4] for key, view in views.items()})
    for at, module in layers.items():
        assert len(together[at]) == (5 if isinstance(module, nn.Linear) else 15)
        alone = together[at][3:4] if isinstance(module, nn.Linear) else together[at][9:12]
        torch.testing.assert_close(seen[at], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NEAR)
def test_losses_in_bfloat16_are_near_and_bad_records_stay_exact(name: str, request: pytest.FixtureRequest) -> None:
    task: Any = request.getfixturevalue(name)
    views = task.views(task.patients, np.arange(len(task.patients)))
    exact = task.model.losses(views)
    with torch.autocast("cpu", torch.bfloat16):
        near = task.model.losses(views)
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    torch.testing.assert_close(near, exact, rtol=0.05, atol=0.05)
    bad = [task.patients.units.index(unit) for unit in task.bad]
    assert not near[bad].any()
    found = torch.autograd.grad(near[bad].sum(), list(task.model.parameters()))
    assert not any(part.any() for part in found)
