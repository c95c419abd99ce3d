"""What the server keeps so that a kill at any line loses at most the open round (ruling 28).

    studies/<hash>/
      plan.json      signed plan             initial.f32   initial weights, float32 little endian [P]
      keyset.bin     epoch key set E         keyset.json    since which round it is used, and whether all have it
      closed/000012/  weights.f32, optimizer.npz, close.bin, total.u32 (the published sum), round.json, and
                      checkpoint.bin once t sites acknowledged it
      open/          start.bin of the round in flight, survivors.json once U is fixed, agreements.json to another U than all
      rounds.json    last used round number and the void ones

A closed round is written to a temporary folder, fsynced and renamed; the highest number is the truth. START is durable
before it is sent, so a restart repeats identical bytes; U is durable before UNMASK is sent.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from server.shelf import FileShelf
from ssl_core.chain import write_durably
from ssl_core.errors import StateError
from ssl_core.folder import sync
from ssl_core.model_update import GlobalModel, ServerState
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.statements import little_endian

# A site that missed this many closed rounds less two replays them; one that missed more takes a checkpoint.
_KEEP = 4


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed round; number 0 is the start of the study. `close` is the CLOSE message, `total` [P] the sum it names."""

    round: int
    count: int
    model: GlobalModel
    close: bytes | None
    total: Words | None


@dataclass(frozen=True, slots=True)
class RoundState:
    """The durable state of one study in `folder`."""

    folder: Path

    def initial(self) -> npt.NDArray[np.float32]:
        """The plan's initial weights, float32 [P]."""
        return _read_weights(self.folder / "initial.f32")

    def closed(self) -> Closed:
        """The last closed round, or round 0 with the initial weights."""
        rounds = self.kept()
        if not rounds:
            return Closed(0, 0, GlobalModel(self.initial(), ServerState.empty()), None, None)
        return self.closed_round(rounds[-1])

    def kept(self) -> list[int]:
        """Numbers of the closed rounds that are still here, rising."""
        return sorted(int(p.name) for p in (self.folder / "closed").glob("[0-9]*") if p.is_dir())

    def closed_round(self, number: int) -> Closed:
        """One of the closed rounds that are still here."""
        folder = self._closed(number)
        facts = json.loads((folder / "round.json").read_text())
        with np.load(folder / "optimizer.npz", allow_pickle=False) as arrays:
            optimizer = ServerState(arrays["first"], arrays["second"])
        model = GlobalModel(_read_weights(folder / "weights.f32"), optimizer)
        return Closed(facts["round"], facts["count"], model, *self.published(number))

    def count(self, number: int) -> int:
        """How many rounds were closed with this one."""
        return int(json.loads((self._closed(number) / "round.json").read_text())["count"])

    def published(self, number: int) -> tuple[bytes, Words]:
        """(CLOSE, sum [P]) of a closed round that is still here."""
        folder = self._closed(number)
        paths = list(folder.glob("total.u*"))
        if len(paths) != 1:
            raise StateError(
                "closed round has not one published sum",
                field="folder",
                value=folder.name,
                remedy="a study that an earlier version began is launched anew",
            )
        path = paths[0]
        words = np.dtype(f"<u{int(path.suffix[2:]) // 8}")
        return (folder / "close.bin").read_bytes(), np.fromfile(path, words).astype(words.newbyteorder("="), copy=False)

    def checkpoint(self, number: int) -> bytes | None:
        """CHECKPOINT of a closed round, None while fewer than t sites acknowledged it."""
        path = self._closed(number) / "checkpoint.bin"
        return path.read_bytes() if path.is_file() else None

    def keep_checkpoint(self, number: int, data: bytes) -> None:
        """Keep a CHECKPOINT of a closed round, once."""
        if self._closed(number).is_dir() and self.checkpoint(number) is None:
            write_durably(self._closed(number) / "checkpoint.bin", data)

    def close(self, closed: Closed) -> None:
        """Make a closed round durable; it counts from the rename on, not before."""
        if closed.close is None or closed.total is None:
            raise StateError("a closed round needs its CLOSE message and its sum", field="round", value=closed.round)
        parent = self.folder / "closed"
        parent.mkdir(exist_ok=True)
        sync(self.folder)
        temporary = parent / f".{closed.round:06d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        arrays = io.BytesIO()
        np.savez(arrays, first=closed.model.state.first, second=closed.model.state.second)
        write_durably(temporary / "weights.f32", closed.model.weights.astype("<f4").tobytes())
        write_durably(temporary / "optimizer.npz", arrays.getvalue())
        write_durably(temporary / "close.bin", closed.close)
        bits = 8 * closed.total.itemsize
        write_durably(temporary / f"total.u{bits}", little_endian(closed.total).view(np.uint8).data)
        write_durably(temporary / "round.json", json.dumps({"round": closed.round, "count": closed.count}).encode())
        os.replace(temporary, self._closed(closed.round))
        sync(parent)
        for old in self.kept()[:-_KEEP]:
            # Half a folder must not be taken for a round.
            os.replace(self._closed(old), parent / f".old-{old}")
        for left in parent.glob(".old-*"):
            shutil.rmtree(left)
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

    def shelf(self) -> FileShelf:
        """Where the open round's sealed backups lie."""
        return FileShelf(self.folder / "open")

    def survivors(self) -> list[str] | None:
        """U of the open round once it was fixed."""
        path = self.folder / "open" / "survivors.json"
        return list(json.loads(path.read_text())) if path.is_file() else None

    def fix_survivors(self, names: list[str]) -> None:
        """Make U durable before any site is asked to unmask for it."""
        write_durably(self.folder / "open" / "survivors.json", json.dumps(sorted(names)).encode())

    def keyset_facts(self) -> tuple[int, bool]:
        """(last round number used before the key set was made, whether every site acknowledged it)."""
        path = self.folder / "keyset.json"
        facts = json.loads(path.read_text()) if path.is_file() else {}
        if facts.get("keyset") != self._keyset_digest():
            # Killed between the key set and this note: nobody has it yet.
            return self.used()[0], False
        return int(facts["since"]), bool(facts["held"])

    def note_keyset(self, since: int, *, held: bool) -> None:
        """Keep what `keyset_facts` tells of the key set that is in force."""
        facts = {"keyset": self._keyset_digest(), "since": since, "held": held}
        write_durably(self.folder / "keyset.json", json.dumps(facts).encode())

    def _keyset_digest(self) -> str:
        return hashlib.sha256((self.folder / "keyset.bin").read_bytes()).hexdigest()

    def _closed(self, number: int) -> Path:
        return self.folder / "closed" / f"{number:06d}"

    def agreements(self) -> dict[str, bytes]:
        """The survivors' agreements to U, once enough were gathered; empty before."""
        path = self.folder / "open" / "agreements.json"
        return {name: bytes.fromhex(body) for name, body in json.loads(path.read_text()).items()} if path.is_file() else {}

    def keep_agreements(self, agreements: Mapping[str, bytes]) -> None:
        """Make them durable before UNMASK is sent."""
        data = {name: body.hex() for name, body in sorted(agreements.items())}
        write_durably(self.folder / "open" / "agreements.json", json.dumps(data).encode())

    def _clear_open(self) -> None:
        shutil.rmtree(self.folder / "open", ignore_errors=True)


def _read_weights(path: Path) -> npt.NDArray[np.float32]:
    return np.frombuffer(path.read_bytes(), "<f4").astype(np.float32)
