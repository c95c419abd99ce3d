"""Start weights: the hash of the plan decides; what of another file fits is said, and what does not is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests_plans import IMAGE, plan_of

from ssl_core.config import StudyPlan
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.errors import ConfigError, TrustError
from ssl_core.objectives.base import PretextModel
from ssl_core.objectives.build import build_model
from ssl_core.start_weights import StartFacts, read_tensors, start_hash, start_weights, transplant, write_start

PLAN = plan_of(IMAGE)


def moved(seed: int = 9) -> PretextModel:
    """The plan's model at other weights than its seed's."""
    return build_model(plan_of(IMAGE, seed=seed))


def named(model: PretextModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def kept(folder: Path, model: PretextModel) -> Path:
    facts = StartFacts(
        weights=weights_hash(to_vector(model)), data=PLAN.data, encoder=PLAN.encoder, objective=PLAN.objective,
        seed=0, public=None, taken=None, schedule=None, losses={}, software={},
    )  # fmt: skip
    write_start(folder, model, facts)
    return folder


def starting(hash_: str | None) -> StudyPlan:
    return PLAN.model_copy(update={"start": hash_})


def test_a_plan_without_start_begins_from_its_seed(tmp_path: Path) -> None:
    assert np.array_equal(start_weights(PLAN, None), to_vector(build_model(PLAN)))
    folder = kept(tmp_path / "start", moved())
    with pytest.raises(ConfigError, match="starts from its seed") as caught:
        start_weights(PLAN, folder)
    assert weights_hash(to_vector(moved())) in str(caught.value.remedy)


def test_a_plan_with_start_takes_the_weights_of_its_hash_and_no_others(tmp_path: Path) -> None:
    right, other = kept(tmp_path / "right", moved(9)), kept(tmp_path / "other", moved(10))
    plan = starting(start_hash(PLAN, right))
    for path in (right, right / "start.safetensors"):
        assert np.array_equal(start_weights(plan, path), to_vector(moved(9)))
    with pytest.raises(TrustError, match="not those of the plan") as caught:
        start_weights(plan, other)
    assert (caught.value.field, caught.value.limit) == ("start", plan.start)
    with pytest.raises(ConfigError, match="--start FOLDER"):
        start_weights(plan, None)


def test_one_changed_bit_is_another_start(tmp_path: Path) -> None:
    folder = kept(tmp_path / "start", moved())
    plan = starting(start_hash(PLAN, folder))
    tensors = load_file(folder / "start.safetensors")
    first = tensors["decoder.bias"].numpy().view(np.uint32)
    first[0] ^= 1
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(TrustError):
        start_weights(plan, tmp_path / "changed.safetensors")


def test_the_folder_says_what_it_is_and_is_not_overwritten(tmp_path: Path) -> None:
    folder = kept(tmp_path / "start", moved())
    facts = StartFacts.model_validate_json((folder / "start.json").read_bytes())
    assert facts.weights == start_hash(PLAN, folder) and facts.encoder == PLAN.encoder
    assert json.loads((folder / "start.json").read_bytes())["format"] == 1
    assert list(load_file(folder / "start.safetensors")) == sorted(named(moved()))
    with pytest.raises(ConfigError, match="not overwritten"):
        kept(tmp_path / "start", moved(10))


def test_all_that_fits_is_taken(tmp_path: Path) -> None:
    model = build_model(PLAN)
    report = transplant(model, named(moved()), partial=False)
    assert np.array_equal(to_vector(model), to_vector(moved()))
    assert report.lines() == [f"{len(report.matched)} of {len(report.matched)} tensors taken, "
                              f"{report.parameters} of {report.parameters} parameters"]  # fmt: skip
    assert report.parameters == to_vector(model).size


def other_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["decoder.weight"] = tensors["decoder.weight"][:, :-1].contiguous()


def without(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["decoder.weight"]


def and_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["classifier.weight"] = torch.ones(2)


@pytest.mark.parametrize(
    ("change", "words", "line"),
    [
        (other_shape, "another shape than the plan's model.*decoder.weight \\[256, 7\\] for \\[256, 8\\]", "another shape: "),
        (without, "another model.*not in the file: decoder.weight", "not in the file: decoder.weight"),
        (and_more, "another model.*not used: classifier.weight", "not used: classifier.weight"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_left_at_the_seed_with_partial(change: Any, words: str, line: str) -> None:
    tensors, model = named(moved()), build_model(PLAN)
    change(tensors)
    before = to_vector(model)
    with pytest.raises(ConfigError, match=words) as caught:
        transplant(model, tensors, partial=False)
    assert "--partial" in str(caught.value.remedy) and np.array_equal(to_vector(model), before)
    report = transplant(model, tensors, partial=True)
    assert any(found.startswith(line) for found in report.lines())
    now, seeds, files = named(model), named(build_model(PLAN)), named(moved())
    for name in now:
        assert torch.equal(now[name], (files if name in report.matched else seeds)[name]), name
    assert set(now) - set(report.matched) == (set() if change is and_more else {"decoder.weight"})


def test_a_public_model_names_its_encoder_alone_and_in_half_precision() -> None:
    model = build_model(PLAN)
    public = {name.removeprefix("encoder."): value.to(torch.bfloat16) for name, value in named(moved()).items()
              if name.startswith("encoder.")}  # fmt: skip
    report = transplant(model, public, partial=True)
    assert all(name.startswith("encoder.") for name in report.matched) and not report.unused
    assert report.absent == ("decoder.bias", "decoder.weight")
    for name, value in named(model).items():
        if name in report.matched:
            assert value.dtype == torch.float32 and torch.equal(value, public[name.removeprefix("encoder.")].float())


def test_a_file_of_which_nothing_fits_the_encoder_is_refused() -> None:
    decoder = {"decoder.bias": named(moved())["decoder.bias"], "stem.weight": torch.ones(3)}
    with pytest.raises(ConfigError, match=r"no tensor of the file fits the encoder.*stem\.weight.*remedy: name weights of"):
        transplant(build_model(PLAN), decoder, partial=True)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("layer", [torch.nn.BatchNorm1d, torch.nn.BatchNorm2d])
def test_a_model_with_batch_norm_is_refused_for_that(layer: Any, partial: bool) -> None:
    """The names are torch's own; the encoder's other tensors would fit."""
    model = build_model(PLAN)
    before = to_vector(model)
    theirs = torch.nn.ModuleDict({"layer1": torch.nn.Sequential(torch.nn.Linear(3, 4), layer(4))}).state_dict()
    with pytest.raises(ConfigError, match="BatchNorm, which couples patients") as caught:
        transplant(model, named(moved()) | theirs, partial=partial)
    error = caught.value
    assert (error.field, error.value) == ("tensor", "layer1.1.num_batches_tracked and 2 more")
    assert "GroupNorm or LayerNorm" in str(error.remedy) and np.array_equal(to_vector(model), before)


def test_a_batch_norm_in_the_head_of_another_librarys_transformer_is_left_over() -> None:
    head = {"timm/head.1.running_mean": torch.ones(3)}
    report = transplant(build_model(PLAN), named(moved()) | head, partial=True)
    assert report.unused == tuple(head)


@pytest.mark.parametrize(
    "value",
    [
        torch.full((16,), float("nan")),
        torch.full((16,), float("inf")),
        torch.full((16,), 1e300, dtype=torch.float64),
        torch.ones(16).int(),
    ],
)
def test_what_is_no_finite_number_is_refused(value: torch.Tensor) -> None:
    model = build_model(PLAN)
    before = to_vector(model)
    with pytest.raises(ConfigError, match="finite") as caught:
        transplant(model, named(moved()) | {"encoder.first.bias": value}, partial=True)
    assert caught.value.field == "encoder.first.bias" and np.array_equal(to_vector(model), before)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"not at all")
    (tmp_path / "empty").mkdir()
    for path, words in (("none.safetensors", "missing"), ("bad.safetensors", "not safetensors"), ("empty", "no weights")):
        with pytest.raises(ConfigError, match=words) as caught:
            read_tensors(tmp_path / path)
        assert caught.value.field == "path"


def test_a_name_with_and_without_its_prefix_is_refused_and_names_cannot_move_the_cursor() -> None:
    tensors = named(moved())
    name = next(name for name in tensors if name.startswith("encoder."))
    with pytest.raises(ConfigError, match="with and without its prefix"):
        transplant(build_model(PLAN), tensors | {name.removeprefix("encoder."): tensors[name]}, partial=True)
    report = transplant(build_model(PLAN), tensors | {"\x1b[2J": torch.ones(2)}, partial=True)
    assert report.unused == ("\x1b[2J",) and "\x1b" not in "".join(report.lines())
