"""Rows 1 to 4 and 9: the server names survivors as it likes, in several ways, and kills sites between write and word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests_federation import Federation, identity_of, make_params
from tests_malicious import MaliciousServer

from ssl_core.secure_sum import backup_checks, checks
from ssl_core.secure_sum.evidence import Kind, accused, proves
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import Header
from ssl_core.secure_sum.statements import header_statement


class Killed(BaseException):
    """The process ends here; nothing may catch it."""


class MortalStore(MemoryStore):
    """Dies at one append to its log: before it is on disk, or after."""

    def __init__(self, image: MemoryStore, kind: str, *, written: bool) -> None:
        super().__init__()
        self.__dict__ |= image.copy().__dict__
        self.kind, self.written = kind, written

    def append(self, record):
        if record.kind == self.kind and not self.written:
            raise Killed
        super().append(record)
        if record.kind == self.kind:
            raise Killed


def opened_round(count=7):
    server = MaliciousServer(Federation(make_params(count)))
    updates = server.federation.whole_updates(1)
    return server, updates, server.open_round(updates)


def assert_alarm(server, site, kind):
    """The server's own two messages are kept, prove the fault to anybody, and are there after a restart."""
    server.federation.restart(server.name(site))
    alarms = server.site(site).alarms
    assert [alarm.kind for alarm in alarms] == [kind]
    assert accused(server.params, alarms[0]) == "the server" and proves(server.params, alarms[0])


def dropped_after_all(server, context):
    """All answer for everyone; then the server says to each that site 0 was lost, asking for its elements."""
    for site in server.honest:
        assert server.ask_unmask(context, site, server.everyone) is not None
    for site in server.honest[1:]:
        server.ask_backup(context, site, server.everyone[1:])
        server.ask_consent(context, site, server.everyone[1:])
        server.ask_unmask(context, site, server.everyone[1:])


@pytest.mark.parametrize("count", range(4, 11))
def test_row_01_a_survivor_listed_as_dropped_is_refused(count):
    server, updates, context = opened_round(count)
    dropped_after_all(server, context)
    assert len(server.refused) == 3 * (len(server.honest) - 1)
    assert server.opened() == {frozenset(server.honest): server.expected(updates, server.honest)}
    assert_alarm(server, 1, Kind.SURVIVORS)


@pytest.mark.parametrize("count", range(6, 11))
def test_row_01_b_one_who_is_asked_for_both_in_the_other_order_refuses_too(count):
    """First the elements of a site said to be lost, then the shares of all."""
    server, updates, context = opened_round(count)
    for site in server.honest[1:]:
        assert server.ask_backup(context, site, server.everyone[1:]) is None
    for site in server.honest:
        server.ask_unmask(context, site, server.everyone)
    server.check_one_sum(updates)


@pytest.mark.parametrize("count", range(6, 11))
@pytest.mark.parametrize("order", ["answer first", "backup first"])
def test_row_01_c_without_the_refusal_site_0_is_recovered(count, order, monkeypatch):
    """Positive control for both orders."""
    monkeypatch.setattr(checks, "answered_once", lambda *_: None)
    monkeypatch.setattr(backup_checks, "round_answered", lambda *_: None)
    server, updates, context = opened_round(count)
    asks = [
        lambda site: server.ask_unmask(context, site, server.everyone),
        lambda site: server.ask_backup(context, site, server.everyone[1:]),
    ]
    for ask in asks if order == "answer first" else reversed(asks):
        for site in server.honest:
            if site or ask is asks[0]:
                ask(site)
    assert server.opened()[frozenset({0})] == server.expected(updates, {0})


def test_row_01_d_lists_that_hold_a_site_twice_or_under_both_names_are_refused():
    server, _, context = opened_round(7)
    everyone, without = server.everyone, server.everyone[:6]
    for site in server.honest:
        server.ask_consent(context, site, without)
    assert server.ask_unmask(context, 0, (0, *everyone)) is None
    assert server.ask_unmask(context, 0, tuple(reversed(everyone))) is None
    for site in (0, 1, 2, 3, 4):
        server.ask_unmask(context, site, without)
    assert server.ask_backup(context, 0, without, missing=(6,)) is None
    assert server.ask_backup(context, 0, without, missing=(1, 1)) is None
    assert server.ask_backup(context, 0, without, missing=(0,)) is None
    assert [error.problem for error in server.refused[-5:]] == [
        "survivors are not sorted, each once",
        "survivors are not sorted, each once",
        "a missing site is not a survivor",
        "missing sites are not sorted, each once",
        "this site is not missing",
    ]


def two_sets(server, context):
    """Everyone, and a set without site 6 that t of the others agreed to, so that both have a valid proof."""
    without = server.everyone[:6]
    for site in (1, 2, 3, 4):
        assert server.ask_consent(context, site, without)
    return server.everyone, without


@pytest.mark.parametrize("first", [0, 1])
def test_row_02_of_two_unmask_requests_the_first_is_answered_and_the_second_refused(first):
    server, updates, context = opened_round()
    sets = two_sets(server, context)
    reply = server.ask_unmask(context, 0, sets[first])
    assert reply is not None
    assert server.ask_unmask(context, 0, sets[1 - first]) is None
    assert "answered for other survivors" in str(server.refused[-1])
    assert server.ask_unmask(context, 0, sets[first]) == reply, "the same request, the same bytes"
    for site in (1, 2, 3, 4):
        server.ask_unmask(context, site, sets[1])
        server.ask_unmask(context, site, sets[0])
    server.check_one_sum(updates)
    assert_alarm(server, 0, Kind.SURVIVORS)


def test_row_02_b_a_site_agrees_to_one_set_and_answers_no_other():
    server, updates, context = opened_round()
    everyone, without = two_sets(server, context)
    assert not server.ask_consent(context, 1, everyone[1:])
    assert server.ask_unmask(context, 1, everyone) is None
    assert [error.problem for error in server.refused] == ["this site agreed to other survivors in this round"] * 2
    assert server.ask_unmask(context, 1, without) is not None
    server.check_one_sum(updates)


def killed_while_answering(first, kind, *, written):
    """Site 0 dies at one append while it answers the set `first`; then it is started again over what is on its disk."""
    server, updates, context = opened_round()
    sets = two_sets(server, context)
    name = server.name(0)
    disk = MortalStore(server.federation.stores[name], kind, written=written)
    server.federation.stores[name] = disk
    server.federation.restart(name)
    with pytest.raises(Killed):
        server.ask_unmask(context, 0, sets[first])
    server.federation.stores[name] = disk.copy()
    server.federation.restart(name)
    return server, updates, context, sets


@pytest.mark.parametrize("first", [0, 1])
def test_row_03_killed_after_the_journal_write_it_answers_the_same_set_only(first):
    server, updates, context, sets = killed_while_answering(first, "ANSWERED", written=True)
    assert server.site(0).state(1) is RoundState.ANSWERED
    assert server.ask_unmask(context, 0, sets[1 - first]) is None
    assert not server.ask_consent(context, 0, sets[1])
    assert server.ask_unmask(context, 0, sets[first]) is not None
    server.check_one_sum(updates)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", [0, 1])
def test_row_04_killed_before_the_journal_write_it_answers_either_set_and_one_only(first, second):
    server, updates, context, sets = killed_while_answering(first, "ANSWERED", written=False)
    assert server.site(0).state(1) is RoundState.UPLOADED
    assert server.ask_unmask(context, 0, sets[second]) is not None
    assert server.ask_unmask(context, 0, sets[1 - second]) is None
    server.check_one_sum(updates)


@pytest.mark.parametrize("written", [True, False])
def test_row_04_b_the_same_of_an_agreement(written):
    """Without a durable agreement a site would agree to a second set (docs/proofs, control d)."""
    server, _, context = opened_round()
    name, without, other = server.name(0), server.everyone[:6], (*server.everyone[:5], 6)
    disk = MortalStore(server.federation.stores[name], "AGREED", written=written)
    server.federation.stores[name] = disk
    server.federation.restart(name)
    with pytest.raises(Killed):
        server.ask_consent(context, 0, without)
    server.federation.stores[name] = disk.copy()
    server.federation.restart(name)
    assert server.ask_consent(context, 0, other) is not written
    assert server.ask_consent(context, 0, without) is written


def test_row_09_phantom_survivors_without_signed_headers_get_no_consent():
    """Site 6 was invited and never uploaded; the server wants it among the survivors to hide how few they are."""
    server = MaliciousServer(Federation(make_params(7)), corrupt=1)
    updates = server.federation.whole_updates(1)
    context = server.begin(server.forge_start()[0])
    server.take_uploads(context, updates, (0, 1, 2, 3, 4))
    heard, phantom, members = server.contexts[context], (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4)
    real = tuple(heard.headers[at] for at in members)
    own = header_statement(context, bytes(32), bytes(32))
    forged = {
        "none": (),
        "zeros": (Header(vector=bytes(32), parts=bytes(32), signature=bytes(64)),),
        "another site's": (real[4],),
        "signed by the server": (Header(vector=bytes(32), parts=bytes(32), signature=server.federation.server.sign(own)),),
        "signed by a colluder": (Header(vector=bytes(32), parts=bytes(32), signature=identity_of("site-06").sign(own)),),
        "of an earlier context": (replace(real[0], vector=bytes(32)),),
    }
    for what, header in forged.items():
        assert not server.ask_consent(context, 0, phantom, headers=(*real, *header)), what
        assert server.ask_unmask(context, 0, phantom) is None, what
    problems = {error.problem for error in server.refused}
    assert problems == {
        "not one header for each survivor",
        "survivor did not sign an upload of this round",
        "too few sites agreed to the survivors",
    }
    assert server.site(0).state(1) is RoundState.UPLOADED and server.opened() == {}
    assert server.ask_consent(context, 0, members), "the set without the phantom"
