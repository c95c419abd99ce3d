"""Row 19: different survivors shown to different sites, and where the thresholds or the promises are too weak, what opens."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

from ssl_core.errors import ConfigError
from ssl_core.secure_sum import checks
from ssl_core.secure_sum.journal import Journal
from ssl_core.secure_sum.messages import Proof
from ssl_core.secure_sum.params import SumParams, Thresholds

Sites = tuple[int, ...]


class OneTooLow(SumParams):
    """t - 1: the greatest threshold with 2 t <= M + c."""

    def thresholds(self, participants: int) -> Thresholds:
        shares = super().thresholds(participants).shares - 1
        return Thresholds(shares, max(3, shares, self.corrupt + 2))


class OfTheInvited(SumParams):
    """t = floor((|C| + c) / 2) + 1, counted on whom the server invites."""

    def thresholds(self, participants: int) -> Thresholds:
        shares = (participants + self.corrupt) // 2 + 1
        return Thresholds(shares, max(3, shares, self.corrupt + 2))


def weakened(params: SumParams, form: type[SumParams]) -> SumParams:
    return form(**{field.name: getattr(params, field.name) for field in fields(params)})


def split_view(server: MaliciousServer, context: bytes, size: int) -> None:
    """The last `size` honest sites are shown a round without site 0, the others everyone; then all are asked for all."""
    everyone, without = server.everyone, server.everyone[1:]
    shown = server.honest[len(server.honest) - size :]
    for site in shown:
        server.ask_consent(context, site, without)
    for site in shown:
        server.ask_unmask(context, site, without)
    for site in server.honest:
        server.ask_unmask(context, site, everyone)
    for site in server.honest:
        server.ask_consent(context, site, without)
        server.ask_unmask(context, site, without)
        server.ask_backup(context, site, without)
        server.ask_backup(context, site, everyone)


def attacked(params: SumParams, size: int):
    server = MaliciousServer(Federation(params))
    updates = server.federation.whole_updates(1)
    split_view(server, server.open_round(updates), size)
    return server, updates


@pytest.mark.parametrize("count", range(4, 11))
def test_row_19_no_split_of_the_honest_sites_opens_one_of_them(count):
    for size in range(1, count - make_params(count).corrupt):
        server, updates = attacked(make_params(count), size)
        server.check_one_sum(updates)
        assert server.refused


@pytest.mark.parametrize("count", range(4, 11))
def test_row_19_b_with_t_one_too_low_the_update_of_site_0_is_recovered(count):
    """Positive control. Which sizes of the split work is the arithmetic: t' - c answer without site 0, as many with it."""
    params = weakened(make_params(count), OneTooLow)
    assert 2 * params.thresholds(count).shares <= count + params.corrupt
    server, updates = attacked(params, params.thresholds(count).shares - params.corrupt)
    assert server.opened()[frozenset({0})] == server.expected(updates, {0})


@pytest.mark.parametrize("count", range(4, 11))
def test_row_19_c_where_sites_answer_twice_the_update_of_site_0_is_recovered(count, monkeypatch):
    """Positive control: the promise to answer once, and that nothing is agreed to or answered beside it, taken away."""
    for name in ("answered_once", "agreed_once", "not_answered"):
        monkeypatch.setattr(checks, name, lambda *_: None)
    entry = Journal.entry
    monkeypatch.setattr(Journal, "entry", lambda journal, round: replace(entry(journal, round), answered=None))
    server, updates = attacked(make_params(count), count - make_params(count).corrupt - 2)
    assert server.opened()[frozenset({0})] == server.expected(updates, {0})


def three_answers(server: MaliciousServer, context: bytes) -> None:
    """N = 4, site 3 colludes: each honest site answers once, each for another set (docs/proofs, "no agreements needed")."""
    for site, survivors in ((0, (0, 1, 2)), (1, (0, 1, 3)), (2, (1, 2, 3))):
        signature = server.federation.server.sign(b"they agreed, believe me")
        forged = tuple(Proof(site=place, signature=signature) for place in survivors)
        server.ask_unmask(context, site, survivors)
        server.ask_unmask(context, site, survivors, proof=forged)


@pytest.mark.parametrize("missing", [(), ("proof_complete",), ("proof_signed",)])
def test_row_19_h_that_each_answers_once_is_not_enough(missing, monkeypatch):
    """With t true agreements to each set nothing is released; without either check site 2 is recovered (control)."""
    for name in missing:
        monkeypatch.setattr(checks, name, lambda *_: None)
    server = MaliciousServer(Federation(make_params(4)))
    updates = server.federation.whole_updates(1)
    three_answers(server, server.open_round(updates))
    if missing:
        assert server.opened()[frozenset({2})] == server.expected(updates, {2})
    else:
        assert server.opened() == {} and {error.field for error in server.refused} == {"proof", "site"}


@pytest.mark.parametrize("count", range(3, 61))
def test_row_19_d_the_code_refuses_every_weaker_setting(count):
    params = make_params(count, dimension=1)
    found, corrupt = params.thresholds(count), params.corrupt
    assert 2 * found.shares > count + corrupt >= 2 * (found.shares - 1)
    assert found.shares <= count - corrupt and found.survivors - corrupt >= 2
    if corrupt:
        with pytest.raises(ConfigError, match="corrupt sites are counted on the roster"):
            replace(params, corrupt=corrupt - 1)
    with pytest.raises(ConfigError, match="too few sites of the roster take part"):
        replace(params, corrupt=corrupt + 1 + (count - 1) % 3)


A, B = (0, 1, 2, 5), (2, 3, 4, 5)


def two_contexts(params: SumParams, starts: dict[int, Sites], survivors: dict[Sites, Sites]):
    """One round number, begun with participants A at some sites and B at others; the corrupt site 5 is in both."""
    server = MaliciousServer(Federation(params))
    updates = server.federation.whole_updates(1)
    for participants in (A, B):
        sites = [site for site in server.honest if starts[site] == participants]
        context = server.begin(server.forge_start(participants=participants)[0], sites)
        server.take_uploads(context, updates, [*sites, *server.corrupt])
        chosen = survivors[participants]
        for site in sites:
            server.ask_consent(context, site, chosen)
        for site in sites:
            server.ask_unmask(context, site, chosen)
        for site in sites:
            server.ask_backup(context, site, chosen)
    return server, updates


def test_row_19_e_two_contexts_of_one_round_open_one_sum_at_most():
    """N = 6, max_churn = 2: every way to share out the honest sites, every U of each context."""
    params = make_params(6, max_churn=2)
    opened = set()
    for middle in (A, B):
        starts = {0: A, 1: A, 2: middle, 3: B, 4: B}
        sets = {
            participants: [
                group
                for size in (3, 4)
                for group in itertools.combinations(participants, size)
                if set(group) - {5} <= {site for site, chosen in starts.items() if chosen == participants}
            ]
            for participants in (A, B)
        }
        for one, other in itertools.product(sets[A], sets[B]):
            server, updates = two_contexts(params, starts, {A: one, B: other})
            server.check_one_sum(updates)
            opened |= set(server.opened())
    assert opened == {frozenset({0, 1, 2}), frozenset({2, 3, 4})}, "the honest sum of either context, never both"


def test_row_19_f_with_t_of_the_invited_two_contexts_open_two_sums():
    """Positive control: both sums, of two honest sites each where three are promised, and exact (docs/proofs)."""
    params = weakened(make_params(6, max_churn=2), OfTheInvited)
    starts = {0: A, 1: A, 2: A, 3: B, 4: B}
    server, updates = two_contexts(params, starts, {A: (0, 1, 5), B: (3, 4, 5)})
    groups = {frozenset({0, 1}), frozenset({3, 4})}
    assert server.opened() == {group: server.expected(updates, group) for group in groups}


def play(data, count):
    server = MaliciousServer(Federation(make_params(count)))
    updates = server.federation.whole_updates(1)
    context = server.open_round(updates)
    least = server.params.thresholds(count).survivors
    sets = st.sets(st.sampled_from(server.everyone), min_size=least).map(lambda chosen: tuple(sorted(chosen)))
    # Few distinct sets, so that agreements gather; everyone and all but one victim are always tempting.
    tempting = [server.everyone, server.everyone[1:], server.everyone[:-1], *data.draw(st.lists(sets, max_size=3))]
    asks = [server.ask_consent, server.ask_unmask, server.ask_backup]
    moves = st.tuples(st.sampled_from(asks), st.sampled_from(server.honest), st.sampled_from(tempting))
    for ask, site, survivors in data.draw(st.lists(moves, max_size=60)):
        ask(context, site, survivors)
    return server, updates


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_row_19_g_no_order_of_requests_opens_more_than_one_sum(data):
    server, updates = play(data, data.draw(st.integers(4, 7)))
    server.check_one_sum(updates)
