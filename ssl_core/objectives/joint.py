"""Step 3 of 12: several tasks at once: one encoder, each task's own heads, one loss, and so one clip.

Paper: Caruana, "Multitask Learning" (Machine Learning 28, 1997), section 2; for self-supervision Doersch and Zisserman,
"Multi-task Self-Supervised Visual Learning" (ICCV 2017), section 3. Different: the weights of the tasks are public constants
of the plan; nothing balances them by losses, which would make one unit's gradient depend on others'.

Sensitivity: each task draws from the unit's own coins, of which every task has its own, and its loss is a function of the
unit, released weights and these coins; so is their weighted sum, whose gradient is clipped once. So the sum over units
changes by at most C with one unit, however many tasks there are: they share one budget, and one C.

Shapes for one unit: those of each task, their names preceded by its number: "0/shown", "1/target". Loss = sum over tasks of
weight * its loss. The encoder is called once for each task, so the engine is `vmap` (ssl_core/privacy/survey.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.errors import ConfigError
from ssl_core.objectives.base import PretextModel, Views

_ENCODER = "encoder."


class JointModel(PretextModel):
    """`tasks`, whose encoders are alike, with the first one's encoder in place of all; `weights`, one a task."""

    def __init__(self, tasks: Sequence[PretextModel], weights: Sequence[float]) -> None:
        super().__init__()
        self.weights = tuple(weights)
        self.coins = sum(task.coins for task in tasks)
        self.encoder = tasks[0].encoder
        mine = _form(self.encoder)
        for task in tasks:
            if _form(task.encoder) != mine:
                raise ConfigError("the tasks do not train one and the same encoder", field="objective.tasks")
            # Under one name alone: torch's functional calls leave a module with two names changed behind them.
            del task.encoder
            task.__dict__["encoder"] = self.encoder
        self.tasks = nn.ModuleList(tasks)

    def _each(self) -> list[PretextModel]:
        return [task for task in self.tasks if isinstance(task, PretextModel)]

    def draw(self, patients: Patients, index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]) -> Views:
        """The views of every task; see the module docstring."""
        self.check_draw(index, uniforms)
        views: Views = {}
        begin = 0
        for number, task in enumerate(self._each()):
            drawn = task.draw(patients, index, uniforms[:, begin : begin + task.coins])
            views |= {f"{number}/{name}": view for name, view in drawn.items()}
            begin += task.coins
        return views

    def start_round(self) -> None:
        """Every task begins it."""
        for task in self._each():
            task.start_round()

    def forward(self, views: Views) -> Tensor:
        """ONE unit's loss, float32 scalar."""
        found = [weight * task(own) for task, weight, own in self._parted(views)]
        return torch.stack(found).sum()

    def losses(self, views: Views) -> Tensor:
        """float32 [B], each task in one pass."""
        found = [weight * task.losses(own) for task, weight, own in self._parted(views)]
        return torch.stack(found).sum(dim=0)

    def _parted(self, views: Views) -> list[tuple[PretextModel, float, Views]]:
        parts: list[Views] = [{} for _ in self.weights]
        for name, view in views.items():
            number, _, own = name.partition("/")
            parts[int(number)][own] = view
        return list(zip(self._each(), self.weights, parts, strict=True))

    def init_range(self, name: str) -> tuple[float, float]:
        """As of the task that the parameter belongs to; of the encoder, as of the first."""
        tasks = self._each()
        if name.startswith(_ENCODER):
            return tasks[0].init_range(name)
        _, number, own = name.split(".", 2)
        return tasks[int(number)].init_range(own)


def _form(encoder: nn.Module) -> tuple[object, ...]:
    return type(encoder), *((name, tuple(parameter.shape)) for name, parameter in encoder.named_parameters())
