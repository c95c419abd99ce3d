"""Steps 10 and 11 of 12: one study at the operator: its signed plan, its parameters, and how its sites are asked.

Comes in: a study folder with a signed plan, and an `Exchange` that reaches sites by name. Goes out: nothing of its own;
invitation.py and rounds.py are written against `StudyRun`. What a site answers out of turn, or what cannot be taken,
becomes an event and no answer. Raises `StateError` for a folder that does not fit its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from server.events import EventLog
from server.exchange import Exchange, LocalExchange, OnReply
from server.home import OperatorHome
from server.round_state import RoundState
from ssl_core.config import StudyPlan
from ssl_core.errors import ProtocolError, RoundVoid, StateError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.params import SumParams
from ssl_core.session import open_plan, sum_params
from ssl_core.trust.roster import Roster

_NOBODY = LocalExchange({})


class StudyStopped(StateError):
    """The operator asked for a stop; the study can be launched again and goes on."""


class RosterReplaced(StudyStopped):
    """A newer roster counts here: the sites end the study as they accept it, and its plan is launched again."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study; all that it remembers is in `state`. `at` is called at named lines, where tests kill."""

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
    def signed_plan(self) -> bytes:
        """The plan's envelope, as sites are shown it."""
        return (self.state.folder / "plan.json").read_bytes()

    @cached_property
    def _verified(self) -> tuple[Roster, StudyPlan, SumParams]:
        roster, roster_digest = self.home.roster()
        plan, plan_hash = open_plan(self.signed_plan, bytes.fromhex(roster.server.operator))
        if plan_hash != self.plan_hash or plan.roster != roster_digest:
            raise StateError("study folder holds another plan or was made for another roster", field=self.plan_hash)
        dimension = self.state.closed().model.weights.size
        return roster, plan, sum_params(plan, plan_hash, roster, roster_digest, dimension)

    @property
    def roster(self) -> Roster:
        """The relayed roster that the plan names."""
        return self._verified[0]

    @property
    def plan(self) -> StudyPlan:
        """The signed plan."""
        return self._verified[1]

    @property
    def params(self) -> SumParams:
        """The parameters that every site computes for itself too."""
        return self._verified[2]

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """The plan's sites, sorted."""
        return tuple(site.name for site in self.plan.sites)

    def parcels(self, kind: IncomingKind, bodies: Mapping[str, bytes], vector: np.ndarray | None = None) -> dict[str, Parcel]:
        """A parcel of `kind` for each site, all with one vector."""
        return {name: self.parcel(kind, body, vector) for name, body in bodies.items()}

    def parcel(self, kind: IncomingKind, body: bytes, vector: np.ndarray | None = None) -> Parcel:
        """A parcel of `kind`: its body behind the session id, which names the study, and a vector."""
        return Parcel(kind, bytes.fromhex(self.plan_hash) + body, vector)

    def ask(
        self,
        parcels: Mapping[str, Parcel],
        on_reply: OnReply,
        *,
        patience_s: float | None = None,
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        """`Exchange.ask` with the plan's patience, ended by `StudyStopped` once the operator asked for a stop."""

        def stop() -> bool:
            self.check_stop()
            return done()

        patience = self.plan.rounds.patience_s if patience_s is None else patience_s
        self.exchange.ask(parcels, patience_s=patience, on_reply=on_reply, done=stop)

    def ask_for(
        self,
        expected: OutgoingKind,
        parcels: Mapping[str, Parcel],
        take: Callable[[str, Parcel], None],
        *,
        round: int | None = None,
        patience_s: float | None = None,
        done: Callable[[], bool] = lambda: False,
        leads: Mapping[str, Iterator[Parcel]] = MappingProxyType({}),
    ) -> set[str]:
        """`ask`, and hand on the answers of the `expected` kind; any other is the event "declined". Who declined.

        An answer that `take` refuses by `ProtocolError` is the event "refused" and that site's loss alone; `RoundVoid`
        ends the asking. A site in `leads` is asked what its iterator gives first, one after the other; what it answers to
        that is not looked at, as the last parcel shows whether it helped.
        """
        declined: set[str] = set()
        leading = {name: next(lead, None) for name, lead in leads.items() if name in parcels}
        first = {name: leading.get(name) or parcel for name, parcel in parcels.items()}

        def on_reply(name: str, parcel: Parcel) -> Parcel | None:
            if leading.get(name) is not None:
                leading[name] = next(leads[name], None)
                return leading[name] or parcels[name]
            if parcel.kind != expected:
                declined.add(name)
                self.events.write("declined", round=round, site=name)
                return None
            try:
                take(name, parcel)
            except RoundVoid:
                raise
            except ProtocolError as error:
                self.events.write("refused", round=round, site=name, reason=error.problem)
            return None

        self.ask(first, on_reply, patience_s=patience_s, done=done)
        return declined

    def check_stop(self) -> None:
        """Raise `StudyStopped` once the operator asked for a stop."""
        if (self.state.folder / "stop").exists():
            raise StudyStopped("the operator stopped this study", remedy="launch it again to go on")

    def check_roster(self) -> None:
        """Raise `RosterReplaced` once the operator took a newer roster than the plan's."""
        accepted = self.home.accepted
        if accepted is not None and accepted.digest != self.plan.roster:
            raise RosterReplaced(
                f"roster version {accepted.version} counts now", field="roster", value=self.plan.roster,
                limit=accepted.digest, remedy="launch the plan's TOML again; every hospital approves it anew",
            )  # fmt: skip


def supernode_keys(home: Path, plan_hash: str) -> dict[str, str]:
    """Site name -> SuperNode public key (OpenSSH) of the plan's participants, from the roster."""
    run = StudyRun(OperatorHome(home), plan_hash, _NOBODY, lambda _line: None)
    return {name: run.roster.member(name).supernode for name in run.participants}
