"""A model with a bank whose weights have moved on since its round began, and plain numpy for what it compares."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch


def moved_on(model: Any) -> Any:
    """The weights of the round's start, as a model of its own; those of `model` are others from now on."""
    begun = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return begun


def unit_rows(rows: np.ndarray) -> np.ndarray:
    out: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return out


def directions(model: Any, shown: torch.Tensor | np.ndarray) -> np.ndarray:
    """Looks [n, V] to float64 [n, d], of length 1."""
    looks = shown if isinstance(shown, torch.Tensor) else torch.from_numpy(shown.copy())
    with torch.no_grad():
        return unit_rows(model.project(model.encoder(looks)).numpy().astype(np.float64))
