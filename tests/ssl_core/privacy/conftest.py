"""A tiny pretext model of our own, plans of every kind, and synthetic patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests_engines import EVENTS, IMAGE, TABLE, TEXT
from tests_material import PRIVACY
from torch import Tensor, nn

from ssl_core.config import StudyPlan, parse
from ssl_core.data.patients import Patients
from ssl_core.encoders.base import Encoder
from ssl_core.objectives.base import PretextModel, Views, choose
from ssl_core.privacy.synthetic import synthetic_patients

SIGNAL = {
    "data": {"kind": "signal", "channels": 2, "samples": 24, "rate_hz": 50, "units": ["mV"], "typical": [0.5]},
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 6},
    "objective": {"name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1},
}
TINY = {**IMAGE, "data": {"kind": "image", "height": 8, "width": 8, "pool": 2, "records_per_patient": 1}}


class TinyEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.feature_width = 3
        self.linear = nn.Linear(16, 3)
        self.norm = nn.LayerNorm(3)

    def forward(self, seen: Tensor) -> Tensor:
        found: Tensor = self.norm(torch.tanh(self.linear(seen)))
        return found

    def embed(self, records: Any) -> Tensor:
        return self(torch.from_numpy(np.asarray(records)))


class TinyModel(PretextModel):
    """One record of the unit, each entry hidden by its own coin, predicted from the rest."""

    encoder: TinyEncoder

    def __init__(self) -> None:
        super().__init__()
        self.coins = 17
        self.encoder = TinyEncoder()
        self.head = nn.Linear(3, 16)

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        self.check_draw(index, uniforms)
        rows = patients.offsets[index] + choose(uniforms[:, 0], patients.counts()[index])
        target = np.asarray(patients.records[rows], np.float32)
        seen = np.where(uniforms[:, 1:] > 0.5, target, np.float32(0))
        return {"seen": torch.from_numpy(seen), "target": torch.from_numpy(target)}

    def forward(self, views: Views) -> Tensor:
        return (self.head(self.encoder(views["seen"])) - views["target"]).square().mean()

    def init_range(self, name: str) -> tuple[float, float]:
        return 0.0, 0.5


@pytest.fixture
def tiny() -> TinyModel:
    model = TinyModel()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.4)
    return model


@pytest.fixture
def make_plan() -> Callable[..., StudyPlan]:
    def make(kind: dict[str, Any] = TINY, **changes: Any) -> StudyPlan:
        training: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.05}
        body: dict[str, Any] = {
            "name": "study",
            "purpose": "to test",
            **kind,
            "privacy": PRIVACY | changes.get("privacy", {}),
            "training": training | changes.get("training", {}),
            "rounds": {"rounds": 4, "steps_per_round": 5},
            "aggregation": {"update_range": 1.0},
            "sites": [{"name": name, "nominal_size": 40} for name in ("a", "b", "c")],
        }
        return parse(StudyPlan, body, "plan")

    return make


@pytest.fixture
def patients(make_plan: Callable[..., StudyPlan]) -> Patients:
    return synthetic_patients(make_plan().data, 40)


@pytest.fixture(params=["tiny", "text", "image", "signal", "table", "events"])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"tiny": TINY, "text": TEXT, "image": IMAGE, "signal": SIGNAL, "table": TABLE, "events": EVENTS}[request.param]
