"""Row 35: a forged aggregate. No tag authenticates it yet: it is said so on the card, and a forgery cannot go on unseen.

Two sites that are given different aggregates have different histories from then on: no round sums over both, and where
the two signed CLOSEs meet, they are evidence against the server.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

from ssl_core.card import AGGREGATE_NOTE, make_card
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ProtocolError
from ssl_core.objectives.build import build_model
from ssl_core.secure_sum.evidence import Kind, ProvenFault, accused, evidence_of, proves
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.messages import Close
from ssl_core.secure_sum.statements import read_signed, transcript

LIE = np.uint32(1000)
"""What the forged sum has more in every coordinate."""


def test_row_35_the_card_says_that_the_aggregate_is_not_authenticated(plan):
    weights = to_vector(build_model(plan))
    for kind in ("federated", "initial"):
        card = make_card(plan, "a" * 64, weights, kind=kind, closed=2, void=0)
        assert card.aggregate == AGGREGATE_NOTE and "not authenticated" in AGGREGATE_NOTE
        assert AGGREGATE_NOTE in card.to_markdown() and "not authenticated" in card.model_dump_json()
    alone = make_card(plan, "a" * 64, weights, kind="alone", closed=2, void=0).to_markdown()
    assert "there was no sum and no server" in alone and "known to k sites" not in alone


@pytest.fixture
def split():
    """Round 1 is summed; sites 0 and 1 are given the real CLOSE, 2 and 3 one with another total and model."""
    server = MaliciousServer(Federation(make_params(4)), corrupt=0)
    federation = server.federation
    federation.run(1, federation.whole_updates(1))
    real = federation.close(1, lost=federation.names[2:])
    forged, model = federation.forged(federation.last_total + LIE)
    honest = real, federation.last_total, federation.now
    lie = forged, federation.last_total + LIE, model
    for place in (2, 3):
        server.site(place).close(forged, lie[1])
    return server, honest, lie


def tell(server, history):
    """From now on the server goes on from one of the two histories."""
    server.federation.last_close, server.federation.last_total, server.federation.now = history


def begin_second(server, history, sites):
    """START of round 2 on top of one of the two histories, to some sites."""
    tell(server, history)
    return server.begin(server.forge_start(2)[0], sites)


def test_row_35_b_two_histories_end_in_different_transcripts_and_nothing_sums_over_both(split):
    server, honest, lie = split
    federation, updates = server.federation, server.federation.whole_updates(2)
    ends = [transcript(read_signed(Close, data)[1]) for data in (honest[0], lie[0])]
    assert ends[0] != ends[1]
    one = begin_second(server, honest, (0, 1))
    other = begin_second(server, lie, (2, 3))
    assert one != other and server.refused == []
    server.take_uploads(one, updates, (0, 1))
    server.take_uploads(other, updates, (2, 3))
    for context, sites in ((one, (0, 1)), (other, (2, 3))):
        for site in sites:
            for survivors in (server.everyone, sites):
                server.ask_consent(context, site, survivors)
                assert server.ask_unmask(context, site, survivors) is None
    assert server.opened() == {}, "two of four in each history: below m = 3"
    coordinator = federation.make_coordinator()
    start = coordinator.start(2, federation.names, federation.model, lie[0])
    assert read_signed(type(server.contexts[other].start), start)[0].context == other
    for place in (0, 1):
        body, vector = server.site(place).resend(2)
        with pytest.raises(ProtocolError, match="upload is of another round"):
            coordinator.add_upload(server.name(place), body, vector)
    masked = sum(vector.astype(np.uint64) for heard in server.contexts.values() for vector in heard.vectors.values())
    assert [int(value) for value in (masked % 2**32).astype("<u4").view("<i4")] != federation.expected(
        updates, federation.names
    )


@pytest.mark.parametrize("place", [0, 3])
def test_row_35_c_where_the_two_signed_closes_meet_they_convict_the_server(split, place):
    """A START that carries the other history, or its CLOSE alone: refused, and both messages are kept."""
    server, honest, lie = split
    other = lie if place == 0 else honest
    with pytest.raises(ProvenFault) as caught:
        server.site(place).close(*other[:2])
    tell(server, other)
    with pytest.raises(ProvenFault):
        server.site(place).begin(server.forge_start(2)[0], other[1])
    assert server.site(place).state(2) is None
    evidence = evidence_of(server.params.server, Kind.CLOSE, honest[0], lie[0])
    assert proves(server.params, evidence) and accused(server.params, evidence) == "the server"
    assert caught.value.evidence.kind == Kind.CLOSE and proves(server.params, caught.value.evidence)
    server.federation.restart(server.name(place))
    assert [alarm.kind for alarm in server.site(place).alarms] == [Kind.CLOSE]


def test_row_35_d_a_history_without_the_forged_round_is_refused(split):
    """The server cannot leave the round out either, to bring both sides together again."""
    server, honest, _ = split
    tell(server, (None, None, honest[2]))
    for place in server.everyone:
        with pytest.raises(ProtocolError, match="START forgets the rounds that were closed"):
            server.site(place).begin(server.forge_start(2)[0], None)


def test_row_35_e_a_model_that_the_published_sum_does_not_give_is_refused_and_kept(split):
    """A lie about the model alone is seen at once, whatever sum is published with it."""
    server, honest, lie = split
    federation = server.federation
    mixed = server.forge_close(honest[0], model=lie[2].digest, state=lie[2].state.digest)
    other = Federation(make_params(4))
    other.run(1, other.whole_updates(1))
    real = other.close(1, lost=other.names)
    assert real == honest[0]
    site = other.sites[other.names[0]]
    for total in (honest[1], lie[1]):
        with pytest.raises(ProtocolError, match=r"the sum does not give the model|sum is not the one that CLOSE names"):
            site.close(mixed, total)
    assert site.disputes == (1,) and site.state(1) is RoundState.ANSWERED
    assert federation.params == other.params
    site.close(real, other.last_total)
