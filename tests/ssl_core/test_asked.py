"""A task by a name that no plan may have: what is named in its place can be had with the plan's own data and encoder."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from tests_plans import written
from tests_tasks import DATA, ENCODERS

from ssl_core.config import StudyPlan, parse
from ssl_core.errors import ConfigError
from ssl_core.spec.asked import answer, misfit
from ssl_core.spec.fit import TOGETHER
from ssl_core.spec.refused import ALIASES, REFUSED, canonical

TASKS = {task for _, _, task in TOGETHER}
# Signals too slow for any bank, pictures that are not square.
SHAPES: dict[str, dict[str, dict[str, Any]]] = {"signal": {"slow": {"rate_hz": 20}}, "image": {"oblong": {"height": 32}}}


def body(data: dict[str, Any], encoder: str, objective: dict[str, Any]) -> dict[str, Any]:
    return written({"data": data, "encoder": {"name": encoder} | ENCODERS[encoder], "objective": objective})


def refusal(plan: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(StudyPlan, plan, "plan")
    return caught.value


def taken(remedy: str) -> set[str]:
    """The tasks that a person is told to take or write; not what would be right `but` for a setting that it needs."""
    remedy = re.sub('write name = "[a-z-]+", but', "", remedy)
    return set(re.findall(r"[\w-]+", " ".join(re.findall(r"(?:take|write|perhaps) [^;:]*", remedy)))) & TASKS


CASES = [
    (kind, shape, encoder)
    for kind, encoder in itertools.product(DATA, ENCODERS)
    for shape in ("as it is", *SHAPES.get(kind, {}))
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "encoder"), CASES)
def test_every_task_that_a_remedy_names_can_be_had_with_this_data_and_encoder(kind: str, shape: str, encoder: str) -> None:
    data = DATA[kind] | SHAPES.get(kind, {}).get(shape, {})
    reads = any((k, e) == (kind, encoder) for k, e, _ in TOGETHER)
    for name in (*REFUSED, *ALIASES, "SimCLR", "barlow_twins", "MoCo v3", "byol-v2", "nothing-like-it"):
        error = refusal(body(data, encoder, {"name": name}))
        remedy = str(error.remedy)
        assert remedy and error.value in (name, None)
        assert bool(taken(remedy)) == reads, (name, remedy)
        assert reads or "does not read" in remedy
        for task in taken(remedy):
            parse(StudyPlan, body(data, encoder, {"name": task}), "plan")
        assert "prepare --task" not in remedy or (kind in ("image", "signal") and reads)
        refused = canonical(name, TASKS) in REFUSED
        assert refused == ("couples patients" in str(error)), name


def test_a_joint_task_is_told_of_tasks_that_can_stand_beside_its_others() -> None:
    for kind, encoder in sorted({(kind, encoder) for kind, encoder, _ in TOGETHER}):
        for beside in sorted(task for k, e, task in TOGETHER if (k, e) == (kind, encoder)):
            if misfit(beside, *_read(kind, encoder)) or beside == "simclr-buckets":
                continue
            tasks = [{"name": beside}, {"name": "simclr"}]
            error = refusal(body(DATA[kind], encoder, {"name": "joint", "tasks": tasks, "weights": [1.0, 1.0]}))
            assert error.field == "objective.joint.tasks.1.name"
            for task in taken(str(error.remedy)):
                tasks = [{"name": beside}, {"name": task}]
                parse(StudyPlan, body(DATA[kind], encoder, {"name": "joint", "tasks": tasks, "weights": [1.0, 1.0]}), "plan")


def _read(kind: str, encoder: str) -> tuple[Any, Any]:
    task = next(task for k, e, task in sorted(TOGETHER) if (k, e) == (kind, encoder))
    plan = parse(StudyPlan, body(DATA[kind], encoder, {"name": task}), "plan")
    return plan.data, plan.encoder


@pytest.mark.parametrize(
    ("asked", "means"),
    [
        ("SimCLR", "simclr"), ("SIMCLR_v2", "simclr"), ("barlow", "barlow-twins"), ("Barlow_Twins", "barlow-twins"),
        ("mocov3", "moco-v3"), ("MoCo-v2", "moco"), ("nnCLR", "nnclr"), ("W_MSE", "w-mse"), ("SigLIP", "siglip"),
        ("MAE", "masked-autoencoding"), ("masked_autoencoding", "masked-autoencoding"), ("I-JEPA", "latent-prediction"),
        ("byol-v2", None), ("simclear", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_is_known_however_it_is_written(asked: str, means: str | None) -> None:
    assert canonical(asked, TASKS) == means


def test_aliases_are_of_tasks_that_are_known_and_are_none_themselves() -> None:
    assert set(ALIASES.values()) <= TASKS | REFUSED.keys()
    assert not ALIASES.keys() & (TASKS | REFUSED.keys())


def test_a_spelling_is_corrected_and_never_taken_as_if_it_were_right() -> None:
    table = refusal(body(DATA["table"], "table-transformer", {"name": "SimCLR"}))
    assert (table.field, table.value, table.remedy) == ("objective.name", "SimCLR", "take masked-features")
    assert "its negatives are the other patients" in table.problem
    right = refusal(body(DATA["image"], "vit", {"name": "Masked_Autoencoding"}))
    assert right.remedy == 'write name = "masked-autoencoding"' and "masked-autoencoding" in right.problem
    oblong = refusal(body(DATA["image"] | {"height": 32}, "resnet", {"name": "RotNet"}))
    assert str(oblong.remedy).startswith('write name = "rotation", but rotation needs square images; else take jigsaw')
    assert refusal(body(DATA["text"], "hashed-words", {"name": "mae"})).remedy == (
        "masked-autoencoding does not fit here: take masked-words"
    )
    assert refusal(body(DATA["image"], "vit", {"name": "Joint"})).remedy == 'write name = "joint"'
    assert str(refusal(body(DATA["signal"], "conv1d", {"name": "byol-v2"})).remedy).startswith(
        "perhaps byol is meant; else take"
    )
    gap = refusal(body(DATA["signal"], "conv1d", {"name": "OwnContrast"}))
    assert 'write name = "own-contrast", but it has no default for gap' in str(gap.remedy)


def test_where_no_task_fits_the_shape_the_shape_is_named() -> None:
    error = refusal(body(DATA["signal"] | {"samples": 97}, "signal-transformer", {"name": "moco"}))
    assert "samples must be a multiple of the encoder's patch" in str(error.remedy)


def test_a_fault_of_the_data_itself_comes_first() -> None:
    plan = body(DATA["image"] | {"height": 4}, "vit", {"name": "simclr"})
    assert "data.image.height" in str(refusal(plan).field) and answer(plan, ("objective",), "simclr") is None
