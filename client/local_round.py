"""Steps 2 to 9 of 12 at one site: one round as a list of calls.

Comes in: a START message and the sum [P] that its CLOSE names, from which this site makes the global weights float32 [P]
itself (ruling 12). Goes out: one UPLOAD (signed body, masked words [P]) or an error, which the executor turns into
DECLINED without a reason. Patients never decide whether or what is answered: they are the site's own copy of what was
checked before the approval, not the declared files (ruling 15). A round number is answered once: after a restart the
journaled bytes go out again, and a round that had started without an upload is declined for good (ruling 6).
"""

from __future__ import annotations

from client.budget import site_ledger
from client.isolation import warm_up
from client.study import Study
from ssl_core.parcel import OutgoingKind, Parcel
from ssl_core.privacy.absence import check_absence
from ssl_core.privacy.training import train_round
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.roles import MaskedUpload
from ssl_core.secure_sum.statements import round_of


def local_round(study: Study, start: bytes, total: Words | None) -> Parcel:
    """Train one round privately and return the masked update; raises `ProtocolError` where the site must decline."""
    number = round_of(start)
    again = study.secure_sum.resend(number) if study.secure_sum.state(number) is not None else None
    body, vector = again or _train_and_mask(study, start, total)
    return Parcel(OutgoingKind.UPLOAD, body, vector)


def _train_and_mask(study: Study, start: bytes, total: Words | None) -> MaskedUpload:
    plan = study.plan
    study.check()
    # A copy that is gone or damaged, or a failed check, must end the round before it is begun and charged.
    patients, pace = warm_up(study)
    ticket = study.secure_sum.begin(start, total)
    # Only now are the round's weights known; a round that ends here was begun, and is charged to nobody.
    check_absence(study.model, study.history.weights, plan, study.nominal_size, study.home.config.speed, pace)
    site_ledger(study.home).commit(study.plan_hash, ticket.round, plan.rounds.steps_per_round)
    result = train_round(
        model=study.model,
        patients=patients,
        plan=plan,
        nominal_size=study.nominal_size,
        start=study.history.weights,
        first_step=(ticket.round - 1) * plan.rounds.steps_per_round,
        total_steps=plan.rounds.rounds * plan.rounds.steps_per_round,
        state=study.optimizer_state(before=ticket.round),
        speed=study.home.config.speed,
        pace=pace,
    )
    study.keep_optimizer_state(ticket.round, result.state)
    return study.secure_sum.upload(ticket.round, result.delta)
