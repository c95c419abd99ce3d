"""BatchNorm and constants fitted to records are refused for what they are; another unknown key names the keys of its table."""

from __future__ import annotations

from typing import Any

import pytest
from tests_plans import written
from tests_tasks import DATA, ENCODERS

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.errors import ConfigError
from ssl_core.spec.data import CategoricalColumn, ImageForm, NumericColumn, TextForm
from ssl_core.spec.encoder import ResnetEncoder, VitEncoder
from ssl_core.spec.looks import SimSiam
from ssl_core.spec.tables import table_at


def refusal(part: str, kind: str, **more: Any) -> ConfigError:
    encoders = {"text": "hashed-words", "signal": "conv1d", "table": "table-transformer", "events": "event-transformer",
                "image": "resnet", "sound": "vit", "pair": "two-tower"}  # fmt: skip
    name = encoders[kind]
    plan = written({"data": dict(DATA[kind]), "encoder": {"name": name} | ENCODERS[name], "objective": {"name": "simsiam"}})
    plan[part] |= more
    with pytest.raises(ConfigError) as caught:
        parse(StudyPlan, plan, "plan")
    return caught.value


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("encoder", {"norm": "batch"}), ("encoder", {"norm_layer": "BatchNorm2d"}), ("encoder", {"batch_norm": True}),
        ("encoder", {"normalization": "bn"}), ("encoder", {"bn": True}), ("encoder", {"norm": "sync-bn"}),
        ("encoder", {"name": "resnet-bn"}), ("encoder", {"name": "resnet_BatchNorm"}), ("data", {"normalise": "batch"}),
        ("training", {"sync_batchnorm": True}),
    ],
)  # fmt: skip
def test_batch_norm_is_refused_by_name_with_what_stands_in_its_place(part: str, more: dict[str, Any]) -> None:
    error = refusal(part, "image", **more)
    assert "BatchNorm, which couples patients" in error.problem and "known keys" not in str(error)
    assert "GroupNorm or LayerNorm" in str(error.remedy) and error.value == next(iter(more.values()))


@pytest.mark.parametrize(
    ("kind", "more", "instead"),
    [
        ("image", {"standardise": "dataset"}, "each image is standardised by itself"),
        ("image", {"whiten": True}, "each image is standardised by itself"),
        ("image", {"window": "auto"}, "window is written by a person"),
        ("text", {"vocabulary": "fit"}, "public hash codes"),
        ("signal", {"scaler": "fit"}, "centre and typical are written by a person"),
        ("signal", {"typical": "dataset"}, "centre and typical are written by a person"),
        ("sound", {"normalize": "dataset"}, "floor_db and top_db"),
        ("table", {"imputer": "median"}, "nothing is imputed"),
        ("table", {"numeric": [{"name": "age", "centre": "mean", "typical": 1.0}]}, "written by a person"),
        ("events", {"vocabulary": "fit"}, "a list of codes that a person writes"),
        ("pair", {"text": {"vocabulary": "fit"}}, "hash codes"),
    ],
)
def test_constants_fitted_to_records_are_refused_with_what_stands_in_their_place(
    kind: str, more: dict[str, Any], instead: str
) -> None:
    error = refusal("data", kind, **more)
    assert "statistics of patients, and no noise covers them" in error.problem and instead in str(error.remedy)
    known = next(iter(more)) in ("window", "typical", "numeric") or kind == "events"
    assert str(error.remedy).startswith("leave it out: ") == (not known)


@pytest.mark.parametrize(
    ("part", "more", "keys"),
    [
        ("encoder", {"depth": 3}, ResnetEncoder), ("data", {"depth": 3}, ImageForm), ("data", {"mean": [0.4, 0.5]}, ImageForm),
        ("encoder", {"norm": "group"}, ResnetEncoder), ("data", {"standardise": "record"}, ImageForm),
    ],
)  # fmt: skip
def test_another_unknown_key_is_told_the_keys_of_its_own_table(part: str, more: dict[str, Any], keys: Any) -> None:
    remedy = str(refusal(part, "image", **more).remedy)
    named = set(remedy.removeprefix("remove it; known keys: ").split(", "))
    assert set(keys.model_fields) <= named and not named & {"rounds", "privacy", "sites"}


def test_a_batch_size_is_not_batch_norm() -> None:
    assert "known keys: betas" in str(refusal("training", "image", batch=64).remedy)


@pytest.mark.parametrize(
    ("where", "table"),
    [
        (("extra",), StudyPlan),
        (("encoder", "vit", "extra"), VitEncoder),
        (("objective", "simsiam", "extra"), SimSiam),
        (("objective", "joint", "tasks", 1, "simsiam", "extra"), SimSiam),
        (("data", "table", "numeric", 0, "extra"), NumericColumn),
        (("data", "table", "categorical", 3, "extra"), CategoricalColumn),
        # PairData has keys of the names of two kinds of data.
        (("data", "pair", "text", "extra"), TextForm),
        (("data", "pair", "image", "extra"), ImageForm),
    ],
)
def test_the_table_of_a_fault_is_found(where: tuple[str | int, ...], table: Any) -> None:
    assert table_at(StudyPlan, where) is table


def test_every_table_of_a_plan_names_its_own_keys_as_pydantic_places_them() -> None:
    """An unknown key is put into each table in turn; the places are pydantic's own."""
    body = written({"data": DATA["pair"], "encoder": {"name": "two-tower"} | ENCODERS["two-tower"],
                    "objective": {"name": "joint", "tasks": [{"name": "caption"}, {"name": "text-target"}],
                                  "weights": [1.0, 1.0]}})  # fmt: skip
    parse(StudyPlan, body, "plan")
    tables: list[Any] = [body, body["data"], body["data"]["image"], body["data"]["text"], body["encoder"], body["objective"],
                         body["objective"]["tasks"][1], body["privacy"], body["rounds"], body["sites"][2]]  # fmt: skip
    for number, table in enumerate(tables):
        copied = dict(table)
        table["unknown"] = 1
        with pytest.raises(ConfigError) as caught:
            parse(StudyPlan, body, "plan")
        del table["unknown"]
        named = set(str(caught.value.remedy).removeprefix("remove it; known keys: ").split(", "))
        assert copied.keys() <= named and (number == 0) == ("rounds" in named and "privacy" in named), caught.value


def test_files_that_are_no_plan_are_told_their_own_keys() -> None:
    with pytest.raises(ConfigError, match="known keys: chunk, device"):
        parse(SpeedSpec, {"norm": "batch"}, "speed")
