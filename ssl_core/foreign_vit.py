"""Before step 1: a vision transformer that another library saved, under the names that vit.py has for its tensors.

Comes in: tensors by name, as timm (and with it DeiT, MAE and DINO), Hugging Face's transformers or torchvision save a ViT.
Goes out: the same numbers under `encoder.` + vit.py's names, the rest under the library's name and theirs, a line for people.
Exact: a convolution over squares is a Linear of their pixels, queries, keys and values may lie in one matrix or three, a
LayerScale is folded into the Linear before it. Not exact, and said: kernels of several colours are added up, which is what
they give of a grey picture; positions of another grid are resized as in Dosovitskiy et al., "An Image is Worth 16x16 Words"
(ICLR 2021), section 3.2. Left over: class and register tokens, heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_core.encoders.vit import VisionTransformer

if TYPE_CHECKING:
    from torch import Tensor

_TARGET = "encoder."
_KINDS = ("weight", "bias")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a library names a ViT: its own name, kernels, positions, class token, last norm; `{}` is the number of the block.

    `apart`: queries, keys, values, each in a Linear of its own. `scales`: LayerScale after attention and after the perceptron.
    """

    maker: str
    kernels: str
    places: str
    token: str
    norm: str
    block: str
    layers: Mapping[str, str]
    apart: tuple[str, str, str] | None = None
    scales: Mapping[str, str] | None = None


TIMM = Dialect(
    "timm", "patch_embed.proj", "pos_embed", "cls_token", "norm", "blocks.{}.",
    {
        "before_attention": "norm1", "attention.qkv": "attn.qkv", "attention.proj": "attn.proj",
        "before_perceptron": "norm2", "widen": "mlp.fc1", "narrow": "mlp.fc2",
    },
    scales={"attention.proj": "ls1.gamma", "narrow": "ls2.gamma"},
)  # fmt: skip
TRANSFORMERS = Dialect(
    "transformers", "embeddings.patch_embeddings.projection", "embeddings.position_embeddings", "embeddings.cls_token",
    "layernorm", "encoder.layer.{}.",
    {
        "before_attention": "layernorm_before", "attention.proj": "attention.output.dense",
        "before_perceptron": "layernorm_after", "widen": "intermediate.dense", "narrow": "output.dense",
    },
    apart=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
)  # fmt: skip
TORCHVISION = Dialect(
    "torchvision", "conv_proj", "encoder.pos_embedding", "class_token", "encoder.ln", "encoder.layers.encoder_layer_{}.",
    {
        "before_attention": "ln_1", "attention.qkv": "self_attention.in_proj_", "attention.proj": "self_attention.out_proj",
        "before_perceptron": "ln_2", "widen": "mlp.0", "narrow": "mlp.3",
    },
)  # fmt: skip
DIALECTS = (TIMM, TRANSFORMERS, TORCHVISION)


def translate(tensors: Mapping[str, Tensor], encoder: VisionTransformer) -> tuple[dict[str, Tensor], str | None]:
    """The tensors under this library's names, and what was done; as they came, and None, where no dialect is recognised."""
    for dialect in DIALECTS:
        ends = f"{dialect.kernels}.weight"
        prefixes = [name.removesuffix(ends) for name in tensors if name.endswith(ends)]
        # Two image towers in one file: nobody can know which is meant.
        if len(prefixes) == 1 and prefixes[0] + dialect.places in tensors:
            return _translated(dict(tensors), dialect, prefixes[0], encoder)
    return dict(tensors), None


def _translated(
    left: dict[str, Tensor], dialect: Dialect, prefix: str, encoder: VisionTransformer
) -> tuple[dict[str, Tensor], str]:
    out: dict[str, Tensor] = {}
    said = [f"names of {dialect.maker} read as this model's"]
    kernels = left.pop(f"{prefix}{dialect.kernels}.weight")
    if kernels.dim() == 4 and kernels.shape[1] > 1:
        said.append(f"{kernels.shape[1]} colours added up")
    out["pixels.weight"] = kernels.sum(dim=1).flatten(1) if kernels.dim() == 4 else kernels
    out["places.weight"], resized = _places(left.pop(prefix + dialect.places), prefix + dialect.token in left, encoder)
    said += [resized] if resized else []
    for ours, theirs in {"pixels": dialect.kernels, "trunk.norm": dialect.norm}.items():
        _move(left, f"{prefix}{theirs}.", out, f"{ours}.")
    before, after = (prefix + dialect.block).split("{}")
    numbers = re.compile(f"{re.escape(before)}([0-9]{{1,4}}){re.escape(after)}.*", re.DOTALL)
    for number in sorted({found[1] for found in map(numbers.fullmatch, left) if found is not None}):
        _block(left, f"{before}{number}{after}", dialect, out, f"trunk.blocks.{number}.")
    # Under names that no model here has: a head of theirs is not a head of ours.
    rest = {f"{dialect.maker}/{name}": tensor for name, tensor in left.items()}
    return {_TARGET + name: tensor for name, tensor in out.items()} | rest, "; ".join(said)


def _block(left: dict[str, Tensor], theirs: str, dialect: Dialect, out: dict[str, Tensor], ours: str) -> None:
    import torch

    for mine, name in dialect.layers.items():
        # torchvision writes in_proj_weight, without a point.
        _move(left, theirs + name + ("" if name.endswith("_") else "."), out, f"{ours}{mine}.")
    for kind in _KINDS if dialect.apart else ():
        parts = [f"{theirs}{name}.{kind}" for name in dialect.apart or ()]
        shapes = {left[part].shape if part in left else None for part in parts}
        # Single numbers, of shape [], cannot be put side by side.
        if len(shapes) == 1 and shapes.pop():
            out[f"{ours}attention.qkv.{kind}"] = torch.cat([left.pop(part) for part in parts])
    for mine, name in (dialect.scales or {}).items():
        scaled = [f"{ours}{mine}.{kind}" for kind in _KINDS if f"{ours}{mine}.{kind}" in out]
        if theirs + name in left and all(out[one].shape[:1] == left[theirs + name].shape for one in scaled):
            scale = left.pop(theirs + name)
            out |= {one: (out[one].T * scale).T if out[one].dim() == 2 else out[one] * scale for one in scaled}


def _move(left: dict[str, Tensor], theirs: str, out: dict[str, Tensor], ours: str) -> None:
    out |= {ours + kind: left.pop(theirs + kind) for kind in _KINDS if theirs + kind in left}


def _places(places: Tensor, token: bool, encoder: VisionTransformer) -> tuple[Tensor, str | None]:
    """Positions [1, n, width] to [squares, width], and how they were resized; as they are where n is of no grid.

    token: there is a class token, whose position may stand before the others. A grid is taken for square where it can be one.
    """
    from torch.nn import functional

    if places.dim() != 3 or len(places) != 1:
        return places, None
    flat = places[0]
    rows, columns = encoder.height // encoder.patch, encoder.width // encoder.patch
    for count in (len(flat) - 1, len(flat)) if token else (len(flat),):
        side = math.isqrt(max(count, 0))
        grid = flat[len(flat) - count :]
        square_grid = count > 0 and side * side == count
        if count == encoder.squares and (not square_grid or rows == columns):
            return grid, None
        if square_grid:
            square = grid.float().T.reshape(1, -1, side, side)
            resized = functional.interpolate(square, (rows, columns), mode="bicubic", align_corners=False)
            return resized.flatten(2)[0].T.contiguous(), f"positions resized from {side} x {side} to {rows} x {columns}"
    return flat, None
