"""Before step 1: the start weights of a study, from public or generated data, before any patient is read.

Comes in: a study plan that a person wrote; a seed or a public corpus; an earlier release or public model to begin from.
Goes out: a folder of prepared weights (ssl_core/start_weights.py), whose SHA-256 goes into the plan as `start`. No ledger is
opened: none of it depends on a patient. An earlier release is what its study paid for, and using it costs nothing more; a
model that was fitted without noise, or that a hospital made for itself alone, is refused. Raises `ConfigError`, `DataError`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_core.card import CARD_FILE, ENCODER_FILE, read_card, read_encoder
from ssl_core.config import StudyPlan, read_toml
from ssl_core.errors import ConfigError
from ssl_core.spec.coupled import CoupledTask
from ssl_core.start_card import read_facts
from ssl_core.start_weights import (
    FACTS_FILE,
    WEIGHTS_FILE,
    StartFacts,
    Transplant,
    read_tensors,
    transplant,
    weights_file,
    write_start,
)

if TYPE_CHECKING:
    from ssl_core.warm_start.pretraining import Schedule


def prepare(
    path: Path,
    out: Path,
    *,
    units: int,
    schedule: Schedule | None,
    public: Path | None = None,
    begin: Path | None = None,
    partial: bool = False,
    task: CoupledTask | None = None,
) -> tuple[StartFacts, Transplant | None]:
    """Write the start weights of the plan at `path` to the folder `out`; what they are, and what of `begin` matched.

    `schedule` None trains nothing: the weights are those of `begin` alone. `task`: a coupled one, in place of the plan's.
    """
    from ssl_core.encoders.vector import to_vector, weights_hash
    from ssl_core.encoders.vit import VisionTransformer
    from ssl_core.finetuning.model import HEAD
    from ssl_core.foreign_vit import translate
    from ssl_core.objectives.build import build_model
    from ssl_core.warm_start.coupled import Coupled
    from ssl_core.warm_start.pretraining import check_batch, pretrain
    from ssl_core.warm_start.public import PublicUnits

    if out.exists():
        raise ConfigError("folder exists and is not overwritten", field="--out", value=str(out))
    if schedule is None and begin is None:
        raise ConfigError("no step and no file to begin from: the plan's seed gives these weights", field="--steps", value=0)
    if schedule is None and task is not None:
        raise ConfigError("no step to take of this task", field="--task", value=task, remedy="give --steps")
    if begin is None and partial:
        raise ConfigError("there is no file to take in part", field="--partial", remedy="name it: --from FILE")
    plan = read_toml(StudyPlan, path, "study plan")
    model = build_model(plan)
    matched, taken = None, None
    if begin is not None:
        origin = _origin(begin)
        tensors, translated = read_tensors(begin), None
        if set(HEAD) <= set(tensors):
            raise ConfigError(
                "these weights have the head of a fine-tuned model, which was fitted on patients without noise and must not "
                "leave its hospital", field="--from", value=str(begin), remedy="name a release or a public model",
            )  # fmt: skip
        if isinstance(model.encoder, VisionTransformer):
            tensors, translated = translate(tensors, model.encoder)
        matched = transplant(model, tensors, partial=partial)
        taken = origin | asdict(matched) | ({} if translated is None else {"translated": translated})
    losses: dict[str, tuple[float, ...]] = {}
    data = None
    if schedule is not None:
        coupled = None if task is None else Coupled(task, model, plan.data, schedule.seed)
        check_batch(model, schedule.batch, units if public is None else None, coupled)
        given = PublicUnits.from_seed(schedule.seed, units, plan.data) if public is None else PublicUnits.from_corpus(
            public, plan.data
        )  # fmt: skip
        found = pretrain(model, given, schedule, coupled)
        losses = {name: values for name, values in asdict(found).items() if values}
        data = given.origin
    facts = StartFacts(
        weights=weights_hash(to_vector(model)),
        data=plan.data,
        encoder=plan.encoder,
        objective=plan.objective,
        seed=plan.seed,
        task=task,
        public=data,
        taken=taken,
        schedule=None if schedule is None else asdict(schedule),
        losses=losses,
        software={"python": platform.python_version()} | {name: version(name) for name in ("choral", "torch", "numpy")},
    )
    write_start(out, model, facts)
    return facts, matched


def _origin(path: Path) -> dict[str, Any]:
    """Where the weights at `path` come from; `ConfigError` for weights that must not leave a hospital.

    Of a release, and of other prepared weights, what is said is held against the weights; a signature is not checked.
    """
    file = weights_file(path.resolve()).resolve()
    folder, card = file.parent, file.parent / CARD_FILE
    name = os.fsencode(path.resolve().name).decode(errors="replace")
    facts: dict[str, Any] = {"file": name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    if card.is_file():
        try:
            raw = json.loads(card.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ConfigError("card beside the weights is not JSON", field="--from", value=str(card)) from error
        if isinstance(raw, dict) and raw.get("private") is False:
            raise ConfigError(
                "these weights were fitted on patients without noise and must not leave their hospital", field="--from",
                value=str(path), remedy="name a release or a public model",
            )  # fmt: skip
    if file.name == WEIGHTS_FILE and (folder / FACTS_FILE).is_file():
        return facts | {"start": read_facts(folder).model_dump(mode="json")}
    if not card.is_file():
        return facts
    release = read_card(folder)
    if release.kind == "alone":
        raise ConfigError(
            "these weights are of one hospital's own study and must not leave it", field="--from", value=str(path),
            remedy="name a release or a public model",
        )  # fmt: skip
    if file.name != ENCODER_FILE or release.kind != "federated":
        return facts
    read_encoder(folder)
    found = {"release": release.name, "plan": release.plan_hash, "weights": release.weights}
    return facts | found | {"release_start": release.plan.start}
