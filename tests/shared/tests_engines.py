"""Small models for the gradient engines, every layer that the fast path knows, every way to be unlike one; a patient less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.data.patients import Patients
from ssl_core.objectives.base import PretextModel, Views, choose

IMAGE: dict[str, Any] = {
    "data": {"kind": "image", "height": 8, "width": 8, "records_per_patient": 2},
    "encoder": {"name": "mlp-image", "hidden": 12, "code": 6},
    "objective": {"name": "masked-image", "patch": 2},
}
TEXT: dict[str, Any] = {
    "data": {"kind": "text", "words": 8, "codes": 2, "buckets": 32},
    "encoder": {"name": "hashed-words", "width": 8},
    "objective": {"name": "masked-words"},
}
VIT: dict[str, Any] = {
    "encoder": {"name": "vit", "size": "nano", "patch": 2},
    "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
}
TABLE: dict[str, Any] = {
    "data": {
        "kind": "table",
        "numeric": [{"name": "age", "centre": 60, "typical": 15}, {"name": "sodium", "unit": "mmol/L", "typical": 4}],
        "categorical": [{"name": "sex", "levels": ["f", "m"]}, {"name": 'a, "b"', "levels": ["'", "x, y", "z"]}],
        "records_per_patient": 2,
    },
    "encoder": {"name": "table-transformer", "size": "nano"},
    "objective": {"name": "masked-features", "mask_fraction": 0.5},
}
PAIR: dict[str, Any] = {
    "data": {
        "kind": "pair",
        "image": {"height": 8, "width": 8},
        "text": {"words": 6, "buckets": 32},
        "records_per_patient": 2,
    },
    "encoder": {"name": "two-tower", "size": "nano", "patch": 4, "joint": 8},
    "objective": {"name": "caption"},
}
EVENTS: dict[str, Any] = {
    "data": {"kind": "events", "vocabulary": ["a", "b, c", "é"], "events": 6, "gap_hours": [1, 48.5], "records_per_patient": 2},
    "encoder": {"name": "event-transformer", "size": "nano"},
    "objective": {"name": "next-event"},
}
TEXT_TRANSFORMER: dict[str, Any] = {
    "encoder": {"name": "text-transformer", "size": "nano"},
    "objective": {"name": "masked-language"},
}


class Given(PretextModel):
    """A model whose views are made by the test; `forward` is one unit of `losses`."""

    def draw(self, *_: Any) -> Any:
        raise NotImplementedError

    def init_range(self, name: str) -> tuple[float, float]:
        return 0.0, 0.5

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def forward(self, views: dict[str, Tensor]) -> Tensor:
        return self.losses({name: view[None] for name, view in views.items()})[0]


class Block(nn.Module):
    """Pre-norm transformer block of own attention; tokens float32 [b, T, width]."""

    def __init__(self, width: int, heads: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = norm(width), norm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        shape = (*tokens.shape[:2], 3, self.heads, tokens.shape[2] // self.heads)
        query, key, value = self.mix(self.before(tokens)).view(shape).permute(2, 0, 3, 1, 4)
        # Written out: torch's fused attention warns under vmap, and warnings are errors here.
        scores = (query @ key.transpose(2, 3) / key.shape[3] ** 0.5).softmax(dim=3)
        seen = (scores @ value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(seen)
        return tokens + self.narrow(functional.gelu(self.wide(self.after(tokens))))


class Words(Given):
    """Codes int64 [b, T], 0 for none, to their own prediction."""

    def __init__(self, width: int = 6, heads: int = 2, codes: int = 7, depth: int = 1, tokens: int = 16, rms: bool = False):
        super().__init__()
        norm: Callable[[int], nn.Module] = nn.RMSNorm if rms else nn.LayerNorm
        self.table, self.places = nn.Embedding(codes, width, padding_idx=0), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*[Block(width, heads, norm) for _ in range(depth)])
        self.head = nn.Linear(width, codes)

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        codes = views["codes"]
        places = torch.arange(codes.shape[1], device=codes.device).expand_as(codes)
        logits = self.head(self.blocks(self.table(codes) * views["scale"][:, None, None] + self.places(places)))
        errors = functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none")
        return errors.view(codes.shape).mean(dim=1) * views["weight"]

    @staticmethod
    def views(units: int, tokens: int = 5, codes: int = 7, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(0, codes, (units, tokens), generator=generator)
        return {"codes": drawn, "scale": 1.0 + torch.rand(units, generator=generator), "weight": torch.ones(units)}


class Pictures(Given):
    """Pictures float32 [b, k, channels, side, side]: k pictures of a unit go through the convolutions as rows of their own."""

    def __init__(self, side: int = 6, channels: int = 2, width: int = 4, stride: int = 1, hidden: int = 5):
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, width, 3, padding=1, stride=stride), nn.GroupNorm(2, width)
        self.second = nn.Conv1d(width, hidden, 2, dilation=2)
        self.rms, self.last = nn.RMSNorm(hidden), nn.Linear(hidden, 3)

    def losses(self, views: dict[str, Tensor]) -> Tensor:
        pictures = views["pictures"]
        found = torch.tanh(self.norm(self.first(pictures.flatten(0, 1)))).flatten(2)
        found = self.last(self.rms(self.second(found).transpose(1, 2)))
        return (found - 1.0).square().flatten(1).mean(dim=1).view(pictures.shape[:2]).mean(dim=1) * views["weight"]

    @staticmethod
    def views(units: int, count: int = 2, side: int = 6, channels: int = 2, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        pictures = torch.randn(units, count, channels, side, side, generator=generator)
        return {"pictures": pictures, "weight": torch.ones(units)}


def with_weights(model: Given, seed: int = 0) -> Given:
    """Weights with no entry at rest."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(1.2 * torch.rand(parameter.shape, generator=generator) - 0.4)
    return model


def without_patient(patients: Patients, place: int) -> Patients:
    """All but the unit at `place`."""
    return patients.take(np.delete(np.arange(len(patients), dtype=np.int64), place))


def two_masked(patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Views:
    """Of each unit one record of 16 values, hidden in two ways by its own coins float64 [B, 33]: "one" and "two", [B, 16]."""
    rows = patients.offsets[index] + choose(uniforms[:, 0], patients.counts()[index])
    record = np.asarray(patients.records[rows], np.float32)
    views = [np.where(uniforms[:, 1 + 16 * at : 17 + 16 * at] > 0.3, record, np.float32(0)) for at in (0, 1)]
    return {"one": torch.from_numpy(views[0]), "two": torch.from_numpy(views[1])}
