"""A server that has its own key, c colluding sites and all messages: it never opens one site's update (notes 2.5, 8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ChoralError, ProtocolError
from ssl_core.secure_sum import checks, sealing, shamir
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.journal import Journal
from ssl_core.secure_sum.messages import Answer, Consent, Parts, Proof, Start, Unmask, Upload
from ssl_core.secure_sum.statements import read_signed, sign, survivors_statement
from ssl_core.secure_sum.vault import Vault


class HostileServer:
    """Uploads by all; then any sets of survivors are asked of any honest site, with every proof that can be had."""

    def __init__(self, kit, count):
        self.federation = kit.Federation(kit.make_params(count))
        self.params = self.federation.params
        self.corrupt = range(count - self.params.corrupt, count)
        self.honest = range(count - self.params.corrupt)
        start = self.federation.begin(1)
        self.context = read_signed(Start, start)[0].context
        self.federation.upload(1, self.federation.whole_updates(1))
        self.federation.coordinator.fix_survivors()
        requests = self.federation.coordinator.unmask_requests()
        self.unmasks = {at: read_signed(Unmask, requests[name])[1] for at, name in enumerate(self.federation.names)}
        self.headers = self.federation.coordinator._round.headers
        self.everyone = tuple(range(count))
        self.agreements = {self.everyone: {proof.site: proof for proof in self.unmasks[0].proof}}
        self.shares = {owner: set(self.corrupt) for owner in self.honest}
        self.elements = {owner: set(self.corrupt) for owner in self.honest}
        self.answered = {}

    def ask_consent(self, site, survivors):
        headers = tuple(self.headers[at] for at in survivors)
        request = Consent(round=1, survivors=survivors, headers=headers)
        name = self.federation.names[site]
        try:
            self.federation.sites[name].consent(sign(self.federation.server, self.context, request))
        except ProtocolError:
            return
        self._keep_agreement(site, survivors)

    def ask_answer(self, site, survivors):
        for colluder in self.corrupt:
            if colluder in survivors:
                self._keep_agreement(colluder, survivors)
        proof = tuple(self.agreements.get(survivors, {}).get(at) for at in survivors)
        base = self.unmasks[site]
        request = replace(
            base,
            survivors=survivors,
            proof=tuple(entry for entry in proof if entry is not None),
            shares=tuple(base.shares[at] for at in survivors),
        )
        name = self.federation.names[site]
        try:
            reply = self.federation.sites[name].unmask(sign(self.federation.server, self.context, request))
        except ProtocolError:
            return
        assert len(read_signed(Answer, reply)[1].values) == len(self.everyone)
        self.answered.setdefault(survivors, set()).add(site)
        for owner in self.honest:
            (self.shares if owner in survivors else self.elements)[owner].add(site)

    def _keep_agreement(self, site, survivors):
        identity = self.federation.identities[self.federation.names[site]]
        signature = identity.sign(survivors_statement(self.context, survivors))
        self.agreements.setdefault(survivors, {})[site] = Proof(site=site, signature=signature)

    def opened(self):
        """Honest sites whose self mask and at least one pair mask with another honest site are both known."""
        threshold = self.params.thresholds(len(self.everyone)).shares
        return [
            owner for owner in self.honest if len(self.shares[owner]) >= threshold and self.elements[owner] - set(self.corrupt)
        ]


def play(kit, data, count):
    server = HostileServer(kit, count)
    threshold = server.params.thresholds(count).survivors
    sets = st.sets(st.sampled_from(server.everyone), min_size=threshold).map(lambda chosen: tuple(sorted(chosen)))
    # few distinct sets, so that proofs gather; the whole and one without a victim are always tempting
    tempting = [server.everyone, server.everyone[1:], server.everyone[:-1], *data.draw(st.lists(sets, max_size=3))]
    moves = st.tuples(st.booleans(), st.sampled_from(server.honest), st.sampled_from(tempting))
    for consent, site, survivors in data.draw(st.lists(moves, max_size=60)):
        (server.ask_consent if consent else server.ask_answer)(site, survivors)
    return server


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_order_of_requests_opens_one_update(kit, data):
    server = play(kit, data, data.draw(st.integers(4, 7)))
    threshold = server.params.thresholds(len(server.everyone)).shares
    assert server.opened() == []
    full = [s for s, sites in server.answered.items() if len(sites | (set(s) & set(server.corrupt))) >= threshold]
    assert len(full) <= 1


def split_view(server):
    """Half of the honest sites are shown everyone, the others a set without site 0."""
    without = server.everyone[1:]
    for site in server.honest[2:]:
        server.ask_consent(site, without)
        server.ask_answer(site, without)
    for site in server.honest:
        server.ask_answer(site, server.everyone)
        server.ask_consent(site, without)
        server.ask_answer(site, without)


@pytest.mark.parametrize("count", range(4, 11))
def test_split_view_opens_nothing(kit, count):
    server = HostileServer(kit, count)
    split_view(server)
    assert server.opened() == []


@pytest.mark.parametrize("count", range(4, 11))
def test_split_view_opens_site_0_when_a_site_answers_twice(kit, count, monkeypatch):
    """Positive control: the harness finds the break when the promise to answer once is taken away."""
    for name in ("answered_once", "agreed_once", "not_answered"):
        monkeypatch.setattr(checks, name, lambda *_: None)
    entry = Journal.entry
    monkeypatch.setattr(Journal, "entry", lambda journal, round: replace(entry(journal, round), answered=None))
    server = HostileServer(kit, count)
    split_view(server)
    assert 0 in server.opened()


@pytest.mark.parametrize("count", range(3, 61))
def test_two_answered_sets_cannot_both_reach_t(kit, count):
    params = kit.make_params(count, dimension=1)
    threshold, corrupt = params.thresholds(count), params.corrupt
    assert 2 * threshold.shares > count + corrupt >= 2 * (threshold.shares - 1)
    assert threshold.shares <= count - corrupt
    assert threshold.survivors - corrupt >= 2


def test_a_lost_sites_self_mask_cannot_be_had(kit):
    """All that all survivors ever send holds no share of the b of a site that is not among them."""
    federation = kit.Federation(kit.make_params(5))
    updates = federation.whole_updates(1)
    names = federation.names
    federation.begin(1)
    own = {}
    draws = federation.sites[names[4]]._random
    federation.sites[names[4]]._random = lambda count: own.setdefault(len(own), draws(count))
    federation.sites[names[4]].upload(1, updates[names[4]])
    secret = int.from_bytes(own[1], "big") % shamir.PRIME
    federation.upload(1, {name: updates[name] for name in names[:4]})
    federation.agree()
    federation.unmask()
    answers = federation.coordinator._round.answers
    points = {shamir.point(at): shamir.from_bytes(answer.values[4].reveal()) for at, answer in answers.items()}
    assert shamir.combine(points) != secret
    parts = read_parts(federation, names[4])
    context = federation.coordinator._round.context
    shares = {}
    for at in range(4):
        vault = Vault(federation.stores[names[at]], federation.params.hash)
        share = sealing.unseal(vault.chain(4), context, sender=4, recipient=at, sealed=parts.shares[at], name=names[4])
        assert shamir.to_bytes(share) not in {value.reveal() for answer in answers.values() for value in answer.values}
        shares[shamir.point(at)] = share
    assert shamir.combine(shares) == secret, "the four shares would have opened it"


def read_parts(federation, name):
    body, _ = federation.sites[name].resend(1)
    return decode(Parts, decode(Upload, body).parts)


@pytest.mark.parametrize(
    "change",
    ["to another site", "reflected", "of another round", "one bit", "not a field element"],
)
def test_share_that_was_moved_or_changed_is_refused_by_its_senders_name(kit, change):
    federation = kit.Federation(kit.make_params(4))
    updates = federation.whole_updates(1)
    federation.run(1, updates)
    old = read_signed(Unmask, federation.coordinator.unmask_requests()[federation.names[0]])[1].shares[1]
    federation.close(1)
    federation.begin(2)
    federation.upload(2, updates)
    federation.agree()
    requests = federation.coordinator.unmask_requests()
    signed, body = read_signed(Unmask, requests[federation.names[0]])
    others = read_signed(Unmask, requests[federation.names[2]])[1].shares
    vault = Vault(federation.stores[federation.names[0]], federation.params.hash)
    out_of_field = sealing.seal(
        vault.chain(1),
        signed.context,
        sender=1,
        recipient=0,
        share=shamir.PRIME,
        random=lambda count: bytes(count),
    )
    moved = {
        "to another site": others[1],
        "reflected": read_signed(Unmask, requests[federation.names[1]])[1].shares[0],
        "of another round": old,
        "one bit": body.shares[1][:-1] + bytes([body.shares[1][-1] ^ 1]),
        "not a field element": out_of_field,
    }[change]
    request = sign(federation.server, signed.context, replace(body, shares=(body.shares[0], moved, *body.shares[2:])))
    with pytest.raises(ChoralError, match=f"sealed share .*; field: sender; value: {federation.names[1]}"):
        federation.sites[federation.names[0]].unmask(request)
    assert not [r for r in federation.stores[federation.names[0]].records(2) if r.kind == "ANSWERED"]
