"""The models of bench_private_step.py, by name, and how views of them are made: made-up units, weights in their ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ssl_core.data.patients import Patients
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.objectives.base import PretextModel, Views
from ssl_core.objectives.masked_autoencoding import MaskedAutoencodingModel
from ssl_core.objectives.masked_language import MaskedLanguageModel
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import ImageData, SignalData, TextData
from ssl_core.spec.encoder import TextTransformerSize, VitSize


@dataclass(frozen=True)
class Case:
    """A model and how its views are made."""

    name: str
    model: PretextModel
    views: Callable[[int], Views]
    trial: Views


def image(size: VitSize, quick: bool) -> Case:
    side, patch = (16, 4) if quick else (64, 8)
    data = ImageData(kind="image", height=side, width=side)
    shape = {"mask_fraction": 0.75, "decoder_width": 32 if quick else 128, "decoder_depth": 1 if quick else 2}
    model = MaskedAutoencodingModel(data, VisionTransformer(data, size="nano" if quick else size, patch=patch), **shape)
    return _drawn(f"ViT-{size}, masked autoencoding, {side} x {side} by {patch}", model, data)


def text(size: TextTransformerSize, quick: bool) -> Case:
    data = TextData(kind="text", words=8 if quick else 64, codes=1, buckets=16 if quick else 2048)
    model = MaskedLanguageModel(data, size="nano" if quick else size, mask_fraction=0.15)
    return _drawn(f"text transformer {size}, masked language, {data.words} words", model, data)


def signal(size: VitSize, quick: bool) -> Case:
    channels, samples, patch = (2, 24, 6) if quick else (12, 1000, 20)
    data = SignalData(kind="signal", channels=channels, samples=samples, rate_hz=100, units=("mV",), typical=(0.5,))
    shape = {"mask_fraction": 0.75, "decoder_width": 32 if quick else 128, "decoder_depth": 1 if quick else 2}
    model = MaskedAutoencodingModel(data, SignalTransformer(data, size="nano" if quick else size, patch=patch), **shape)
    return _drawn(f"signal transformer {size}, masked autoencoding, {channels} x {samples} by {patch}", model, data)


def _drawn(name: str, model: PretextModel, data: Any) -> Case:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            centre, half_width = model.init_range(key)
            parameter.copy_(centre + half_width * (2.0 * torch.rand(parameter.shape, generator=generator) - 1.0))

    def views(units: int) -> Views:
        uniforms = 1.0 - np.random.default_rng(0).random((units, model.coins))
        patients: Patients = synthetic_patients(data, units)
        return model.draw(patients, np.arange(units), uniforms)

    return Case(name, model, views, synthetic_views(model, data))


MODELS: dict[str, Callable[[bool], Case]] = {
    "vit-tiny": partial(image, "tiny"),
    "vit-small": partial(image, "small"),
    "text": partial(text, "mini"),
    "signal": partial(signal, "tiny"),
}
