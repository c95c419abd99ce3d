"""Models from plans: the same start weights everywhere, frozen by hash; sizes of the recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import PrivacyError
from ssl_core.objectives.build import build_model
from ssl_core.privacy.isolation import TOLERANCE, check_isolation

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
LANGUAGE = {
    "data": {"kind": "text", "words": 12, "codes": 2, "buckets": 64},
    "encoder": {"name": "text-transformer", "size": "nano"},
    "objective": {"name": "masked-language"},
}
AUTOENCODING = {
    "data": {"kind": "image", "height": 16, "width": 16, "records_per_patient": 2},
    "encoder": {"name": "vit", "size": "nano", "patch": 4},
    "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
}
PARTS = {"text": TEXT, "image": IMAGE, "language": LANGUAGE, "autoencoding": AUTOENCODING}
FROZEN = {
    ("text", 0): "6061c01e78bffb281203056d9dbaa942cebcd00360acbf0f55049eeab2b379d7",
    ("text", 7): "0ce2793a27537b3f4df7c0496cecb6b2b9d3176868615dec4ecf69e6af1c6718",
    ("image", 0): "d68c14564d1c1527fcadea74efbf94d1a8398f215903fe47ead3b00cc493cb3f",
    ("language", 0): "b02e212ec32205e9574452336558831cc12f199ed94a7d016d57fc3e4bb58e95",
    ("autoencoding", 0): "8aee8ad78f6943b9538af663e2dcdb551c7d7962e67d2c5e922fdba0a4525cfd",
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
    model = build_model(plan(PARTS[kind], seed))
    assert weights_hash(to_vector(model)) == FROZEN[kind, seed]


def test_sizes_are_those_of_the_recipes() -> None:
    assert len(to_vector(build_model(plan(TEXT)))) == 132_224
    assert len(to_vector(build_model(plan(IMAGE)))) == 427_904


def test_sizes_of_the_transformers_with_their_heads() -> None:
    """Encoder, then what is added to it for pretraining."""
    block = 12 * 32 * 32 + 13 * 32
    encoder = 130 * 32 + 12 * 32 + 2 * block + 64
    assert len(to_vector(build_model(plan(LANGUAGE)))) == encoder + 33 * 128
    encoder = 17 * 32 + 16 * 32 + 2 * block + 64
    assert len(to_vector(build_model(plan(AUTOENCODING)))) == encoder + 33 * 32 + 32 + 16 * 32 + block + 64 + 33 * 16


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_start_weights_lie_in_their_ranges_and_fill_them(parts: dict[str, Any]) -> None:
    model = build_model(plan(parts))
    for name, parameter in model.named_parameters():
        centre, half_width = model.init_range(name)
        values = parameter.detach().numpy()
        assert np.abs(values - centre).max() <= half_width * (1 + 1e-6)
        if half_width:
            spread = max(0.02, 3 / np.sqrt(values.size))
            assert values.std() == pytest.approx(half_width / np.sqrt(3), rel=spread)
            assert abs(values.mean() - centre) < spread * half_width
    assert any(half_width for _, half_width in (model.init_range(name) for name, _ in model.named_parameters()))


def test_start_weights_depend_on_model_and_seed_alone() -> None:
    first = plan(TEXT, 3)
    other = first.model_copy(update={"name": "another", "purpose": "something else"})
    assert np.array_equal(to_vector(build_model(first)), to_vector(build_model(other)))
    assert not np.array_equal(to_vector(build_model(first)), to_vector(build_model(plan(TEXT, 4))))


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize("parts", [LANGUAGE, AUTOENCODING], ids=["language", "autoencoding"])
def test_the_transformers_pass_the_isolation_check(parts: dict[str, Any], chunk: int) -> None:
    report = check_isolation(plan(parts), speed=SpeedSpec(chunk=chunk))
    assert report.greatest_change <= TOLERANCE and len(report.pairs) >= 5
    assert 0.9 < report.greatest_contribution <= 2.0


def test_the_isolation_check_refuses_an_autoencoder_that_takes_the_mean_over_the_batch() -> None:
    """Pixels normalised over the batch, as a batch statistic would: the negative control of the test above."""
    model = build_model(plan(AUTOENCODING))
    honest = model.draw

    def coupled(*given: Any) -> dict[str, Any]:
        views = honest(*given)
        return views | {"target": views["target"] - views["target"].mean(dim=0)}

    model.draw = coupled
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(plan(AUTOENCODING), speed=SpeedSpec(chunk=5), model=model)
