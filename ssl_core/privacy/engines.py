"""Step 4 of 12, the contract: views of units -> their clipped sum with sensitivity C, by the engine that fits the model.

Every engine promises, each line tested (tests/ssl_core/privacy/test_engines.py):
  the sum is that of `reference` at C / (1 + gamma), gamma the engine's documented rounding bound (ruling 18);
  a unit adds at most C; one whose row is not finite or beyond float32 adds exactly zero and changes no other (ruling 15);
  an empty sample gives zeros.
The choice depends on the model and on shapes, never on patients: "auto" takes bookkeeping where survey.py finds nothing
against it, else vmap, and says why in `reason`. It is the site's own and changes no guarantee.
A `BucketModel` has one engine, buckets.py, which only "auto" gives: it is an ordinary backward pass for each bucket already,
so there is none that is faster, and no other reference than the same loop. Its promises and its sensitivity are its own.
"""

from __future__ import annotations

from typing import Literal, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from ssl_core.errors import ConfigError
from ssl_core.objectives.base import BucketModel, PretextModel
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.buckets import BucketEngine
from ssl_core.privacy.gradients import ClippedSum, PerUnitGradients, check_model
from ssl_core.privacy.hooks import HooksEngine
from ssl_core.privacy.reference import LoopEngine
from ssl_core.privacy.survey import UNITS, survey
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import Data

# A model's structure is fixed when it is made, so what was found of it holds for every round of a study.
_FOUND: WeakKeyDictionary[PretextModel, dict[str, str | None]] = WeakKeyDictionary()

Choice = Literal["auto", "bookkeeping", "hooks", "vmap", "reference"]


class Engine(Protocol):
    """Gradients of single units, clipped and added up."""

    @property
    def name(self) -> str:
        """As in `SpeedSpec.engine`; "buckets" for a `BucketModel`."""

    @property
    def reason(self) -> str:
        """Why this engine was taken, for people; says nothing about patients."""

    @property
    def gamma(self) -> float:
        """A row is clipped to C / (1 + gamma)."""

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views of b >= 1 units to rows float32 [b, *shape], one tensor per parameter: what the checks look at.

        Of a bucket, [1, *shape].
        """

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views of b >= 0 units to the sum of their rows, each clipped to `clip_norm`."""


def choose_engine(model: PretextModel, views: dict[str, Tensor], choice: Choice) -> Engine:
    """The engine of `choice` for `model`, found on `views` of synthetic units.

    Raises `PrivacyError` for a model that no engine may train, `ConfigError` where the one that was demanded cannot.
    """
    check_model(model)
    if isinstance(model, BucketModel):
        if choice != "auto":
            raise ConfigError(
                f"engine {choice} takes patients one by one, and this study's task compares those of a bucket",
                field="speed.engine",
                value=choice,
                remedy='set engine = "auto"',
            )
        return BucketEngine(model)
    if choice == "vmap":
        return PerUnitGradients(model)
    if choice == "reference":
        return LoopEngine(model)
    make = HooksEngine if choice == "hooks" else BookkeepingEngine
    found = _FOUND.setdefault(model, {})
    if make.name not in found:
        found[make.name] = survey(model, views, make)
    reason = found[make.name]
    if reason is None:
        return make(model)
    if choice != "auto":
        raise ConfigError(
            f"engine {choice} does not fit this model: {reason}",
            field="speed.engine",
            value=choice,
            remedy='set engine = "auto"',
        )
    return PerUnitGradients(model, reason=reason)


def synthetic_views(model: PretextModel, data: Data, units: int = UNITS) -> dict[str, Tensor]:
    """Views of a few synthetic patients in the declared format, the same each time."""
    patients = synthetic_patients(data, units)
    uniforms = 1.0 - np.random.default_rng(0).random((units, model.coins))
    return model.draw(patients, np.arange(units), uniforms)
