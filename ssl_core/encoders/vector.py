"""Steps 7 and 11 of 12: a model's weights as one vector, and their hash.

The vector is float32 [P]: the parameters in the order of `named_parameters()`, each flattened row by row. The hash is
SHA-256 over its little-endian bytes, so that all machines agree on what "the same weights" means (ruling 12).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ssl_core.errors import ConfigError
from ssl_core.model_update import weights_digest


def to_vector(model: nn.Module) -> npt.NDArray[np.float32]:
    """All parameters of `model`, float32 [P], a copy."""
    parts = [parameter.detach().cpu().numpy().reshape(-1) for _, parameter in model.named_parameters()]
    return np.concatenate(parts).astype(np.float32, copy=False)


def load_vector(model: nn.Module, vector: npt.NDArray[np.float32]) -> None:
    """Overwrite the parameters of `model` by `vector` float32 [P]; `ConfigError` where it does not fit."""
    size = sum(parameter.numel() for parameter in model.parameters())
    if vector.dtype != np.float32 or vector.shape != (size,):
        raise ConfigError(
            "weights do not fit the model",
            field="vector",
            value=f"{vector.dtype} {vector.shape}",
            limit=f"float32 ({size},)",
        )
    begin = 0
    with torch.no_grad():
        for parameter in model.parameters():
            part = np.array(vector[begin : begin + parameter.numel()])
            parameter.copy_(torch.from_numpy(part).view_as(parameter))
            begin += parameter.numel()


def weights_hash(vector: npt.NDArray[np.float32]) -> str:
    """64 hex digits of SHA-256 over the little-endian bytes of `vector` float32 [P]."""
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise ConfigError("weights to hash have the wrong type", field="vector", value=vector.dtype, limit="float32 [P]")
    return weights_digest(vector).hex()
