"""A kill between any two writes leaves the old or the new closed round, and the study can go on from either."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import server.round_state as module
from server.round_state import Closed, RoundState
from ssl_core.errors import StateError
from ssl_core.model_update import GlobalModel, ServerState

P = 5


class Killed(BaseException):
    """The process is gone: nothing that follows runs."""


class Killer:
    """Lets `allowed` changes of the disk happen, then stops; a folder is removed one file at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        real = {"write": module.write_durably, "replace": os.replace, "mkdir": Path.mkdir}

        def counted(name: str) -> Callable[..., Any]:
            def change(*arguments: Any, **named: Any) -> Any:
                self.count()
                return real[name](*arguments, **named)

            return change

        def rmtree(path: Path, ignore_errors: bool = False) -> None:
            for file in sorted(Path(path).glob("*")):
                self.count()
                file.unlink()
            if Path(path).exists():
                self.count()
                Path(path).rmdir()

        monkeypatch.setattr(module, "write_durably", counted("write"))
        monkeypatch.setattr(module.os, "replace", counted("replace"))
        monkeypatch.setattr(Path, "mkdir", counted("mkdir"))
        monkeypatch.setattr(module.shutil, "rmtree", rmtree)

    def count(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1

    def run(self, allowed: int, change: Callable[[], None]) -> bool:
        """Was `change` killed?"""
        self.left = allowed
        try:
            change()
        except Killed:
            return True
        finally:
            self.left = None
        return False


def closed(number: int, count: int) -> Closed:
    draw = np.random.default_rng(number)
    state = ServerState(draw.normal(size=P), draw.normal(size=P))
    model = GlobalModel(draw.normal(size=P).astype(np.float32), state)
    return Closed(number, count, model, b"close %d" % number, draw.integers(0, 1 << 32, P, np.uint32))


def image(found: Closed) -> tuple[Any, ...]:
    total = None if found.total is None else (found.total.dtype, found.total.tobytes())
    return found.round, found.count, found.model.digest, found.model.state.digest, found.close, total


def fresh(folder: Path) -> RoundState:
    folder.mkdir()
    (folder / "initial.f32").write_bytes(np.arange(P, dtype="<f4").tobytes())
    return RoundState(folder)


def play(state: RoundState, number: int) -> None:
    """One whole round."""
    state.open_round(number, b"start %d" % number)
    state.fix_survivors(["site-b", "site-a"])
    state.close(closed(number, number))


def test_round_zero_is_the_start_of_the_study(tmp_path: Path) -> None:
    state = fresh(tmp_path / "study")
    found = state.closed()
    assert (found.round, found.count, found.close) == (0, 0, None) and found.model.weights.tolist() == [0, 1, 2, 3, 4]
    assert (state.used(), state.open_start(), state.survivors()) == ((0, []), None, None)
    with pytest.raises(StateError, match="needs its CLOSE"):
        state.close(Closed(1, 1, found.model, None, np.zeros(P, np.uint32)))


def test_a_closed_round_is_read_back_byte_for_byte_and_four_are_kept(tmp_path: Path) -> None:
    state = fresh(tmp_path / "study")
    for number in range(1, 12):
        play(state, number)
        assert image(state.closed()) == image(closed(number, number))
    assert sorted(path.name for path in (state.folder / "closed").iterdir()) == [
        "000008", "000009", "000010", "000011"
    ]  # fmt: skip
    assert image(state.closed_round(9)) == image(closed(9, 9)) and state.kept() == [8, 9, 10, 11]
    assert not (state.folder / "open").exists()


@pytest.mark.parametrize("before", [0, 2])
def test_killed_while_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    killer, number = Killer(monkeypatch), before + 1
    for allowed in itertools.count():
        state = fresh(tmp_path / str(allowed))
        for earlier in range(1, number):
            play(state, earlier)
        old = image(state.closed())
        state.open_round(number, b"start")
        state.fix_survivors(["site-a"])
        killed = killer.run(allowed, lambda: state.close(closed(number, number)))  # noqa: B023
        state = RoundState(state.folder)
        found = image(state.closed())
        if found == old:
            assert killed
            assert (state.open_start(), state.survivors()) == ((number, b"start"), ["site-a"])
            state.close(closed(number, number))
        assert image(state.closed()) == image(closed(number, number))
        assert state.open_start() is None
        # The next round begins with nothing of this one.
        state.open_round(number + 1, b"next")
        assert (state.open_start(), state.survivors()) == ((number + 1, b"next"), None)
        play(state, number + 1)
        assert sorted(path.name for path in (state.folder / "closed").iterdir())[-2:] == [
            f"{n:06d}" for n in (number, number + 1)
        ]
        if not killed:
            break
    assert allowed >= 8


def test_killed_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(monkeypatch)
    for allowed in itertools.count():
        state = fresh(tmp_path / str(allowed))
        play(state, 1)
        killed = killer.run(allowed, lambda: state.open_round(2, b"start"))  # noqa: B023
        state = RoundState(state.folder)
        assert image(state.closed()) == image(closed(1, 1))
        assert (state.used()[0], state.open_start()) in [(1, None), (2, (2, b"start"))]
        assert state.survivors() is None
        if state.open_start() is None:
            state.open_round(2, b"again")
            assert state.open_start() == (2, b"again")
        if not killed:
            break
    assert allowed >= 3


def test_killed_while_voiding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(monkeypatch)
    for allowed in itertools.count():
        state = fresh(tmp_path / str(allowed))
        state.open_round(1, b"start")
        state.fix_survivors(["site-a"])
        killed = killer.run(allowed, lambda: state.void_round(1))  # noqa: B023
        state = RoundState(state.folder)
        assert state.closed().count == 0
        if state.used() == (1, []):
            assert (state.open_start(), state.survivors()) == ((1, b"start"), ["site-a"])
            state.void_round(1)
        assert state.used() == (1, [1]) and state.open_start() is None
        state.open_round(2, b"next")
        assert (state.open_start(), state.survivors(), state.used()) == ((2, b"next"), None, (2, [1]))
        if not killed:
            break
    assert allowed >= 3


def test_what_a_kill_left_of_a_temporary_folder_is_no_round(tmp_path: Path) -> None:
    state = fresh(tmp_path / "study")
    play(state, 1)
    shutil.copytree(state.folder / "closed" / "000001", state.folder / "closed" / ".000002")
    assert state.closed().round == 1
    play(state, 2)
    assert image(state.closed()) == image(closed(2, 2))
