"""Step 12 of 12: publishes the encoder of a finished study as a release: safetensors and signed card, all or nothing.

Lineage: the card carries the plan, its hash, the rounds and each site's epsilon, computed from the signed plan: the
server knows no site's ledger. A release is never overwritten. Before step 1, prepared start weights are published likewise,
with a card of their own (ssl_core/start_card.py).
"""

from __future__ import annotations

from pathlib import Path

from server.home import OperatorHome
from server.round_state import RoundState
from ssl_core.card import make_card, save_encoder
from ssl_core.errors import StateError
from ssl_core.session import open_plan
from ssl_core.start_card import LoadedStart, publish_start
from ssl_core.start_weights import StartFacts


def publish(home: OperatorHome, plan_hash: str) -> Path:
    """Write the release of a finished study; returns its folder. Raises `StateError` when rounds are missing."""
    state = RoundState(home.study(plan_hash))
    roster, _ = home.roster()
    plan, found = open_plan((state.folder / "plan.json").read_bytes(), bytes.fromhex(roster.server.operator))
    if found != plan_hash:
        raise StateError("study folder holds another plan", field="plan hash", value=found, limit=plan_hash)
    closed = state.closed()
    if closed.count < plan.rounds.rounds:
        raise StateError(
            "study is not finished",
            field="rounds closed",
            value=closed.count,
            limit=plan.rounds.rounds,
            remedy="choral operator launch goes on with it",
        )
    _, void = state.used()
    card = make_card(plan, plan_hash, closed.model.weights, kind="federated", closed=closed.count, void=len(void))
    folder = home.root / "releases" / f"{plan.name}-{plan_hash[:8]}"
    save_encoder(folder, closed.model.weights, card, home.operator)
    return folder


def publish_prepared(home: OperatorHome, prepared: Path, shown: StartFacts) -> tuple[Path, LoadedStart]:
    """Write prepared start weights, their facts, which were `shown`, and a signed card to releases/; where, and what."""
    folder = home.root / "releases" / f"start-{shown.weights[:8]}"
    return folder, publish_start(prepared, folder, home.operator, shown=shown)
