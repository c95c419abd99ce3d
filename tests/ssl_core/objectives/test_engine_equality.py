"""Every plan that can be trained, K = 1 and K = 4: the engine that is chosen gives what a loop of single units gives."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.reference import exact_sum, loop_rows

TEXT = {"kind": "text", "words": 10, "codes": 2, "buckets": 32}
IMAGE = {"kind": "image", "height": 16, "width": 16, "pool": 2}
SIGNAL = {"kind": "signal", "channels": 2, "samples": 96, "rate_hz": 100, "units": ["mV"], "typical": [0.5]}
TABLE = {
    "kind": "table",
    "numeric": [{"name": "age", "centre": 60, "typical": 15}, {"name": "sodium", "typical": 4}],
    "categorical": [{"name": "sex", "levels": ["f", "m"]}],
}
SOUND = {"kind": "sound", "rate_hz": 1000, "seconds": 0.288, "mels": 8, "high_hz": 500, "window": 64, "hop": 32}
EVENTS = {"kind": "events", "vocabulary": ["a", "b", "c"], "events": 8, "gap_hours": [1, 24]}
DATA: dict[str, dict[str, Any]] = {
    "events": EVENTS, "text": TEXT, "image": IMAGE, "signal": SIGNAL, "table": TABLE, "sound": SOUND
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "hashed-words": {"width": 8},
    "text-transformer": {"size": "nano"},
    "event-transformer": {"size": "nano"},
    "mlp-image": {"hidden": 12, "code": 8},
    "vit": {"size": "nano", "patch": 4},
    "resnet": {"size": "nano"},
    "signal-transformer": {"size": "nano", "patch": 12},
    "conv1d": {"size": "nano"},
    "table-transformer": {"size": "nano"},
}
TASKS: dict[str, dict[str, Any]] = {
    "masked-image": {"patch": 2},
    "masked-autoencoding": {"decoder_width": 32, "decoder_depth": 1},
    "denoising": {"block": 0.25},
    "own-contrast": {"segments": 4, "gap": 12, "projection": 8},
    "contrastive-predictive": {"pieces": 4, "ahead": 2},
    "shuffled-order": {"segments": 3},
    "latent-prediction": {"blocks": 2, "decoder_width": 32, "decoder_depth": 1},
    "simsiam": {"projector": 32, "predictor": 8, "flip": True},
    "vicreg-own": {"crops": 3, "projector": 8},
    "crops-contrast": {"crops": 3, "projector": 8},
}


def plan(kinds: tuple[str, str, str], records: int) -> StudyPlan:
    data, encoder, task = kinds
    body: dict[str, Any] = {
        "name": "study",
        "purpose": "a test",
        "data": DATA[data] | {"records_per_patient": records},
        "encoder": {"name": encoder} | ENCODERS[encoder],
        "objective": {"name": task} | TASKS.get(task, {}),
        "privacy": {
            "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.05,
            "noise_multiplier": 1.0, "max_grad_norm": 0.5, "delta": 1e-5,
        },
        "training": {"optimizer": "adam", "learning_rate": 0.05},
        "rounds": {"rounds": 2, "steps_per_round": 2},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": name, "nominal_size": 9000} for name in ("a", "b", "c")],
    }  # fmt: skip
    return parse(StudyPlan, body, "plan")


ALL = pytest.mark.parametrize("kinds", sorted(MODELS), ids=" ".join)
SEVERAL = pytest.mark.parametrize("records", [1, 4])


@ALL
@SEVERAL
@pytest.mark.parametrize("choice", ["auto", "vmap"])
def test_rows_and_clipped_sum_are_those_of_single_units(
    kinds: tuple[str, str, str], records: int, choice: Literal["auto", "vmap"]
) -> None:
    given = plan(kinds, records)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    engine = choose_engine(model, views, choice)
    # The tables of hashed-words are bare parameters, which no layer owns.
    assert engine.name == ("vmap" if choice == "vmap" or kinds[1] == "hashed-words" else "bookkeeping"), engine.reason
    wanted = loop_rows(model, views)
    for fast, slow in zip(engine.rows(views), wanted, strict=True):
        assert float((fast - slow).norm()) <= 1e-4 * float(slow.norm()) + 1e-6
    whole = _flat(exact_sum(wanted, 0.01))
    found = _flat(engine.clipped_sum(views, (1.0 + engine.gamma) * 0.01).grads)
    assert float((found - whole).norm()) <= 1e-5 * float(whole.norm())


@ALL
@SEVERAL
@pytest.mark.parametrize("choice", ["auto", "vmap"])
def test_the_isolation_check_passes(kinds: tuple[str, str, str], records: int, choice: Literal["auto", "vmap"]) -> None:
    report = check_isolation(plan(kinds, records), speed=SpeedSpec(chunk=4, engine=choice))
    assert report.greatest_change <= TOLERANCE and len(report.pairs) >= 5


@ALL
def test_no_gradient_jumps(kinds: tuple[str, str, str]) -> None:
    """At a jump the last bits, in which two batches differ, could change another patient's row by more than bits."""
    given = plan(kinds, 4)
    model = build_model(given)
    left: list[Any] = [model.losses(synthetic_views(model, given.data)).grad_fn]
    seen = set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [following for following, _ in node.next_functions]
    names = {type(node).__name__ for node in seen}
    jumps = ("Relu", "Max", "Min", "Abs", "Threshold", "Hardtanh", "Median", "Sort", "Topk")
    assert len(names) > 5 and not [name for name in names if name.startswith(jumps)]


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.double().reshape(-1) for part in parts])
