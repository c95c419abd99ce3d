"""Each check of a site refuses its attack with its own sentence, changes nothing, and is missed when it is taken out.

`ATTACKS` has one entry for each call of a check in site.py, starting.py and closing.py; a test reads them and compares, so
that no check can be added without an attack, and none deleted without a failure. Where the attack contradicts what the server
signed before, the refusal brings evidence of that kind, and ALARMs with it are all that the disk gains.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.model_update import weights_digest
from ssl_core.secure_sum import backup_checks, checkpoint_checks, checks, closing, starting
from ssl_core.secure_sum import site as site_module
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.dealing import NO_BACKUP
from ssl_core.secure_sum.evidence import ProvenFault, accused, proves
from ssl_core.secure_sum.history import checkpoint_values
from ssl_core.secure_sum.messages import Acked, Backup, Checkpoint, Close, Consent, Header, Proof, Start, Unmask, Upload, Void
from ssl_core.secure_sum.statements import (
    GENESIS,
    ack_of,
    close_context,
    header_statement,
    keyset_hash,
    read_signed,
    sign,
    start_context,
    survivors_statement,
    transcript,
)

ATTACKS = []
MODULES = (checks, backup_checks, checkpoint_checks)
ZERO = bytes(32)


@dataclass(frozen=True)
class Attack:
    method: str
    check: str
    phrase: str
    build: Callable
    evidence: str | None = None

    def __str__(self) -> str:
        return f"{self.method}-{self.check}-{self.build.__name__}"


def attack(method: str, check: str, phrase: str, evidence: str | None = None):
    """`build(kit)` returns (federation, attacked site, call)."""

    def keep(build: Callable) -> Callable:
        ATTACKS.append(Attack(method, check, phrase, build, evidence))
        return build

    return keep


def fresh(kit, count=5, **changes):
    return kit.Federation(kit.make_params(count, **changes))


def closed(kit):
    """Round 1 is closed at all sites."""
    federation = fresh(kit)
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    return federation


def uploaded(kit, lost=(4,)):
    """Round 1 is uploaded by all; `lost` sites' uploads did not arrive in time."""
    federation = fresh(kit)
    federation.start = federation.begin(1)
    federation.sent = {}
    for at, (name, update) in enumerate(federation.whole_updates(1).items()):
        federation.sent[name] = federation.sites[name].upload(1, update)
        if at not in lost:
            federation.coordinator.add_upload(name, *federation.sent[name])
    federation.coordinator.fix_survivors()
    federation.context = read_signed(Start, federation.start)[0].context
    return federation


def agreed(kit, lost=(4,)):
    federation = uploaded(kit, lost)
    if lost:
        federation.agree()
    return federation


def answered(kit, lost=()):
    federation = agreed(kit, lost)
    federation.unmask()
    return federation


def start_of(federation, *, signer=None, context=None, **changes):
    last = federation.last_close
    body = Start(
        round=1 if last is None else read_signed(Close, last)[1].round + 1,
        participants=tuple(range(len(federation.names))),
        model=federation.model,
        keyset=keyset_hash(federation.keyset),
        previous=GENESIS if last is None else transcript(read_signed(Close, last)[1]),
        close=last or b"",
    )
    body = replace(body, **changes)
    return sign(signer or federation.server, context or start_context(federation.params, body), body)


def replace_params(federation, **changes):
    """The same federation under other parameters would be another one: all begins anew, and round 1 is closed."""
    other = type(federation)(replace(federation.params, **changes))
    other.run(1, other.whole_updates(1))
    other.close(1)
    return other


def begins(federation, *, at=0, **changes):
    start = start_of(federation, **changes)
    return federation, federation.names[at], lambda site: site.begin(start, federation.last_total)


def asks(federation, form, data, *, at=0, signer=None, context=None, **changes):
    """Send a changed CONSENT or UNMASK."""
    signed, body = read_signed(form, data)
    request = sign(signer or federation.server, context or signed.context, replace(body, **changes))
    method = {Consent: "consent", Unmask: "unmask", Backup: "backup"}[form]
    return federation, federation.names[at], lambda site: getattr(site, method)(request)


def consents(federation, **changes):
    return asks(federation, Consent, federation.coordinator.consent_requests()[federation.names[0]], **changes)


def unmasks(federation, **changes):
    return asks(federation, Unmask, federation.coordinator.unmask_requests()[federation.names[0]], **changes)


def header_of(federation, at):
    return decode(Upload, federation.sent[federation.names[at]][0]).header


def proof_of(federation, survivors, signers):
    statement = survivors_statement(federation.context, survivors)
    return tuple(Proof(site=at, signature=federation.identities[federation.names[at]].sign(statement)) for at in signers)


def closes(federation, data, *, at=0, signer=None, context=None, **changes):
    body = replace(read_signed(Close, data)[1], **changes)
    message = sign(signer or federation.server, context or close_context(federation.params, body), body)
    return federation, federation.names[at], lambda site: site.close(message, federation.last_total)


def finished(kit, lost=()):
    """Round 1 is answered, its CLOSE made and not yet sent."""
    federation = answered(kit, lost)
    return federation, federation.finish()


# begin


@attack("check_start", "server_signed", "not signed by the server")
def start_signed_by_a_site(kit):
    federation = fresh(kit)
    return begins(federation, signer=federation.identities[federation.names[1]])


@attack("check_start", "round_within", "round is not in the plan")
def start_beyond_the_plan(kit):
    return begins(fresh(kit), round=21)


@attack("check_start", "round_within", "round is not in the plan")
def start_of_round_zero(kit):
    return begins(fresh(kit), round=0)


@attack("check_start", "round_is_new", "round number was used before")
def start_replayed(kit):
    return begins(uploaded(kit))


@attack("check_start", "round_is_new", "round number was used before", "ROUND")
def start_again_with_other_participants(kit):
    return begins(uploaded(kit), participants=(0, 1, 2, 3))


@attack("check_start", "round_is_new", "round number was used before", "ROUND")
def start_of_a_closed_round(kit):
    return begins(closed(kit), round=1, close=b"", previous=GENESIS)


@attack("check_start", "keys_are_ours", "round uses another key set")
def start_with_other_keys(kit):
    return begins(fresh(kit), keyset=ZERO)


@attack("check_start", "participants_sorted", "participants are not sorted")
def start_with_participants_out_of_order(kit):
    return begins(fresh(kit), participants=(1, 0, 2, 3, 4))


@attack("check_start", "participants_sorted", "participants are not sorted")
def start_with_a_participant_twice(kit):
    return begins(fresh(kit), participants=(0, 1, 2, 2, 3))


@attack("check_start", "participants_known", "a participant is not a member")
def start_with_a_stranger(kit):
    return begins(fresh(kit), participants=(0, 1, 2, 3, 5))


@attack("check_start", "self_invited", "this site is not among the participants")
def start_without_the_site(kit):
    return begins(fresh(kit), participants=(1, 2, 3, 4))


@attack("check_start", "enough_for_roster", "too few participants for the corrupt sites of the roster")
def start_with_four_of_a_roster_of_ten_that_has_three_corrupt(kit):
    return begins(fresh(kit, 10), participants=(0, 7, 8, 9))


@attack("check_start", "enough_for_roster", "too few participants for the corrupt sites of the roster")
def start_with_nine_of_a_roster_of_ten(kit):
    return begins(fresh(kit, 10), participants=tuple(range(9)))


@attack("check_start", "enough_participants", "too few participants for a sum")
def start_below_the_least_number_of_sites(kit):
    return begins(fresh(kit, 5, min_sites=5), participants=(0, 1, 2, 3))


@attack("check_start", "enough_participants", "too few participants for a sum")
def start_with_two_sites(kit):
    return begins(fresh(kit, 3), participants=(0, 1))


@attack("check_start", "previous_not_forgotten", "START forgets the rounds that were closed")
def start_that_forgets(kit):
    return begins(closed(kit), close=b"", previous=GENESIS)


@attack("check_start", "previous_follows", "START does not bind the CLOSE")
def start_with_another_previous(kit):
    return begins(closed(kit), previous=ZERO)


@attack("check_start", "previous_follows", "START does not bind the CLOSE")
def first_start_with_a_previous(kit):
    return begins(fresh(kit), previous=ZERO)


@attack("check_start", "close_before", "START carries the CLOSE of a later round")
def start_with_its_own_close(kit):
    federation, close = finished(kit)
    body = read_signed(Close, close)[1]
    # a site that was away: it never saw round 1, and is offered round 1 after its CLOSE
    federation.stores[federation.names[0]] = kit.Federation(federation.params).stores[federation.names[0]]
    return begins(federation, round=1, close=close, previous=transcript(body))


@attack("check_start", "churn_of_one", "participants differ from the last round's by exactly one site")
def first_start_without_one_member(kit):
    return begins(fresh(kit), participants=(0, 1, 2, 3))


@attack("check_start", "churn_of_one", "participants differ from the last round's by exactly one site")
def start_without_one_of_the_last_round(kit):
    return begins(replace_params(closed(kit), max_churn=4), participants=(0, 1, 2, 3))


@attack("check_start", "churn_of_one", "participants differ from the last round's by exactly one site")
def start_with_one_more_than_in_a_round_that_was_given_up(kit):
    federation = fresh(kit, 9, max_churn=4)
    federation.begin(1, participants=federation.names[:7])
    return begins(federation, round=2, participants=(0, 1, 2, 3, 4, 5, 6, 7))


@attack("check_start", "churn_of_one", "participants differ from the last round's by exactly one site")
def start_with_one_more_than_in_a_round_that_this_site_missed(kit):
    federation = fresh(kit, 9, max_churn=4)
    invited = federation.names[2:]
    federation.begin(1, participants=invited)
    federation.upload(1, {name: update for name, update in federation.whole_updates(1).items() if name in invited})
    federation.agree()
    federation.unmask()
    federation.close(1, lost=federation.names)
    return begins(federation, participants=(0, 2, 3, 4, 5, 6, 7, 8))


@attack("check_start", "churn_within", "participants differ from the last round's by too many sites")
def start_with_two_changes_where_none_is_allowed(kit):
    return begins(fresh(kit, 9), participants=(0, 1, 2, 3, 4, 5, 6))


@attack("check_start", "churn_within", "participants differ from the last round's by too many sites")
def start_with_four_changes_where_two_are_allowed(kit):
    federation = fresh(kit, 9, max_churn=2)
    federation.begin(1, participants=federation.names[:7])
    return begins(federation, at=2, round=2, participants=(2, 3, 4, 5, 6, 7, 8))


@attack("check_start", "model_follows", "model in START is not the plan's initial one, or the last CLOSE's")
def first_start_from_another_model(kit):
    return begins(fresh(kit), model=ZERO)


@attack("check_start", "model_follows", "model in START is not the plan's initial one, or the last CLOSE's")
def start_from_another_model(kit):
    return begins(closed(kit), model=ZERO)


@attack("check_start", "context_is", "message is of another round, study, key set or model")
def start_under_another_context(kit):
    return begins(fresh(kit), context=ZERO)


# recognise


@attack("recognise", "server_signed", "not signed by the server")
def known_start_signed_by_a_site(kit):
    federation = uploaded(kit)
    start = start_of(federation, signer=federation.identities[federation.names[1]])
    return federation, federation.names[0], lambda site: site.recognise(start)


@attack("recognise", "context_is", "message is of another round, study, key set or model", "ROUND")
def start_of_a_known_round_with_another_model(kit):
    federation = uploaded(kit)
    start = start_of(federation, model=ZERO)
    return federation, federation.names[0], lambda site: site.recognise(start)


# consent


@attack("consent", "server_signed", "not signed by the server")
def consent_signed_by_a_site(kit):
    federation = uploaded(kit)
    return consents(federation, signer=federation.identities[federation.names[1]])


@attack("consent", "round_open", "round is not open at this site")
def consent_before_upload(kit):
    federation = uploaded(kit)
    name = federation.names[0]
    request = federation.coordinator.consent_requests()[name]
    other = fresh(kit)
    other.begin(1)
    return other, name, lambda site: site.consent(request)


@attack("consent", "round_open", "round is void at this site")
def consent_after_void(kit):
    federation = uploaded(kit)
    result = consents(federation)
    federation.sites[federation.names[0]].void(federation.coordinator.void())
    return result


@attack("consent", "round_open", "round is void at this site")
def consent_after_the_next_start(kit):
    federation = uploaded(kit)
    result = consents(federation)
    federation.sites[federation.names[0]].begin(start_of(federation, round=2), federation.last_total)
    return result


@attack("consent", "context_is", "message is of another round, study, key set or model")
def consent_under_another_context(kit):
    return consents(uploaded(kit), context=ZERO)


@attack("consent", "not_answered", "round was answered: no consent any more", "SURVIVORS")
def consent_after_the_answer(kit):
    federation = answered(kit)
    other = uploaded(kit)
    return asks(federation, Consent, other.coordinator.consent_requests()[federation.names[0]])


@attack("consent", "survivors_sorted", "survivors are not sorted")
def consent_out_of_order(kit):
    return consents(uploaded(kit), survivors=(1, 0, 2, 3))


@attack("consent", "survivors_sorted", "survivors are not sorted")
def consent_with_a_survivor_twice(kit):
    return consents(uploaded(kit), survivors=(0, 1, 2, 2))


@attack("consent", "survivors_invited", "a survivor is not a participant")
def consent_with_an_uninvited_survivor(kit):
    return consents(uploaded(kit), survivors=(0, 1, 2, 9))


@attack("consent", "consent_needed", "no consent is needed")
def consent_to_all(kit):
    federation = uploaded(kit)
    everyone = tuple(range(5))
    return consents(federation, survivors=everyone, headers=tuple(header_of(federation, at) for at in everyone))


@attack("consent", "self_survives", "this site is not among the survivors")
def consent_to_a_sum_without_the_site(kit):
    return consents(uploaded(kit), at=4)


@attack("consent", "enough_survivors", "too few survivors")
def consent_to_three_of_five(kit):
    federation = uploaded(kit)
    return consents(federation, survivors=(0, 1, 2), headers=tuple(header_of(federation, at) for at in (0, 1, 2)))


@attack("consent", "headers_signed", "survivor did not sign an upload of this round")
def consent_with_a_phantom(kit):
    federation = uploaded(kit)
    phantom = replace(header_of(federation, 3), vector=ZERO)
    return consents(federation, headers=(*(header_of(federation, at) for at in (0, 1, 2)), phantom))


@attack("consent", "headers_signed", "survivor did not sign an upload of this round")
def consent_with_one_site_under_two_names(kit):
    federation = uploaded(kit)
    return consents(federation, headers=tuple(header_of(federation, at) for at in (0, 1, 2, 2)))


@attack("consent", "headers_signed", "not one header for each survivor")
def consent_with_a_header_missing(kit):
    federation = uploaded(kit)
    return consents(federation, headers=tuple(header_of(federation, at) for at in (0, 1, 2)))


@attack("consent", "own_header", "upload under this site's name is not the one in its journal")
def consent_with_another_upload_of_ours(kit):
    federation = uploaded(kit)
    return consents(federation, headers=(other_header(federation), *(header_of(federation, at) for at in (1, 2, 3))))


@attack("consent", "agreed_once", "this site agreed to other survivors", "SURVIVORS")
def consent_to_a_second_set(kit):
    federation = agreed(kit)
    second = (0, 1, 2, 4)
    return consents(federation, survivors=second, headers=tuple(header_of(federation, at) for at in second))


# unmask


@attack("unmask", "server_signed", "not signed by the server")
def unmask_signed_by_a_site(kit):
    federation = uploaded(kit, lost=())
    return unmasks(federation, signer=federation.identities[federation.names[1]])


@attack("unmask", "addressed_to", "request is addressed to another site")
def unmask_of_another_site(kit):
    return unmasks(uploaded(kit, lost=()), at=1)


@attack("unmask", "round_open", "round is not open at this site")
def unmask_before_upload(kit):
    federation = uploaded(kit, lost=())
    request = federation.coordinator.unmask_requests()[federation.names[0]]
    other = fresh(kit)
    other.begin(1)
    return other, federation.names[0], lambda site: site.unmask(request)


@attack("unmask", "round_open", "round is not open at this site")
def unmask_after_close(kit):
    federation = uploaded(kit, lost=())
    result = unmasks(federation)
    federation.unmask()
    federation.close(1)
    return result


@attack("unmask", "round_open", "round is void at this site")
def unmask_after_void(kit):
    federation = uploaded(kit, lost=())
    result = unmasks(federation)
    federation.sites[federation.names[0]].void(federation.coordinator.void())
    return result


@attack("unmask", "round_open", "round is void at this site")
def unmask_after_the_next_start(kit):
    federation = uploaded(kit, lost=())
    result = unmasks(federation)
    federation.sites[federation.names[0]].begin(start_of(federation, round=2), federation.last_total)
    return result


@attack("unmask", "context_is", "message is of another round, study, key set or model")
def unmask_under_another_context(kit):
    return unmasks(uploaded(kit, lost=()), context=ZERO)


@attack("unmask", "survivors_sorted", "survivors are not sorted")
def unmask_with_a_survivor_twice(kit):
    return unmasks(uploaded(kit, lost=()), survivors=(0, 1, 2, 3, 3))


@attack("unmask", "survivors_invited", "a survivor is not a participant")
def unmask_with_an_uninvited_survivor(kit):
    return unmasks(uploaded(kit, lost=()), survivors=(0, 1, 2, 3, 9))


@attack("unmask", "self_survives", "this site is not among the survivors")
def unmask_a_sum_without_the_site(kit):
    federation = agreed(kit)
    return unmasks(federation, at=4, recipient=4)


@attack("unmask", "enough_survivors", "too few survivors")
def unmask_three_of_five(kit):
    return unmasks(uploaded(kit, lost=()), survivors=(0, 1, 2))


@attack("unmask", "answered_once", "this site answered for other survivors", "SURVIVORS")
def unmask_a_second_set(kit):
    federation = answered(kit)
    second = (0, 1, 2, 3)
    return unmasks(federation, survivors=second, proof=proof_of(federation, second, second))


@attack("unmask", "answered_once", "this site answered for other survivors", "SURVIVORS")
def unmask_all_after_some(kit):
    federation = answered(kit, lost=(4,))
    everyone = tuple(range(5))
    return unmasks(federation, survivors=everyone, proof=proof_of(federation, everyone, everyone))


@attack("unmask", "agreed_once", "this site agreed to other survivors", "SURVIVORS")
def unmask_another_set_than_agreed(kit):
    federation = agreed(kit)
    second = (0, 1, 2, 4)
    return unmasks(federation, survivors=second, proof=proof_of(federation, second, second))


@attack("unmask", "proof_sorted", "signers are not sorted")
def unmask_with_one_agreement_counted_twice(kit):
    federation = agreed(kit)
    survivors = (0, 1, 2, 3)
    return unmasks(federation, proof=proof_of(federation, survivors, (0, 1, 1, 2)))


@attack("unmask", "proof_by_survivors", "a signer does not survive")
def unmask_with_the_agreement_of_a_lost_site(kit):
    federation = agreed(kit)
    return unmasks(federation, proof=proof_of(federation, (0, 1, 2, 3), (0, 1, 2, 4)))


@attack("unmask", "proof_complete", "too few sites agreed")
def unmask_some_with_too_few_agreements(kit):
    federation = agreed(kit)
    return unmasks(federation, proof=proof_of(federation, (0, 1, 2, 3), (0, 1, 2)))


@attack("unmask", "proof_complete", "too few sites agreed")
def unmask_all_with_t_agreements(kit):
    federation = uploaded(kit, lost=())
    return unmasks(federation, proof=proof_of(federation, tuple(range(5)), (0, 1, 2, 3)))


@attack("unmask", "proof_signed", "site did not agree to these survivors")
def unmask_some_with_the_agreements_to_all(kit):
    federation = agreed(kit)
    return unmasks(federation, proof=proof_of(federation, tuple(range(5)), (0, 1, 2, 3)))


@attack("unmask", "shares_complete", "not one sealed share for each survivor")
def unmask_with_a_share_missing(kit):
    federation = uploaded(kit, lost=())
    body = read_signed(Unmask, federation.coordinator.unmask_requests()[federation.names[0]])[1]
    return unmasks(federation, shares=body.shares[:-1])


# backup


def relieved(kit, count=7, **changes):
    """Round 1 lost one site before its upload and one before its answer; the others answered."""
    federation = fresh(kit, count, **changes)
    federation.start = federation.begin(1)
    federation.context = read_signed(Start, federation.start)[0].context
    updates = federation.whole_updates(1)
    federation.upload(1, {name: updates[name] for name in federation.names[:-1]})
    federation.agree()
    federation.unmask(silent={federation.names[1]})
    return federation


def backups(federation, **changes):
    return asks(federation, Backup, federation.coordinator.backup_requests()[federation.names[0]], **changes)


@attack("backup", "server_signed", "not signed by the server")
def backup_signed_by_a_site(kit):
    federation = relieved(kit)
    return backups(federation, signer=federation.identities[federation.names[1]])


@attack("backup", "addressed_to", "request is addressed to another site")
def backup_of_another_site(kit):
    return backups(relieved(kit), at=2)


@attack("backup", "round_answered", "this site has not answered in this round")
def backup_before_the_answer(kit):
    federation = relieved(kit)
    return backups(federation, at=1, recipient=1)


@attack("backup", "round_answered", "this site has not answered in this round")
def backup_after_close(kit):
    federation = relieved(kit)
    result = backups(federation)
    federation.relieve()
    federation.close(1)
    return result


@attack("backup", "round_answered", "round is void at this site")
def backup_after_void(kit):
    federation = relieved(kit)
    result = backups(federation)
    federation.sites[federation.names[0]].void(federation.coordinator.void())
    return result


@attack("backup", "context_is", "message is of another round, study, key set or model")
def backup_under_another_context(kit):
    return backups(relieved(kit), context=ZERO)


@attack("backup", "answered_once", "this site answered for other survivors", "SURVIVORS")
def backup_for_another_set(kit):
    return backups(relieved(kit), survivors=(0, 1, 2, 3, 4))


@attack("backup", "backup_in_use", "study has no backup shares")
def backup_in_a_study_without(kit):
    federation = relieved(kit, backup=False)
    body = Backup(round=1, recipient=0, survivors=tuple(range(6)), missing=(1,), backups=(NO_BACKUP,))
    request = sign(federation.server, federation.context, body)
    return federation, federation.names[0], lambda site: site.backup(request)


@attack("backup", "somebody_lost", "no participant was lost")
def backup_when_all_survive(kit):
    federation = answered(kit)
    body = Backup(round=1, recipient=0, survivors=tuple(range(5)), missing=(1,), backups=(NO_BACKUP,))
    request = sign(federation.server, federation.context, body)
    return federation, federation.names[0], lambda site: site.backup(request)


@attack("backup", "missing_sorted", "missing sites are not sorted")
def backup_of_a_site_twice(kit):
    return backups(relieved(kit), missing=(1, 1))


@attack("backup", "missing_survive", "a missing site is not a survivor")
def backup_of_a_lost_site(kit):
    return backups(relieved(kit), missing=(6,))


@attack("backup", "missing_survive", "a missing site is not a survivor")
def backup_of_a_stranger(kit):
    return backups(relieved(kit), missing=(900,))


@attack("backup", "self_not_missing", "this site is not missing")
def backup_of_the_site_itself(kit):
    return backups(relieved(kit), missing=(0,))


@attack("backup", "backups_complete", "not one sealed backup for each missing site")
def backup_with_a_seal_too_few(kit):
    return backups(relieved(kit), missing=(1, 2))


# close


def other_header(federation):
    """A header under site 0's own key that its journal does not have: a stolen key, or a journal rolled back."""
    identity = federation.identities[federation.names[0]]
    return Header(vector=ZERO, parts=ZERO, signature=identity.sign(header_statement(federation.context, ZERO, ZERO)))


@attack("_check_close", "server_signed", "not signed by the server")
def close_signed_by_a_site(kit):
    federation, close = finished(kit)
    return closes(federation, close, signer=federation.identities[federation.names[1]])


@attack("_check_close", "server_signed", "not signed by the server")
def close_inside_start_signed_by_a_site(kit):
    federation, close = finished(kit)
    body = read_signed(Close, close)[1]
    forged = sign(federation.identities[federation.names[1]], close_context(federation.params, body), body)
    return begins(federation, round=2, close=forged, previous=transcript(body))


@attack("_check_close", "round_within", "round is not in the plan")
def close_of_a_round_beyond_the_plan(kit):
    federation, close = finished(kit)
    return closes(federation, close, round=2**32 - 1)


@attack("_check_close", "participants_sorted", "participants are not sorted", "ROUND")
def close_with_participants_out_of_order(kit):
    federation, close = finished(kit)
    return closes(federation, close, participants=(1, 0, 2, 3, 4))


@attack("_check_close", "participants_known", "a participant is not a member", "ROUND")
def close_with_a_stranger(kit):
    federation, close = finished(kit)
    return closes(federation, close, participants=(0, 1, 2, 3, 9))


@attack("_check_close", "enough_for_roster", "too few participants for the corrupt sites", "ROUND")
def close_of_a_tiny_round(kit):
    federation, close = finished(kit)
    return closes(federation, close, participants=(0, 1, 2))


@attack("_check_close", "close_context_is_own", "CLOSE does not describe its own round")
def close_under_another_context(kit):
    federation, close = finished(kit)
    return closes(federation, close, context=ZERO)


@attack("_check_close", "close_is_new", "CLOSE is older than what this site has seen", "CLOSE")
def close_with_another_model_afterwards(kit):
    federation, close = finished(kit)
    federation.sites[federation.names[0]].close(close, federation.last_total)
    return closes(federation, close, model=ZERO)


@attack("_check_close", "close_is_new", "CLOSE is older than what this site has seen")
def close_after_the_next_start_left_it_out(kit):
    federation, close = finished(kit)
    first = {"model": weights_digest(federation.initial), "previous": GENESIS, "close": b""}
    federation.sites[federation.names[0]].begin(start_of(federation, round=2, **first), None)
    return closes(federation, close)


@attack("_check_close", "close_is_our_round", "CLOSE is of another round than this site started", "ROUND")
def close_of_a_round_with_another_model(kit):
    federation, close = finished(kit)
    return closes(federation, close, start_model=ZERO)


@attack("_check_close", "close_not_void", "CLOSE is of a round that the server gave up", "VOID")
def close_of_a_void_round(kit):
    federation, close = finished(kit)
    message = sign(federation.server, federation.context, Void(round=1))
    federation.sites[federation.names[0]].void(message)
    return closes(federation, close)


@attack("_check_close", "survivors_sorted", "survivors are not sorted", "SURVIVORS")
def close_with_a_survivor_twice(kit):
    federation, close = finished(kit)
    return closes(federation, close, survivors=(0, 1, 2, 3, 3))


@attack("_check_close", "survivors_invited", "a survivor is not a participant", "SURVIVORS")
def close_with_an_uninvited_survivor(kit):
    federation, close = finished(kit)
    return closes(federation, close, survivors=(0, 1, 2, 3, 9))


@attack("_check_close", "enough_survivors", "too few survivors", "SURVIVORS")
def close_with_three_of_five(kit):
    federation, close = finished(kit)
    return closes(federation, close, survivors=(0, 1, 2))


@attack("_check_close", "headers_signed", "survivor did not sign an upload of this round")
def close_with_a_phantom(kit):
    federation, close = finished(kit)
    headers = read_signed(Close, close)[1].headers
    return closes(federation, close, headers=(*headers[:4], replace(headers[4], parts=ZERO)))


@attack("_check_close", "own_header", "upload under this site's name is not the one in its journal")
def close_with_another_upload_of_ours(kit):
    federation, close = finished(kit)
    headers = read_signed(Close, close)[1].headers
    return closes(federation, close, headers=(other_header(federation), *headers[1:]))


@attack("_check_close", "own_header", "upload under this site's name is not the one in its journal")
def close_after_the_journal_was_rolled_back(kit):
    federation, close = finished(kit)
    rolled_back = fresh(kit)
    rolled_back.begin(1)
    federation.stores[federation.names[0]] = rolled_back.stores[federation.names[0]]
    return closes(federation, close)


@attack("_check_close", "close_matches_answer", "CLOSE names other survivors than this site answered for", "SURVIVORS")
def close_with_fewer_than_answered(kit):
    federation, close = finished(kit)
    headers = read_signed(Close, close)[1].headers
    return closes(federation, close, survivors=(0, 1, 2, 3), headers=headers[:4])


@attack("_check_close", "close_matches_agreement", "CLOSE names other survivors than this site agreed to", "SURVIVORS")
def close_with_more_than_agreed(kit):
    federation = agreed(kit)
    reply = read_signed(Start, federation.start)[1]
    everyone = tuple(range(5))
    body = Close(
        round=1,
        count=1,
        participants=everyone,
        survivors=everyone,
        headers=tuple(header_of(federation, at) for at in everyone),
        keyset=reply.keyset,
        previous=reply.previous,
        start_model=reply.model,
        total=ZERO,
        model=ZERO,
        state=ZERO,
    )
    return closes(federation, sign(federation.server, federation.context, body))


# checkpoint


def checkpoints(federation, signers, *, ack=None, **changes):
    """A CHECKPOINT of the last CLOSE, vouched for by these members."""
    signed, close = read_signed(Close, federation.last_close)
    said = replace(ack_of(close), **(ack or {}))
    acks = [Acked(site=at, ack=sign(federation.identities[federation.names[at]], signed.context, said)) for at in signers]
    message = encode(replace(Checkpoint(close=federation.last_close, acks=tuple(acks)), **changes))
    values = checkpoint_values(federation.now)
    return federation, federation.names[4], lambda site: site.checkpoint(message, values)


def missed(kit):
    """Round 1 is closed; the last site saw nothing of it."""
    federation = fresh(kit)
    federation.begin(1, away=federation.names[4:])
    federation.upload(1, {name: update for name, update in federation.whole_updates(1).items() if name != federation.names[4]})
    federation.agree()
    federation.unmask()
    federation.close(1, lost=federation.names[4:])
    return federation


def checkpoint_of(federation):
    """The CHECKPOINT that the first four members make."""
    signed, close = read_signed(Close, federation.last_close)
    acks = [sign(federation.identities[name], signed.context, ack_of(close)) for name in federation.names[:4]]
    return encode(Checkpoint(close=federation.last_close, acks=tuple(Acked(site=at, ack=ack) for at, ack in enumerate(acks))))


@attack("take_checkpoint", "checkpoint_is_newer", "checkpoint is older than what this site has seen")
def checkpoint_of_a_round_before(kit):
    federation = missed(kit)
    result = checkpoints(federation, range(4))
    federation.sites[federation.names[4]].close(federation.last_close, federation.last_total)
    federation.run(2, federation.whole_updates(2))
    federation.close(2)
    return result


@attack("take_checkpoint", "acks_sorted", "acknowledgements are not sorted, each site once")
def checkpoint_that_one_site_vouches_for_twice(kit):
    return checkpoints(missed(kit), (0, 1, 2, 2))


@attack("take_checkpoint", "acks_enough", "too few sites acknowledged the checkpoint")
def checkpoint_of_three_of_five(kit):
    return checkpoints(missed(kit), range(3))


@attack("take_checkpoint", "acks_signed", "site did not acknowledge this CLOSE")
def checkpoint_that_a_site_vouches_for_in_anothers_name(kit):
    federation = missed(kit)
    acks = decode(Checkpoint, checkpoint_of(federation)).acks
    return checkpoints(federation, range(4), acks=(*acks[:3], replace(acks[3], ack=acks[2].ack)))


@attack("take_checkpoint", "acks_signed", "site did not acknowledge this CLOSE")
def checkpoint_of_another_model_than_was_acknowledged(kit):
    return checkpoints(missed(kit), range(4), ack={"model": ZERO})


@attack("take_checkpoint", "acks_signed", "an acknowledgement is of no member")
def checkpoint_that_a_stranger_vouches_for(kit):
    federation = missed(kit)
    acks = decode(Checkpoint, checkpoint_of(federation)).acks
    return checkpoints(federation, range(4), acks=(*acks[:3], replace(acks[3], site=5)))


# void


@attack("void", "server_signed", "not signed by the server")
def void_signed_by_a_site(kit):
    federation = uploaded(kit)
    message = sign(federation.identities[federation.names[1]], federation.context, Void(round=1))
    return federation, federation.names[0], lambda site: site.void(message)


@attack("void", "round_voidable", "round is not open at this site")
def void_of_an_unknown_round(kit):
    federation = uploaded(kit)
    message = sign(federation.server, federation.context, Void(round=2))
    return federation, federation.names[0], lambda site: site.void(message)


@attack("void", "round_voidable", "round is not open at this site", "VOID")
def void_of_a_closed_round(kit):
    federation, close = finished(kit)
    federation.sites[federation.names[0]].close(close, federation.last_total)
    message = sign(federation.server, federation.context, Void(round=1))
    return federation, federation.names[0], lambda site: site.void(message)


@attack("void", "context_is", "message is of another round, study, key set or model")
def void_under_another_context(kit):
    federation = uploaded(kit)
    message = sign(federation.server, ZERO, Void(round=1))
    return federation, federation.names[0], lambda site: site.void(message)


def disk(store):
    vectors = {key: bytes(value) for key, value in store._vectors.items()}
    return store._secrets, tuple(r for r in store._log if r.kind != "ALARM"), vectors, dict(store._parts)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attack_is_refused_and_changes_nothing(kit, attack):
    federation, name, call = attack.build(kit)
    site = federation.make_site(name)
    before, alarms = disk(federation.stores[name]), len(site.alarms)
    with pytest.raises(ProtocolError) as caught:
        call(site)
    assert attack.phrase in str(caught.value)
    assert isinstance(caught.value, RoundVoid) == ("void" in attack.phrase)
    assert disk(federation.stores[name]) == before
    found = federation.make_site(name).alarms[alarms:]
    assert {evidence.kind for evidence in found} == ({attack.evidence} if attack.evidence else set())
    assert isinstance(caught.value, ProvenFault) == bool(found)
    if found:
        assert caught.value.evidence == found[0]
        assert all(proves(federation.params, evidence) for evidence in found)
        assert {accused(federation.params, evidence) for evidence in found} == {"the server"}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attack_is_not_refused_so_without_its_check(kit, attack, monkeypatch):
    federation, name, call = attack.build(kit)
    site = federation.make_site(name)
    module = next(module for module in MODULES if hasattr(module, attack.check))
    monkeypatch.setattr(module, attack.check, lambda *_, **__: None)
    refusal = ""
    try:
        call(site)
    except Exception as error:
        refusal = str(error)
    assert attack.phrase not in refusal


def test_every_check_of_a_site_has_an_attack():
    called = set()
    trees = [ast.parse(inspect.getsource(module)) for module in (site_module, closing, starting)]
    for method in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        if method.name == "check_own_start":
            continue
        for node in ast.walk(method):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                value = node.func.value
                if isinstance(value, ast.Name) and value.id in ("checks", "backup_checks", "checkpoint_checks"):
                    called.add((method.name, node.func.attr))
    assert called == {(attack.method, attack.check) for attack in ATTACKS}
    own = set()
    for module in MODULES:
        public = {name for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"}
        own |= {name for name in public if vars(module)[name].__module__ == module.__name__}
    assert own - {"need"} == {attack.check for attack in ATTACKS}
