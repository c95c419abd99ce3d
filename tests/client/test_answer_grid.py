"""When answers leave, by the hospital's own grid: those made from records, and no others."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from tests_commands import edit

from client import answer_grid
from client.answer_grid import wait_for_grid
from client.site_service import SiteService
from client.study import store_plan
from ssl_core.errors import ConfigError, PolicyError, ProtocolError
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


def test_a_site_that_is_told_to_stop_in_the_middle_of_a_round_does_not_wait_for_the_grid(
    federation: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is answered then, and whoever stopped it would have to kill it."""
    home = federation.site("site-a").root
    edit(home / "policy.toml", answer_grid_s=600.0)
    service = SiteService(home)

    def told_to_stop(_: Parcel) -> Parcel:
        raise SystemExit(0)

    monkeypatch.setattr(service, "_answer", told_to_stop)
    with pytest.raises(SystemExit):
        service.handle(Parcel(IncomingKind.START, b""))
    assert clock.slept == []


def test_a_policy_that_cannot_be_read_is_found_before_a_round_and_what_is_not_held_needs_none(
    federation: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found after it, a round that was charged would be lost, and its refusal leave when training ended."""
    home = federation.site("site-a").root
    service, answered = SiteService(home), list[str]()

    def answer(parcel: Parcel) -> Parcel:
        answered.append(parcel.kind)
        clock.now += 7.0
        (home / "policy.toml").write_text("answer_grid_s =")
        return parcel

    monkeypatch.setattr(service, "_answer", answer)
    edit(home / "policy.toml", answer_grid_s=30.0)
    service.handle(Parcel(IncomingKind.START, b""))
    assert clock.slept == [23.0]
    with pytest.raises(ConfigError, match="policy"):
        service.handle(Parcel(IncomingKind.START, b""))
    service.handle(Parcel(IncomingKind.CLOSE, b""))
    assert answered == ["START", "CLOSE"] and clock.slept == [23.0]


@pytest.mark.parametrize("seed", range(5))
def test_no_rounding_makes_the_wait_negative(clock: Clock, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20_000):
        grid, clock.now = rng.uniform(0.001, 9.0), 0.0
        multiple = rng.randrange(1, 50) * grid
        clock.now = rng.choice((multiple, math.nextafter(multiple, 0.0), math.nextafter(multiple, 1e9)))
        wait_for_grid(0.0, grid)


def test_a_plan_whose_patience_such_answers_would_outlast_is_declined(federation: Any) -> None:
    home = federation.site("site-a")
    plan_hash = federation.launch(rounds__patience_s=600.0)
    study = store_plan(home, (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    edit(home.root / "policy.toml", answer_grid_s=300.0)
    study.check()
    edit(home.root / "policy.toml", answer_grid_s=300.5)
    with pytest.raises(PolicyError, match="patience_s"):
        study.check()
