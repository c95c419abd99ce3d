"""Row 12: every message of a round that is over, or of another study, said again to sites and to the sum."""

from __future__ import annotations

import hashlib

import pytest
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.messages import Close, Consent, Start, Unmask, Void
from ssl_core.secure_sum.statements import read_signed

KINDS = {"START", "CONSENT", "UNMASK", "BACKUP", "CLOSE", "VOID"}
OTHER = hashlib.sha256(b"another study").digest()


def recorded(federation, number):
    """A round with a loss before and one after the upload: {kind: what site 0 was sent}, its upload, its answers."""
    names, updates = federation.names, federation.whole_updates(number)
    said = {"START": federation.begin(number)}
    uploads = {name: federation.sites[name].upload(number, updates[name]) for name in names[:6]}
    for name, (body, vector) in uploads.items():
        federation.coordinator.add_upload(name, body, vector)
    federation.agree(silent=names[6:])
    said["CONSENT"] = federation.coordinator.consent_requests()[names[0]]
    said["UNMASK"] = federation.coordinator.unmask_requests()[names[0]]
    federation.unmask(silent=names[5:])
    said["BACKUP"] = federation.coordinator.backup_requests()[names[0]]
    answers = {
        "CONSENT": federation.sites[names[0]].consent(said["CONSENT"]),
        "UNMASK": federation.sites[names[0]].unmask(said["UNMASK"]),
        "BACKUP": federation.sites[names[0]].backup(said["BACKUP"]),
    }
    federation.relieve()
    assert federation.signed == federation.expected(updates, names[:6])
    context = read_signed(Start, said["START"])[0].context
    said["CLOSE"] = federation.close(number)
    said["VOID"] = MaliciousServer(federation).say(context, Void(round=number))
    return said, uploads, answers


class Recording(Federation):
    @property
    def signed(self):
        return [int(value) for value in self.coordinator.total().view("i4")]


def call(site, kind, message, total):
    """The site's answer to a message of any kind."""
    if kind in ("START", "CLOSE"):
        return (site.begin if kind == "START" else site.close)(message, total)
    return getattr(site, kind.lower())(message)


def durable(federation, place):
    store = federation.stores[federation.names[place]]
    return store.read_secrets(), [r for r in store._log if r.kind != "ALARM"], sorted(store._vectors), sorted(store._parts)


@pytest.fixture
def second_round():
    """A study whose first round is closed and whose second stands open, everything uploaded and one set agreed to."""
    federation = Recording(make_params(7))
    said, uploads, answers = recorded(federation, 1)
    start = federation.begin(2)
    federation.upload(2, {name: federation.whole_updates(2)[name] for name in federation.names[:6]})
    federation.agree(silent=federation.names[6:])
    return federation, said, uploads, answers, start


def test_row_12_messages_of_a_closed_round_are_refused_in_the_next(second_round):
    federation, said, _, _, start = second_round
    assert said.keys() == KINDS
    before = durable(federation, 0)
    for kind in ("START", "CONSENT", "UNMASK", "BACKUP", "VOID"):
        with pytest.raises(ProtocolError):
            call(federation.sites[federation.names[0]], kind, said[kind], federation.last_total)
        assert durable(federation, 0) == before, kind
    assert call(federation.sites[federation.names[0]], "CLOSE", said["CLOSE"], federation.last_total), "the same ACK again"
    assert durable(federation, 0) == before
    with pytest.raises(ProtocolError, match="round number was used before"):
        federation.sites[federation.names[0]].begin(start, federation.last_total)


def test_row_12_b_signed_anew_for_this_round_they_are_refused_too(second_round):
    """The server's key is the server's: it can put an old body under the new context."""
    federation, said, _, _, start = second_round
    server, context = MaliciousServer(federation), read_signed(Start, start)[0].context
    site, before = federation.sites[federation.names[0]], durable(federation, 0)
    forms = {"CONSENT": Consent, "UNMASK": Unmask, "CLOSE": Close}
    for kind, form in forms.items():
        old = read_signed(form, said[kind])[1]
        with pytest.raises(ProtocolError):
            call(site, kind, server.say(context, old), federation.last_total)
        assert durable(federation, 0)[:1] == before[:1] and site.state(2) is RoundState.UPLOADED, kind


def test_row_12_c_uploads_and_answers_of_a_closed_round_are_refused_by_the_sum(second_round):
    federation, _, uploads, answers, _ = second_round
    names = federation.names
    with pytest.raises(ProtocolError):
        federation.coordinator.add_upload(names[0], *uploads[names[0]])
    with pytest.raises(ProtocolError, match="agreement is of another round"):
        federation.coordinator.add_consent(names[0], answers["CONSENT"])
    with pytest.raises(ProtocolError, match="answer is of another round"):
        federation.coordinator.add_answer(names[0], answers["UNMASK"])
    federation.unmask(silent=names[5:])
    with pytest.raises(ProtocolError, match="backup answer is of another round"):
        federation.coordinator.add_backup(names[0], answers["BACKUP"])
    federation.relieve(silent=names[5:])
    assert federation.signed == federation.expected(federation.whole_updates(2), names[:6])
    assert federation.coordinator.faults == ()


def test_row_12_d_messages_of_another_study_with_the_same_people_are_refused():
    said, uploads, answers = recorded(Recording(make_params(7, session=OTHER)), 1)
    federation = Recording(make_params(7))
    site = federation.sites[federation.names[0]]
    with pytest.raises(ProtocolError, match="another key set"):
        site.begin(said["START"], federation.last_total)
    federation.begin(1)
    federation.upload(1, {name: federation.whole_updates(1)[name] for name in federation.names[:6]})
    before = durable(federation, 0)
    for kind in KINDS - {"START"}:
        with pytest.raises(ProtocolError):
            call(site, kind, said[kind], federation.last_total)
        assert durable(federation, 0) == before, kind
    with pytest.raises(ProtocolError, match="upload is of another round"):
        federation.coordinator.add_upload(federation.names[6], *uploads[federation.names[0]])
    federation.agree(silent=federation.names[6:])
    with pytest.raises(ProtocolError, match="answer is of another round"):
        federation.coordinator.add_answer(federation.names[0], answers["UNMASK"])
    with pytest.raises(ProtocolError, match="another study"):
        federation.sites[federation.names[0]].accept_keys(Recording(make_params(7, session=OTHER)).keyset)


def test_row_12_e_a_round_that_a_later_one_overtook_is_over(second_round):
    """CLOSE of round 2 is held back; round 3 begins; then everything of round 2 is asked for."""
    federation, *_ = second_round
    server = MaliciousServer(federation)
    names = federation.names
    consent = federation.coordinator.consent_requests()[names[0]]
    unmask = federation.coordinator.unmask_requests()[names[0]]
    server.site(0).begin(server.forge_start(3)[0], federation.last_total)
    for kind, message in (("CONSENT", consent), ("UNMASK", unmask)):
        with pytest.raises(RoundVoid):
            call(server.site(0), kind, message, federation.last_total)
    federation.unmask(silent=names[:1])
    federation.relieve(silent=names[:1])
    with pytest.raises(ProtocolError):
        server.site(0).close(federation.close(2, lost=names), federation.last_total)
