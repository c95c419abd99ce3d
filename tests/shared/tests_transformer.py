"""A second transformer, in plain numpy float64, one record and one head at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import erf, log_softmax

from ssl_core.data.patients import Patients

Named = Mapping[str, np.ndarray]


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function."""
    out: np.ndarray = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    return out


def named_weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().astype(np.float64) for name, value in model.named_parameters()}


def randomise(model: Any) -> Any:
    """Weights in which every parameter matters, biases and LayerNorms too."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def learn(model: Any, patients: Patients, rng: np.random.Generator, steps: int) -> list[float]:
    """The mean loss before each of `steps` plain Adam steps, from weights drawn as a study draws them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, half_width = model.init_range(name)
            parameter.copy_(centre + half_width * (2 * torch.rand(parameter.shape) - 1))
    model.start_round()
    index = np.arange(len(patients.units))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = model.losses(model.draw(patients, index, 1.0 - rng.random((len(index), model.coins)))).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def linear(named: Named, name: str, x: np.ndarray) -> np.ndarray:
    out: np.ndarray = x @ named[f"{name}.weight"].T + named[f"{name}.bias"]
    return out


def layer_norm(named: Named, name: str, x: np.ndarray) -> np.ndarray:
    scale = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    out: np.ndarray = (x - x.mean(axis=-1, keepdims=True)) / scale * named[f"{name}.weight"] + named[f"{name}.bias"]
    return out


def attention(named: Named, name: str, x: np.ndarray, heads: int, causal: bool = False) -> np.ndarray:
    queries, keys, values = np.split(linear(named, f"{name}.qkv", x), 3, axis=1)
    size = x.shape[1] // heads
    mixed = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for token in range(len(x)):
            seen = slice(0, token + 1 if causal else len(x))
            scores = np.array([queries[token, part] @ key for key in keys[seen, part]]) / np.sqrt(size)
            shares = np.exp(scores - scores.max())
            mixed[token, part] = shares / shares.sum() @ values[seen, part]
    return linear(named, f"{name}.proj", mixed)


def transformer(named: Named, name: str, x: np.ndarray, *, depth: int, heads: int, causal: bool = False) -> np.ndarray:
    """Tokens [T, width] of one record, all of them real."""
    for number in range(depth):
        block = f"{name}.blocks.{number}"
        x = x + attention(named, f"{block}.attention", layer_norm(named, f"{block}.before_attention", x), heads, causal)
        wide = linear(named, f"{block}.widen", layer_norm(named, f"{block}.before_perceptron", x))
        x = x + linear(named, f"{block}.narrow", gelu(wide))
    return layer_norm(named, f"{name}.norm", x)


def image_tokens(named: Named, name: str, squares: np.ndarray, places: list[int], *, depth: int, heads: int) -> np.ndarray:
    """Squares [T, D] of a vision transformer to tokens [T, width]."""
    x = linear(named, f"{name}pixels", squares) + named[f"{name}places.weight"][places]
    return transformer(named, f"{name}trunk", x, depth=depth, heads=heads)


def signal_tokens(named: Named, name: str, pieces: np.ndarray, places: list[int], *, depth: int, heads: int) -> np.ndarray:
    """Pieces [T, D] of a signal transformer to tokens [T, width]."""
    x = linear(named, f"{name}waves", pieces) + named[f"{name}places.weight"][places]
    return transformer(named, f"{name}trunk", x, depth=depth, heads=heads)


def text_tokens(
    named: Named,
    name: str,
    words: list[tuple[int, ...] | None],
    *,
    buckets: int,
    codes: int,
    depth: int,
    heads: int,
    causal: bool = False,
) -> np.ndarray:
    """Words of one record in their order, None for a hidden one, to tokens [words, width]."""
    table = named[f"{name}table.weight"].reshape(codes, buckets + 1, -1)
    x = np.stack(
        [
            sum(table[c, buckets if word is None else word[c]] for c in range(codes)) + named[f"{name}places.weight"][at]
            for at, word in enumerate(words)
        ]
    )
    return transformer(named, f"{name}trunk", x, depth=depth, heads=heads, causal=causal)


def surprise(logits: np.ndarray, word: tuple[int, ...], buckets: int) -> float:
    """Minus the sum over code tables of log softmax at the word's codes."""
    tables = log_softmax(logits.reshape(len(word), buckets), axis=1)
    return -float(sum(tables[c, code] for c, code in enumerate(word)))
