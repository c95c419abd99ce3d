"""A small study on synthetic patients, with the product's own model, for the rows about noise, ledger and training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests_material import PRIVACY

from ssl_core.config import StudyPlan, parse
from ssl_core.data.patients import Patients
from ssl_core.privacy.synthetic import synthetic_patients


@pytest.fixture
def make_plan() -> Callable[..., StudyPlan]:
    """`make_plan(noise_multiplier=4.0)` changes what the guarantee depends on."""

    def make(**privacy: Any) -> StudyPlan:
        body: dict[str, Any] = {
            "name": "study",
            "purpose": "to be attacked",
            "data": {"kind": "image", "height": 8, "width": 8, "records_per_patient": 2},
            "encoder": {"name": "mlp-image", "hidden": 12, "code": 6},
            "objective": {"name": "masked-image", "patch": 2},
            "privacy": PRIVACY | privacy,
            "training": {"optimizer": "sgd", "learning_rate": 0.1},
            "rounds": {"rounds": 4, "steps_per_round": 20},
            "aggregation": {"update_range": 1.0},
            "sites": [{"name": name, "nominal_size": 40} for name in ("a", "b", "c")],
        }
        return parse(StudyPlan, body, "plan")

    return make


@pytest.fixture
def plan(make_plan: Callable[..., StudyPlan]) -> StudyPlan:
    return make_plan()


@pytest.fixture
def patients(plan: StudyPlan) -> Patients:
    return synthetic_patients(plan.data, 40)
