"""The counts of parameters in the help are those of the encoders, built without memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from typer.testing import CliRunner

from server.cli import app
from ssl_core.encoders.conv_signal import ConvSignal
from ssl_core.encoders.event_transformer import EventTransformer
from ssl_core.encoders.hashed_words import HashedWords
from ssl_core.encoders.mlp_image import MlpImage
from ssl_core.encoders.resnet import ResNet
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.table_transformer import TableTransformer
from ssl_core.encoders.text_transformer import TextTransformer
from ssl_core.encoders.two_tower import TwoTower
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.spec import encoder as written
from ssl_core.spec.data import EventData, ImageData, NumericColumn, PairData, SignalData, TableData, TextData
from ssl_core.spec.sizes import PARAMETERS, lines

IMAGE = ImageData(kind="image", height=64, width=64)
SIGNAL = SignalData(kind="signal", channels=1, samples=3000, rate_hz=100, units=("mV",), typical=(0.5,))
TEXT = TextData(kind="text", words=64)
TABLE = TableData(kind="table", numeric=tuple(NumericColumn(name=f"c{n}", typical=1) for n in range(30)))
EVENTS = EventData(kind="events", vocabulary=tuple(f"e{n}" for n in range(100)), events=64, gap_hours=(1.0, 24.0))
PAIR = PairData(kind="pair", image={"height": 64, "width": 64}, text={"words": 64})
BUILD: dict[str, Callable[[Any], Any]] = {
    "hashed-words": lambda size: HashedWords(TEXT, width=64),
    "mlp-image": lambda size: MlpImage(IMAGE, hidden=256, code=128),
    "vit": lambda size: VisionTransformer(IMAGE, size=size, patch=8),
    "resnet": lambda size: ResNet(IMAGE, size=size),
    "signal-transformer": lambda size: SignalTransformer(SIGNAL, size=size, patch=50),
    "conv1d": lambda size: ConvSignal(SIGNAL, size=size),
    "text-transformer": lambda size: TextTransformer(TEXT, size=size),
    "event-transformer": lambda size: EventTransformer(EVENTS, size=size),
    "table-transformer": lambda size: TableTransformer(TABLE, size=size),
    "two-tower": lambda size: TwoTower(PAIR, size=size, patch=8, joint=64),
}
KINDS = {kind.model_fields["name"].annotation.__args__[0]: kind for kind in get_args(written.Encoder)}  # type: ignore[union-attr]


def test_every_encoder_and_size_that_a_plan_may_name_is_listed() -> None:
    assert set(PARAMETERS) == set(KINDS) == set(BUILD)
    for name, kind in KINDS.items():
        sizes = get_args(kind.model_fields["size"].annotation) if "size" in kind.model_fields else ("",)
        assert set(PARAMETERS[name]) == set(sizes) - {"nano"}


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in PARAMETERS.items() for size in sizes])
def test_counts_are_those_of_the_encoder(name: str, size: str) -> None:
    with torch.device("meta"):
        assert sum(part.numel() for part in BUILD[name](size).parameters()) == PARAMETERS[name][size]


@pytest.mark.parametrize("command", ["prepare", "launch"])
def test_the_help_lists_them(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}).output
    said = re.sub(r"\s+", " ", shown)
    assert all(line in said for line in lines())
    assert "vit: micro (158,336), tiny (5,363,520)" in said
