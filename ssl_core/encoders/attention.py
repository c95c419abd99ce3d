"""Step 3 of 12: the transformer block that both transformers are made of: attention, perceptron, LayerNorm before each.

Comes in: tokens float32 [..., K * T, width], K records of one unit side by side with T tokens each; `bias` float32
[..., K * T], added to the score of each token as a key (`HIDE` where a token is to be ignored), or None. Goes out: the
same shape. Attention is softmax(Q K^T / sqrt(d)) V within a record: Vaswani et al., "Attention Is All You Need" (NeurIPS
2017), section 3.2; with `causal`, a token sees itself and those before it in its record: section 3.2.3. The block is that
of Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1.

Every parameter lies in an nn.Linear, nn.LayerNorm or nn.Embedding that is called once a pass with tokens [..., tokens,
width]: so an engine that takes gradients layer by layer knows whose they are. Records share the token axis and are told
apart inside the attention alone, which has no parameters. No dropout, no buffer. The product is written out, since torch
2.13 has no vmap rule for its fused attention and runs it unit by unit; at these lengths both take the same time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDE = -1e9
"""Finite, so that a record without any token has finite scores; exp(HIDE - s) is exactly 0 in float32 and bfloat16."""

_EPSILON = 1e-6


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm as in the vision transformer: within one token, epsilon 1e-6."""
    return nn.LayerNorm(width, eps=_EPSILON)


class Attention(nn.Module):
    """`heads` heads of width / heads each; one Linear for queries, keys and values, one for the result."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, records: int, bias: Tensor | None) -> Tensor:
        """Tokens [..., records * T, width] to the same shape; a token sees its own record, or its past there."""
        length, width = tokens.shape[-2] // records, tokens.shape[-1]
        parts = self.qkv(tokens).reshape(-1, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        scores = query @ key.transpose(-1, -2) * (1.0 / math.sqrt(width // self.heads))
        if bias is not None:
            scores = scores + bias.reshape(-1, 1, 1, length)
        if self.causal:
            scores = scores + torch.full((length, length), HIDE, dtype=scores.dtype, device=scores.device).triu(1)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(tokens.shape)
        out: Tensor = self.proj(mixed)
        return out


class Block(nn.Module):
    """tokens + attention(norm(tokens)), then + perceptron(norm(tokens)) with four times the width and GELU."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.before_attention = layer_norm(width)
        self.attention = Attention(width, heads, causal)
        self.before_perceptron = layer_norm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, records: int, bias: Tensor | None) -> Tensor:
        """Tokens [..., records * T, width] to the same shape."""
        tokens = tokens + self.attention(self.before_attention(tokens), records, bias)
        out: Tensor = tokens + self.narrow(functional.gelu(self.widen(self.before_perceptron(tokens))))
        return out


class Transformer(nn.Module):
    """`depth` blocks and a last LayerNorm."""

    def __init__(self, width: int, depth: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, causal) for _ in range(depth))
        self.norm = layer_norm(width)

    def forward(self, tokens: Tensor, records: int = 1, bias: Tensor | None = None) -> Tensor:
        """Tokens [..., records * T, width] to the same shape."""
        for block in self.blocks:
            tokens = block(tokens, records, bias)
        out: Tensor = self.norm(tokens)
        return out


def start_range(model: nn.Module, name: str) -> tuple[float, float]:
    """Centre and half width from which parameter `name` of a transformer starts, by the layer that it belongs to.

    Linear weights: uniform as in Glorot and Bengio (AISTATS 2010), equation 16, as in He et al. (CVPR 2022), appendix A.1.
    Embeddings: uniform with the standard deviation 0.02 of the papers' (truncated) normal. Biases 0, LayerNorm identity.
    """
    layer, _, kind = name.rpartition(".")
    module = model.get_submodule(layer)
    if isinstance(module, nn.Embedding):
        return 0.0, 0.02 * math.sqrt(3.0)
    if isinstance(module, nn.Linear) and kind == "weight":
        return 0.0, math.sqrt(6.0 / (module.in_features + module.out_features))
    return (1.0, 0.0) if isinstance(module, nn.LayerNorm) and kind == "weight" else (0.0, 0.0)
