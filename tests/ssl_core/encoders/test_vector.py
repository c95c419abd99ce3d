"""Weights as a vector and their hash."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import torch
from torch import nn

from ssl_core.encoders.vector import load_vector, to_vector, weights_hash
from ssl_core.errors import ConfigError


def test_there_and_back_in_the_order_of_names() -> None:
    model = nn.Linear(2, 3)
    vector = np.arange(9, dtype=np.float32)
    load_vector(model, vector)
    assert torch.equal(model.weight, torch.arange(6.0).view(3, 2)) and model.bias.tolist() == [6.0, 7.0, 8.0]
    back = to_vector(model)
    assert np.array_equal(back, vector)
    back[:] = 0
    assert model.weight.any()


@pytest.mark.parametrize("vector", [np.zeros(8, np.float32), np.zeros(9), np.zeros((9, 1), np.float32)])
def test_vectors_that_do_not_fit_are_refused(vector: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        load_vector(nn.Linear(2, 3), vector)


def test_the_hash_is_sha256_of_little_endian_floats() -> None:
    values = [0.0, -0.0, 1.5, -3.25e-12]
    expected = hashlib.sha256(struct.pack("<4f", *values)).hexdigest()
    assert weights_hash(np.array(values, np.float32)) == expected
    with pytest.raises(ConfigError):
        weights_hash(np.zeros(3))
