"""A server that has its own key, c colluding sites and all messages: it never opens one site's update (notes 2.5, 8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum import backup_checks, checks, sealing, shamir
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.journal import Journal
from ssl_core.secure_sum.messages import Answer, Backup, BackupAnswer, Consent, Mark, Parts, Proof, Start, Unmask, Upload
from ssl_core.secure_sum.sealing import BACKUP, Route
from ssl_core.secure_sum.statements import read_signed, sign, survivors_statement
from ssl_core.secure_sum.vault import Vault


class HostileServer:
    """Uploads by all; then any sets of survivors are asked of any honest site, with every proof that can be had.

    What it knows is counted share by share: `shares[i]` are the holders whose share of b_i it has, `told` the ordered
    pairs (i, j) whose element came from i itself, `backups[i, j]` the holders whose share of i's e_ij it has.
    """

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
        self.dealt = self.federation.coordinator._round.dealt
        self.everyone = tuple(range(count))
        self.agreements = {self.everyone: {proof.site: proof for proof in self.unmasks[0].proof}}
        self.shares = {owner: set(self.corrupt) for owner in self.honest}
        self.told = set()
        self.backups = {(i, j): set(self.corrupt) for i in self.honest for j in self.honest if i != j}
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
        values = decode(Answer, reply).values
        self.answered.setdefault(survivors, set()).add(site)
        for owner in self.honest:
            if values[owner].reveal()[0] == Mark.SHARE:
                self.shares[owner].add(site)
            else:
                self.told.add((site, owner))

    def ask_backup(self, site, survivors):
        missing = tuple(at for at in survivors if at != site)
        request = Backup(
            round=1,
            recipient=site,
            survivors=survivors,
            missing=missing,
            backups=tuple(self.dealt[at].backup(site) for at in missing),
        )
        name = self.federation.names[site]
        try:
            reply = self.federation.sites[name].backup(sign(self.federation.server, self.context, request))
        except ProtocolError:
            return
        body = decode(BackupAnswer, reply)
        for dealer, value in zip(body.missing, body.values, strict=True):
            assert value.reveal()[0] == Mark.SHARE
            for at, peer in enumerate(other for other in self.everyone if other != dealer):
                leaf = value.reveal()[1 + 32 * at : 33 + 32 * at]
                if (dealer, peer) in self.backups and self._is_share(dealer, site, peer, leaf):
                    self.backups[dealer, peer].add(site)

    def opened(self):
        """Sets of honest sites whose summed update follows: self masks known, and each element that leaves the set."""
        threshold = self.params.thresholds(len(self.everyone)).shares
        found, left = [], set(self.honest)
        while left:
            group, edge = set(), {min(left)}
            while edge:
                group |= edge
                edge = {j for i in edge for j in self.honest if j not in group and not self._element(i, j, threshold)}
            left -= group
            if all(len(self.shares[owner]) >= threshold for owner in group):
                found.append(group)
        return found

    def _element(self, i, j, threshold):
        shared = max(len(self.backups[i, j]), len(self.backups[j, i]))
        return bool({(i, j), (j, i)} & self.told) or shared >= threshold

    def _is_share(self, dealer, holder, peer, content):
        """Whether this is the share itself and not its hash: the test may look into the seal, the server may not."""
        route = Route(context=self.context, sender=dealer, recipient=holder, kind=BACKUP)
        key = sealing.seal_key(
            Vault(self.federation.stores[self.federation.names[holder]], self.params.hash).chain(dealer), route
        )
        opened = sealing.unseal(key, route, self.dealt[dealer].backup(holder).blob)
        at = [other for other in self.everyone if other != dealer].index(peer)
        return content == opened[32 * at : 32 * at + 32]

    def _keep_agreement(self, site, survivors):
        identity = self.federation.identities[self.federation.names[site]]
        signature = identity.sign(survivors_statement(self.context, survivors))
        self.agreements.setdefault(survivors, {})[site] = Proof(site=site, signature=signature)


def play(kit, data, count):
    server = HostileServer(kit, count)
    threshold = server.params.thresholds(count).survivors
    sets = st.sets(st.sampled_from(server.everyone), min_size=threshold).map(lambda chosen: tuple(sorted(chosen)))
    # few distinct sets, so that proofs gather; the whole and one without a victim are always tempting
    tempting = [server.everyone, server.everyone[1:], server.everyone[:-1], *data.draw(st.lists(sets, max_size=3))]
    asks = [server.ask_consent, server.ask_answer, server.ask_backup]
    moves = st.tuples(st.sampled_from(asks), st.sampled_from(server.honest), st.sampled_from(tempting))
    for ask, site, survivors in data.draw(st.lists(moves, max_size=60)):
        ask(site, survivors)
    return server


def allowed(server):
    """At most the honest part of the one set that t sites answered for; colluders hold shares whether in it or not."""
    threshold = server.params.thresholds(len(server.everyone)).shares
    full = [s for s, sites in server.answered.items() if len(sites | set(server.corrupt)) >= threshold]
    assert len(full) <= 1
    return [set(survivors) & set(server.honest) for survivors in full]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_order_of_requests_opens_more_than_the_one_sum(kit, data):
    server = play(kit, data, data.draw(st.integers(4, 7)))
    whole = allowed(server)
    assert all(group in whole for group in server.opened())


def split_view(server):
    """Half of the honest sites are shown everyone, the others a set without site 0; then everything of everyone."""
    without = server.everyone[1:]
    for site in server.honest[2:]:
        server.ask_consent(site, without)
        server.ask_answer(site, without)
    for site in server.honest:
        server.ask_answer(site, server.everyone)
        server.ask_consent(site, without)
        server.ask_answer(site, without)
        server.ask_backup(site, without)
        server.ask_backup(site, server.everyone)


@pytest.mark.parametrize("count", range(4, 11))
def test_split_view_opens_nothing(kit, count):
    server = HostileServer(kit, count)
    split_view(server)
    assert all(group in allowed(server) for group in server.opened())
    assert {0} not in server.opened()


@pytest.mark.parametrize("count", range(4, 11))
def test_split_view_opens_site_0_when_a_site_answers_twice(kit, count, monkeypatch):
    """Positive control: the harness finds the break when the promise to answer once is taken away."""
    for name in ("answered_once", "agreed_once", "not_answered"):
        monkeypatch.setattr(checks, name, lambda *_: None)
    entry = Journal.entry
    monkeypatch.setattr(Journal, "entry", lambda journal, round: replace(entry(journal, round), answered=None))
    server = HostileServer(kit, count)
    split_view(server)
    assert {0} in server.opened()


@pytest.mark.parametrize("count", range(6, 11))
@pytest.mark.parametrize("bound", [True, False])
def test_backup_for_another_set_than_answered_opens_site_0(kit, count, bound, monkeypatch):
    """Positive control: all answer for everyone; a site that then speaks for a set without site 0 gives it away."""
    server = HostileServer(kit, count)
    for site in server.honest:
        server.ask_answer(site, server.everyone)
    if not bound:
        monkeypatch.setattr(checks, "answered_once", lambda *_: None)
    for site in server.honest[1:]:
        server.ask_backup(site, server.everyone[1:])
    assert ({0} in server.opened()) is not bound


@pytest.mark.parametrize("count", range(6, 11))
@pytest.mark.parametrize("bound", [True, False])
def test_backup_before_the_answer_opens_site_0(kit, count, bound, monkeypatch):
    """Positive control: a site that speaks for others first, and then answers for everyone, gives site 0 away."""
    if not bound:
        monkeypatch.setattr(backup_checks, "round_answered", lambda *_: None)
    server = HostileServer(kit, count)
    for site in server.honest[1:]:
        server.ask_backup(site, server.everyone[1:])
    for site in server.honest:
        server.ask_answer(site, server.everyone)
    assert ({0} in server.opened()) is not bound


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
    points = {shamir.point(at): shamir.from_bytes(answer.pairs[4].reveal()) for at, answer in answers.items()}
    assert shamir.combine(points) != secret
    parts = read_parts(federation, names[4])
    context = federation.coordinator._round.context
    shares = {}
    for at in range(4):
        vault = Vault(federation.stores[names[at]], federation.params.hash)
        route = Route(context=context, sender=4, recipient=at)
        share = sealing.unseal(sealing.seal_key(vault.chain(4), route), route, parts.packets[at].share.blob)
        released = [kind for answer in answers.values() for kind in (answer.shares, answer.pairs, answer.complaints)]
        assert share not in {value.reveal() for kind in released for value in kind.values()}
        shares[shamir.point(at)] = shamir.from_bytes(share)
    assert shamir.combine(shares) == secret, "the four shares would have opened it"


def read_parts(federation, name):
    body, _ = federation.sites[name].resend(1)
    return decode(Parts, decode(Upload, body).parts)
