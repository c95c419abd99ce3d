"""Models from plans: the same start weights everywhere, frozen by hash; sizes of the recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests_tasks import plan as plan_of

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import BucketModel
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.privacy.engines import synthetic_views
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round
from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.refused import REFUSED

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
AUTOENCODING: dict[str, Any] = {
    "data": {"kind": "image", "height": 16, "width": 16, "records_per_patient": 2},
    "encoder": {"name": "vit", "size": "nano", "patch": 4},
    "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
}
SIGNAL: dict[str, Any] = {
    "data": {
        "kind": "signal", "channels": 2, "samples": 40, "rate_hz": 100, "units": ["mV"], "typical": [0.5],
        "records_per_patient": 2,
    },
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 5},
    "objective": {"name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1},
}  # fmt: skip
POWER = SIGNAL | {"objective": SIGNAL["objective"] | {"target": "log-power"}}
SUMMARY = AUTOENCODING | {"objective": AUTOENCODING["objective"] | {"summary_weight": 1.0}}
SUMMARY_SIGNAL = SIGNAL | {
    "data": SIGNAL["data"] | {"samples": 80},
    "encoder": SIGNAL["encoder"] | {"pool": "mean-deviation"},
    "objective": POWER["objective"] | {"summary_weight": 1.0},
}
ORDER = {
    "data": SIGNAL["data"] | {"samples": 96},
    "encoder": {"name": "conv1d", "size": "nano"},
    "objective": {"name": "shuffled-order", "segments": 3, "gap": 4},
}
ROTATION = {
    "data": {"kind": "image", "height": 16, "width": 16, "records_per_patient": 4},
    "encoder": {"name": "resnet", "size": "nano"},
    "objective": {"name": "rotation"},
}
JIGSAW = ROTATION | {"objective": {"name": "jigsaw", "grid": 2, "gap": 1}}
FEATURES: dict[str, Any] = {
    "data": {
        "kind": "table",
        "numeric": [{"name": "age", "unit": "years", "centre": 60, "typical": 15}, {"name": "sodium", "typical": 4}],
        "categorical": [{"name": "sex", "levels": ["f", "m"]}, {"name": "ward", "levels": ["a", "b", "c"]}],
        "records_per_patient": 4,
    },
    "encoder": {"name": "table-transformer", "size": "nano"},
    "objective": {"name": "masked-features"},
}
ALONE = FEATURES | {"data": FEATURES["data"] | {"records_per_patient": 1}}
NUMBERS = FEATURES | {"data": {name: part for name, part in FEATURES["data"].items() if name != "categorical"}}
LEVELS = FEATURES | {"data": {name: part for name, part in FEATURES["data"].items() if name != "numeric"}}
NEXT = {
    "data": LANGUAGE["data"] | {"records_per_patient": 4},
    "encoder": LANGUAGE["encoder"],
    "objective": {"name": "next-token"},
}
EVENT = {
    "data": {"kind": "events", "vocabulary": ["a", "b", "c"], "events": 6, "gap_hours": [1, 24], "records_per_patient": 4},
    "encoder": {"name": "event-transformer", "size": "nano"},
    "objective": {"name": "next-event"},
}
DENOISING = SIGNAL | {"objective": {"name": "denoising", "block": 0.25}}
DENOISING_POWER = SIGNAL | {"objective": {"name": "denoising", "target": "log-power"}}
DENOISING_IMAGE = AUTOENCODING | {"objective": {"name": "denoising", "block": 0.25}}
DENOISING_MLP = DENOISING_IMAGE | {"encoder": {"name": "mlp-image", "hidden": 16, "code": 8}}
OWN = ORDER | {"objective": {"name": "own-contrast", "segments": 4, "gap": 4, "projection": 8}}
OWN_TRANSFORMER = OWN | {"encoder": {"name": "signal-transformer", "size": "nano", "patch": 4}}
PREDICTIVE = ORDER | {"objective": {"name": "contrastive-predictive", "pieces": 6, "ahead": 2}}
CAPTION: dict[str, Any] = {
    "data": {
        "kind": "pair",
        "image": {"height": 16, "width": 16},
        "text": {"words": 8, "buckets": 64},
        "records_per_patient": 2,
    },
    "encoder": {"name": "two-tower", "size": "nano", "patch": 4, "joint": 16},
    "objective": {"name": "caption"},
}
TARGET = CAPTION | {"objective": {"name": "text-target", "bank": 16}}
COSINE = CAPTION | {"objective": {"name": "text-target", "bank": 0}}
PARTS = {
    "text": TEXT,
    "image": IMAGE,
    "language": LANGUAGE,
    "autoencoding": AUTOENCODING,
    "signal": SIGNAL,
    "power": POWER,
    "summary": SUMMARY,
    "summary signal": SUMMARY_SIGNAL,
    "order": ORDER,
    "rotation": ROTATION,
    "jigsaw": JIGSAW,
    "features": FEATURES,
    "features of one record": ALONE,
    "numbers": NUMBERS,
    "levels": LEVELS,
    "next": NEXT,
    "event": EVENT,
    "denoising": DENOISING,
    "denoising power": DENOISING_POWER,
    "denoising image": DENOISING_IMAGE,
    "denoising mlp": DENOISING_MLP,
    "own": OWN,
    "own transformer": OWN_TRANSFORMER,
    "predictive": PREDICTIVE,
    "caption": CAPTION,
    "text target": TARGET,
    "text target by cosine": COSINE,
}
FROZEN = {
    ("text", 0): "6061c01e78bffb281203056d9dbaa942cebcd00360acbf0f55049eeab2b379d7",
    ("text", 7): "0ce2793a27537b3f4df7c0496cecb6b2b9d3176868615dec4ecf69e6af1c6718",
    ("image", 0): "d68c14564d1c1527fcadea74efbf94d1a8398f215903fe47ead3b00cc493cb3f",
    ("language", 0): "b02e212ec32205e9574452336558831cc12f199ed94a7d016d57fc3e4bb58e95",
    ("autoencoding", 0): "8aee8ad78f6943b9538af663e2dcdb551c7d7962e67d2c5e922fdba0a4525cfd",
    ("signal", 0): "45b3e8d9ab0f9f00057086b2d21812fd91a8ef61c9c14e2c2ec6c127e783ae1a",
    ("order", 0): "a1955a38aef12b3b685f1171661245f76466ef3d539fe693a7c9baf1dd021b6a",
    ("rotation", 0): "238a335300e8d0bcf4072f92dcc06818dc5a65d5cefc552f3ebd6b99011cf558",
    ("features", 0): "7e1d38b282fe070ff29b7ba03849dddfcfb9ce8b09d0452fc6d2638100448df4",
    ("next", 0): "b02e212ec32205e9574452336558831cc12f199ed94a7d016d57fc3e4bb58e95",
    ("event", 0): "b7e99ebc03a5ed466a02e7b7563d38282f60d3aaade570cd32a9f352d9e53509",
    ("denoising", 0): "402327b72ce14ddd2f7e664c2755680f1db4f7598eb08133614f26921088e495",
    ("denoising mlp", 0): "4e393aeaca8a2c6dff9c08ab39e24c7a17adf99c4ca48a131db227c403b68314",
    ("own", 0): "70f28535945aad87d0e657d21de1bb9658539d421962a05262db33784541a10c",
    ("predictive", 0): "17e0cc6a9e3d1690ddd6ca611ab05abc273f701394baea3ccf50e8ce6ad49765",
    ("caption", 0): "1f46956d156ad80f4c8dde7aedb2bcf38f19ac6369d67a02be0a5db2cbd2dbd1",
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
    assert len(to_vector(build_model(plan(SUMMARY)))) == len(to_vector(build_model(plan(AUTOENCODING)))) + 33 * 2 * 64
    encoder = 11 * 32 + 8 * 32 + 2 * block + 64
    assert len(to_vector(build_model(plan(SIGNAL)))) == encoder + 33 * 32 + 32 + 8 * 32 + block + 64 + 33 * 10


def test_sizes_of_the_table_transformer_with_its_head() -> None:
    block = 12 * 32 * 32 + 13 * 32
    # A row for each code and one for "hidden": 2 + 1 of a number, 4 + 1 and 5 + 1 of the levels; then a scale a number.
    encoder = (3 + 3 + 5 + 6) * 32 + 2 * 32 + 2 * block + 64
    assert len(to_vector(build_model(plan(FEATURES)))) == encoder + 33 * (1 + 1 + 3 + 4)


def test_sizes_of_what_the_other_tasks_add() -> None:
    block = 12 * 32 * 32 + 13 * 32
    text, image, signal = 130 * 32 + 12 * 32, 17 * 32 + 16 * 32, 11 * 32 + 8 * 32
    wave = 9 * 32 + 24 * 32
    conv = 7 * 2 * 8 + 2 * 8 + 7 * 8 * 16 + 2 * 16
    trunk = 2 * block + 64
    expected = {
        "next": text + trunk + 33 * 128,
        "denoising": signal + trunk + 33 * 10,
        "denoising power": signal + trunk + 33 * 4,
        "denoising image": image + trunk + 33 * 16,
        "denoising mlp": 257 * 16 + 32 + 17 * 8 + 9 * 256,
        "own": conv + 17 * 16 + 17 * 8,
        "own transformer": wave + trunk + 33 * 32 + 33 * 8,
        "caption": image + trunk + 33 * 16 + 17 * 128,
        "text target": image + trunk + 33 * 16,
        "predictive": conv + 6 * 16 + 12 * 16 * 16 + 13 * 16 + 32 + 17 * 32,
    }
    assert {name: len(to_vector(build_model(plan(PARTS[name])))) for name in expected} == expected


def test_sizes_of_the_convolutional_nets_with_their_heads() -> None:
    encoder = 7 * 2 * 8 + 2 * 8 + 7 * 8 * 16 + 2 * 16
    assert len(to_vector(build_model(plan(ORDER)))) == encoder + (3 * 16 + 1) * 9
    first = 9 * 8 + 16 + 2 * (9 * 8 * 8 + 16)
    second = 9 * 8 * 16 + 32 + 9 * 16 * 16 + 32 + 8 * 16 + 32
    assert len(to_vector(build_model(plan(ROTATION)))) == first + second + 17 * 4


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


@pytest.mark.parametrize("chunk", [1, 64])
@pytest.mark.parametrize("parts", list(PARTS.values())[2:], ids=list(PARTS)[2:])
def test_the_others_pass_the_isolation_check(parts: dict[str, Any], chunk: int) -> None:
    report = check_isolation(plan(parts), speed=SpeedSpec(chunk=chunk))
    assert report.greatest_change <= TOLERANCE and len(report.pairs) >= 5
    assert 0.9 < report.greatest_contribution <= 2.0


@pytest.mark.parametrize("parts", list(PARTS.values())[4:], ids=list(PARTS)[4:])
def test_private_training_moves_every_parameter(parts: dict[str, Any]) -> None:
    given = plan(parts)
    model, patients = build_model(given), synthetic_patients(given.data, 60)
    start = to_vector(model)
    seen: list[np.ndarray] = []
    result = train_round(
        model=model, patients=patients, plan=given, nominal_size=9000, start=start, first_step=0, total_steps=4,
        state=None, speed=SpeedSpec(chunk=3), tap=seen.append,
    )  # fmt: skip
    assert len(seen) == 2 and all(np.isfinite(gradient).all() and gradient.any() for gradient in seen)
    assert np.isfinite(result.delta).all() and (result.delta != 0).mean() > 0.99


@pytest.mark.parametrize("parts", [OWN, PREDICTIVE], ids=["own", "predictive"])
def test_the_isolation_check_refuses_negatives_of_other_patients(parts: dict[str, Any]) -> None:
    """As plain SimCLR and CPC have them: the first window of the batch's next patient in place of an own one."""
    model = build_model(plan(parts))
    honest = model.draw

    def coupled(*given: Any) -> dict[str, Any]:
        views = honest(*given)
        shown = views["shown"].clone()
        shown[..., 0, :] = shown[..., 0, :].roll(1, dims=0)
        return views | {"shown": shown}

    model.draw = coupled
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(plan(parts), speed=SpeedSpec(chunk=5), model=model)


def test_the_isolation_check_refuses_the_reports_of_other_patients_as_wrong_texts() -> None:
    """As CLIP has them: away from the report of the batch's next patient."""
    model = build_model(plan(COSINE))
    honest = model.draw

    def coupled(*given: Any) -> dict[str, Any]:
        views = honest(*given)
        return views | {"target": views["target"] - 0.5 * views["target"].roll(1, dims=0)}

    model.draw = coupled
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(plan(COSINE), speed=SpeedSpec(chunk=5), model=model)


@pytest.mark.parametrize(
    ("parts", "name"),
    [(AUTOENCODING, "target"), (SIGNAL, "target"), (SUMMARY, "summary"), (SUMMARY_SIGNAL, "summary")],
    ids=["autoencoding", "signal", "summary", "summary signal"],
)
def test_the_isolation_check_refuses_an_autoencoder_that_takes_the_mean_over_the_batch(
    parts: dict[str, Any], name: str
) -> None:
    """Targets normalised over the batch, as a batch statistic would: the negative control of the test above."""
    model = build_model(plan(parts))
    honest = model.draw

    def coupled(*given: Any) -> dict[str, Any]:
        views = honest(*given)
        return views | {name: views[name] - views[name].mean(dim=0)}

    model.draw = coupled
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        check_isolation(plan(parts), speed=SpeedSpec(chunk=5), model=model)


@pytest.mark.parametrize("task", sorted({task for refused in REFUSED.values() for task in refused.instead}))
def test_what_is_named_in_place_of_a_refused_task_can_be_built(task: str) -> None:
    kinds = next(kinds for kinds in sorted(TOGETHER) if kinds[2] == task)
    given = plan_of(kinds, 1)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    losses = model(views) if isinstance(model, BucketModel) else model.losses(views)
    assert bool((losses > 0).any()) and bool(losses.isfinite().all())


def test_there_is_a_model_for_all_that_a_plan_may_say_and_for_nothing_else() -> None:
    assert MODELS.keys() == TOGETHER
