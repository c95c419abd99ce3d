"""Step 5 of 12, second half: what is done with a noised gradient. Public post-processing: it never sees a patient.

Comes in: noised gradients in `p.grad`, the step's number, constants of the plan. Changes: the weights and
`OptimizerState`. Adam: Kingma and Ba (ICLR 2015), algorithm 1. SGD with momentum: Polyak (1964), as in torch.
The learning rate is a function of the step's number alone: a linear warm-up, then a cosine (Loshchilov and Hutter,
"SGDR", ICLR 2017, equation 5) down to a share of its top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssl_core.config import TrainingSpec
from ssl_core.errors import ConfigError, StateError

_MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """Steps taken and the moments, each float32 [P] in the order of `named_parameters`; from noised gradients only."""

    optimizer: str
    steps: int
    moments: dict[str, npt.NDArray[np.float32]]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """A plain dict of arrays, as `numpy.savez` takes it."""
        named = {f"{self.optimizer}.{name}": moment for name, moment in self.moments.items()}
        return {"optimizer": np.array(self.optimizer), "steps": np.array(self.steps, np.int64), **named}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> OptimizerState:
        """The inverse of `to_arrays`; `StateError` when something is missing or not float32."""
        try:
            optimizer, steps = str(arrays["optimizer"]), int(arrays["steps"])
            moments = {n.split(".", 1)[1]: np.array(a) for n, a in arrays.items() if n.startswith(f"{optimizer}.")}
        except (KeyError, TypeError, ValueError) as error:
            raise StateError("stored optimizer state is not complete", field="optimizer state") from error
        if any(moment.dtype != np.float32 or moment.ndim != 1 for moment in moments.values()):
            raise StateError("stored optimizer state has the wrong type", field="moments", limit="float32 [P]")
        return cls(optimizer, steps, moments)


def learning_rate(training: TrainingSpec, step: int, total_steps: int) -> float:
    """Rate of the step with number `step`, from 0; beyond `total_steps` (after void rounds) it stays at its last."""
    warm_up = round(training.warmup_fraction * total_steps)
    if step < warm_up:
        return training.learning_rate * (step + 1) / warm_up
    progress = min(1.0, (step - warm_up) / max(1, total_steps - warm_up))
    share = 0.5 * (1.0 + math.cos(math.pi * progress))
    return training.learning_rate * (training.final_fraction + (1.0 - training.final_fraction) * share)


class Descent:
    """torch's Adam or SGD over all parameters of `model`, its state given and taken as flat vectors."""

    def __init__(self, model: nn.Module, training: TrainingSpec, *, total_steps: int, state: OptimizerState | None) -> None:
        self._training = training
        self._total_steps = total_steps
        self._parameters = list(model.parameters())
        self.steps = 0
        if training.optimizer == "adam":
            self.inner: torch.optim.Optimizer = torch.optim.Adam(
                self._parameters, lr=training.learning_rate, betas=training.betas, fused=True
            )
        else:
            self.inner = torch.optim.SGD(self._parameters, lr=training.learning_rate, momentum=training.momentum)
        if state is not None:
            self._restore(state)

    @property
    def _names(self) -> tuple[str, ...]:
        if self._training.optimizer == "sgd" and self._training.momentum == 0.0:
            return ()
        return _MOMENTS[self._training.optimizer]

    def prepare(self, step: int) -> None:
        """Set the rate of the step with number `step` and count it."""
        self.inner.param_groups[0]["lr"] = learning_rate(self._training, step, self._total_steps)
        self.steps += 1

    def gradient(self) -> npt.NDArray[np.float32]:
        """What the parameters hold in `grad`, float32 [P]."""
        grads = [parameter.grad for parameter in self._parameters]
        return _flat([grad for grad in grads if grad is not None])

    def state(self) -> OptimizerState:
        """A copy of the moments as they are now."""
        taken = {name: _flat([self.inner.state[p][name] for p in self._parameters]) for name in self._taken()}
        return OptimizerState(self._training.optimizer, self.steps, taken)

    def _taken(self) -> tuple[str, ...]:
        return self._names if self.steps else ()

    def _restore(self, state: OptimizerState) -> None:
        size = sum(p.numel() for p in self._parameters)
        expected = self._names if state.steps else ()
        fits = set(state.moments) == set(expected) and all(m.shape == (size,) for m in state.moments.values())
        if state.optimizer != self._training.optimizer or not fits:
            raise ConfigError("optimizer state is not of this study", field="state", value=state.optimizer)
        self.steps = state.steps
        begin = 0
        for parameter in self._parameters if expected else ():
            end = begin + parameter.numel()
            slot = self.inner.state[parameter]
            if self._training.optimizer == "adam":
                slot["step"] = torch.tensor(float(state.steps), device=parameter.device)
            for name in expected:
                part = torch.from_numpy(np.array(state.moments[name][begin:end]))
                slot[name] = part.view(parameter.shape).to(parameter.device)
            begin = end


def _flat(parts: list[Tensor]) -> npt.NDArray[np.float32]:
    flat: npt.NDArray[np.float32] = torch.cat([part.detach().reshape(-1) for part in parts]).cpu().numpy()
    return flat
