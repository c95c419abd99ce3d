"""Rows 15 to 17: sites that are lost, truly or in the server's words: the sum is exact, or there is none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_federation import Federation, make_params, signed_view
from tests_malicious import MaliciousServer

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import sealing, shamir
from ssl_core.secure_sum.vault import Vault


def names_of(federation, places):
    return [federation.names[place] for place in places]


@pytest.mark.parametrize("count", range(3, 11))
def test_row_15_as_many_losses_before_the_upload_as_are_borne_leave_the_sum_exact(count):
    params = make_params(count)
    borne = count - params.thresholds(count).survivors
    for lost in itertools.islice(itertools.combinations(range(count), borne), 6):
        federation = Federation(params)
        updates = federation.whole_updates(1)
        total = federation.run(1, updates, before=names_of(federation, lost))
        assert signed_view(total) == federation.expected(updates, set(federation.names) - set(names_of(federation, lost)))


@pytest.mark.parametrize("count", range(3, 9))
def test_row_15_b_one_more_ends_the_round_and_nothing_was_revealed(count):
    """The honest server voids it; the malicious one asks every site for everything, for every set that it can name."""
    params = make_params(count)
    left = tuple(range(params.thresholds(count).survivors - 1))
    federation = Federation(params)
    updates = federation.whole_updates(1)
    federation.begin(1)
    federation.upload(1, {federation.names[place]: updates[federation.names[place]] for place in left})
    with pytest.raises(RoundVoid, match="too few survivors"):
        federation.coordinator.fix_survivors()
    server = MaliciousServer(Federation(params))
    context = server.begin(server.forge_start()[0])
    server.take_uploads(context, updates, left)
    for survivors in (left, server.everyone, *itertools.combinations(server.everyone, len(left) + 1)):
        for site in set(left) & set(server.honest):
            server.ask_consent(context, site, survivors)
            assert server.ask_unmask(context, site, survivors) is None
            if all(place in server.contexts[context].parts for place in survivors):
                assert server.ask_backup(context, site, survivors) is None
    assert server.opened() == {} and server.contexts[context].answered == {}


@pytest.mark.parametrize("count", range(4, 8))
@pytest.mark.parametrize("backup", [True, False])
def test_row_16_losses_before_and_after_the_upload_give_the_exact_sum_or_none(count, backup):
    """Every number of losses of each kind. `waits`: a survivor that others could not speak for comes back, and it ends."""
    params = make_params(count, backup=backup)
    limits = params.thresholds(count)
    for before, after in itertools.product(range(count), repeat=2):
        if before + after > count:
            continue
        federation = Federation(params)
        updates, names = federation.whole_updates(1), federation.names
        heard = count - before - after
        wanted = "exact" if heard >= limits.shares and (backup or not (before and after)) else "waits"
        if count - before < limits.survivors:
            wanted = "void"
        assert outcome(federation, updates, names[:before], names[count - after :]) == wanted, (before, after)


def outcome(federation, updates, lost, silent):
    federation.begin(1, away=lost)
    federation.upload(1, {name: update for name, update in updates.items() if name not in lost})
    survivors = set(updates) - set(lost)
    try:
        federation.agree(silent)
    except RoundVoid:
        return "void"
    if not federation.coordinator.consented:
        with pytest.raises(ProtocolError, match="too few agreements"):
            federation.coordinator.unmask_requests()
        federation.agree()
        result = "waits"
    else:
        result = "exact"
    federation.unmask(silent)
    federation.relieve(silent)
    if not federation.coordinator.answered:
        with pytest.raises(ProtocolError, match="too few answers"):
            federation.coordinator.total()
        federation.unmask()
        result = "waits"
    assert signed_view(federation.coordinator.total()) == federation.expected(updates, survivors)
    return result


def test_row_16_b_one_loss_before_and_one_after_at_every_site_of_seven():
    """The double loss that BACKUP is for: who was lost after its upload is still in the sum."""
    for first, second in ((first, (first + apart) % 7) for first in range(7) for apart in (1, 3)):
        federation = Federation(make_params(7))
        updates, names = federation.whole_updates(1), federation.names
        total = federation.run(1, updates, before=names[first : first + 1], after=names[second : second + 1])
        assert signed_view(total) == federation.expected(updates, set(names) - {names[first]})
        assert names[second] in federation.coordinator.survivors


def everything(server, context, updates, survivors, late, order):
    """Site 0 is said to be lost, its upload comes at one point of the order; every honest site is asked for everything."""
    asks = {
        "consent": lambda site: server.ask_consent(context, site, survivors),
        "answer": lambda site: server.ask_unmask(context, site, survivors),
        "backup": lambda site: server.ask_backup(context, site, survivors),
        "answer all": lambda site: server.ask_unmask(context, site, server.everyone),
        "consent all but another": lambda site: server.ask_consent(context, site, server.everyone[:-1]),
        "answer all but another": lambda site: server.ask_unmask(context, site, server.everyone[:-1]),
    }
    for at, ask in enumerate(order):
        if at == late:
            server.take_uploads(context, updates, [0])
        if late > at and ask in ("answer all", "consent all but another", "answer all but another"):
            continue
        for site in server.honest if at >= late else server.honest[1:]:
            asks[ask](site)
    if late >= len(order):
        server.take_uploads(context, updates, [0])


ASKS = ["consent", "answer", "backup", "answer all", "consent all but another", "answer all but another"]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 7), st.permutations(ASKS), st.integers(0, len(ASKS)))
def test_row_17_an_upload_that_comes_late_stays_closed(count, order, late):
    """Over all transcripts that these orders give: nothing of site 0 alone, and one sum at most."""
    server = MaliciousServer(Federation(make_params(count)))
    updates = server.federation.whole_updates(1)
    context = server.begin(server.forge_start()[0])
    server.take_uploads(context, updates, server.everyone[1:])
    everything(server, context, updates, server.everyone[1:], late, order)
    server.check_one_sum(updates)


def test_row_17_b_the_honest_sum_discards_it_and_no_answer_holds_a_share_of_its_b():
    """All that four survivors said, held against the shares that were sealed to them: those would have opened b_4."""
    server = MaliciousServer(Federation(make_params(5)), corrupt=0)
    updates = server.federation.whole_updates(1)
    context = server.begin(server.forge_start()[0])
    server.take_uploads(context, updates, (0, 1, 2, 3))
    survivors = (0, 1, 2, 3)
    for site in survivors:
        assert server.ask_consent(context, site, survivors)
    replies = [server.ask_unmask(context, site, survivors) for site in survivors]
    server.take_uploads(context, updates, [4])
    heard = server.contexts[context]
    assert 4 not in heard.shares and server.opened() == {frozenset(survivors): server.expected(updates, survivors)}
    released = b"".join(replies)
    shares = {}
    for holder in survivors:
        chain = Vault(server.federation.stores[server.name(holder)], server.params.hash).chain(4)
        route = sealing.Route(context=context, sender=4, recipient=holder)
        share = sealing.unseal(sealing.seal_key(chain, route), route, heard.parts[4].packets[holder].share.blob)
        assert share not in released
        shares[shamir.point(holder)] = shamir.from_bytes(share)
    own = shamir.to_bytes(shamir.combine(shares))
    assert sealing.commit_self(context, own) == heard.parts[4].commitments[4] and own not in released


def test_row_17_c_the_coordinator_takes_no_upload_after_the_survivors_are_fixed():
    federation = Federation(make_params(5))
    updates, names = federation.whole_updates(1), federation.names
    federation.begin(1)
    late = federation.sites[names[4]].upload(1, updates[names[4]])
    federation.upload(1, {name: updates[name] for name in names[:4]})
    federation.agree()
    assert federation.coordinator.add_upload(names[4], *late) is False
    federation.unmask(silent=names[4:])
    assert federation.coordinator.add_upload(names[4], *late) is False
    assert signed_view(federation.coordinator.total()) == federation.expected(updates, names[:4])
