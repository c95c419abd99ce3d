"""Step 4 of 12, by other people's code: rows of single units from Opacus' hooks; clipping and sum are ours.

Comes in: views with leading dimension b. Goes out: rows float32 [b, *shape], or their `ClippedSum`, float64. Opacus keeps
the input of each layer in a forward hook and makes the rows in a backward hook: Yousefpour et al., "Opacus: User-Friendly
Differential Privacy Library in PyTorch" (2021), section 3. Rows are functions of single units where survey.py finds the
model to fit: one batched pass, layers that are called once, no tied weights. Rounding as in gradients.py.
The hooks are on the model during this engine's own pass alone.
"""

from __future__ import annotations

import warnings

from opacus import GradSampleModule
from torch import Tensor, nn

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import PretextModel
from ssl_core.privacy.gradients import GAMMA, ClippedSum, InShapes, check_model, clip_and_sum, empty_sum, units_of


class _Losses(nn.Module):
    """Opacus wraps what `forward` of a batch is."""

    def __init__(self, model: PretextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: dict[str, Tensor]) -> Tensor:
        return self.model.losses(views)


class HooksEngine(InShapes):
    """Engine "hooks", for models that survey.py found to fit; `PrivacyError` where one does not after all."""

    name = "hooks"
    gamma = GAMMA
    reason = "it was asked for"

    def __init__(self, model: PretextModel) -> None:
        check_model(model)
        self._model = model

    def rows(self, views: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Views with leading dimension b >= 1 to rows float32 [b, *shape], one tensor per parameter."""
        units, parameters = units_of(views), dict(self._model.named_parameters())
        views = self._filled(views)
        room = units_of(views)
        hooked = GradSampleModule(_Losses(self._model), batch_first=True, loss_reduction="sum")
        try:
            with warnings.catch_warnings():
                # torch says that a hook on a layer whose input needs no gradient fires late; the rows are there by then.
                warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
                hooked(views).sum().backward()
            found = [(name, getattr(parameter, "grad_sample", None)) for name, parameter in parameters.items()]
        finally:
            hooked.remove_hooks()
            for parameter in parameters.values():
                parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]  # Opacus' own attribute
        rows = []
        for name, row in found:
            if not isinstance(row, Tensor) or row.shape != (room, *parameters[name].shape):
                raise PrivacyError(
                    "parameter has no row for each unit by Opacus' hooks", field=name, remedy='set speed.engine = "auto"'
                )
            rows.append(row[:units])
        return tuple(rows)

    def made_of(self, views: dict[str, Tensor]) -> list[Tensor]:
        """The rows."""
        return list(self.rows(views))

    def clipped_sum(self, views: dict[str, Tensor], clip_norm: float) -> ClippedSum:
        """Views with leading dimension b >= 0 to the sum of their rows, each clipped to `clip_norm`."""
        if not units_of(views):
            return empty_sum(tuple(self._model.parameters()), clip_norm)
        return clip_and_sum(self.rows(views), clip_norm)
