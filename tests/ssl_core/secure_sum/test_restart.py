"""A site killed at any write, and started again over its store: promises hold, the sum is exact, or the round is void.

CONTINUE (ruling 6) is the same message again: this site gets every message of every state three times, the third time
after it was started again, and every reply must be the same bytes.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests_mortal import Killed, MortalModels, MortalStore

from ssl_core.errors import ChoralError, ProtocolError, RoundVoid, StateError
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.statements import round_of


class Client:
    """What a site's daemon does with each message: begin, or send again, or decline."""

    def __init__(self, federation, name, updates, times=1):
        self.federation, self.name, self.updates, self.times = federation, name, updates, times
        self.replies = {}
        self.deaths = 0

    def deliver(self, call):
        """The message comes again after a death, as Flower pushes it again."""
        while True:
            try:
                return call(self.federation.sites[self.name])
            except Killed:
                self.deaths += 1
                self.restart()

    def restart(self):
        while True:
            try:
                self.federation.restart(self.name)
                return
            except Killed:
                self.deaths += 1

    def ask(self, kind, message):
        """The reply, the same up to three times: at once, again, and after a restart."""
        call = getattr(self, f"_{kind}", None) or (lambda site, data: getattr(site, kind)(data))
        for again in range(self.times):
            if again == 2:
                self.restart()
            reply = self.deliver(lambda site: call(site, message))
            assert self.replies.setdefault((kind, message), reply) == reply
        return reply

    def _close(self, site, close):
        return site.close(close, self.federation.last_total)

    def _start(self, site, start):
        round = round_of(start)
        if site.state(round) is None:
            site.begin(start, self.federation.last_total)
            body, vector = site.upload(round, self.updates[round][self.name])
        else:
            site.recognise(start)
            kept = site.resend(round)
            if kept is None:
                return None
            body, vector = kept
        return body, vector.tobytes()


def run_with_death(kit, fatal, before, lost_close, losses=False, rounds=(1, 2)):
    """With `losses` one site never uploads, and another does not answer where t others are left."""
    federation = kit.Federation(kit.make_params(6 if losses else 4))
    name = federation.names[1]
    mortal = MortalStore(federation.stores[name])
    federation.stores[name], federation.models[name] = mortal, MortalModels(federation.models[name], mortal)
    federation.restart(name)
    mortal.writes, mortal.left, mortal.reaches = 0, fatal, not before
    updates = {round: federation.whole_updates(round) for round in (1, 2)}
    clients = {n: Client(federation, n, updates, 3 if n == name else 1) for n in federation.names}
    results = {}
    for round in rounds:
        start = federation.coordinator.start(round, federation.names, federation.model, federation.last_close)
        for n, client in clients.items():
            reply = client.ask("start", start)
            if reply is not None and not (losses and n == federation.names[-1]):
                federation.coordinator.add_upload(n, reply[0], np.frombuffer(reply[1], np.uint32))
        federation.coordinator.fix_survivors()
        survivors = federation.coordinator.survivors
        for n, request in federation.coordinator.consent_requests().items():
            federation.coordinator.add_consent(n, clients[n].ask("consent", request))
        enough = len(survivors) > federation.params.thresholds(len(federation.names)).shares
        for n, request in federation.coordinator.unmask_requests().items():
            if not (losses and enough and n == federation.names[2]):
                federation.coordinator.add_answer(n, clients[n].ask("unmask", request))
        for n, request in federation.coordinator.backup_requests().items():
            federation.coordinator.add_backup(n, clients[n].ask("backup", request))
        total = kit.signed_view(federation.coordinator.total())
        assert total == federation.expected(updates[round], survivors)
        results[round] = survivors
        federation.finish()
        for n, client in clients.items():
            if not (lost_close and n == name):
                federation.take(n, client.ask("close", federation.last_close))
    assert federation.coordinator.faults == () and all(site.alarms == () for site in federation.sites.values())
    return federation, clients[name], results, mortal


def writes_of_a_whole_run(kit, lost_close):
    return run_with_death(kit, 0, True, lost_close)[3].writes


def test_no_death_and_every_message_three_times(kit):
    federation, client, results, _ = run_with_death(kit, 0, True, False, losses=True)
    assert {kind for kind, _ in client.replies} == {"start", "consent", "unmask", "backup", "close"}
    assert results == {1: federation.names[:5], 2: federation.names[:5]}


def test_death_at_every_write_of_rounds_with_losses_and_backup(kit):
    total = run_with_death(kit, 0, True, False, losses=True, rounds=(1,))[3].writes
    assert total >= 10
    declined = 0
    for fatal in range(1, total + 1):
        federation, client, results, _ = run_with_death(kit, fatal, False, False, losses=True, rounds=(1,))
        assert client.deaths == 1
        absent = [round for round, survivors in results.items() if client.name not in survivors]
        assert len(absent) <= 1 and all(federation.names[-1] not in survivors for survivors in results.values())
        declined += len(absent)
    assert declined > 0


@pytest.mark.parametrize("lost_close", [False, True])
def test_death_at_every_write(kit, lost_close):
    total = writes_of_a_whole_run(kit, lost_close)
    assert total >= 16
    declined = 0
    for fatal in range(1, total + 1):
        for before in (True, False):
            federation, client, results, _ = run_with_death(kit, fatal, before, lost_close)
            assert client.deaths == 1
            absent = [round for round, survivors in results.items() if client.name not in survivors]
            assert len(absent) <= 1, "one death costs one round at most"
            declined += len(absent)
            assert all(federation.sites[client.name].state(r) is not RoundState.VOID for r in results)
    assert declined > 0


def at(kit, stage):
    """A federation whose site 0 stands at one stage of round 1."""
    federation = kit.Federation(kit.make_params(4))
    federation.updates = federation.whole_updates(1)
    if stage != "new":
        federation.start = federation.begin(1)
    if stage not in ("new", "started"):
        federation.upload(1, federation.updates)
        federation.agree()
    if stage in ("answered", "closed"):
        federation.unmask()
    if stage == "closed":
        federation.close(1)
    return federation


def test_started_and_restarted_declines(kit):
    federation = at(kit, "started")
    name = federation.names[0]
    federation.restart(name)
    assert federation.sites[name].state(1) is RoundState.STARTED
    assert federation.sites[name].resend(1) is None
    with pytest.raises(RoundVoid, match="not begun in this process"):
        federation.sites[name].upload(1, federation.updates[name])
    with pytest.raises(ProtocolError, match="used before"):
        federation.sites[name].begin(federation.start, federation.last_total)


@pytest.mark.parametrize("stage", ["uploaded", "answered"])
def test_uploaded_and_restarted_sends_the_same_bytes(kit, stage):
    federation = at(kit, stage)
    name = federation.names[0]
    body, vector = federation.sites[name].resend(1)
    federation.restart(name)
    again, same = federation.sites[name].resend(1)
    assert again == body and (same == vector).all()
    other, same = federation.sites[name].upload(1, federation.updates[name] * 2)
    assert other == body and (same == vector).all()


def test_answer_is_the_same_after_restart_and_for_any_proof(kit):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    request = federation.coordinator.unmask_requests()[name]
    reply = federation.sites[name].unmask(request)
    federation.restart(name)
    assert federation.sites[name].unmask(request) == reply
    assert federation.sites[name].state(1) is RoundState.ANSWERED


def test_agreement_is_the_same_after_restart(kit):
    federation = kit.Federation(kit.make_params(5))
    federation.begin(1)
    federation.upload(1, {n: u for n, u in federation.whole_updates(1).items() if n != federation.names[4]})
    federation.coordinator.fix_survivors()
    request = federation.coordinator.consent_requests()[federation.names[0]]
    reply = federation.sites[federation.names[0]].consent(request)
    federation.restart(federation.names[0])
    assert federation.sites[federation.names[0]].consent(request) == reply


def test_close_is_idempotent_and_its_acknowledgement_the_same(kit):
    federation = at(kit, "closed")
    name = federation.names[0]
    ack = federation.sites[name].close(federation.last_close, federation.last_total)
    federation.restart(name)
    assert federation.sites[name].close(federation.last_close, federation.last_total) == ack
    with pytest.raises(RoundVoid, match="round is over"):
        federation.sites[name].resend(1)


def test_void_is_for_ever_and_idempotent(kit):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    request = federation.coordinator.unmask_requests()[name]
    message = federation.coordinator.void()
    assert federation.coordinator.void() == message
    federation.sites[name].void(message)
    federation.restart(name)
    federation.sites[name].void(message)
    for call in (
        lambda site: site.resend(1),
        lambda site: site.upload(1, federation.updates[name]),
        lambda site: site.unmask(request),
    ):
        with pytest.raises(RoundVoid):
            call(federation.sites[name])


def test_round_that_a_later_start_overtook_is_void(kit):
    federation = at(kit, "answered")
    federation.coordinator.void()
    federation.begin(2)
    for name in federation.names:
        federation.restart(name)
        assert federation.sites[name].state(1) is RoundState.VOID
        assert federation.stores[name].read_vector(1) is None
        with pytest.raises(RoundVoid):
            federation.sites[name].resend(1)


def test_unknown_round_is_not_sent_again(kit):
    with pytest.raises(ProtocolError, match="unknown to this site"):
        at(kit, "new").sites["site-00"].resend(1)


def test_journal_that_is_older_than_the_secrets_is_refused(kit):
    federation = at(kit, "new")
    name = federation.names[0]
    old = federation.stores[name].copy()
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    old._secrets = federation.stores[name]._secrets
    with pytest.raises(StateError, match="rolled back"):
        federation.make_site(name, old)


def test_secrets_that_are_older_than_the_journal_are_brought_forward(kit):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    old = federation.stores[name]._secrets
    federation.unmask()
    federation.close(1)
    new = federation.stores[name]._secrets
    federation.stores[name]._secrets = old
    federation.restart(name)
    assert federation.stores[name]._secrets == new


def test_vector_that_was_changed_on_disk_is_not_sent(kit):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    federation.stores[name]._vectors[1][0] ^= 1
    with pytest.raises(StateError, match="kept vector is not the one in the journal"):
        federation.sites[name].resend(1)


@pytest.mark.parametrize(
    "change", [lambda parts: parts[:-1] + bytes([parts[-1] ^ 1]), lambda parts: parts[:-1], lambda parts: b""]
)
def test_parts_that_were_changed_on_disk_are_not_sent(kit, change):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    federation.stores[name]._parts[1] = change(federation.stores[name]._parts[1])
    with pytest.raises(StateError, match="kept parts are not those in the journal"):
        federation.sites[name].resend(1)


def test_parts_that_are_gone_are_not_sent(kit):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    federation.stores[name]._parts.clear()
    with pytest.raises(StateError, match="kept parts are not those in the journal"):
        federation.sites[name].resend(1)


def test_answer_that_was_changed_on_disk_is_not_sent(kit):
    federation = at(kit, "answered")
    name = federation.names[0]
    request = federation.coordinator.unmask_requests()[name]
    vault = federation.sites[name]._vault
    vault.put_answer(vault.answer[:-1] + bytes([vault.answer[-1] ^ 1]))
    federation.restart(name)
    with pytest.raises(StateError, match="kept answer is not the one in the journal"):
        federation.sites[name].unmask(request)


def test_upload_without_its_start_in_the_journal_is_refused(kit, monkeypatch):
    federation = at(kit, "uploaded")
    name = federation.names[0]
    request = federation.coordinator.unmask_requests()[name]
    whole = MemoryStore.records
    monkeypatch.setattr(MemoryStore, "records", lambda *of: [r for r in whole(*of) if r.kind != "STARTED"])
    with pytest.raises(StateError, match="journal has an upload but no START"):
        federation.sites[name].unmask(request)


def test_state_of_another_study_is_refused(kit):
    federation = at(kit, "closed")
    other = kit.Federation(kit.make_params(4, session=b"2" * 32))
    name = federation.names[0]
    with pytest.raises(StateError, match="another study"):
        other.make_site(name, federation.stores[name])


def test_journal_of_a_longer_study_is_refused(kit):
    federation = at(kit, "new")
    for round in (1, 2, 3):
        federation.begin(round)
        federation.coordinator.void()
    store = federation.stores[federation.names[0]]
    store._secrets = None
    shorter = kit.Federation(kit.make_params(4, max_rounds=2))
    with pytest.raises(StateError, match="journal belongs to another study"):
        shorter.make_site(federation.names[0], store)


def test_identity_must_be_the_rosters(kit):
    federation = at(kit, "new")
    federation.identities[federation.names[0]] = federation.identities[federation.names[1]]
    with pytest.raises(ChoralError, match="identity is not the one"):
        federation.restart(federation.names[0])
