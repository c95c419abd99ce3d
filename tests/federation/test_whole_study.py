from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from server.exchange import LocalExchange
from server.registry import publish
from server.round_state import RoundState
from server.rounds import run_study
from ssl_core.card import load_encoder, read_card
from ssl_core.privacy.ledger import Ledger


def test_a_study_runs_from_invitation_to_release(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    state = RoundState(federation.operator.study(plan_hash))
    closed = state.closed()
    assert (closed.count, closed.round, state.used()) == (3, 3, (3, []))
    events = [json.loads(line) for line in (state.folder / "events.jsonl").read_text().splitlines()]
    assert [e["stage"] for e in events].count("closed") == 3 and events[-1]["stage"] == "finished"
    release = publish(federation.operator, plan_hash)
    keys = [federation.operator.operator.public]
    loaded = load_encoder(release, keys=keys)
    assert loaded.card.rounds_closed == 3 and loaded.card.plan_hash == plan_hash
    for name in federation.names:
        folder = next((federation.root / name / "encoders").iterdir())
        assert read_card(folder).weights == loaded.card.weights
        home = federation.site(name)
        policy = home.policy
        (entry,) = Ledger(home.chain, max_epsilon=policy.max_epsilon, delta=policy.delta).statement().entries
        assert (entry.steps, entry.steps_started) == (5 * 2, 3 * 2)
    initial = np.frombuffer((state.folder / "initial.f32").read_bytes(), "<f4")
    assert not np.array_equal(initial, closed.model.weights)
