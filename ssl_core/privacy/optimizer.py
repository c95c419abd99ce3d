"""Step 5 of 12: Opacus' optimizer, fed with our clipped sums and our noise.

Comes in: a `ClippedSum` float64 for each chunk. Does, once per step: p.grad = (clipped sum + N(0, (sigma S)^2)) /
(q N), then one step of the inner optimizer. S is the sum's sensitivity to one unit more or less (`ClippedSum.sensitivity`): C,
or 2 C for a model of buckets, also in the step of an empty sample. N is the nominal size of the signed plan, never a count
(ruling 16).
The only file that touches Opacus' optimizers and the attributes that they hang on parameters. Of Opacus are used: the
order of a step, virtual steps, the guard against using a gradient twice, the scaling. Replaced are clipping
(engines.py: rows that are not finite, bounded rounding) and noise (noise.py: torch's generator is not cryptographic).

Every chunk is a virtual step, and every step ends with one more that adds noise and nothing else: a step with B = 0 units
takes the same path as any other, so an empty sample is noised, stepped and counted once, like a large one in many chunks.
A sum is handed over: the first one's tensors take up the others and the noise, so that a step makes no copies of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers.optimizer import DPOptimizer, _check_processed_flag, _mark_as_processed

from ssl_core.config import PrivacySpec
from ssl_core.errors import PrivacyError
from ssl_core.privacy.descent import Descent
from ssl_core.privacy.gradients import ClippedSum, empty_sum
from ssl_core.privacy.noise import GaussianNoise
from ssl_core.trust.random import FreshStream


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus has no types
    """One private step = `add` for each chunk (none when the sample is empty), then `release`.

    reach: `reach_of` the model; sums of another are refused.
    """

    def __init__(self, descent: Descent, privacy: PrivacySpec, *, nominal_size: int, noise: GaussianNoise, reach: int) -> None:
        _check_source(noise)
        super().__init__(
            descent.inner,
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=privacy.sampling_rate * nominal_size,
            loss_reduction="mean",
        )
        self.descent = descent
        self.releases = 0
        self._closing = False
        self._privacy = privacy
        self._reach = reach
        self._noise = noise
        self._tap: Callable[[npt.NDArray[np.float32]], None] | None = None
        self.attach_step_hook(_count)
        self.zero_grad(set_to_none=True)

    @property
    def divisor(self) -> float:
        """q N: what every step's noised sum is divided by."""
        return float(self.expected_batch_size)

    @property
    def accumulated_iterations(self) -> int:
        """1: a virtual step brings one sum. Opacus would count it over all parameters, once for each of them."""
        return 1

    def add(self, clipped: ClippedSum) -> None:
        """Add one chunk, which an engine clipped to the plan's norm, to this step's sum; nothing is released.

        The chunk's tensors are this optimizer's from here on.
        """
        self._set_sum(clipped)
        self._closing = False
        self.signal_skip_step(True)
        self.step()
        self.zero_grad(set_to_none=True)

    def release(self, number: int, tap: Callable[[npt.NDArray[np.float32]], None] | None = None) -> None:
        """Noise, scale and apply this step's sum as the study's step `number`; `tap` sees the noised gradient [P]."""
        if self.params[0].summed_grad is None:
            self._set_sum(empty_sum(self.params, self._privacy.max_grad_norm, self._reach))
        else:
            # Opacus wants to be given something; it is not added.
            for parameter in self.params:
                parameter.grad_sample = torch.zeros((), dtype=torch.float64, device=parameter.device).expand(parameter.shape)
        self.descent.prepare(number)
        self._tap, self._closing = tap, True
        self.step()
        self.zero_grad(set_to_none=True)

    def _set_sum(self, clipped: ClippedSum) -> None:
        if clipped.clip_norm != self._privacy.max_grad_norm:
            raise PrivacyError(
                "sum was clipped to another norm than the plan's",
                field="max_grad_norm",
                value=clipped.clip_norm,
                limit=self._privacy.max_grad_norm,
            )
        if clipped.reach != self._reach:
            raise PrivacyError(
                "sum has another sensitivity than the noise is for", field="reach", value=clipped.reach, limit=self._reach
            )
        for parameter, part in zip(self.params, clipped.grads, strict=True):
            if part.shape != parameter.shape or part.dtype != torch.float64:
                raise PrivacyError("sum does not fit the model", field="grads", value=(tuple(part.shape), part.dtype))
            parameter.grad_sample = part

    def clip_and_accumulate(self) -> None:
        """In place of Opacus' clipping, which an engine has done; called by its `pre_step`."""
        for parameter in self.params:
            _check_processed_flag(parameter.grad_sample)
            part = parameter.grad_sample
            if parameter.summed_grad is None:
                # Another tensor of the same memory: the guard marks the one that it has seen.
                parameter.summed_grad = part.detach()
            elif not self._closing:
                parameter.summed_grad.add_(part)
            _mark_as_processed(part)

    def add_noise(self) -> None:
        """In place of Opacus' noise; fails closed when source, its stream, scale or clipping norm are not the plan's."""
        found = (self.noise_multiplier, self.max_grad_norm, self.generator, self.secure_mode)
        if found != (self._privacy.noise_multiplier, self._privacy.max_grad_norm, None, False):
            raise PrivacyError("noise is not that of the plan", field="noise_multiplier, max_grad_norm, generator")
        _check_source(self._noise)
        clipped = ClippedSum(tuple(p.summed_grad for p in self.params), self.max_grad_norm, self._reach)
        scale = self.noise_multiplier * clipped.sensitivity(self._privacy.adjacency)
        sizes = [parameter.numel() for parameter in self.params]
        noise = self._noise.normal(sum(sizes), scale).to(self.params[0].device)
        for parameter, part in zip(self.params, torch.split(noise, sizes), strict=True):
            _check_processed_flag(parameter.summed_grad)
            # Added in float64, rounded once, in the place of the noise.
            parameter.grad = part.view_as(parameter).add_(parameter.summed_grad)
            _mark_as_processed(parameter.summed_grad)


def _check_source(noise: GaussianNoise) -> None:
    """Exactly our source on exactly our stream: a subclass, or another stream in it, may give the same draws again."""
    for found, ours in ((noise, GaussianNoise), (getattr(noise, "_stream", None), FreshStream)):
        if type(found) is not ours:
            raise PrivacyError("noise source is not ours", field="noise", value=type(found).__name__, limit=ours.__name__)


def _count(optimizer: PrivateOptimizer) -> None:
    """Opacus' step hook: after noise and scaling, before the inner step, once per released gradient."""
    optimizer.releases += 1
    if optimizer._tap is not None:
        optimizer._tap(optimizer.descent.gradient())
