"""Before step 1: the weights that a study starts from: from the plan's seed, or from a file whose hash the plan names.

A folder of prepared weights holds `start.safetensors` (float32, one tensor for each parameter, by name) and `start.json`
(`StartFacts`: what they were made from), there whole or not at all. What counts is the plan: its field `start` is the
SHA-256 of the weights (vector.py), signed with the rest, and every site takes these weights and no others
(secure_sum/history.py), wherever they came from.

`transplant` takes tensors of another safetensors file into a model by name and shape, and says what matched. Raises
`ConfigError` for files and options, `TrustError` for weights that are not those of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from ssl_core.card import ENCODER_FILE
from ssl_core.config import Sha256Hex, StudyPlan
from ssl_core.errors import ConfigError, TrustError
from ssl_core.folder import new_folder
from ssl_core.spec.data import Data
from ssl_core.spec.encoder import Encoder
from ssl_core.spec.fit import check_fit
from ssl_core.spec.objective import Objective
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.envelope import canonical

if TYPE_CHECKING:
    from torch import Tensor

    from ssl_core.objectives.base import PretextModel

WEIGHTS_FILE, FACTS_FILE = "start.safetensors", "start.json"
_ENCODER = "encoder."
_BATCH_NORM = ("running_mean", "running_var", "num_batches_tracked")
_SHOWN = 8


class StartFacts(StrictModel):
    """What prepared weights were made from; `taken` is what came from another file, `schedule` what was trained.

    `task`: a task on public units that took the place of the plan's; None: the plan's own.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    weights: Sha256Hex
    data: Annotated[Data, Field(discriminator="kind")]
    encoder: Annotated[Encoder, Field(discriminator="name")]
    objective: Annotated[Objective, Field(discriminator="name")]
    seed: int
    task: str | None = None
    public: dict[str, Any] | None
    taken: dict[str, Any] | None
    schedule: dict[str, int | float] | None
    losses: dict[str, tuple[float, ...]]
    software: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_fit(self.data, self.encoder, self.objective)
        if (self.schedule is None) != (self.public is None):
            raise ValueError("what was trained on and how go together: public and schedule, or neither")
        return self


def write_start(folder: Path, model: PretextModel, facts: StartFacts) -> None:
    """Write a folder of prepared weights, which must not exist."""
    from safetensors.torch import save

    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    with new_folder(folder) as draft:
        (draft / WEIGHTS_FILE).write_bytes(save(tensors, {"weights": facts.weights}))
        (draft / FACTS_FILE).write_bytes(canonical(facts.model_dump(mode="json")) + b"\n")


def start_weights(plan: StudyPlan, start: Path | None) -> npt.NDArray[np.float32]:
    """The weights float32 [P] that `plan` starts from; `start` is a folder of prepared weights or its safetensors file.

    A plan without `start` takes none, and one with it takes those of its hash alone.
    """
    from ssl_core.encoders.vector import to_vector, weights_hash
    from ssl_core.objectives.build import build_model

    model = build_model(plan)
    if plan.start is None and start is not None:
        raise ConfigError("plan starts from its seed", field="start", remedy=f"add start = {start_hash(plan, start)!r} to it")
    if start is None:
        if plan.start is not None:
            raise ConfigError(
                "plan starts from prepared weights", field="start", value=plan.start,
                remedy="name their folder: --start FOLDER",
            )  # fmt: skip
        return to_vector(model)
    transplant(model, read_tensors(start), partial=False)
    weights = to_vector(model)
    if weights_hash(weights) != plan.start:
        raise TrustError("prepared weights are not those of the plan", field="start", value=weights_hash(weights),
                         limit=plan.start)  # fmt: skip
    return weights


def start_hash(plan: StudyPlan, start: Path) -> str:
    """SHA-256 of the prepared weights at `start`, which must fit the plan's model."""
    from ssl_core.encoders.vector import to_vector, weights_hash
    from ssl_core.objectives.build import build_model

    model = build_model(plan)
    transplant(model, read_tensors(start), partial=False)
    return weights_hash(to_vector(model))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of the one in a folder of prepared weights or of a release."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = weights_file(path)
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ConfigError(f"file is not safetensors: {error}", field="path", value=str(path)) from error
    except (KeyError, NotImplementedError) as error:
        # What safetensors and torch say of a type that the format names and they have no tensor of.
        raise ConfigError(
            "file has numbers of a type that cannot be read here", field="path", value=str(path),
            remedy="save it again in float32, float16 or bfloat16",
        ) from error  # fmt: skip


def weights_file(path: Path) -> Path:
    """The safetensors file at `path`, or the one in this folder of prepared weights or of a release."""
    if path.is_dir():
        inside = [path / name for name in (WEIGHTS_FILE, ENCODER_FILE) if (path / name).is_file()]
        if len(inside) != 1:
            raise ConfigError("folder holds no weights", field="path", value=str(path), limit=f"one {WEIGHTS_FILE}")
        return inside[0]
    if not path.is_file():
        raise ConfigError("file of weights is missing", field="path", value=str(path))
    return path


@dataclass(frozen=True, slots=True)
class Transplant:
    """What of a file went into a model. `absent`: in the model alone; `unused`: in the file alone; both sorted."""

    matched: tuple[str, ...]
    other_shape: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]
    parameters: int
    of_parameters: int

    def lines(self) -> list[str]:
        """The report, for people; every name stands in the JSON."""
        total = len(self.matched) + len(self.other_shape) + len(self.absent)
        lines = [f"{len(self.matched)} of {total} tensors taken, {self.parameters} of {self.of_parameters} parameters"]
        for what, names in (("another shape", self.other_shape), ("not in the file", self.absent), ("not used", self.unused)):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                # A file's names may hold anything, such as what moves a terminal's cursor.
                lines.append(f"{what}: {', '.join(names[:_SHOWN])}{more}".encode("unicode_escape").decode())
        return lines


def transplant(model: PretextModel, tensors: dict[str, Tensor], *, partial: bool) -> Transplant:
    """Copy the tensors that fit into `model`; unless `partial`, all must fit and none be left over.

    A tensor fits a parameter of its name, or of the encoder's under `encoder.` + its name, with the same shape; it must be
    of floating type and finite, and is cast to float32. With `partial` one tensor of the encoder must fit at least. A file with
    the statistics of a BatchNorm is refused: its other weights were trained with that, and no model here has one.
    """
    import torch

    _refuse_batch_norm(tensors)
    named = dict(model.named_parameters())
    given = {name if name in named else _ENCODER + name: tensor for name, tensor in tensors.items()}
    if len(given) != len(tensors):
        raise ConfigError(
            "file has a tensor with and without its prefix", field="tensor", value=_ENCODER + "...",
            remedy="take one of them out",
        )  # fmt: skip
    shared = sorted(named.keys() & given.keys())
    fits = [name for name in shared if given[name].shape == named[name].shape]
    wrong = [f"{name} {list(given[name].shape)} for {list(named[name].shape)}" for name in shared if name not in fits]
    report = Transplant(
        matched=tuple(fits),
        other_shape=tuple(wrong),
        absent=tuple(sorted(named.keys() - given.keys())),
        unused=tuple(sorted(name for name in tensors if name not in named and _ENCODER + name not in named)),
        parameters=sum(named[name].numel() for name in fits),
        of_parameters=sum(parameter.numel() for parameter in named.values()),
    )
    _refuse_misfit(report, partial)
    for name in fits:
        # As float32, in which the model keeps it.
        if not given[name].is_floating_point() or not torch.isfinite(given[name].to(torch.float32)).all():
            raise ConfigError("a tensor is not of finite floating numbers", field=name, value=str(given[name].dtype))
    with torch.no_grad():
        for name in fits:
            named[name].copy_(given[name].to(torch.float32))
    return report


def _refuse_batch_norm(tensors: dict[str, Tensor]) -> None:
    # With a slash: of a vision transformer, which has LayerNorm; foreign_vit.py leaves over its head alone.
    found = sorted(name for name in tensors if name.rpartition(".")[2] in _BATCH_NORM and "/" not in name)
    if found:
        raise ConfigError(
            "these weights are of a model with BatchNorm, which couples patients: no encoder here has one", field="tensor",
            value=f"{found[0]} and {len(found) - 1} more".encode("unicode_escape").decode(),
            remedy="name weights of a model with GroupNorm or LayerNorm, such as a vision transformer for the encoder vit, or "
            "none: generated or public data train the plan's own",
        )  # fmt: skip


def _refuse_misfit(report: Transplant, partial: bool) -> None:
    allow = "take what fits by --partial, or name weights of this model"
    if partial:
        if not any(name.startswith(_ENCODER) for name in report.matched):
            raise ConfigError(
                "no tensor of the file fits the encoder", field="path", value="; ".join(report.lines()),
                remedy="name weights of the plan's encoder, of its size and patch, or none: generated or public data train it",
            )  # fmt: skip
    elif report.other_shape:
        raise ConfigError(
            "weights are of another shape than the plan's model", field="tensor", value="; ".join(report.other_shape[:_SHOWN]),
            remedy=allow,
        )  # fmt: skip
    elif report.absent or report.unused:
        raise ConfigError("weights are of another model than the plan's", field="tensor", value="; ".join(report.lines()[1:]),
                          remedy=allow)  # fmt: skip
