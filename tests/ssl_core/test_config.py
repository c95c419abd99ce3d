from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ssl_core.config import StudyPlan, parse, read_toml
from ssl_core.errors import ConfigError
from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.data import ImageData, SignalData, SoundData, TableData
from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.objective import clip_line
from ssl_core.spec.refused import REFUSED

SITES = [{"name": f"site-{letter}", "nominal_size": size} for letter, size in (("a", 10000), ("b", 9000), ("c", 9000))]


def plan(**changes: Any) -> dict[str, Any]:
    data = tomllib.loads((files("deploy") / "studies" / "reports.toml").read_text())
    data["sites"] = copy.deepcopy(SITES)
    data["rounds"]["min_sites"] = 3
    for key, value in changes.items():
        *parents, last = key.split("__")
        target = data
        for parent in parents:
            target = target[parent]
        target[last] = value
    return data


def test_weights_are_nominal_sizes_over_their_gcd() -> None:
    assert parse(StudyPlan, plan(), "plan").weights() == {"site-a": 10, "site-b": 9, "site-c": 9}


def test_total_steps_reserve_the_void_rounds_too() -> None:
    assert parse(StudyPlan, plan(rounds__max_void=2), "plan").total_steps == (10 + 2) * 10


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"privacy__noise_multiplyer": 1.0}, "noise_multiplyer"),
        ({"privacy__noise": "shared"}, "noise"),
        ({"privacy__sampling_rate": 1.5}, "sampling_rate"),
        ({"privacy__sampling_rate": "0.1"}, "sampling_rate"),
        ({"privacy__delta": 1e-3}, "delta"),
        ({"privacy__noise_multiplier": float("inf")}, "noise_multiplier"),
        ({"data__kind": "audio"}, "data"),
        ({"name": "Reports of 2026!"}, "name"),
        ({"rounds__rounds": 0}, "rounds"),
        ({"aggregation__bits": 32}, "bits"),
        ({"aggregation__bandwidth": "quarter"}, "bandwidth"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_or_unknown_key_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StudyPlan, plan(**changes), "plan")
    assert field in str(caught.value)


def test_a_key_that_is_missing_names_what_may_be_its_misspelling() -> None:
    """What is missing is told first: alone it would say nothing of the word that the person wrote."""
    asked = plan()
    asked["rounds"]["steps_per_rounds"] = asked["rounds"].pop("steps_per_round")
    with pytest.raises(ConfigError, match="Field required") as caught:
        parse(StudyPlan, asked, "plan")
    assert caught.value.field == "rounds.steps_per_round"
    assert caught.value.remedy == "add it, or correct what is no key here: steps_per_rounds"
    del asked["rounds"]["steps_per_rounds"]
    with pytest.raises(ConfigError) as caught:
        parse(StudyPlan, asked | {"extra": 1}, "plan")
    assert caught.value.remedy == "add it"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sites": SITES[:2]}, "at least 3"),
        ({"sites": SITES[::-1]}, "sorted"),
        ({"sites": [{"name": "site-a", "nominal_size": 13021}, *SITES[1:]]}, "significant digit"),
        ({"privacy__delta": 2e-4}, "nominal_size"),
        ({"encoder": {"name": "mlp-image"}}, "fit together"),
        ({"rounds__min_sites": 4}, "min_sites"),
        ({"alone": True}, "that site only"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**changes), "plan")


IMAGES = {"kind": "image", "height": 32, "width": 16, "pool": 2}
VIT = {"name": "vit", "size": "nano", "patch": 4}
AUTOENCODING = {"name": "masked-autoencoding"}
TRANSFORMER = {"name": "text-transformer", "size": "nano"}


@pytest.mark.parametrize(
    "changes",
    [
        {"data": IMAGES, "encoder": VIT, "objective": AUTOENCODING},
        {"data": IMAGES, "encoder": {"name": "vit", "patch": 8}, "objective": AUTOENCODING | {"decoder_width": 64}},
        {"encoder": TRANSFORMER, "objective": {"name": "masked-language"}},
    ],
)
def test_transformers_are_taken_with_their_own_objective(changes: dict[str, Any]) -> None:
    taken = parse(StudyPlan, plan(**changes), "plan")
    assert taken.encoder.name == changes["encoder"]["name"] and taken.objective.name == changes["objective"]["name"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"encoder": VIT}, "fit together: image, vit, masked-image"),
        ({"objective": AUTOENCODING}, "fit together: image, mlp-image, masked-autoencoding"),
        ({"encoder": TRANSFORMER, "objective": AUTOENCODING}, "fit together"),
        ({"encoder": TRANSFORMER, "objective": {"name": "masked-language"}}, "fit together"),
        ({"encoder": VIT | {"patch": 3}, "objective": AUTOENCODING}, "multiples of pool x patch"),
        ({"encoder": VIT | {"patch": 16}, "objective": AUTOENCODING}, "multiples of pool x patch"),
        ({"data": IMAGES | {"height": 16}, "encoder": VIT | {"patch": 8}, "objective": AUTOENCODING}, "at least two squares"),
        ({"encoder": VIT | {"patch": 1}, "objective": AUTOENCODING}, r"encoder\.vit\.patch"),
        ({"encoder": VIT | {"size": "huge"}, "objective": AUTOENCODING}, r"encoder\.vit\.size"),
        ({"encoder": VIT, "objective": AUTOENCODING | {"decoder_width": 48}}, r"decoder_width"),
        ({"encoder": VIT, "objective": AUTOENCODING | {"mask_fraction": 1.0}}, r"mask_fraction"),
    ],
)
def test_transformers_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    images: dict[str, Any] = {"data": IMAGES, "encoder": {"name": "mlp-image"}, "objective": {"name": "masked-image"}}
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**(images | changes)), "plan")


SIGNALS: dict[str, Any] = {
    "data": {"kind": "signal", "channels": 3, "samples": 100, "rate_hz": 250, "units": ["mV"], "typical": [0.5]},
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 25},
    "objective": AUTOENCODING,
}


def test_signals_are_described_by_constants_one_for_all_channels_or_one_a_channel() -> None:
    taken = parse(StudyPlan, plan(**SIGNALS), "plan").data
    assert isinstance(taken, SignalData) and taken.values == 300 and taken.centre == (0.0,)
    each = SIGNALS["data"] | {"units": ["mV", "bpm", "%"], "typical": [0.5, 20, 2], "centre": [0, 80, 97]}
    again = parse(StudyPlan, plan(**SIGNALS | {"data": each}), "plan").data
    assert isinstance(again, SignalData) and again.centre == (0.0, 80.0, 97.0) and again.units == ("mV", "bpm", "%")


@pytest.mark.parametrize(
    ("data", "encoder", "word"),
    [
        ({"units": ["mV", "mV"]}, {}, "units must have one entry, or one for each of 3 channels"),
        ({"typical": [1.0, 2.0]}, {}, "typical must have one entry"),
        ({"centre": [0.0, 1.0]}, {}, "centre must have one entry"),
        ({"typical": [0.0]}, {}, "greater than or equal to"),
        ({"centre": [float("nan")]}, {}, "finite"),
        ({"units": ["milli volt"]}, {}, "pattern"),
        ({"units": ["mV\n"]}, {}, "pattern"),
        ({"rate_hz": 0}, {}, "rate_hz"),
        ({"mean": 1.0}, {}, "mean"),
        ({}, {"patch": 30}, "multiple of the encoder's patch"),
        ({}, {"patch": 100}, "twice it or more"),
        ({}, {"name": "vit"}, "fit together: signal, vit, masked-autoencoding"),
    ],
)
def test_signals_that_do_not_fit_are_refused(data: dict[str, Any], encoder: dict[str, Any], word: str) -> None:
    parts = SIGNALS | {"data": SIGNALS["data"] | data, "encoder": SIGNALS["encoder"] | encoder}
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**parts), "plan")


SOUNDS: dict[str, Any] = {
    "data": {"kind": "sound", "rate_hz": 4000, "seconds": 2.08, "mels": 32, "high_hz": 1800},
    "encoder": {"name": "vit", "size": "nano", "patch": 8},
    "objective": AUTOENCODING,
}


def test_a_sound_is_a_picture_of_bands_and_frames() -> None:
    taken = parse(StudyPlan, plan(**SOUNDS), "plan").data
    assert isinstance(taken, SoundData) and (taken.height, taken.width, taken.values) == (32, 64, 2048)
    assert taken.samples == 8320 and taken.shape == (1, 8320)
    latent = parse(StudyPlan, plan(**SOUNDS | {"objective": {"name": "latent-prediction"}}), "plan")
    assert latent.objective.name == "latent-prediction"
    summarised = parse(StudyPlan, plan(**SOUNDS | {"objective": AUTOENCODING | {"summary_weight": 0.5}}), "plan")
    assert summarised.model_dump()["objective"]["summary_weight"] == 0.5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"encoder": {"name": "resnet"}, "objective": {"name": "rotation"}}, "sides of a sound's are time and frequency"),
        ({"objective": {"name": "simsiam"}}, "out is another sound: take masked-autoencoding or latent-prediction"),
        ({"objective": {"name": "vicreg-own"}}, "another sound"),
        ({"objective": {"name": "denoising"}}, "fit together: sound, vit, denoising"),
        ({"encoder": {"name": "resnet"}}, "fit together"),
        ({"data": SOUNDS["data"] | {"seconds": 2.0}}, r"mels \(32\) and frames \(61"),
        ({"data": SOUNDS["data"] | {"high_hz": 2001}}, "half of rate_hz"),
        ({"objective": AUTOENCODING | {"target": "log-power"}}, "target log-power is for signals"),
    ],
)
def test_sounds_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**SOUNDS | changes), "plan")


TABLES: dict[str, Any] = {
    "data": {
        "kind": "table",
        "numeric": [{"name": "age", "unit": "years", "centre": 60, "typical": 15}, {"name": "sodium", "typical": 4}],
        "categorical": [{"name": "sex", "levels": ["f", "m"]}],
    },
    "encoder": {"name": "table-transformer", "size": "nano"},
    "objective": {"name": "masked-features"},
}


def test_tables_are_declared_column_by_column() -> None:
    taken = parse(StudyPlan, plan(**TABLES), "plan").data
    assert isinstance(taken, TableData) and taken.codes == (2, 2, 4) and taken.values == 5
    assert [column.name for column in taken.columns] == ["age", "sodium", "sex"] and taken.records_per_patient == 1


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"numeric": [], "categorical": [{"name": "sex", "levels": ["f"]}]}, "2 to 512 columns"),
        ({"numeric": [{"name": f"n{n}", "typical": 1} for n in range(512)]}, "2 to 512 columns"),
        ({"numeric": [{"name": "sex", "typical": 1}]}, "column names must be distinct"),
        ({"numeric": [{"name": " age", "typical": 1}]}, "column names must be in Unicode NFC"),
        ({"numeric": [{"name": "a\nb", "typical": 1}]}, r"numeric\.0\.name"),
        ({"numeric": [{"name": "age", "typical": 0}]}, r"numeric\.0\.typical"),
        ({"numeric": [{"name": "age"}]}, r"numeric\.0\.typical.*add it"),
        ({"numeric": [{"name": "age", "typical": 1, "mean": 3}]}, r"numeric\.0\.mean"),
        ({"categorical": [{"name": "sex", "levels": []}]}, r"categorical\.0\.levels"),
        ({"categorical": [{"name": "sex", "levels": ["f", "f"]}]}, "levels of column 'sex' must be distinct"),
        ({"categorical": [{"name": "sex", "levels": ["f", "e\u0301"]}]}, "levels of column 'sex' must be in Unicode NFC"),
        ({"categorical": [{"name": "sex", "levels": ["f", ""]}]}, r"levels\.1"),
        ({"records_per_patient": 17}, "records_per_patient"),
    ],
)
def test_tables_that_are_not_well_declared_are_refused(data: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**TABLES | {"data": TABLES["data"] | data}), "plan")


PAIRS: dict[str, Any] = {
    "data": {"kind": "pair", "image": {"height": 16, "width": 16}, "text": {"buckets": 64}},
    "encoder": {"name": "two-tower", "size": "nano", "patch": 4},
    "objective": {"name": "caption"},
}


@pytest.mark.parametrize("objective", ["caption", "text-target"])
def test_images_with_reports_are_taken_with_the_tasks_for_them(objective: str) -> None:
    taken = parse(StudyPlan, plan(**PAIRS | {"objective": {"name": objective}}), "plan")
    assert taken.objective.name == objective and taken.data.values == 256 + 48


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": PAIRS["data"] | {"image": {"height": 18, "width": 16}}}, "multiples of pool x patch"),
        ({"data": PAIRS["data"] | {"image": {"height": 16}}}, r"pair\.image\.width.*add it"),
        ({"data": PAIRS["data"] | {"image": {"kind": "image", "height": 16, "width": 16}}}, r"pair\.image\.kind"),
        ({"data": PAIRS["data"] | {"text": {"buckets": 64, "records_per_patient": 2}}}, r"pair\.text\.records_per_patient"),
        ({"data": PAIRS["data"] | {"image": {"height": 16, "width": 16, "window": [3, 1]}}}, "low below high"),
        ({"encoder": PAIRS["encoder"] | {"patch": 16}}, "a two-tower needs images of at least two squares"),
        ({"encoder": PAIRS["encoder"] | {"joint": 512}, "data": PAIRS["data"] | {"text": {"buckets": 65536}}}, "frozen map"),
        ({"encoder": {"name": "vit", "size": "nano", "patch": 4}}, "fit together: pair, vit, caption"),
        ({"objective": {"name": "text-target", "temperature": 0.01}}, r"text-target\.temperature"),
        ({"objective": {"name": "rotation"}}, "fit together: pair, two-tower, rotation"),
    ],
)
def test_images_with_reports_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**PAIRS | changes), "plan")


ORDER: dict[str, Any] = SIGNALS | {
    "encoder": {"name": "conv1d", "size": "nano"},
    "objective": {"name": "shuffled-order", "segments": 4, "gap": 5},
}
ROTATION: dict[str, Any] = {
    "data": {"kind": "image", "height": 32, "width": 32},
    "encoder": {"name": "resnet", "size": "nano"},
    "objective": {"name": "rotation"},
}


DENOISING = {"name": "denoising"}
OWN = {"name": "own-contrast", "segments": 4, "gap": 5}
PREDICTIVE = {"name": "contrastive-predictive", "pieces": 5}


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": TRANSFORMER, "objective": {"name": "next-token"}},
        {"data": IMAGES, "encoder": VIT, "objective": DENOISING | {"block": 0.5, "noise": 0.0}},
        {"data": IMAGES, "encoder": {"name": "mlp-image"}, "objective": DENOISING},
        SIGNALS | {"objective": DENOISING | {"target": "log-power"}},
        ORDER | {"objective": OWN},
        SIGNALS | {"encoder": SIGNALS["encoder"] | {"patch": 10}, "objective": OWN},
        ORDER | {"objective": PREDICTIVE},
        ORDER | {"objective": {"name": "crops-contrast", "crops": 12}},
        ROTATION | {"data": IMAGES, "objective": {"name": "barlow-own", "crops": 6}},
        ROTATION | {"encoder": {"name": "resnet", "size": "10"}, "objective": {"name": "jigsaw", "grid": 4, "gap": 0}},
    ],
)
def test_other_tasks_are_taken_with_the_encoders_that_suit_them(changes: dict[str, Any]) -> None:
    taken = parse(StudyPlan, plan(**changes), "plan")
    assert taken.objective.name == changes["objective"]["name"]


@pytest.mark.parametrize("changes", [ORDER, ROTATION, ROTATION | {"encoder": {"name": "resnet"}}])
def test_convolutional_nets_are_taken_with_their_own_objective(changes: dict[str, Any]) -> None:
    taken = parse(StudyPlan, plan(**changes), "plan")
    assert (taken.encoder.name, taken.objective.name) == (changes["encoder"]["name"], changes["objective"]["name"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (ORDER | {"objective": {"name": "shuffled-order", "segments": 13}}, "must keep 8 samples"),
        (ORDER | {"objective": {"name": "shuffled-order", "segments": 4, "gap": 13}}, "its greater half"),
        (ORDER | {"objective": {"name": "shuffled-order", "segments": 1}}, "segments"),
        (
            ORDER | {"encoder": {"name": "conv1d", "size": "small"}},
            "a segment .* at least 32 wide for the encoder's size small",
        ),
        (
            ROTATION | {"encoder": {"name": "resnet"}, "objective": {"name": "jigsaw", "grid": 2, "gap": 0}},
            "a tile .* at least 32 wide for the encoder's size 18",
        ),
        (ORDER | {"objective": {"name": "crops-contrast", "crops": 13}}, "must have 8 samples"),
        (ROTATION | {"data": IMAGES, "objective": {"name": "barlow-own", "crops": 7}}, "must have 4 pixels a side"),
        (ORDER | {"objective": AUTOENCODING}, "fit together: signal, conv1d, masked-autoencoding"),
        (SIGNALS | {"objective": {"name": "shuffled-order"}}, "fit together"),
        (ROTATION | {"data": ROTATION["data"] | {"width": 16}}, "square images"),
        (ROTATION | {"encoder": {"name": "resnet", "size": "50"}}, r"encoder\.resnet\.size"),
        (ROTATION | {"encoder": VIT, "objective": AUTOENCODING | {"target": "log-power"}}, "is for signals"),
        (SIGNALS | {"objective": AUTOENCODING | {"target": "mean"}}, r"masked-autoencoding\.target"),
        (ROTATION | {"encoder": VIT}, "fit together: image, vit, rotation"),
        (TABLES | {"objective": AUTOENCODING}, "fit together: table, table-transformer, masked-autoencoding"),
        (TABLES | {"encoder": TABLES["encoder"] | {"size": "base"}}, r"encoder\.table-transformer\.size"),
        (TABLES | {"objective": {"name": "masked-features", "mask_fraction": 0.0}}, "mask_fraction"),
        ({"objective": {"name": "next-token"}}, "fit together: text, hashed-words, next-token"),
        (SIGNALS | {"objective": DENOISING | {"noise": 0.0}}, "denoising needs noise or a block"),
        ({"data": IMAGES, "encoder": VIT, "objective": DENOISING | {"target": "log-power"}}, "is for signals"),
        (ORDER | {"objective": DENOISING}, "fit together: signal, conv1d, denoising"),
        (ORDER | {"objective": OWN | {"gap": 20}}, "its greater half"),
        (ORDER | {"objective": OWN | {"gap": 0}}, "gap"),
        (SIGNALS | {"objective": OWN | {"gap": 6}}, "segments - gap must be a multiple of the encoder's patch"),
        (ORDER | {"objective": PREDICTIVE | {"pieces": 20}}, "a piece .* must keep 8 samples"),
        (ORDER | {"objective": PREDICTIVE | {"ahead": 5}}, "ahead must be less than pieces"),
        (SIGNALS | {"objective": PREDICTIVE}, "fit together"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**changes), "plan")


LATENT: dict[str, Any] = {"name": "latent-prediction"}


@pytest.mark.parametrize(
    "changes",
    [
        {"data": IMAGES, "encoder": VIT, "objective": LATENT | {"blocks": 2}},
        SIGNALS | {"objective": LATENT},
        ROTATION | {"objective": {"name": "simsiam", "crop": 0.7, "flip": True}},
        ORDER | {"objective": {"name": "simsiam"}},
        {"data": IMAGES, "encoder": VIT, "objective": {"name": "vicreg-own", "crops": 4, "covariance": 0.5}},
        SIGNALS | {"objective": {"name": "vicreg-own"}},
    ],
)
def test_tasks_on_latents_and_looks_are_taken(changes: dict[str, Any]) -> None:
    taken = parse(StudyPlan, plan(**changes), "plan")
    assert (taken.encoder.name, taken.objective.name) == (changes["encoder"]["name"], changes["objective"]["name"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (ROTATION | {"objective": LATENT}, "fit together: image, resnet, latent-prediction"),
        ({"objective": {"name": "simsiam"}}, "fit together: text, hashed-words, simsiam"),
        (ROTATION | {"objective": {"name": "simsiam", "crop": 0.0}}, r"objective\.simsiam\.crop"),
        (ROTATION | {"objective": {"name": "vicreg-own", "crops": 1}}, r"objective\.vicreg-own\.crops"),
        (ROTATION | {"objective": {"name": "vicreg-own", "variance": 0.0}}, r"objective\.vicreg-own\.variance"),
        ({"data": IMAGES, "encoder": VIT | {"patch": 3}, "objective": LATENT}, "multiples of pool x patch"),
        (SIGNALS | {"objective": LATENT | {"decoder_width": 40}}, r"latent-prediction\.decoder_width"),
    ],
)
def test_tasks_on_latents_and_looks_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**changes), "plan")


BEATS = SIGNALS["data"] | {"samples": 500}
SHUFFLED = {"encoder": TRANSFORMER, "objective": {"name": "shuffled-order", "segments": 3}}


@pytest.mark.parametrize(
    "changes",
    [
        ROTATION | {"objective": {"name": "simclr-bank", "bank": 64, "temperature": 0.1}},
        {"data": IMAGES, "encoder": VIT, "objective": {"name": "dino-bank", "prototypes": 16, "sharpness": 0.02}},
        SIGNALS | {"data": BEATS, "objective": {"name": "moco-bank", "bank_seed": 7}},
        ORDER | {"data": BEATS, "objective": {"name": "swav-bank"}},
        ORDER | {"objective": {"name": "barlow-own", "redundancy": 0.0}},
        {"data": {"kind": "text", "words": 6}} | SHUFFLED,
    ],
)
def test_tasks_with_a_public_bank_and_shuffled_words_are_taken(changes: dict[str, Any]) -> None:
    taken = parse(StudyPlan, plan(**changes), "plan")
    assert (taken.encoder.name, taken.objective.name) == (changes["encoder"]["name"], changes["objective"]["name"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (SIGNALS | {"objective": {"name": "moco-bank"}}, "25 samples a second or more and 2 seconds or more"),
        (
            ORDER | {"data": BEATS | {"rate_hz": 24.5}, "objective": {"name": "swav-bank"}},
            "take own-contrast or crops-contrast",
        ),
        (SOUNDS | {"objective": {"name": "dino-bank"}}, "another sound"),
        (ROTATION | {"objective": {"name": "simclr-bank", "bank": 63}}, r"objective\.simclr-bank\.bank"),
        (
            ROTATION | {"objective": {"name": "simclr-bank", "bank_version": 1}},
            r"should be 2; .*bank_version; value: 1; remedy: .* make the same bank",
        ),
        (ROTATION | {"objective": {"name": "swav-bank", "sharpness": 0.0}}, r"objective\.swav-bank\.sharpness"),
        ({"objective": {"name": "simclr-bank"}}, "fit together: text, hashed-words, simclr-bank"),
        ({"data": {"kind": "text", "words": 5}} | SHUFFLED, "words at least twice segments"),
        ({"data": {"kind": "text"}} | SHUFFLED | {"objective": {"name": "shuffled-order", "gap": 1}}, "gap = 0"),
    ],
)
def test_tasks_with_a_public_bank_and_shuffled_words_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(StudyPlan, plan(**changes), "plan")


@pytest.mark.parametrize("name", ["simclr", "moco", "vicreg", "barlow-twins", "swav", "dino", "clip"])
def test_a_task_that_couples_patients_is_refused_with_the_reason_and_what_to_take(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StudyPlan, plan(**ROTATION | {"objective": {"name": name, "temperature": 0.1}}), "plan")
    error = caught.value
    assert (error.field, error.value) == ("objective.name", name)
    public = f"; on public data alone: choral operator prepare --task {name}" if name in set(CoupledTask) else ""
    # None of DINO's and CLIP's is for the convolutional net but one: what fits it stands in their place.
    here = {task for kind, encoder, task in TOGETHER if (kind, encoder) == ("image", "resnet")} & set(REFUSED[name].instead)
    order = [task for task in REFUSED[name].instead if task in here]
    if order:
        assert error.remedy == f"take {' or '.join(order)}{public}"
    else:
        assert name == "clip" and str(error.remedy).startswith("take rotation or jigsaw")
    assert REFUSED[name].reason in error.problem and "\n" not in str(error)


def test_what_is_named_in_place_of_a_refused_task_can_be_had_and_the_refused_cannot() -> None:
    known = {objective for _, _, objective in TOGETHER}
    for name, refused in REFUSED.items():
        assert name not in known and refused.instead and set(refused.instead) <= known


def test_a_bucket_has_eight_to_sixty_four_patients_and_stands_in_place_of_simclr() -> None:
    assert "simclr-buckets" in REFUSED["simclr"].instead
    for size in (7, 65):
        with pytest.raises(ConfigError, match=r"objective\.simclr-buckets\.bucket_size"):
            parse(StudyPlan, plan(**ROTATION | {"objective": {"name": "simclr-buckets", "bucket_size": size}}), "plan")
    made = parse(StudyPlan, plan(**ROTATION | {"objective": {"name": "simclr-buckets", "bucket_size": 32}}), "plan")
    assert "32 patients; one can change it by 2 C: noise sigma x 2 C" in clip_line(made.objective)


def test_an_unknown_task_is_still_an_ordinary_mistake() -> None:
    with pytest.raises(ConfigError, match="expected tags") as caught:
        parse(StudyPlan, plan(objective={"name": "simclear"}), "plan")
    assert (caught.value.field, caught.value.remedy) == ("objective", "take masked-words")


def test_a_file_that_is_missing_or_no_toml_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        read_toml(StudyPlan, tmp_path / "none.toml", "study plan")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_toml(StudyPlan, tmp_path / "bad.toml", "study plan")


def test_a_negative_zero_is_zero_in_the_bytes_of_a_plan() -> None:
    made = [ImageData(kind="image", height=16, width=16, window=(low, 1.0)) for low in (0.0, -0.0)]
    assert made[0] == made[1] and made[0].model_dump_json() == made[1].model_dump_json()
