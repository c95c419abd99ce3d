"""Models from plans: the same start weights everywhere, frozen by hash; sizes of the recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssl_core.config import StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.objectives.build import build_model

TEXT = {
    "data": {"kind": "text"},
    "encoder": {"name": "hashed-words", "width": 64},
    "objective": {"name": "masked-words"},
}
IMAGE = {
    "data": {"kind": "image", "height": 64, "width": 64, "pool": 2, "records_per_patient": 2},
    "encoder": {"name": "mlp-image"},
    "objective": {"name": "masked-image"},
}
FROZEN = {
    ("text", 0): "6061c01e78bffb281203056d9dbaa942cebcd00360acbf0f55049eeab2b379d7",
    ("text", 7): "0ce2793a27537b3f4df7c0496cecb6b2b9d3176868615dec4ecf69e6af1c6718",
    ("image", 0): "d68c14564d1c1527fcadea74efbf94d1a8398f215903fe47ead3b00cc493cb3f",
}


def plan(parts: dict[str, Any], seed: int = 0) -> StudyPlan:
    privacy = {"unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.05}
    rest = {
        "name": "study",
        "purpose": "a test",
        "privacy": privacy | {"noise_multiplier": 1.0, "max_grad_norm": 0.5, "delta": 1e-5},
        "training": {"optimizer": "adam", "learning_rate": 0.05},
        "rounds": {"rounds": 2, "steps_per_round": 2},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": name, "nominal_size": 9000} for name in ("a", "b", "c")],
        "seed": seed,
    }
    return parse(StudyPlan, parts | rest, "plan")


@pytest.mark.parametrize(("kind", "seed"), list(FROZEN))
def test_start_weights_are_frozen(kind: str, seed: int) -> None:
    model = build_model(plan(TEXT if kind == "text" else IMAGE, seed))
    assert weights_hash(to_vector(model)) == FROZEN[kind, seed]


def test_sizes_are_those_of_the_recipes() -> None:
    assert len(to_vector(build_model(plan(TEXT)))) == 132_224
    assert len(to_vector(build_model(plan(IMAGE)))) == 427_904


@pytest.mark.parametrize("parts", [TEXT, IMAGE])
def test_start_weights_lie_in_their_ranges_and_fill_them(parts: dict[str, Any]) -> None:
    model = build_model(plan(parts))
    for name, parameter in model.named_parameters():
        centre, half_width = model.init_range(name)
        values = parameter.detach().numpy()
        assert np.abs(values - centre).max() <= half_width * (1 + 1e-6)
        if half_width:
            assert values.std() == pytest.approx(half_width / np.sqrt(3), rel=0.02)
            assert abs(values.mean() - centre) < 0.02 * half_width
    assert any(half_width for _, half_width in (model.init_range(name) for name, _ in model.named_parameters()))


def test_start_weights_depend_on_model_and_seed_alone() -> None:
    first = plan(TEXT, 3)
    other = first.model_copy(update={"name": "another", "purpose": "something else"})
    assert np.array_equal(to_vector(build_model(first)), to_vector(build_model(other)))
    assert not np.array_equal(to_vector(build_model(first)), to_vector(build_model(plan(TEXT, 4))))
