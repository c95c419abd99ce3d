"""Step 11 of 12 at a site: the file of the global model as this site recomputed it, `model.safetensors` in the study's folder.

Comes in and goes out: a `Standing` (ssl_core/secure_sum/history.py): weights float32 [P], the optimizer's moments float64
[P] or [0], and which closed round they stand after. Nothing in it is this hospital's own: it is what every participant
and the operator have. Raises `StateError` for a file that was damaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssl_core.chain import write_durably
from ssl_core.errors import StateError
from ssl_core.model_update import GlobalModel, ServerState
from ssl_core.secure_sum.history import Standing

_NAMES = ("weights", "first", "second")


class ModelFile:
    """A `ModelStore` over one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Standing | None:
        """What was written last, None before the first write."""
        if not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="numpy") as stored:
                weights, first, second = (stored.get_tensor(name) for name in _NAMES)
                facts = stored.metadata() or {}
        except SafetensorError as error:
            raise self._damaged() from error
        model = GlobalModel(weights, ServerState(first, second))
        if (facts.get("model"), facts.get("state")) != (model.digest.hex(), model.state.digest.hex()):
            raise self._damaged()
        return Standing(bytes.fromhex(facts["transcript"]), int(facts["count"]), model)

    def write(self, standing: Standing) -> None:
        """Replace the file as a whole, durably."""
        model = standing.model
        arrays = dict(zip(_NAMES, (model.weights, model.state.first, model.state.second), strict=True))
        facts = {
            "transcript": standing.transcript.hex(),
            "count": str(standing.count),
            "model": model.digest.hex(),
            "state": model.state.digest.hex(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, facts))

    @property
    def kept(self) -> bool:
        """Is there a file?"""
        return self._path.is_file()

    def sweep(self) -> None:
        """Delete what a kill in the middle of a write left; only for the one process that writes."""
        for left in self._path.parent.glob(f".{self._path.name}.*"):
            left.unlink(missing_ok=True)

    def drop(self) -> None:
        """Delete the file, once the study gave its encoder."""
        self._path.unlink(missing_ok=True)

    def _damaged(self) -> StateError:
        return StateError(
            "file of the global model is damaged",
            field="path",
            value=self._path.name,
            remedy="delete it: the server sends a checkpoint that the other sites vouch for",
        )
