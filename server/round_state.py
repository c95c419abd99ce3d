"""What the server keeps so that a kill at any line loses at most the open round (ruling 28).

    studies/<hash>/
      plan.json      signed plan             initial.f32   initial weights, float32 little endian [P]
      keyset.bin     epoch key set E         closed/000012/  weights.f32, optimizer.npz, close.bin, round.json
      open/          start.bin of the round in flight, survivors.json once U is fixed
      rounds.json    last used round number and the void ones

A closed round is written to a temporary folder, fsynced and renamed; the highest number is the truth. START is durable
before it is sent, so a restart repeats identical bytes; U is durable before UNMASK is sent.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.model_update import ServerState
from ssl_core.chain import write_durably
from ssl_core.errors import StateError
from ssl_core.folder import sync

_KEEP = 2


@dataclass(frozen=True, slots=True)
class Closed:
    """The last closed round; number 0 is the start of the study. `weights` float32 [P]; `close` the CLOSE message."""

    round: int
    count: int
    weights: npt.NDArray[np.float32]
    optimizer: ServerState
    close: bytes | None


@dataclass(frozen=True, slots=True)
class RoundState:
    """The durable state of one study in `folder`."""

    folder: Path

    def closed(self) -> Closed:
        """The last closed round, or round 0 with the initial weights."""
        rounds = sorted(p for p in (self.folder / "closed").glob("[0-9]*") if p.is_dir())
        if not rounds:
            return Closed(0, 0, _read_weights(self.folder / "initial.f32"), ServerState.empty(), None)
        last = rounds[-1]
        facts = json.loads((last / "round.json").read_text())
        with np.load(last / "optimizer.npz", allow_pickle=False) as arrays:
            optimizer = ServerState(arrays["first"], arrays["second"])
        return Closed(
            facts["round"],
            facts["count"],
            _read_weights(last / "weights.f32"),
            optimizer,
            (last / "close.bin").read_bytes(),
        )

    def close(self, closed: Closed) -> None:
        """Make a closed round durable; it counts from the rename on, not before."""
        if closed.close is None:
            raise StateError("a closed round needs its CLOSE message", field="round", value=closed.round)
        parent = self.folder / "closed"
        parent.mkdir(exist_ok=True)
        sync(self.folder)
        temporary = parent / f".{closed.round:06d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        arrays = io.BytesIO()
        np.savez(arrays, first=closed.optimizer.first, second=closed.optimizer.second)
        write_durably(temporary / "weights.f32", closed.weights.astype("<f4").tobytes())
        write_durably(temporary / "optimizer.npz", arrays.getvalue())
        write_durably(temporary / "close.bin", closed.close)
        write_durably(temporary / "round.json", json.dumps({"round": closed.round, "count": closed.count}).encode())
        os.replace(temporary, parent / f"{closed.round:06d}")
        sync(parent)
        for old in sorted(parent.glob("[0-9]*"))[:-_KEEP]:
            shutil.rmtree(old)
        self._clear_open()

    def used(self) -> tuple[int, list[int]]:
        """(last round number that was used, numbers of void rounds)."""
        path = self.folder / "rounds.json"
        if not path.is_file():
            return 0, []
        facts = json.loads(path.read_text())
        return int(facts["used"]), [int(number) for number in facts["void"]]

    def open_round(self, number: int, start: bytes) -> None:
        """Mark `number` as used and keep the exact START bytes, before they are sent."""
        _, void = self.used()
        # A kill before the last round's folder was cleared would hand its survivors to this one.
        self._clear_open()
        (self.folder / "open").mkdir(exist_ok=True)
        write_durably(self.folder / "open" / "start.bin", start)
        write_durably(self.folder / "rounds.json", json.dumps({"used": number, "void": void}).encode())

    def void_round(self, number: int) -> None:
        """The round gives nothing any more; its number is never used again."""
        used, void = self.used()
        write_durably(self.folder / "rounds.json", json.dumps({"used": used, "void": [*void, number]}).encode())
        self._clear_open()

    def open_start(self) -> tuple[int, bytes] | None:
        """(number, START bytes) of a round that was opened and neither closed nor void."""
        used, void = self.used()
        path = self.folder / "open" / "start.bin"
        if not path.is_file() or used in void or used <= self.closed().round:
            return None
        return used, path.read_bytes()

    def survivors(self) -> list[str] | None:
        """U of the open round once it was fixed."""
        path = self.folder / "open" / "survivors.json"
        return list(json.loads(path.read_text())) if path.is_file() else None

    def fix_survivors(self, names: list[str]) -> None:
        """Make U durable before any site is asked to unmask for it."""
        write_durably(self.folder / "open" / "survivors.json", json.dumps(sorted(names)).encode())

    def _clear_open(self) -> None:
        shutil.rmtree(self.folder / "open", ignore_errors=True)


def _read_weights(path: Path) -> npt.NDArray[np.float32]:
    return np.frombuffer(path.read_bytes(), "<f4").astype(np.float32)
