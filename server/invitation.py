"""Step 10 of 12, before the first round: every hospital approves, and all agree on one epoch key set.

Comes in: a study whose plan is signed. Goes out: the key set E as bytes, durable in `keyset.bin` before any site sees it
(ruling 7). INVITE is repeated until every participant has answered "approved"; it waits for people, so it has a patience
of its own. KEYS follows with the initial weights, until every participant has acknowledged these very bytes. A second call
after a kill asks again with the same bytes, and asks nothing once all have acknowledged. Raises `StateError` naming the
sites that are missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from server.epochs import aligned, hand_out, is_offer, keep_keyset
from server.study import StudyRun
from ssl_core.errors import ConfigError, StateError, TrustError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.session import open_approval

_ASK_S, _PAUSE_S, _LONGEST_PAUSE_S = 20.0, 2.0, 60.0
_STOP_LOOK_S = 1.0


def agree_on_keys(run: StudyRun) -> bytes:
    """The study's key set, held by every participant when the first round begins."""
    path = run.state.folder / "keyset.bin"
    if not path.is_file():
        offers = aligned(run, _invite(run))
        missing = sorted(set(run.participants) - set(offers))
        if missing:
            raise _missing("sites offered no key for the epoch of the others", missing, "every participant")
        run.at("invited")
        keep_keyset(run, offers)
    run.at("keyset-written")
    keyset = path.read_bytes()
    if not run.state.keyset_facts()[1]:
        missing = hand_out(run, keyset)
        if missing and run.state.used()[0] == 0:
            raise _missing("sites did not take the key set", missing, "every participant")
    run.at("keys-acknowledged")
    return keyset


def _invite(run: StudyRun) -> dict[str, bytes]:
    """Ask until every participant's hospital approved; its key offer by site."""
    offers: dict[str, bytes] = {}
    told: dict[str, str] = {}

    def on_reply(name: str, parcel: Parcel) -> None:
        status, offer = _answer(run, name, parcel)
        if offer:
            offers[name] = offer
        # A hospital that still waits is asked every few seconds for days: only a change is news.
        if told.get(name) != status:
            told[name] = status
            run.events.write(status, site=name)

    begun = time.monotonic()
    deadline = begun + run.plan.rounds.approval_patience_s
    while True:
        run.check_stop()
        run.check_roster()
        waiting = [name for name in run.participants if name not in offers]
        invitation = Parcel(IncomingKind.INVITE, run.signed_plan)
        run.ask(dict.fromkeys(waiting, invitation), on_reply, patience_s=_ASK_S)
        waiting = [name for name in waiting if name not in offers]
        if not waiting:
            return offers
        if time.monotonic() > deadline:
            raise _missing("not every site approved the study in time", waiting, f"{run.plan.rounds.approval_patience_s:g} s")
        _pause(run, time.monotonic() - begun)


def _pause(run: StudyRun, waited_s: float) -> None:
    """Longer the longer people take: each answer is a line in a hospital's log for good, and they may take days.

    `client/asked.py` takes the operator for gone after ten minutes.
    """
    until = time.monotonic() + min(_LONGEST_PAUSE_S, max(_PAUSE_S, waited_s / 10))
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_STOP_LOOK_S, left))
        run.check_stop()
        run.check_roster()


def _answer(run: StudyRun, name: str, parcel: Parcel) -> tuple[str, bytes]:
    """(approved, waiting, declined or refused; the key offer, empty unless approved)."""
    if parcel.kind != OutgoingKind.APPROVAL:
        return "declined", b""
    try:
        approval = open_approval(parcel.body, bytes.fromhex(run.roster.member(name).identity), run.plan_hash)
    except (TrustError, ConfigError):
        return "refused", b""
    if approval.key_offer and not is_offer(run, name, approval.key_offer, 0):
        return "refused", b""
    return approval.status, approval.key_offer


def _missing(problem: str, names: Sequence[str], limit: str) -> StateError:
    return StateError(
        problem, field="sites", value=", ".join(names), limit=limit, remedy="ask these hospitals, then launch again"
    )
