"""From the signed plan to the key set: hospitals that wait, refuse, answer rubbish or are killed in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from client.asked import _RECENT_S
from server.exchange import LocalExchange
from server.invitation import _pause, agree_on_keys
from server.study import StudyRun, StudyStopped
from ssl_core.errors import StateError
from ssl_core.parcel import DECLINED, IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.keys import open_keyset

Answer = Callable[[str, Parcel, Callable[[Parcel], Parcel]], Parcel]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.invitation._PAUSE_S", 0.0)


class Study:
    """A study of three sites; `answer(site, parcel, handler)` says what comes back."""

    def __init__(self, federation: Any, answer: Answer, **changes: Any) -> None:
        self.federation = federation
        self.plan_hash: str = federation.launch(**({"rounds__patience_s": 1.0} | changes))
        self.asked: list[tuple[str, str]] = []
        self._answer = answer

    def run(self) -> StudyRun:
        """A fresh run, as after a restart of the server."""
        handlers = self.federation.services()

        def handler(site: str) -> Callable[[Parcel], Parcel]:
            def handle(parcel: Parcel) -> Parcel:
                self.asked.append((site, parcel.kind))
                return self._answer(site, parcel, handlers[site])

            return handle

        exchange = LocalExchange({site: handler(site) for site in handlers})
        return StudyRun(self.federation.operator, self.plan_hash, exchange, lambda _line: None)

    def events(self) -> list[tuple[str, str]]:
        """(stage, site) of what was noted of sites, in order."""
        lines = (self.federation.operator.study(self.plan_hash) / "events.jsonl").read_text().splitlines()
        return [(event["stage"], event["site"]) for event in map(json.loads, lines) if "site" in event]


def honest(_site: str, parcel: Parcel, handler: Callable[[Parcel], Parcel]) -> Parcel:
    return handler(parcel)


def test_it_waits_for_people_and_notes_only_what_changes(federation: Any) -> None:
    said: list[str] = []

    def answer(site: str, parcel: Parcel, handler: Callable[[Parcel], Parcel]) -> Parcel:
        if site == "site-b" and parcel.kind == IncomingKind.INVITE:
            said.append(site)
            if len(said) == 4:
                return DECLINED
            if len(said) == 6:
                federation.study("site-b", study.plan_hash).approve("person")
        return handler(parcel)

    study = Study(federation, answer)
    plan = (federation.operator.study(study.plan_hash) / "plan.json").read_bytes()
    for name in ("site-a", "site-c"):
        federation.services()[name](Parcel(IncomingKind.INVITE, plan))
        federation.study(name, study.plan_hash).approve("person")
    keyset = agree_on_keys(study.run())
    assert len(open_keyset(study.run().params, keyset)[2]) == 3
    assert study.events() == [
        ("approved", "site-a"), ("waiting", "site-b"), ("approved", "site-c"), ("declined", "site-b"), ("waiting", "site-b"),
        ("approved", "site-b"),
    ]  # fmt: skip
    # Who approved is not asked again, and every site gets the key set once.
    assert [site for site, kind in study.asked if kind == IncomingKind.INVITE] == [
        "site-a",
        "site-b",
        "site-c",
        *["site-b"] * 5,
    ]
    assert [site for site, kind in study.asked if kind == IncomingKind.KEYS] == ["site-a", "site-b", "site-c"]


def test_one_sites_rubbish_is_its_own_loss_and_the_study_goes_on(federation: Any) -> None:
    rubbish: list[bytes] = []

    def answer(site: str, parcel: Parcel, handler: Callable[[Parcel], Parcel]) -> Parcel:
        right = handler(parcel)
        if site != "site-b" or parcel.kind != IncomingKind.INVITE or not rubbish:
            return right
        return Parcel(OutgoingKind.APPROVAL, rubbish.pop())

    study = Study(federation, answer)
    federation.invite_and_approve(study.plan_hash)
    of_another = federation.services()["site-a"](
        Parcel(IncomingKind.INVITE, (federation.operator.study(study.plan_hash) / "plan.json").read_bytes())
    )
    rubbish += [b"", b"{}", of_another.body, b"\xff\x00"]
    agree_on_keys(study.run())
    assert study.events() == [
        ("approved", "site-a"), ("refused", "site-b"), ("approved", "site-c"), ("approved", "site-b")
    ]  # fmt: skip


def test_a_site_that_says_it_took_another_key_set_is_named(federation: Any) -> None:
    def answer(site: str, parcel: Parcel, handler: Callable[[Parcel], Parcel]) -> Parcel:
        right = handler(parcel)
        wrong = site == "site-c" and parcel.kind == IncomingKind.KEYS
        return Parcel(right.kind, bytes(32)) if wrong else right

    study = Study(federation, answer)
    federation.invite_and_approve(study.plan_hash)
    with pytest.raises(StateError, match="did not take the key set") as caught:
        agree_on_keys(study.run())
    assert (caught.value.field, caught.value.value) == ("sites", "site-c") and caught.value.remedy
    assert study.events()[-1] == ("refused", "site-c")


def test_who_has_not_approved_in_time_is_named(federation: Any) -> None:
    study = Study(federation, honest, rounds__approval_patience_s=1e-9)
    with pytest.raises(StateError, match="not every site approved") as caught:
        agree_on_keys(study.run())
    assert (caught.value.value, caught.value.limit) == ("site-a, site-b, site-c", "1e-09 s")
    assert not (federation.operator.study(study.plan_hash) / "keyset.bin").exists()


def test_after_a_kill_the_same_key_set_is_handed_out_until_all_have_it(federation: Any) -> None:
    study = Study(federation, honest)
    federation.invite_and_approve(study.plan_hash)
    first = agree_on_keys(study.run())
    study.asked.clear()
    assert agree_on_keys(study.run()) == first and study.asked == []
    study.run().state.note_keyset(0, held=False)
    assert agree_on_keys(study.run()) == first
    assert study.asked == [("site-a", "KEYS"), ("site-b", "KEYS"), ("site-c", "KEYS")]


def test_a_stop_ends_the_waiting(federation: Any) -> None:
    study = Study(federation, honest)
    (federation.operator.study(study.plan_hash) / "stop").write_text("")
    with pytest.raises(StudyStopped):
        agree_on_keys(study.run())
    assert study.asked == []


def test_the_longer_people_take_the_less_often_they_are_asked_and_a_stop_is_seen_at_once(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is a line in a hospital's log for good: asked every two seconds for two weeks, 600,000 of them."""
    now, asked = [0.0], list[float]()

    class Clock:
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds
            if now[0] > 13 * 86400:
                (federation.operator.study(study.plan_hash) / "stop").touch()

    def answer(site: str, parcel: Parcel, handler: Callable[[Parcel], Parcel]) -> Parcel:
        if site != "site-b":
            return handler(parcel)
        asked.append(now[0])
        now[0] += 0.1
        return waiting

    study = Study(federation, answer)
    plan = (federation.operator.study(study.plan_hash) / "plan.json").read_bytes()
    waiting = federation.services()["site-b"](Parcel(IncomingKind.INVITE, plan))
    for name in ("site-a", "site-c"):
        federation.services()[name](Parcel(IncomingKind.INVITE, plan))
        federation.study(name, study.plan_hash).approve("person")
    run = study.run()
    monkeypatch.setattr("server.invitation.time", Clock)
    monkeypatch.setattr("server.invitation._PAUSE_S", 2.0)
    # Two weeks of looks at two small files, which are real ones, would take minutes.
    monkeypatch.setattr("server.invitation._STOP_LOOK_S", 60.0)
    with pytest.raises(StudyStopped):
        agree_on_keys(run)
    gaps = [after - before for before, after in pairwise(asked)]
    assert gaps[:5] == pytest.approx([2.1] * 5) and (np.diff(gaps) > -1e-6).all() and gaps[-1] == pytest.approx(60.1)
    assert len(asked) < 20_000 and max(gaps) * 5 < _RECENT_S
    assert now[0] < 13 * 86400 + 61


def test_a_stop_is_seen_within_a_second_of_a_pause(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Clock:
        monotonic = staticmethod(lambda: sum(slept))

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                (federation.operator.study(study.plan_hash) / "stop").touch()

    study = Study(federation, honest)
    run = study.run()
    monkeypatch.setattr("server.invitation.time", Clock)
    with pytest.raises(StudyStopped):
        _pause(run, 3600.0)
    assert slept == [1.0] * 3
