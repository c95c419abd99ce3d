"""The decoded sum equals the plain integer sum, exactly, for 3 to 10 sites and with the losses of ruling 11."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.journal import RoundState


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_sum_is_exact_with_any_losses_that_can_be_borne(kit, data):
    count = data.draw(st.integers(3, 10))
    federation = kit.Federation(kit.make_params(count, dimension=data.draw(st.integers(1, 9))))
    thresholds = federation.params.thresholds(count)
    before = data.draw(st.sets(st.sampled_from(federation.names), max_size=count - thresholds.survivors))
    rest = [name for name in federation.names if name not in before]
    silent = data.draw(st.sets(st.sampled_from(rest), max_size=len(rest) - thresholds.shares))
    updates = federation.whole_updates(data.draw(st.integers(0, 2**32)))
    total = federation.run(1, updates, before=before, after=silent)
    assert kit.signed_view(total) == federation.expected(updates, rest)
    weight = sum(m.weight for m in federation.params.members if m.name in rest)
    expected = [value / weight for value in federation.expected(updates, rest)]
    assert federation.coordinator.mean().tolist() == expected


@pytest.mark.parametrize("count", range(3, 11))
def test_every_coordinate_at_the_edge_does_not_wrap(kit, count):
    federation = kit.Federation(kit.make_params(count, dimension=4))
    levels = federation.params.levels
    # float32 does not hold Q itself: twice the range is clipped to Q by every site
    edge = np.array([2.0 * levels, -2.0 * levels, 0, 3e38], np.float32)
    total = federation.run(1, {name: edge for name in federation.names})
    weight = sum(member.weight for member in federation.params.members)
    assert kit.signed_view(total) == [weight * levels, -weight * levels, 0, weight * levels]
    assert weight * levels < 2**31 <= weight * (levels + 1)
    assert federation.coordinator.mean().tolist() == [levels, -levels, 0, levels]


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 10), st.lists(st.floats(-2.0, 2.0, width=32), min_size=1, max_size=8), st.integers(0, 99))
def test_masked_and_plain_sum_agree_integer_by_integer(kit, count, values, seed):
    totals = []
    for plain in (True, False):
        params = kit.make_params(count, dimension=len(values), update_range=1.0)
        federation = kit.Federation(params, plain=plain)
        federation.randoms = {name: kit.seeded(f"{seed} {name}") for name in federation.names}
        for name in federation.names:
            federation.restart(name)
        generator = np.random.default_rng(seed)
        base = np.array(values, np.float32)
        updates = {n: base * np.float32(generator.uniform(-1, 1)) for n in federation.names}
        totals.append(federation.run(1, updates))
        mean = np.average(
            [np.clip(updates[m.name].astype(np.float64), -1, 1) for m in params.members],
            axis=0,
            weights=[m.weight for m in params.members],
        )
        assert np.abs(federation.coordinator.mean() - mean).max() <= 1.0 / params.levels
    assert (totals[0] == totals[1]).all()


def test_three_sites_lose_one_before_upload_void_and_nothing_is_released(kit):
    federation = kit.Federation(kit.make_params(3))
    updates = federation.whole_updates(1)
    federation.begin(1)
    lost = federation.names[1]
    federation.upload(1, {name: u for name, u in updates.items() if name != lost})
    with pytest.raises(RoundVoid, match="too few survivors; field: survivors; value: 2; limit: 3"):
        federation.coordinator.fix_survivors()
    void = federation.coordinator.void()
    assert federation.answers == 0
    for name in federation.names:
        federation.sites[name].void(void)
        assert federation.sites[name].state(1) is RoundState.VOID
        assert all(record.kind != "ANSWERED" for record in federation.stores[name].records(1))


@pytest.mark.parametrize("lost", range(3))
def test_three_sites_lose_one_after_upload_exact(kit, lost):
    federation = kit.Federation(kit.make_params(3))
    updates = federation.whole_updates(2)
    total = federation.run(1, updates, after={federation.names[lost]})
    assert kit.signed_view(total) == federation.expected(updates, federation.names)


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("when", ["before", "after"])
def test_four_and_five_sites_lose_one_at_either_point_exact(kit, count, when):
    for lost in range(count):
        federation = kit.Federation(kit.make_params(count))
        updates = federation.whole_updates(3)
        total = federation.run(1, updates, **{when: {federation.names[lost]}})
        rest = [n for n in federation.names if when == "after" or n != federation.names[lost]]
        assert kit.signed_view(total) == federation.expected(updates, rest)


def test_five_sites_lose_one_before_and_one_after_waits_for_the_same_set(kit):
    federation = kit.Federation(kit.make_params(5))
    updates = federation.whole_updates(4)
    early, late = federation.names[0], federation.names[3]
    federation.begin(1)
    federation.upload(1, {name: u for name, u in updates.items() if name != early})
    federation.agree()
    federation.unmask(silent={late})
    assert not federation.coordinator.answered
    with pytest.raises(ProtocolError, match="too few answers"):
        federation.coordinator.total()
    federation.restart(late)
    request = federation.coordinator.unmask_requests()[late]
    federation.coordinator.add_answer(late, federation.sites[late].unmask(request))
    rest = [name for name in federation.names if name != early]
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, rest)


def test_five_sites_lose_one_before_and_one_after_may_be_given_up(kit):
    federation = kit.Federation(kit.make_params(5))
    updates = federation.whole_updates(5)
    early, late = federation.names[4], federation.names[1]
    federation.begin(1)
    federation.upload(1, {name: u for name, u in updates.items() if name != early})
    federation.agree(silent={late})
    with pytest.raises(ProtocolError, match="too few agreements"):
        federation.unmask(silent={late})
    assert federation.answers == 0
    federation.coordinator.void()
    with pytest.raises(RoundVoid):
        federation.coordinator.total()
    total = federation.run(2, updates)
    assert kit.signed_view(total) == federation.expected(updates, federation.names)


@pytest.mark.parametrize("backup", [True, False])
def test_ten_sites_lose_one_before_and_two_after_exact_with_backup_and_waits_without(kit, backup):
    federation = kit.Federation(kit.make_params(10, backup=backup))
    updates = federation.whole_updates(11)
    early, late = federation.names[9], federation.names[2:4]
    federation.begin(1)
    federation.upload(1, {name: u for name, u in updates.items() if name != early})
    federation.agree(silent=late)
    federation.unmask(silent=late)
    assert not federation.coordinator.answered
    with pytest.raises(ProtocolError, match="too few answers"):
        federation.coordinator.total()
    federation.relieve()
    assert federation.coordinator.answered is backup
    if not backup:
        assert federation.coordinator.backup_requests() == {}
        for name in late:
            request = federation.coordinator.unmask_requests()[name]
            federation.coordinator.add_answer(name, federation.sites[name].unmask(request))
    rest = [name for name in federation.names if name != early]
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, rest)


def test_late_upload_of_a_lost_site_is_dropped(kit):
    federation = kit.Federation(kit.make_params(4))
    updates = federation.whole_updates(6)
    late = federation.names[2]
    federation.begin(1)
    federation.upload(1, {name: u for name, u in updates.items() if name != late})
    federation.agree()
    body, vector = federation.sites[late].upload(1, updates[late])
    assert federation.coordinator.add_upload(late, body, vector) is False
    federation.unmask(silent={late})
    rest = [name for name in federation.names if name != late]
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, rest)


@pytest.mark.parametrize("lost", range(4))
def test_close_lost_at_one_site_and_the_next_round_is_exact(kit, lost):
    federation = kit.Federation(kit.make_params(4))
    updates = federation.whole_updates(7)
    federation.run(1, updates)
    federation.close(1, lost={federation.names[lost]})
    assert federation.sites[federation.names[lost]].state(1) is RoundState.ANSWERED
    federation.restart(federation.names[lost])
    updates = federation.whole_updates(8)
    total = federation.run(2, updates)
    assert kit.signed_view(total) == federation.expected(updates, federation.names)
    assert all(site.state(1) is RoundState.CLOSED for site in federation.sites.values())


def test_site_that_missed_two_rounds_follows_them_and_takes_part_in_the_third(kit):
    federation = kit.Federation(kit.make_params(4))
    away = federation.names[0]
    for round in (1, 2):
        updates = {n: u for n, u in federation.whole_updates(round).items() if n != away}
        federation.begin(round, away={away})
        federation.upload(round, updates)
        federation.agree()
        federation.unmask()
        federation.close(round, lost={away})
    with pytest.raises(ProtocolError, match="CLOSE does not follow the last one that this site took"):
        federation.sites[away].close(*federation.published[1])
    federation.sites[away].close(*federation.published[0])
    updates = federation.whole_updates(3)
    total = federation.run(3, updates)
    assert kit.signed_view(total) == federation.expected(updates, federation.names)


def test_void_rounds_between_closed_ones(kit):
    federation = kit.Federation(kit.make_params(4))
    federation.run(1, federation.whole_updates(1))
    federation.close(1)
    federation.begin(2)
    federation.coordinator.void()
    federation.begin(3)
    for site in federation.sites.values():
        site.void(federation.coordinator.void())
    updates = federation.whole_updates(4)
    total = federation.run(4, updates)
    assert kit.signed_view(total) == federation.expected(updates, federation.names)
    federation.close(4)


def test_only_some_members_are_invited(kit):
    federation = kit.Federation(kit.make_params(9, max_churn=2))
    invited = federation.names[1:8]
    updates = {name: u for name, u in federation.whole_updates(9).items() if name in invited}
    federation.begin(1, participants=invited)
    federation.upload(1, updates)
    federation.agree()
    federation.unmask()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, invited)


@pytest.mark.parametrize("plain", [True, False])
def test_server_restarts_and_continues_the_open_round(kit, plain):
    federation = kit.Federation(kit.make_params(5), plain=plain)
    updates = federation.whole_updates(10)
    gone = federation.names[2]
    start = federation.begin(1)
    sent = {}
    for name in federation.names:
        if name != gone:
            sent[name] = federation.sites[name].upload(1, updates[name])
            federation.coordinator.add_upload(name, *sent[name])
    federation.agree()
    federation.unmask(silent={federation.names[0]})
    survivors = federation.coordinator.survivors

    federation.coordinator = federation.make_coordinator()
    federation.coordinator.resume(start)
    assert federation.coordinator.fix_survivors(survivors)
    late = federation.sites[gone].upload(1, updates[gone])
    assert federation.coordinator.add_upload(gone, *late) is False
    for name in survivors:
        federation.restart(name)
        body, vector = federation.sites[name].resend(1)
        assert body == sent[name][0] and (vector == sent[name][1]).all()
        assert federation.coordinator.add_upload(name, body, vector)
        assert federation.coordinator.add_upload(name, body, vector) is False
    # sites that answered before say their agreement again, and the same answer
    for name, request in federation.coordinator.consent_requests().items():
        federation.coordinator.add_consent(name, federation.sites[name].consent(request))
    federation.unmask()
    assert kit.signed_view(federation.coordinator.total()) == federation.expected(updates, survivors)
    federation.close(1)
