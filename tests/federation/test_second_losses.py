from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.parcel import OutgoingKind, Parcel
from ssl_core.secure_sum.answer import answer_head
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import Evidence, accused, proves
from ssl_core.secure_sum.messages import Answer, Mark, Unmask
from ssl_core.secure_sum.statements import head_statement, read_signed
from ssl_core.trust.identity import Secret

SESSION = 32


def events(federation: Any, plan_hash: str) -> list[dict[str, Any]]:
    from deploy.event_reader import EventReader

    return list(EventReader(federation.operator.study(plan_hash)).new())


def test_a_round_bears_a_loss_before_the_upload_and_another_before_the_answer(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(6)
    plan_hash = federation.launch(rounds__rounds=2, rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)
    kinds: list[tuple[str, str]] = []

    def lost(site: str, parcel: Parcel, _attempt: int) -> bool:
        kinds.append((site, str(parcel.kind)))
        return (site, parcel.kind) in {("site-f", "START"), ("site-b", "CONSENT"), ("site-b", "UNMASK")}

    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services(), lost=lost))
    closed = [event["survivors"] for event in events(federation, plan_hash) if event["stage"] == "closed"]
    assert closed == [5, 5]
    asked = {site for site, kind in kinds if kind == "BACKUP"}
    assert asked == {"site-a", "site-c", "site-d", "site-e"}
    receipts = [entry.body["kind"] for entry in federation.site("site-a").chain.entries("receipt")]
    assert receipts.count("BACKUP") == 2


def test_a_site_that_returns_a_wrong_share_is_named_with_evidence_and_the_round_closes(
    make_federation: Callable[..., Any],
) -> None:
    federation = make_federation(5)
    plan_hash = federation.launch(rounds__rounds=1, rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)
    services = federation.services()
    honest = services["site-c"]

    def lying(parcel: Parcel) -> Parcel:
        answer = honest(parcel)
        if answer.kind != OutgoingKind.UNMASK:
            return answer
        body = decode(Answer, answer.body)
        values = (Secret(bytes([Mark.SHARE]) + bytes(32)), *body.values[1:])
        shown = tuple(share.commitment for share in read_signed(Unmask, parcel.body[SESSION:])[1].shares)
        head = answer_head(body.context, 2, tuple(range(5)), shown, values)
        signature = federation.site("site-c").identity.sign(head_statement(head))
        return Parcel(OutgoingKind.UNMASK, encode(Answer(context=body.context, values=values, signature=signature)))

    run_study(federation.operator.root, plan_hash, LocalExchange({**services, "site-c": lying}))
    told = events(federation, plan_hash)
    assert [event["survivors"] for event in told if event["stage"] == "closed"] == [5]
    assert [event["reason"] for event in told if event["stage"] == "fault"] == [
        "returned share is not the one committed to: site-c"
    ]
    (path,) = (federation.operator.study(plan_hash) / "evidence").iterdir()
    evidence = decode(Evidence, path.read_bytes())
    params = federation.study("site-a", plan_hash).params
    assert proves(params, evidence) and accused(params, evidence) == "site-c"


def test_a_start_that_contradicts_the_first_is_refused_and_remembered(make_federation: Callable[..., Any]) -> None:
    """The server signs a second START for round 1; the site that uploaded refuses it and keeps both."""
    from dataclasses import replace

    from ssl_core.errors import ProtocolError
    from ssl_core.secure_sum.messages import Start
    from ssl_core.secure_sum.statements import sign, start_context

    federation = make_federation(4)
    plan_hash = federation.launch(rounds__rounds=1)
    federation.invite_and_approve(plan_hash)
    services = federation.services()
    refused: list[str] = []

    def listening(parcel: Parcel) -> Parcel:
        answer = services["site-a"](parcel)
        if parcel.kind == "START":
            params = federation.study("site-a", plan_hash).params
            start = replace(read_signed(Start, parcel.body[SESSION:])[1], model=bytes(32))
            second = sign(federation.operator.server, start_context(params, start), start)
            try:
                services["site-a"](Parcel("START", parcel.body[:SESSION] + second, parcel.vector))
            except ProtocolError as error:
                refused.append(type(error).__name__)
        return answer

    run_study(federation.operator.root, plan_hash, LocalExchange({**services, "site-a": listening}))
    assert refused == ["ProvenFault"]
    site = federation.study("site-a", plan_hash).secure_sum
    assert [evidence.kind for evidence in site.alarms] == ["ROUND"]


def test_after_a_restart_the_server_still_has_the_agreements_of_a_site_that_is_lost_since(
    make_federation: Callable[..., Any],
) -> None:
    """One answered without having been asked to agree, and agrees no more; one that agreed is gone when the server is back."""

    class Killed(BaseException):
        pass

    federation = make_federation(6)
    plan_hash = federation.launch(rounds__rounds=1, rounds__patience_s=1.0)
    federation.invite_and_approve(plan_hash)
    before: list[str] = []

    def lost(site: str, parcel: Parcel, _attempt: int) -> bool:
        # Four agree before the fifth is asked; all five answer.
        return (site, parcel.kind) in {("site-f", "START"), ("site-e", "CONSENT")}

    def at(line: str) -> None:
        before.append(line)
        if line == "answers-complete":
            raise Killed

    with pytest.raises(Killed):
        run_study(federation.operator.root, plan_hash, LocalExchange(federation.services(), lost=lost), at=at)

    def gone(site: str, parcel: Parcel, _attempt: int) -> bool:
        return (site == "site-d" and parcel.kind != "START") or (site, parcel.kind) == ("site-f", "START")

    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services(), lost=gone))
    told = [(event["stage"], event.get("survivors")) for event in events(federation, plan_hash)]
    assert ("closed", 5) in told and not any(stage == "void" for stage, _ in told)
