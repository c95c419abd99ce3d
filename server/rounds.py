"""Steps 10 and 11 of 12: the round loop: (start, upload, consent, unmask, step) x R -> last close.

Comes in: a study folder with a signed plan, an `Exchange` that reaches sites by name. Goes out: `closed/<round>/` with the
new weights, events.jsonl. Two exchanges a round when nobody is lost (START/UPLOAD and UNMASK); CLOSE rides in the next
START. Every line can be killed: a second call of `run_study` goes on from the last closed round and repeats the open
round by identical messages, or voids it (rulings 6, 28). `at` is called at the lines of KILL_POINTS; tests kill there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from server.catch_up import CatchUp
from server.epochs import renew_keys
from server.exchange import Exchange
from server.home import OperatorHome
from server.invitation import agree_on_keys
from server.round_state import Closed
from server.study import RosterReplaced, StudyRun, StudyStopped
from ssl_core.chain import write_durably
from ssl_core.errors import ChoralError, ProtocolError, RoundVoid, StateError, TransportError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.intake import check_ack
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.statements import close_context, read_signed

KILL_POINTS = (
    "invited", "keyset-written", "keys-acknowledged", "keyset-renewed", "start-written", "upload-added", "survivors-fixed",
    "answers-complete", "weights-computed", "round-closed", "study-finished",
)  # fmt: skip
_LAST_CLOSE_S = 60.0
_VOID_S = 5.0


def run_study(home: Path, plan_hash: str, exchange: Exchange, *, at: Callable[[str], None] = lambda _line: None) -> None:
    """Run or go on with a study under the operator folder `home`; see the module's first lines for what it leaves."""
    run = StudyRun(OperatorHome(home), plan_hash, exchange, at)
    if (run.state.folder / "finished").exists():
        return
    try:
        _all_rounds(run)
    except RosterReplaced as over:
        run.events.write("stopped", reason=over.problem)
    except StudyStopped:
        run.events.write("stopped")
    except Exception as error:
        # What the study's own rules ended stays ended; what Flower or the network ended may be started again (ruling 32).
        final = isinstance(error, ChoralError) and not isinstance(error, TransportError)
        run.events.write("failed", reason=getattr(error, "problem", type(error).__name__), final=final)
        raise


def _all_rounds(run: StudyRun) -> None:
    """Go on until the plan's rounds are closed and every site was told the last CLOSE."""
    run.events.write("running", rounds=run.plan.rounds.rounds, sites=len(run.participants))
    coordinator = SecureSumCoordinator(run.params, run.home.server, agree_on_keys(run), run.state.shelf())
    catch_up = CatchUp(run)
    while run.state.closed().count < run.plan.rounds.rounds:
        run.check_stop()
        run.check_roster()
        keyset = renew_keys(run, catch_up) if run.state.open_start() is None else None
        if keyset is not None:
            coordinator = SecureSumCoordinator(run.params, run.home.server, keyset, run.state.shelf())
        try:
            _round(run, coordinator, catch_up)
        except RoundVoid as reason:
            _void(run, coordinator, reason)
    _last_close(run, catch_up)


def _round(run: StudyRun, coordinator: SecureSumCoordinator, catch_up: CatchUp) -> None:
    closed = run.state.closed()
    begun = time.monotonic()
    number, start = _open(run, coordinator, closed)
    run.events.write("start", round=number)
    survivors = run.state.survivors()
    names = survivors or run.participants
    parcels = run.parcels(IncomingKind.START, dict.fromkeys(names, start), closed.total)
    catch_up.refused(_collect(run, coordinator, number, parcels, catch_up, survivors))
    _note_acknowledgements(run, coordinator, closed, catch_up)
    _fix_survivors(run, coordinator, number, survivors)
    _unmask(run, coordinator, number)
    model = closed.model.after(coordinator.mean(), run.plan.aggregation)
    _keep_faults(run, coordinator, number)
    run.at("weights-computed")
    close = coordinator.close(model.digest, model.state.digest)
    run.state.close(Closed(number, closed.count + 1, model, close, coordinator.total()))
    run.at("round-closed")
    run.events.write(
        "closed", round=number, done=closed.count + 1, survivors=len(coordinator.survivors or ()),
        seconds=round(time.monotonic() - begun, 3),
    )  # fmt: skip


def _open(run: StudyRun, coordinator: SecureSumCoordinator, closed: Closed) -> tuple[int, bytes]:
    """(round number, START), durable before it is sent; after a kill the same bytes again."""
    again = run.state.open_start()
    if again is not None:
        coordinator.resume(again[1])
        return again
    number = run.state.used()[0] + 1
    start = coordinator.start(number, run.participants, closed.model.digest, closed.close)
    run.state.open_round(number, start)
    run.at("start-written")
    return number, start


def _collect(
    run: StudyRun,
    coordinator: SecureSumCoordinator,
    number: int,
    starts: Mapping[str, Parcel],
    catch_up: CatchUp,
    survivors: Sequence[str] | None,
) -> set[str]:
    """Add each upload to the running sum as it comes; who declined. `survivors` fixed before a kill must all send again."""

    def take(name: str, parcel: Parcel) -> None:
        if parcel.vector is None:
            raise ProtocolError("upload carries no vector", field="site", value=name)
        coordinator.add_upload(name, parcel.body, parcel.vector)
        run.events.write("upload", round=number, site=name)
        run.at("upload-added")

    if survivors is not None:
        # U was fixed before a restart: only its uploads may enter the sum, and all of them must come again.
        coordinator.fix_survivors(survivors)
    declined = run.ask_for(OutgoingKind.UPLOAD, starts, take, round=number, leads=catch_up.leads())
    if survivors is not None and coordinator.uploaded != tuple(survivors):
        raise RoundVoid("a survivor of the open round did not send its upload again")
    return declined


def _note_acknowledgements(run: StudyRun, coordinator: SecureSumCoordinator, closed: Closed, catch_up: CatchUp) -> None:
    """Who recomputed the model of the last CLOSE; t of them make it a checkpoint."""
    catch_up.acknowledged(closed.round, coordinator.acknowledged if closed.close else coordinator.uploaded)
    checkpoint = coordinator.checkpoint()
    if checkpoint is not None:
        run.state.keep_checkpoint(closed.round, checkpoint)


def _fix_survivors(run: StudyRun, coordinator: SecureSumCoordinator, number: int, survivors: Sequence[str] | None) -> None:
    """U, durable before any site is asked to unmask for it; after a loss the survivors agree to it first."""
    needs_consent = coordinator.fix_survivors(survivors)
    if survivors is None:
        run.state.fix_survivors(list(coordinator.survivors or ()))
    run.at("survivors-fixed")
    if not needs_consent:
        return
    agreements = run.state.agreements()
    for name, body in agreements.items():
        coordinator.add_consent(name, body)

    def take(name: str, reply: Parcel) -> None:
        coordinator.add_consent(name, reply.body)
        agreements[name] = reply.body

    parcels = run.parcels(IncomingKind.CONSENT, coordinator.consent_requests())
    run.ask_for(OutgoingKind.CONSENT, parcels, take, round=number, done=lambda: coordinator.consented)
    if not coordinator.consented:
        raise RoundVoid("too few sites consented to the survivors")
    # A site that answers without having been asked to agree does not agree afterwards (ruling 10).
    run.state.keep_agreements(agreements)


def _unmask(run: StudyRun, coordinator: SecureSumCoordinator, number: int) -> None:
    """Every survivor is asked, but t answers are enough: a site that is lost now must not hold up the round."""

    def take(name: str, parcel: Parcel) -> None:
        coordinator.add_answer(name, parcel.body)
        run.events.write("unmask", round=number, site=name)

    parcels = run.parcels(IncomingKind.UNMASK, coordinator.unmask_requests())
    run.ask_for(OutgoingKind.UNMASK, parcels, take, round=number, done=lambda: coordinator.answered)
    requests = {} if coordinator.answered else coordinator.backup_requests()
    if requests:
        # A survivor was lost after its upload: those that answered speak for it (secure-sum notes 2.3, step 7).
        run.ask_for(
            OutgoingKind.BACKUP,
            run.parcels(IncomingKind.BACKUP, requests),
            lambda name, reply: coordinator.add_backup(name, reply.body),
            round=number,
            done=lambda: coordinator.answered,
        )
    if not coordinator.answered:
        raise RoundVoid("too few survivors answered UNMASK")
    run.at("answers-complete")


def _keep_faults(run: StudyRun, coordinator: SecureSumCoordinator, number: int) -> None:
    """Name who broke the protocol, and keep the evidence that a third party can check."""
    for count, fault in enumerate(coordinator.faults, 1):
        if fault.evidence is not None:
            (run.state.folder / "evidence").mkdir(exist_ok=True)
            write_durably(run.state.folder / "evidence" / f"round-{number}-{count}.bin", encode(fault.evidence))
        run.events.write("fault", round=number, reason=f"{fault.problem}: {', '.join(fault.sites)}")


def _void(run: StudyRun, coordinator: SecureSumCoordinator, reason: RoundVoid) -> None:
    """The open round gives nothing, ever; `StateError` when the plan's void rounds are used up."""
    number, _ = run.state.used()
    _keep_faults(run, coordinator, number)
    uploaded, message = coordinator.uploaded, coordinator.void()
    run.state.void_round(number)
    run.events.write("void", round=number, reason=reason.problem)
    # Sites forget the round's secrets now, not with the next START, which may never come.
    online = run.exchange.reachable()
    parcels = run.parcels(IncomingKind.VOID, {name: message for name in uploaded if name in online})
    run.ask(parcels, lambda _name, _reply: None, patience_s=_VOID_S)
    void, limit = len(run.state.used()[1]), run.plan.rounds.max_void
    if void > limit:
        raise StateError(
            "more void rounds than the plan reserves", field="max_void", value=void, limit=limit,
            remedy="find out why sites were lost, then launch a new study",
        ) from reason  # fmt: skip


def _last_close(run: StudyRun, catch_up: CatchUp) -> None:
    """Nothing follows the last round, so its CLOSE travels alone, with the sum that gives the study's weights."""
    closed = run.state.closed()
    if closed.close is None:
        raise StateError("study has no closed round", field=run.plan_hash)
    close = read_signed(Close, closed.close)[1]
    context = close_context(run.params, close)
    acknowledged: set[str] = set()

    def take(name: str, reply: Parcel) -> None:
        check_ack(context, close, run.params.members[run.params.index(name)], reply.body)
        acknowledged.add(name)

    parcels = run.parcels(IncomingKind.CLOSE, dict.fromkeys(run.participants, closed.close), closed.total)
    run.ask_for(OutgoingKind.CLOSE_ACK, parcels, take, patience_s=_LAST_CLOSE_S, leads=catch_up.leads(last=True))
    run.at("study-finished")
    (run.state.folder / "finished").write_text("")
    run.events.write("finished", done=closed.count, acknowledged=len(acknowledged))
