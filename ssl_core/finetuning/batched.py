"""Step 13: run one encoder with many sets of parameters at once, on records that were prepared once.

Comes in: an encoder and records [m, ...] as in `Patients.records`. `prepare` gives the tensor that the encoder's
`forward` takes, [m, V]; `encode` gives features float32 [D, k, F] for D stacked parameter sets and inputs
[D, k, V]. Equal to `Encoder.embed` of each set; fine-tuning would else count the same words again in every step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from ssl_core.encoders.base import Encoder, Records
from ssl_core.encoders.hashed_words import HashedWords, mean_bag
from ssl_core.encoders.text_transformer import TextTransformer

Parameters = dict[str, Tensor]


def prepare(encoder: Encoder, records: Records) -> Tensor:
    """Records [m, ...] to the inputs of `encoder.forward`, float32 [m, V], for a text transformer int64 [m, V]."""
    if isinstance(encoder, TextTransformer):
        return encoder.prepare(records)
    if isinstance(encoder, HashedWords):
        codes = np.asarray(records, np.int32)
        return torch.from_numpy(mean_bag(codes, codes[:, :, 0] >= 0, encoder.buckets))
    return torch.from_numpy(np.ascontiguousarray(records, np.float32))


def stack(encoder: Encoder, count: int) -> Parameters:
    """`count` copies of the encoder's parameters, each [count, ...]."""
    return {name: parameter.detach().expand(count, *parameter.shape).clone() for name, parameter in encoder.named_parameters()}


def encode(encoder: Encoder, parameters: Parameters, inputs: Tensor) -> Tensor:
    """Inputs [D, k, V] under D parameter sets to features [D, k, F], with gradients."""

    def one(own: Parameters, record: Tensor) -> Tensor:
        features = functional_call(encoder, own, (record,))
        return torch.cat(features, dim=-1) if isinstance(features, tuple) else features

    encoded: Tensor = vmap(vmap(one, in_dims=(None, 0)))(parameters, inputs)
    return encoded
