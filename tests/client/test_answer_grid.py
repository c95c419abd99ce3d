"""When answers leave, by the hospital's own grid: those made from records, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from tests_commands import edit

from client import answer_grid
from client.site_service import SiteService
from client.study import store_plan
from ssl_core.errors import PolicyError, ProtocolError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel


class Clock:
    """Time that passes where something is done, or slept."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(answer_grid, "time", made)
    monkeypatch.setattr("client.site_service.time", made)
    return made


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", list(IncomingKind))
@pytest.mark.parametrize(
    ("took", "left"), [(0.0, 30.0), (0.01, 30.0), (12.0, 30.0), (29.999, 30.0), (30.5, 60.0), (61.0, 90.0)]
)
def test_what_is_made_from_records_leaves_at_multiples_whatever_it_took(
    federation: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: IncomingKind, fails: bool, took: float, left: float
) -> None:
    home = federation.site("site-a").root
    edit(home / "policy.toml", answer_grid_s=30.0)
    service, begun, answer = SiteService(home), clock.now, Parcel(OutgoingKind.CLOSE_ACK, b"")

    def answered(_: Parcel) -> Parcel:
        clock.now += took
        if fails:
            raise ProtocolError("no")
        return answer

    monkeypatch.setattr(service, "_answer", answered)
    try:
        assert service.handle(Parcel(kind, b"")) is answer and not fails
    except ProtocolError:
        assert fails
    held = kind in {IncomingKind.START, IncomingKind.KEYS}
    assert clock.now - begun == pytest.approx(left if held else took)


def test_by_default_nothing_waits_and_a_change_of_policy_counts_at_once(
    federation: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = federation.site("site-a").root
    service = SiteService(home)
    monkeypatch.setattr(service, "_answer", lambda parcel: parcel)
    service.handle(Parcel(IncomingKind.START, b""))
    assert clock.slept == []
    edit(home / "policy.toml", answer_grid_s=5.0)
    service.handle(Parcel(IncomingKind.START, b""))
    assert clock.slept == [5.0]


def test_a_plan_whose_patience_such_answers_would_outlast_is_declined(federation: Any) -> None:
    home = federation.site("site-a")
    plan_hash = federation.launch(rounds__patience_s=600.0)
    study = store_plan(home, (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    edit(home.root / "policy.toml", answer_grid_s=300.0)
    study.check()
    edit(home.root / "policy.toml", answer_grid_s=300.5)
    with pytest.raises(PolicyError, match="patience_s"):
        study.check()
