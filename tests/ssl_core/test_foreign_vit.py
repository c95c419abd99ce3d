"""A vision transformer of another library gives, under our names, the features that torch's own layers give.

The names are those that timm 1.0.31, transformers 5.23 and torchvision 0.29 were seen to save; models of these libraries,
read so, gave their own features to 3e-7 (docs/warm-start.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import save_file
from tests_material import small_plan
from torch import Tensor, nn
from typer.testing import CliRunner

from choral import app
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.foreign_vit import translate
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=16, width=32)
PICTURES = torch.randn(3, 1, 16, 32, generator=torch.Generator().manual_seed(1))
WIDTH, HEADS, DEPTH, PATCH, SQUARES = 32, 2, 2, 8, 8


class Reference(nn.Module):
    """torch's own layers; `colours` kernels, the first token is no square."""

    def __init__(self, colours: int = 3, places: int = SQUARES + 1) -> None:
        super().__init__()
        self.kernels, self.places = nn.Conv2d(colours, WIDTH, PATCH, PATCH), nn.Parameter(torch.zeros(1, places, WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, nn.functional.gelu, layer_norm_eps=1e-6, batch_first=True, norm_first=True
            )
            for _ in range(DEPTH)
        )
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        generator = torch.Generator().manual_seed(2)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.kernels(pictures.expand(-1, self.kernels.in_channels, -1, -1)).flatten(2).transpose(1, 2)
        tokens = tokens + self.places[:, -SQUARES:]
        for layer in self.layers:
            tokens = layer(tokens)
        out: Tensor = self.norm(tokens).mean(dim=1)
        return out


LAYER = {
    "timm": ("blocks.{}.", "norm1", "norm2", "mlp.fc1", "mlp.fc2", "attn.proj"),
    "transformers": (
        "vit.encoder.layer.{}.", "layernorm_before", "layernorm_after", "intermediate.dense", "output.dense",
        "attention.output.dense",
    ),
    "torchvision": ("encoder.layers.encoder_layer_{}.", "ln_1", "ln_2", "mlp.0", "mlp.3", "self_attention.out_proj"),
}  # fmt: skip
REST = {
    "timm": ("patch_embed.proj", "pos_embed", "norm", "cls_token"),
    "transformers": (
        "vit.embeddings.patch_embeddings.projection", "vit.embeddings.position_embeddings", "vit.layernorm",
        "vit.embeddings.cls_token",
    ),
    "torchvision": ("conv_proj", "encoder.pos_embedding", "encoder.ln", "class_token"),
}  # fmt: skip


def saved(library: str, model: Reference) -> dict[str, Tensor]:
    """The reference's numbers under the names of a library."""
    kernels, places, norm, token = REST[library]
    block, first, second, widen, narrow, proj = LAYER[library]
    out = {places: model.places.data, token: torch.ones(1, 1, WIDTH)}
    for kind in ("weight", "bias"):
        out |= {f"{kernels}.{kind}": getattr(model.kernels, kind), f"{norm}.{kind}": getattr(model.norm, kind)}
        for number, layer in enumerate(model.layers):
            start, attention = block.format(number), layer.self_attn
            parts = {
                first: layer.norm1,
                second: layer.norm2,
                widen: layer.linear1,
                narrow: layer.linear2,
                proj: attention.out_proj,
            }
            out |= {f"{start}{name}.{kind}": getattr(part, kind) for name, part in parts.items()}
            whole = getattr(attention, f"in_proj_{kind}")
            if library == "timm":
                out[f"{start}attn.qkv.{kind}"] = whole
            elif library == "torchvision":
                out[f"{start}self_attention.in_proj_{kind}"] = whole
            else:
                for name, part in zip(("query", "key", "value"), whole.chunk(3), strict=True):
                    out[f"{start}attention.attention.{name}.{kind}"] = part
    return {name: tensor.detach().clone() for name, tensor in out.items()}


def encoder() -> VisionTransformer:
    return VisionTransformer(DATA, size="nano", patch=PATCH)


def features(tensors: dict[str, Tensor]) -> Tensor:
    model = encoder()
    model.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    )
    out: Tensor = model(PICTURES.flatten(1)).detach()
    return out


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("library", sorted(LAYER))
def test_features_are_those_of_the_other_library(library: str, colours: int) -> None:
    model = Reference(colours)
    found, said = translate(saved(library, model) | {"head.bias": torch.ones(4)}, encoder())
    assert said == f"names of {library} read as this model's" + ("; 3 colours added up" if colours == 3 else "")
    assert {name for name in found if not name.startswith("encoder.")} == {
        f"{library}/{REST[library][3]}", f"{library}/head.bias"
    }  # fmt: skip
    torch.testing.assert_close(features(found), model(PICTURES).detach(), rtol=1e-5, atol=1e-5)


def test_a_layer_scale_is_folded_into_the_layer_before_it() -> None:
    model = Reference()
    tensors, scale = saved("timm", model), torch.linspace(0.5, 2.0, WIDTH)
    for number, layer in enumerate(model.layers):
        tensors |= {f"blocks.{number}.ls1.gamma": scale, f"blocks.{number}.ls2.gamma": 2.0 * scale}
        for part, factor in ((layer.self_attn.out_proj, scale), (layer.linear2, 2.0 * scale)):
            part.weight.data *= factor[:, None]
            part.bias.data *= factor
    found, _ = translate(tensors, encoder())
    torch.testing.assert_close(features(found), model(PICTURES).detach(), rtol=1e-5, atol=1e-5)


def test_positions_of_another_grid_are_resized_and_a_constant_stays_one() -> None:
    tensors = saved("timm", Reference(places=26))
    tensors["pos_embed"][:, 1:] = torch.arange(float(WIDTH))
    found, said = translate(tensors, encoder())
    assert said is not None and said.endswith("; positions resized from 5 x 5 to 2 x 4")
    torch.testing.assert_close(found["encoder.places.weight"], torch.arange(float(WIDTH)).expand(SQUARES, WIDTH))
    # Nine are a class token's and eight squares' where the file has a class token, three by three where it has none.
    for token in (True, False):
        for count, kept in ((30, 30), (9, 8), (8, 8), (0, 0)):
            given = tensors | {"pos_embed": torch.zeros(1, count, WIDTH)}
            if not token:
                del given["cls_token"]
            found, said = translate(given, encoder())
            assert found["encoder.places.weight"].shape == (kept, WIDTH), count
            assert said is not None and ("resized from 3 x 3" in said) == (count == 9 and not token)


def wrong_heads(tensors: dict[str, Tensor]) -> None:
    tensors["vit.encoder.layer.0.attention.attention.key.weight"] = torch.ones(3, WIDTH)


def single_numbers(tensors: dict[str, Tensor]) -> None:
    for part in ("query", "key", "value"):
        tensors[f"vit.encoder.layer.0.attention.attention.{part}.weight"] = torch.tensor(1.0)


def no_key(tensors: dict[str, Tensor]) -> None:
    del tensors["vit.encoder.layer.0.attention.attention.key.weight"]


@pytest.mark.parametrize("damage", [wrong_heads, no_key, single_numbers])
def test_queries_without_their_keys_are_left_over(damage: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = saved("transformers", Reference())
    damage(tensors)
    found, _ = translate(tensors, encoder())
    assert "encoder.trunk.blocks.0.attention.qkv.weight" not in found and "encoder.trunk.blocks.1.attention.qkv.weight" in found
    assert "transformers/vit.encoder.layer.0.attention.attention.query.weight" in found


def test_what_is_no_vision_transformer_or_two_of_them_stays_as_it_is() -> None:
    both = {f"{tower}.{name}": value for tower in ("image", "video") for name, value in saved("timm", Reference()).items()}
    for tensors in (both, {"pixels.weight": torch.ones(2, 2)}, {"patch_embed.proj.weight": torch.ones(2, 1, 2, 2)}):
        found, said = translate(tensors, encoder())
        assert said is None and found.keys() == tensors.keys()


def test_a_folder_of_start_weights_is_made_from_a_model_of_timm_and_says_so(tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "data": {"kind": "image", "height": 16, "width": 32},
        "encoder": {"name": "vit", "size": "nano", "patch": PATCH},
        "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
    }
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(small_plan(["site-a", "site-b", "site-c"], **parts)))
    save_file(saved("timm", Reference()), tmp_path / "timm.safetensors")
    begin = ["operator", "prepare", str(tmp_path / "plan.toml"), "--steps", "0", "--from", str(tmp_path / "timm.safetensors")]
    refused = CliRunner().invoke(app, [*begin, "--out", str(tmp_path / "none")])
    assert refused.exit_code != 0 and not (tmp_path / "none").exists()
    done = CliRunner().invoke(app, [*begin, "--out", str(tmp_path / "start"), "--partial"])
    assert done.exit_code == 0, done.output
    assert "names of timm read as this model's; 3 colours added up" in done.output and "not used: timm/cls_token" in done.output
    facts = json.loads((tmp_path / "start" / "start.json").read_bytes())
    assert facts["taken"]["translated"].startswith("names of timm") and len(facts["taken"]["matched"]) == 29
