"""Step 9 of 12: what a site answers to each kind of question; the only handler that the pinned executor runs.

Comes in: a parcel whose body begins with the study's session id (32 bytes), but for INVITE, whose body is the signed plan.
Goes out: the one kind of answer that ruling 26 allows, after its receipt is durable.
"""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Literal

import numpy as np

from client.answer_grid import grid_of, wait_for_grid
from client.approval import prepare
from client.asked import note_asked
from client.budget import check_for_rule
from client.home import SiteHome
from client.isolation import warm_up
from client.leftovers import drop_leftovers
from client.local_round import local_round
from client.receipts import record_receipt
from client.rule import RULE, asks_anew, pause_rule, paused_by, resume_rule
from client.study import Study, store_plan
from ssl_core.errors import BudgetError, ChainError, ChoralError, PolicyError, ProtocolError
from ssl_core.parcel import IncomingKind, OutgoingKind, Parcel
from ssl_core.secure_sum.messages import Ack
from ssl_core.secure_sum.statements import read_signed
from ssl_core.session import Approval, sign_approval

_LOG = logging.getLogger("choral.site")
_SESSION_BYTES = 32


class SiteService:
    """Answers for one state folder; keeps each study's model and patients loaded between rounds."""

    def __init__(self, site_home: Path) -> None:
        self._home = SiteHome(site_home)
        self._studies: dict[str, Study] = {}
        self._tidy = False

    def handle(self, parcel: Parcel) -> Parcel:
        """The answer to one question; errors pass through and become DECLINED outside."""
        # Before anything is done: a policy that cannot be read must not cost a round that was trained, nor tell when it was.
        asked, grid_s = time.monotonic(), grid_of(self._home, parcel.kind)
        try:
            answer = self._answer(parcel)
        except Exception:
            # Not where this process is told to end: nothing leaves then, and it would not end.
            wait_for_grid(asked, grid_s)
            raise
        wait_for_grid(asked, grid_s)
        return answer

    def _answer(self, parcel: Parcel) -> Parcel:
        if not self._tidy:
            drop_leftovers(self._home)
            self._tidy = True
        if parcel.kind == IncomingKind.INVITE:
            study, answer = self._invite(parcel.body)
        else:
            if len(parcel.body) <= _SESSION_BYTES:
                raise ProtocolError("message is too short to name a study", field="body")
            study = self._study(parcel.body[:_SESSION_BYTES].hex())
            answer = self._stage(study, parcel.kind, parcel.body[_SESSION_BYTES:], parcel.vector)
        record_receipt(self._home.chain, study.plan_hash, answer)
        return answer

    def _study(self, plan_hash: str) -> Study:
        if plan_hash not in self._studies:
            study = Study(self._home, plan_hash)
            if not study.approved():
                raise ProtocolError("study is not approved at this site")
            self._studies[plan_hash] = study
        return self._studies[plan_hash]

    def _stage(self, study: Study, kind: str, body: bytes, vector: np.ndarray | None) -> Parcel:
        if kind != IncomingKind.CLOSE:
            study.check_roster()
        match IncomingKind(kind):
            case IncomingKind.OFFER:
                return Parcel(OutgoingKind.OFFER, study.secure_sum.offer_keys(int.from_bytes(body, "big")))
            case IncomingKind.KEYS:
                if vector is not None:
                    study.history.begin(_floats(vector, np.float32))
                study.secure_sum.accept_keys(body)
                # What a round could fail at before it begins is seen here, and the first round is as fast as the others.
                warm_up(study)
                return Parcel(OutgoingKind.KEYS_ACK, hashlib.sha256(body).digest())
            case IncomingKind.START:
                study.secure_sum.recognise(body)
                return local_round(study, body, vector)
            case IncomingKind.CONSENT:
                return Parcel(OutgoingKind.CONSENT, study.secure_sum.consent(body))
            case IncomingKind.UNMASK:
                return Parcel(OutgoingKind.UNMASK, study.secure_sum.unmask(body))
            case IncomingKind.BACKUP:
                return Parcel(OutgoingKind.BACKUP, study.secure_sum.backup(body))
            case IncomingKind.CLOSE:
                return self._closed(study, study.secure_sum.close(body, vector))
            case IncomingKind.CHECKPOINT:
                return self._closed(study, study.secure_sum.checkpoint(body, _floats(vector, np.float64)))
            case IncomingKind.VOID:
                study.secure_sum.void(body)
                return Parcel(OutgoingKind.VOID_ACK, b"")
            case IncomingKind.INVITE:
                raise ProtocolError("an invitation carries no session")

    def _closed(self, study: Study, acknowledgement: bytes) -> Parcel:
        """After the plan's last round the study ends here: its encoder is written, its copy of the records deleted."""
        if study.finished:
            # A kill between the encoder and the deletion leaves the copy to the next message.
            study.forget()
        elif study.history.standing.count == study.plan.rounds.rounds:
            study.finish(read_signed(Ack, acknowledgement)[1].round)
            # Nothing of the study stays in this process; asked again, the answer comes from the journal.
            del self._studies[study.plan_hash]
        return Parcel(OutgoingKind.CLOSE_ACK, acknowledgement)

    def _invite(self, data: bytes) -> tuple[Study, Parcel]:
        study = store_plan(self._home, data)
        note_asked(study.folder)
        status = self._decide(study)
        offer = study.secure_sum.offer_keys().hex() if status == "approved" else ""
        approval = Approval(plan=study.plan_hash, site=self._home.config.name, status=status, offer=offer)
        return study, Parcel(OutgoingKind.APPROVAL, sign_approval(approval, self._home.identity))

    def _decide(self, study: Study) -> Literal["approved", "waiting", "declined"]:
        """approved by a person or by the hospital's own rule, waiting for a person, or declined by policy."""
        try:
            study.check()
            if study.approved():
                return "approved"
            limit = self._home.policy.auto_approve_epsilon
            if limit > 0:
                return self._approve_by_rule(study, limit)
        except (PolicyError, BudgetError) as error:
            _LOG.warning("study %s declined: %s", study.plan_hash, error)
            return "declined"
        return "waiting"

    def _approve_by_rule(self, study: Study, limit: float) -> Literal["approved", "waiting"]:
        """Whatever the records bring up leaves the study to a person: no third answer tells the server of them.

        A failed check, what a person would be asked or told of ids, and an error of a kind that nobody foresaw. The rule is
        paused (rule.py) before a record is read, and on again once they passed or the study is declined by its plan alone.
        """
        if paused_by(self._home) is not None:
            return "waiting"
        try:
            if study.quote().study_epsilon > limit or asks_anew(study):
                return "waiting"
            study.admit()
            pause_rule(self._home, study.plan_hash)
        except (PolicyError, BudgetError, ChainError):
            raise
        except Exception as error:
            # Of the plan or of this machine: no record was read, and nothing more is to be kept from the server.
            return _left_to_a_person(study, error)
        try:
            check_for_rule(prepare(study)[1])
            study.approve(RULE)
        except (PolicyError, BudgetError, ChainError):
            # Of the plan, the policy and the log: nothing of this is of the records.
            resume_rule(self._home)
            raise
        except Exception as error:
            if paused_by(self._home) is None:
                # A person put it on again meanwhile, for what was known then.
                pause_rule(self._home, study.plan_hash)
            return _left_to_a_person(study, error)
        resume_rule(self._home)
        return "approved"


def _left_to_a_person(study: Study, error: Exception) -> Literal["waiting"]:
    # As in flower_app.py: the text of an error that is not ours may hold patients' data.
    why = str(error) if isinstance(error, ChoralError) else type(error).__name__
    _LOG.warning("study %s waits for a person: %s", study.plan_hash, why)
    return "waiting"


def _floats(vector: np.ndarray | None, dtype: type[np.floating]) -> np.ndarray:
    if vector is None or vector.dtype != dtype or not np.isfinite(vector).all():
        raise ProtocolError(f"message carries no finite {dtype.__name__} vector", field="vector")
    return vector
