from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.round_state import RoundState
from server.rounds import KILL_POINTS
from ssl_core.card import read_card
from ssl_core.encoders.vector import weights_hash
from ssl_core.privacy.ledger import Ledger

RUNNER = Path(__file__).with_name("kill_runner.py")


def run(root: Path, plan_hash: str, *line: str) -> int:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(RUNNER), str(root), plan_hash, *line], env=env, check=False).returncode


def image(state: RoundState) -> dict[str, str]:
    """Every file of the last closed round, by hash."""
    folders = sorted((state.folder / "closed").glob("[0-9]*"))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folders[-1].iterdir())} if folders else {}


@pytest.mark.timeout(240)
def test_killed_at_every_line_one_after_another_the_study_still_ends_right(
    make_federation: Callable[..., Any],
) -> None:
    assert len(KILL_POINTS) == 11
    federation = make_federation(4)
    plan_hash = federation.launch(rounds__rounds=7, rounds__rekey_rounds=3, privacy__noise_multiplier=3.0)
    federation.invite_and_approve(plan_hash)
    state = RoundState(federation.operator.study(plan_hash))
    for line in KILL_POINTS:
        before = image(state)
        assert run(federation.root, plan_hash, line) == -signal.SIGKILL, line
        # What was closed before the kill is untouched, byte for byte, unless two later rounds have closed since.
        for path, digest in before.items():
            if Path(path).exists():
                assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    assert run(federation.root, plan_hash) == 0
    closed = state.closed()
    used, void = state.used()
    assert closed.count == 7 and used == 7 + len(void)
    for name in federation.names:
        home = federation.site(name)
        (folder,) = (home.root / "encoders").iterdir()
        assert read_card(folder).weights == weights_hash(closed.model.weights)
        policy = home.policy
        (entry,) = Ledger(home.chain, max_epsilon=policy.max_epsilon, delta=policy.delta).statement().entries
        assert entry.steps == (7 + 2) * 2
        assert entry.steps_started == 2 * used
