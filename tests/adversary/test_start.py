"""Rows 7, 8, 10, 11, 20, 21: what a server may not begin a round with."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats
from tests_federation import Federation, make_params
from tests_malicious import MaliciousServer

from ssl_core.errors import ConfigError, ProtocolError, RoundVoid
from ssl_core.model_update import GlobalModel, weights_digest
from ssl_core.secure_sum import messages
from ssl_core.secure_sum.codec import Message, encode, join, prefix
from ssl_core.secure_sum.evidence import Kind, ProvenFault
from ssl_core.secure_sum.history import Disputed, MemoryModels, checkpoint_values
from ssl_core.secure_sum.journal import RoundState
from ssl_core.secure_sum.masks import apply, self_mask
from ssl_core.secure_sum.messages import Acked, Backup, Checkpoint, Close, Consent, Signed, Start, Unmask, Void
from ssl_core.secure_sum.shamir import PRIME
from ssl_core.secure_sum.statements import GENESIS, ack_of, read_signed, sign

TRAP = np.ones(20_000, np.float32)
"""A model made to remember one record."""


def log(federation, name):
    """Everything durable of one site."""
    store = federation.stores[name]
    return store.read_secrets(), list(store._log), sorted(store._vectors)


def test_row_07_thresholds_scale_and_floor_are_never_taken_from_the_server():
    """No message has a field for them; a message with one more is refused; a server that runs others is alone with them."""
    asked = (Start, Consent, Unmask, Backup, Close, Void)
    named = {field.name for form in asked for field in fields(form)}
    assert not named & {field.name for field in fields(make_params(4))} - {"roster", "session"}
    assert not named & {"t", "m", "threshold", "shares_needed", "scale", "levels", "clip", "weight", "weights", "bits"}
    server = MaliciousServer(Federation(make_params(4)), corrupt=0)
    start, context = server.forge_start()
    body = read_signed(Start, start)[1]
    longer = prefix([b"START", *_parts(encode(body)), (2).to_bytes(2, "big")])
    signature = server.federation.server.sign(join("sign/START", context, longer))
    before = log(server.federation, server.name(0))
    with pytest.raises(ProtocolError, match="bytes after its end"):
        server.site(0).begin(encode(Signed(kind="START", context=context, body=longer, signature=signature)), None)
    other = replace(server.params, update_range=2 * server.params.update_range)
    for params in (
        other,
        replace(server.params, corrupt=1, min_sites=4),
        replace(server.params, backup=False),
        replace(server.params, max_churn=2),
        replace(server.params, members=tuple(replace(member, weight=2) for member in server.params.members)),
    ):
        server.params = params
        server.begin(server.forge_start()[0], [0])
        assert server.refused[-1].problem == "message is of another round, study, key set or model"
    assert log(server.federation, server.name(0)) == before


def _parts(data):
    """The fields of an encoded message, without the tag."""
    parts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return parts[1:]


def test_row_07_b_fewer_agreements_than_the_site_itself_counts_release_nothing():
    server = MaliciousServer(Federation(make_params(7)))
    context = server.open_round(server.federation.whole_updates(1))
    without = server.everyone[1:]
    for site in (1, 2):
        assert server.ask_consent(context, site, without)
    assert server.ask_unmask(context, 3, without) is None, "two honest and two colluding sites: four of t = 5"
    assert "too few sites agreed" in server.refused[-1].problem
    assert server.ask_consent(context, 3, without) and server.ask_unmask(context, 3, without) is not None


def test_row_08_cohorts_that_are_too_small_doubled_or_without_the_site_are_refused_before_training():
    params = make_params(7, min_sites=6, max_churn=7)
    server = MaliciousServer(Federation(params))
    before = log(server.federation, server.name(0))
    cases = {
        (0,): "too few participants for the corrupt sites of the roster",
        (0, 1): "too few participants for the corrupt sites of the roster",
        (0, 1, 2, 3, 4): "too few participants for the corrupt sites of the roster",
        (0, 0, 1, 2, 3, 4, 5, 6): "participants are not sorted, each once",
        (6, 5, 4, 3, 2, 1, 0): "participants are not sorted, each once",
        (0, 1, 2, 3, 4, 5, 7): "a participant is not a member",
        (1, 2, 3, 4, 5, 6): "this site is not among the participants",
    }
    for participants, problem in cases.items():
        with pytest.raises(ProtocolError, match=problem):
            server.site(0).begin(server.forge_start(participants=participants)[0], server.federation.last_total)
    assert server.site(0).state(1) is None and log(server.federation, server.name(0)) == before


def test_row_08_b_fewer_than_the_studys_own_floor_are_refused():
    """All thresholds of the sum hold for nine of ten; the plan says ten."""
    server = MaliciousServer(Federation(make_params(11, corrupt=3, min_sites=11, max_churn=11)))
    with pytest.raises(ProtocolError, match="too few participants for a sum"):
        server.site(0).begin(server.forge_start(participants=tuple(range(10)))[0], server.federation.last_total)


def test_row_08_c_three_corrupt_of_a_roster_of_ten_invited_with_one_honest_site_are_refused():
    """Ruling 5: corruption is counted on the roster. Were it counted on the four invited, c = 1 and t = 3."""
    server = MaliciousServer(Federation(make_params(10, max_churn=10)))
    start, _ = server.forge_start(participants=(0, *server.corrupt))
    with pytest.raises(ProtocolError, match="too few participants for the corrupt sites of the roster"):
        server.site(0).begin(start, server.federation.last_total)
    assert server.site(0).state(1) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_row_08_d_two_sites_are_refused_by_name(count):
    params = make_params(3)
    with pytest.raises(ConfigError, match=r"at least three sites: of two, each would see the other's update"):
        replace(params, members=params.members[:count])


@pytest.fixture
def watched():
    """A federation that notes what each site draws: the second draw of an upload is b, before its reduction."""
    federation = Federation(make_params(4, dimension=20_000))
    draws = {name: [] for name in federation.names}
    for name, site in federation.sites.items():
        note(site, draws[name])
    return federation, draws


def note(site, kept):
    """Keep what a site draws from now on."""
    real = site._random
    site._random = lambda count: kept.append(real(count)) or kept[-1]


def mislead(federation, place, draws=None):
    """A site that stands on the trap as if the plan named it; no honest site can be brought there. Its digest."""
    name, honest = federation.names[place], federation.initial
    federation.initial = TRAP[: honest.size]
    federation.models[name] = MemoryModels()
    federation.restart(name)
    federation.initial = honest
    if draws is not None:
        note(federation.sites[name], draws[name])
    return weights_digest(TRAP[: honest.size])


@pytest.mark.parametrize("alone", [None, 0, 2])
def test_row_10_a_site_with_another_model_leaves_noise_in_the_sum(watched, alone):
    """Even if every self mask were known: the sites' keys for their pairs differ, so that nothing cancels."""
    federation, draws = watched
    server = MaliciousServer(federation)
    updates = {name: np.full(20_000, 100.0, np.float32) for name in federation.names}
    common = server.forge_start()[0]
    total = np.zeros(20_000, np.uint32)
    for place in server.everyone:
        start = common
        if place == alone:
            start = server.forge_start(model=mislead(federation, place, draws))[0]
        server.site(place).begin(start, federation.last_total)
        total += server.site(place).upload(1, updates[server.name(place)])[1]
    own = [self_mask(int.from_bytes(draws[name][1], "big") % PRIME) for name in federation.names]
    apply(total, add=[], subtract=own)
    if alone is None:
        assert set(total.tolist()) == {100 * sum(member.weight for member in server.params.members)}
        return
    assert stats.chisquare(np.bincount(total.view(np.uint8), minlength=256)).pvalue > 1e-6
    assert stats.kstest(total / 2.0**32, "uniform").pvalue > 1e-6


def test_row_10_b_the_mismatch_is_refused_by_the_sum_and_seen_at_close():
    server = MaliciousServer(Federation(make_params(4)))
    federation, updates = server.federation, server.federation.whole_updates(1)
    federation.begin(1, away=federation.names[:1])
    with pytest.raises(ProtocolError, match="not the plan's initial one"):
        server.site(0).begin(server.forge_start(model=weights_digest(TRAP))[0], None)
    trap = server.forge_start(model=mislead(federation, 0))[0]
    server.site(0).begin(trap, None)
    body, vector = server.site(0).upload(1, updates[server.name(0)])
    with pytest.raises(ProtocolError, match="upload is of another round"):
        federation.coordinator.add_upload(server.name(0), body, vector)
    federation.upload(1, {name: updates[name] for name in federation.names[1:]})
    federation.agree()
    federation.unmask()
    assert federation.coordinator.survivors == federation.names[1:]
    with pytest.raises(ProvenFault, match="CLOSE is of another round than this site started") as caught:
        federation.close(1)
    assert caught.value.evidence.kind == Kind.ROUND and caught.value.evidence.party == server.params.server


def test_row_11_a_model_that_is_not_the_sites_own_is_refused():
    """After a round was closed: a trap under its own name, with another sum, and under a CLOSE that names it."""
    server = MaliciousServer(Federation(make_params(4)))
    federation, trap = server.federation, weights_digest(TRAP[:11])
    federation.run(1, federation.whole_updates(1))
    closed = federation.close(1, lost=federation.names[:1])
    before = log(federation, server.name(0))
    with pytest.raises(ProtocolError, match="sum is not the one that CLOSE names"):
        server.site(0).begin(server.forge_start(2)[0], federation.last_total + np.uint32(1))
    with pytest.raises(ProtocolError, match="model in START is not the plan's initial one, or the last CLOSE's"):
        server.site(0).begin(server.forge_start(2, model=trap)[0], federation.last_total)
    assert log(federation, server.name(0)) == before
    honest, federation.now = federation.now, GlobalModel(TRAP[:11], federation.now.state)
    federation.last_close = server.forge_close(closed, model=trap)
    with pytest.raises(Disputed, match="the sum does not give the model that CLOSE names"):
        server.site(0).begin(server.forge_start(2)[0], federation.last_total)
    with pytest.raises(ProvenFault, match="another for the same round") as caught:
        server.site(1).begin(server.forge_start(2)[0], federation.last_total)
    assert caught.value.evidence.kind == Kind.CLOSE
    assert server.site(0).state(2) is None and server.site(0).disputes == (1,)
    assert federation.models[server.name(0)].read().transcript == GENESIS
    federation.last_close, federation.now = closed, honest
    assert server.site(0).begin(server.forge_start(2)[0], federation.last_total).round == 2
    assert federation.models[server.name(0)].read().model.digest == honest.digest


def test_row_11_b_a_checkpoint_of_a_trap_needs_t_sites_that_lie():
    """c colluders and the server vouch for a trap model: too few; the honest sites' ACKs are of another CLOSE."""
    server = MaliciousServer(Federation(make_params(7)))
    federation, names = server.federation, server.federation.names
    federation.begin(1, away=names[:1])
    federation.upload(1, {name: update for name, update in federation.whole_updates(1).items() if name != names[0]})
    federation.agree()
    federation.unmask()
    real = federation.close(1, lost=names[:1])
    trap, model = federation.forged(federation.last_total + np.uint32(10**6))
    honest = {at: federation.sites[names[at]].close(real, federation.last_total) for at in range(1, 7)}
    signed, body = read_signed(Close, trap)
    forged = {at: sign(federation.identities[names[at]], signed.context, ack_of(body)) for at in server.corrupt}
    for acks in (forged, honest | forged, honest):
        message = encode(Checkpoint(close=trap, acks=tuple(Acked(site=at, ack=acks[at]) for at in sorted(acks))))
        with pytest.raises(ProtocolError, match=r"too few sites acknowledged|site did not acknowledge this CLOSE"):
            server.site(0).checkpoint(message, checkpoint_values(model))
    message = encode(Checkpoint(close=real, acks=tuple(Acked(site=at, ack=honest[at]) for at in sorted(honest))))
    with pytest.raises(ProtocolError, match="checkpoint is not the model that CLOSE names"):
        server.site(0).checkpoint(message, checkpoint_values(model))
    assert federation.models[names[0]].read().transcript == GENESIS
    server.site(0).checkpoint(message, checkpoint_values(federation.now))


def test_row_20_the_same_x_is_never_masked_again_under_another_cohort():
    """What a retry would give: sums over C and over C without j, hence j's update (secure-sum notes 2.4)."""
    server = MaliciousServer(Federation(make_params(6, max_churn=2)))
    updates = server.federation.whole_updates(1)
    context = server.open_round(updates)
    kept = server.site(0).resend(1)
    smaller, _ = server.forge_start(1, participants=server.everyone[:4])
    with pytest.raises(ProvenFault) as caught:
        server.site(0).begin(smaller, server.federation.last_total)
    assert caught.value.evidence.kind == Kind.ROUND
    with pytest.raises(ProvenFault, match="another round"):
        server.site(0).recognise(smaller)
    assert server.site(0).upload(1, updates[server.name(1)])[0] == kept[0], "another x changes no byte of what is said"
    server.site(0).void(server.say(context, Void(round=1)))
    for call in (lambda: server.site(0).upload(1, updates[server.name(0)]), lambda: server.site(0).resend(1)):
        with pytest.raises(RoundVoid):
            call()
    assert server.ask_unmask(context, 0, server.everyone) is None
    store = server.federation.stores[server.name(0)]
    assert store.read_vector(1) is None and store.read_parts(1) is None, "nothing is left to mask again"
    server.begin(server.forge_start(2, participants=server.everyone[:4])[0], [0])
    server.federation.restart(server.name(0))
    with pytest.raises(RoundVoid, match="declines"):
        server.site(0).upload(2, updates[server.name(0)])
    assert server.site(0).state(2) is RoundState.STARTED


@pytest.mark.parametrize("closed", [False, True])
def test_row_21_a_cohort_that_differs_by_one_site_is_refused(closed):
    """Their difference would be that site's update, give or take a round of training. In the first round, from all."""
    federation = Federation(make_params(12, max_churn=2))
    server, everyone = MaliciousServer(federation, corrupt=0), tuple(range(12))
    if closed:
        federation.run(1, federation.whole_updates(1))
        federation.close(1)
    number = 1 + closed
    for participants in (everyone[:11], everyone[1:], (*everyone[:7], *everyone[8:])):
        with pytest.raises(ProtocolError, match="by exactly one site"):
            server.site(2).begin(server.forge_start(number, participants)[0], federation.last_total)
    assert server.site(2).state(number) is None
    server.site(2).begin(server.forge_start(number, everyone[:10])[0], federation.last_total)
    for participants, problem in ((everyone[:11], "by exactly one site"), (everyone[2:], "by too many sites")):
        with pytest.raises(ProtocolError, match=problem):
            server.site(2).begin(server.forge_start(number + 1, participants)[0], federation.last_total)


def test_row_21_b_a_study_that_would_allow_it_is_refused():
    with pytest.raises(ConfigError, match="tell that site's update"):
        make_params(7, max_churn=1)


def test_every_message_of_the_server_is_known_to_row_7():
    """Who adds one must look at its fields there."""
    forms = {form for form in vars(messages).values() if isinstance(form, type) and issubclass(form, Message)}
    ours = {form.TAG for form in forms if hasattr(form, "TAG")}
    site = {"OFFER", "UPLOAD", "AGREEMENT", "ANSWER", "BACKUP-ANSWER", "ACK", "ANSWER-HEAD", "BACKUP-HEAD"}
    inside = {"CONTEXT", "SIGNED", "KEYSET", "HEADER", "SEALED", "PACKET", "PARTS", "PROOF", "ACKED"}
    assert ours - site - inside <= {"START", "CONSENT", "UNMASK", "BACKUP", "CLOSE", "VOID", "CHECKPOINT"}
