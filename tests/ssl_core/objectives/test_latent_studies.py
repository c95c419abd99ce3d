"""Studies of latents and of several looks at a record: the private step, start weights, and what the check must refuse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests_material import PRIVACY

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import PrivacyError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round

IMAGE = {"kind": "image", "height": 8, "width": 8}
SIGNAL = {"kind": "signal", "channels": 2, "samples": 48, "rate_hz": 100, "units": ["mV"], "typical": [0.5]}
ENCODERS: dict[str, dict[str, Any]] = {
    "vit": {"name": "vit", "size": "nano", "patch": 2},
    "resnet": {"name": "resnet", "size": "nano"},
    "signal-transformer": {"name": "signal-transformer", "size": "nano", "patch": 8},
    "conv1d": {"name": "conv1d", "size": "nano"},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "latent-prediction": {"name": "latent-prediction", "blocks": 2, "decoder_width": 32, "decoder_depth": 1},
    "simsiam": {"name": "simsiam", "projector": 32, "predictor": 8, "flip": True},
    "vicreg-own": {"name": "vicreg-own", "crops": 3, "projector": 8},
}
STUDIES = [
    (objective, encoder)
    for objective in OBJECTIVES
    for encoder in ENCODERS
    if objective != "latent-prediction" or encoder in ("vit", "signal-transformer")
]
FROZEN = {
    ("latent-prediction", "vit"): "c441c9b045a84d1532a0e55701b2fb4263471cb4358c4e1294d28ba77b587d2b",
    ("simsiam", "conv1d"): "67ea248bacad6b95c7c0112164dbeaf579df9cc9c9111a73764c7f5dcb63d1f3",
    ("vicreg-own", "resnet"): "5081ba0449b940bc7f3d00a156f59ca8a410f0d5a4be5718fb25e0c4800666ed",
}


def plan(objective: str, encoder: str, records: int) -> StudyPlan:
    data = IMAGE if encoder in ("vit", "resnet") else SIGNAL
    body = {
        "name": "study",
        "purpose": "to test",
        "data": data | {"records_per_patient": records},
        "encoder": ENCODERS[encoder],
        "objective": OBJECTIVES[objective],
        "privacy": PRIVACY,
        "training": {"optimizer": "adam", "learning_rate": 0.05},
        "rounds": {"rounds": 2, "steps_per_round": 2},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": name, "nominal_size": 40} for name in ("a", "b", "c")],
    }
    return parse(StudyPlan, body, "plan")


@pytest.mark.parametrize(
    ("objective", "encoder"), [("latent-prediction", "vit"), ("simsiam", "resnet"), ("vicreg-own", "conv1d")]
)
def test_the_check_refuses_losses_that_are_centred_over_the_batch(objective: str, encoder: str) -> None:
    """What DINO, VICReg and BatchNorm do, in one line."""
    given = plan(objective, encoder, 1)
    model = build_model(given)
    honest = model.losses

    def coupled(views: Any) -> Any:
        found = honest(views)
        return found if found.dim() == 0 else found * found.mean()

    model.losses = coupled
    with pytest.raises(PrivacyError, match=r"couples? (units|patients)|another patient's gradient"):
        check_isolation(given, speed=SpeedSpec(chunk=5, engine="vmap"), model=model)


@pytest.mark.parametrize(("objective", "encoder"), STUDIES)
def test_private_training_moves_every_parameter(objective: str, encoder: str) -> None:
    given = plan(objective, encoder, 1)
    model, patients = build_model(given), synthetic_patients(given.data, 60)
    seen: list[np.ndarray] = []
    result = train_round(
        model=model, patients=patients, plan=given, nominal_size=40, start=to_vector(model), first_step=0, total_steps=4,
        state=None, speed=SpeedSpec(chunk=3), tap=seen.append,
    )  # fmt: skip
    assert len(seen) == 2 and all(np.isfinite(gradient).all() and gradient.any() for gradient in seen)
    assert np.isfinite(result.delta).all() and (result.delta != 0).mean() > 0.99


@pytest.mark.parametrize(("objective", "encoder"), list(FROZEN))
def test_start_weights_are_frozen_and_do_not_depend_on_the_number_of_records(objective: str, encoder: str) -> None:
    for records in (1, 4):
        assert weights_hash(to_vector(build_model(plan(objective, encoder, records)))) == FROZEN[objective, encoder]


@pytest.mark.parametrize(("objective", "encoder"), STUDIES)
def test_start_weights_lie_in_their_ranges_and_a_copy_is_the_same_model(objective: str, encoder: str) -> None:
    given = plan(objective, encoder, 1)
    model = build_model(given)
    for name, parameter in model.named_parameters():
        centre, half_width = model.init_range(name)
        assert float((parameter.detach() - centre).abs().max()) <= half_width * (1 + 1e-6)
        assert half_width == 0 or float(parameter.detach().std()) > 0.4 * half_width
    views = synthetic_views(model, given.data)
    assert torch.equal(model.losses(views), copy.deepcopy(model).losses(views))
