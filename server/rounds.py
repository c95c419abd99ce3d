"""Steps 10 and 11 of 12: the round loop: invite -> keys -> (start, upload, consent, unmask, step) x R -> last close.

Comes in: a study folder with a signed plan, an `Exchange` that reaches sites by name. Goes out: `closed/<round>/` with the
new weights, events.jsonl. Two exchanges a round when nobody is lost (START/UPLOAD and UNMASK); CLOSE rides in the next
START. Every line can be killed: a second call of `run_study` goes on from the last closed round and repeats the open
round by identical messages, or voids it (rulings 6, 28). `at` is called at ten named lines; tests kill there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from server.events import EventLog
from server.exchange import Exchange, LocalExchange
from server.home import OperatorHome
from server.model_update import apply_update
from server.round_state import Closed, RoundState
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan
from ssl_core.errors import ProtocolError, RoundVoid, StateError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.intake import check_ack
from ssl_core.secure_sum.keys import make_keyset
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import close_context, read_signed
from ssl_core.session import open_approval, open_plan, sum_params
from ssl_core.trust.roster import Roster

KILL_POINTS = (
    "invited", "keyset-written", "keys-acknowledged", "start-written", "upload-added", "survivors-fixed",
    "answers-complete", "weights-computed", "round-closed", "study-finished",
)  # fmt: skip
_INVITE_PAUSE_S = 2.0
_NOBODY = LocalExchange({})


class StudyStopped(StateError):
    """The operator asked for a stop; the study can be launched again and goes on."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study; all that it remembers is in `state`."""

    home: OperatorHome
    plan_hash: str
    exchange: Exchange
    at: Callable[[str], None]

    @cached_property
    def state(self) -> RoundState:
        """The durable state."""
        return RoundState(self.home.study(self.plan_hash))

    @cached_property
    def events(self) -> EventLog:
        """The progress file."""
        return EventLog(self.state.folder)

    @cached_property
    def _signed(self) -> tuple[Roster, StudyPlan, SumParams]:
        roster, roster_digest = self.home.roster()
        data = (self.state.folder / "plan.json").read_bytes()
        plan, plan_hash = open_plan(data, bytes.fromhex(roster.server.operator))
        if plan_hash != self.plan_hash or plan.roster != roster_digest:
            raise StateError("study folder holds another plan or was made for another roster", field=self.plan_hash)
        dimension = self.state.closed().weights.size
        return roster, plan, sum_params(plan, plan_hash, roster, roster_digest, dimension)

    @property
    def roster(self) -> Roster:
        """The relayed roster that the plan names."""
        return self._signed[0]

    @property
    def plan(self) -> StudyPlan:
        """The signed plan."""
        return self._signed[1]

    @property
    def params(self) -> SumParams:
        """The parameters that every site computes for itself too."""
        return self._signed[2]

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """The plan's sites, sorted."""
        return tuple(site.name for site in self.plan.sites)

    def run(self) -> None:
        """Go on until the plan's rounds are closed and every site has the last CLOSE."""
        if (self.state.folder / "finished").exists():
            return
        self.events.write("running", rounds=self.plan.rounds.rounds, sites=len(self.participants))
        keyset = self._agree_on_keys()
        coordinator = SecureSumCoordinator(self.params, self.home.server, keyset)
        while self.state.closed().count < self.plan.rounds.rounds:
            self._check_stop()
            try:
                self._round(coordinator)
            except RoundVoid as reason:
                self._keep_faults(coordinator)
                number, _ = self.state.used()
                coordinator.void()
                self.state.void_round(number)
                self.events.write("void", round=number, reason=reason.problem)
                if len(self.state.used()[1]) > self.plan.rounds.max_void:
                    raise StateError(
                        "more void rounds than the plan reserves",
                        field="max_void",
                        value=len(self.state.used()[1]),
                        limit=self.plan.rounds.max_void,
                        remedy="find out why sites were lost, then launch a new study",
                    ) from reason
        self._last_close()

    def _agree_on_keys(self) -> bytes:
        path = self.state.folder / "keyset.bin"
        if not path.is_file():
            offers = self._invite()
            self.at("invited")
            write_durably(path, make_keyset(self.params, offers))
        self.at("keyset-written")
        keyset = path.read_bytes()
        if self.state.used()[0] == 0:
            acknowledged: set[str] = set()
            self._ask(IncomingKind.KEYS, {name: keyset for name in self.participants}, OutgoingKind.KEYS_ACK,
                      lambda name, parcel: acknowledged.add(name))  # fmt: skip
            missing = sorted(set(self.participants) - acknowledged)
            if missing:
                raise StateError("sites did not take the key set", field="sites", value=", ".join(missing))
        self.at("keys-acknowledged")
        return keyset

    def _invite(self) -> dict[str, bytes]:
        """Ask until every participant's hospital approved; it waits for people, so it has a patience of its own."""
        plan_bytes = (self.state.folder / "plan.json").read_bytes()
        offers: dict[str, bytes] = {}
        told: dict[str, str] = {}
        deadline = time.monotonic() + self.plan.rounds.approval_patience_s
        while len(offers) < len(self.participants):
            self._check_stop()

            def on_reply(name: str, parcel: Parcel) -> None:
                status = "declined"
                if parcel.kind == OutgoingKind.APPROVAL:
                    member = self.roster.member(name)
                    approval = open_approval(parcel.body, bytes.fromhex(member.identity), self.plan_hash)
                    status = approval.status
                    if status == "approved":
                        offers[name] = approval.key_offer
                if told.get(name) != status:
                    told[name] = status
                    self.events.write(status, site=name)

            waiting = [name for name in self.participants if name not in offers]
            self._ask_parcels({name: Parcel(IncomingKind.INVITE, plan_bytes) for name in waiting}, on_reply, patience_s=20.0)
            if len(offers) < len(self.participants):
                if time.monotonic() > deadline:
                    raise StateError(
                        "not every site approved the study in time",
                        field="sites",
                        value=", ".join(n for n in self.participants if n not in offers),
                        limit=f"{self.plan.rounds.approval_patience_s:g} s",
                        remedy="ask these hospitals, then launch again",
                    )
                time.sleep(_INVITE_PAUSE_S)
        return offers

    def _round(self, coordinator: SecureSumCoordinator) -> None:
        closed = self.state.closed()
        begun = time.monotonic()
        start = self._open(coordinator, closed)
        number = self.state.used()[0]
        self.events.write("start", round=number)
        self._collect(coordinator, number, start, closed)
        self._unmask(coordinator, number)
        mean = coordinator.mean()
        self._keep_faults(coordinator)
        weights, optimizer = apply_update(closed.weights, mean, closed.optimizer, self.plan.aggregation)
        self.at("weights-computed")
        close = coordinator.close(_hash(weights))
        self.state.close(Closed(number, closed.count + 1, weights, optimizer, close))
        self.at("round-closed")
        self.events.write(
            "closed", round=number, done=closed.count + 1, survivors=len(coordinator.survivors or ()),
            seconds=round(time.monotonic() - begun, 3),
        )  # fmt: skip

    def _open(self, coordinator: SecureSumCoordinator, closed: Closed) -> bytes:
        again = self.state.open_start()
        if again is not None:
            coordinator.resume(again[1])
            return again[1]
        number = self.state.used()[0] + 1
        start = coordinator.start(number, self.participants, _hash(closed.weights), closed.close)
        self.state.open_round(number, start)
        self.at("start-written")
        return start

    def _collect(self, coordinator: SecureSumCoordinator, number: int, start: bytes, closed: Closed) -> None:
        def on_reply(name: str, parcel: Parcel) -> None:
            if parcel.kind != OutgoingKind.UPLOAD or parcel.vector is None:
                self.events.write("declined", round=number, site=name)
                return
            try:
                coordinator.add_upload(name, parcel.body, parcel.vector)
            except ProtocolError as error:
                self.events.write("refused", round=number, site=name, reason=error.problem)
                return
            self.events.write("upload", round=number, site=name)
            self.at("upload-added")

        parcel = Parcel(IncomingKind.START, bytes.fromhex(self.plan_hash) + start, closed.weights)
        survivors = self.state.survivors()
        if survivors is not None:
            # U was fixed before a restart: only its uploads may enter the sum, and all of them must come again.
            coordinator.fix_survivors(survivors)
        self._ask_parcels({name: parcel for name in survivors or self.participants}, on_reply)
        if survivors is not None and coordinator.uploaded != tuple(survivors):
            raise RoundVoid("a survivor of the open round did not send its upload again")
        needs_consent = coordinator.fix_survivors(survivors)
        if survivors is None:
            self.state.fix_survivors(list(coordinator.survivors or ()))
        self.at("survivors-fixed")
        if needs_consent:
            self._ask(IncomingKind.CONSENT, coordinator.consent_requests(), OutgoingKind.CONSENT,
                      lambda name, reply: coordinator.add_consent(name, reply.body),
                      done=lambda: coordinator.consented)  # fmt: skip
            if not coordinator.consented:
                raise RoundVoid("too few sites consented to the survivors")

    def _unmask(self, coordinator: SecureSumCoordinator, number: int) -> None:
        def on_reply(name: str, parcel: Parcel) -> None:
            coordinator.add_answer(name, parcel.body)
            self.events.write("unmask", round=number, site=name)

        # Every survivor is asked, but t answers are enough: a site that is lost now must not hold up the round.
        self._ask(IncomingKind.UNMASK, coordinator.unmask_requests(), OutgoingKind.UNMASK, on_reply,
                  done=lambda: coordinator.answered)  # fmt: skip
        requests = {} if coordinator.answered else coordinator.backup_requests()
        if requests:
            # A survivor was lost after its upload: those that answered speak for it (secure-sum notes 2.3, step 7).
            self._ask(IncomingKind.BACKUP, requests, OutgoingKind.BACKUP,
                      lambda name, parcel: coordinator.add_backup(name, parcel.body),
                      done=lambda: coordinator.answered)  # fmt: skip
        if not coordinator.answered:
            raise RoundVoid("too few survivors answered UNMASK")
        self.at("answers-complete")

    def _keep_faults(self, coordinator: SecureSumCoordinator) -> None:
        """Name who broke the protocol, and keep the evidence that a third party can check."""
        number, _ = self.state.used()
        for count, fault in enumerate(coordinator.faults, 1):
            if fault.evidence is not None:
                (self.state.folder / "evidence").mkdir(exist_ok=True)
                write_durably(self.state.folder / "evidence" / f"round-{number}-{count}.bin", encode(fault.evidence))
            self.events.write("fault", round=number, reason=f"{fault.problem}: {', '.join(fault.sites)}")

    def _last_close(self) -> None:
        closed = self.state.closed()
        if closed.close is None:
            raise StateError("study has no closed round", field=self.plan_hash)
        body = bytes.fromhex(self.plan_hash) + closed.close
        parcel = Parcel(IncomingKind.CLOSE, body, closed.weights)
        close = read_signed(Close, closed.close)[1]
        context = close_context(self.params, close)
        acknowledged: set[str] = set()

        def on_reply(name: str, reply: Parcel) -> None:
            if reply.kind != OutgoingKind.CLOSE_ACK:
                self.events.write("declined", site=name)
                return
            try:
                check_ack(context, close, self.params.members[self.params.index(name)], reply.body)
            except ProtocolError as error:
                self.events.write("refused", site=name, reason=error.problem)
                return
            acknowledged.add(name)

        self._ask_parcels({name: parcel for name in self.participants}, on_reply, patience_s=60.0)
        self.at("study-finished")
        (self.state.folder / "finished").write_text("")
        self.events.write("finished", done=closed.count, acknowledged=len(acknowledged))

    def _ask(
        self,
        kind: IncomingKind,
        bodies: Mapping[str, bytes],
        expected: OutgoingKind,
        on_reply: Callable[[str, Parcel], None],
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        session = bytes.fromhex(self.plan_hash)

        def checked(name: str, parcel: Parcel) -> None:
            if parcel.kind != expected:
                self.events.write("declined", site=name)
                return
            try:
                on_reply(name, parcel)
            except RoundVoid:
                raise
            except ProtocolError as error:
                self.events.write("refused", site=name, reason=error.problem)

        self._ask_parcels({name: Parcel(kind, session + body) for name, body in bodies.items()}, checked, done=done)

    def _ask_parcels(
        self,
        parcels: Mapping[str, Parcel],
        on_reply: Callable[[str, Parcel], None],
        *,
        patience_s: float | None = None,
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        def stop() -> bool:
            self._check_stop()
            return done()

        patience = self.plan.rounds.patience_s if patience_s is None else patience_s
        self.exchange.ask(parcels, patience_s=patience, on_reply=on_reply, done=stop)

    def _check_stop(self) -> None:
        if (self.state.folder / "stop").exists():
            raise StudyStopped("the operator stopped this study", remedy="launch it again to go on")


def run_study(home: Path, plan_hash: str, exchange: Exchange, *, at: Callable[[str], None] = lambda _line: None) -> None:
    """Run or go on with a study under the operator folder `home`; see the module's first lines for what it leaves."""
    run = StudyRun(OperatorHome(home), plan_hash, exchange, at)
    try:
        run.run()
    except StudyStopped:
        run.events.write("stopped")
    except Exception as error:
        run.events.write("failed", reason=getattr(error, "problem", type(error).__name__))
        raise


def _hash(weights: np.ndarray) -> bytes:
    return hashlib.sha256(weights.astype("<f4").tobytes()).digest()


def supernode_keys(home: Path, plan_hash: str) -> dict[str, str]:
    """Site name -> SuperNode public key (OpenSSH) of the plan's participants, from the roster."""
    run = StudyRun(OperatorHome(home), plan_hash, _NOBODY, lambda _line: None)
    roster = run.roster
    return {name: roster.member(name).supernode for name in run.participants}
