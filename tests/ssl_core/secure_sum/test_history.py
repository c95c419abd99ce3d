"""The global model at a site: recomputed from every published sum, refused where it differs, and caught up with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests_federation import SPEC

from ssl_core.errors import ProtocolError, StateError
from ssl_core.model_update import weights_digest
from ssl_core.secure_sum.codec import encode
from ssl_core.secure_sum.history import Disputed, History, MemoryModels, checkpoint_values
from ssl_core.secure_sum.messages import Acked, Checkpoint, Close
from ssl_core.secure_sum.statements import GENESIS, ack_of, close_context, read_signed, sign, transcript, vector_hash
from ssl_core.secure_sum.vector import mean_update

NAME = "site-00"


def closed(kit, count=5, rounds=1, **changes):
    federation = kit.Federation(kit.make_params(count, **changes))
    for round in range(1, rounds + 1):
        federation.run(round, federation.whole_updates(round))
        federation.close(round)
    return federation


def answered(kit, round=1, **changes):
    federation = closed(kit, rounds=round - 1, **changes)
    federation.run(round, federation.whole_updates(round))
    federation.finish()
    return federation


def forged(federation, **changes):
    """The last CLOSE with something else in it, signed by the server all the same."""
    body = replace(read_signed(Close, federation.last_close)[1], **changes)
    return sign(federation.server, close_context(federation.params, body), body)


def checkpoint(federation, close, signers):
    signed, body = read_signed(Close, close)
    acks = [sign(federation.identities[federation.names[at]], signed.context, ack_of(body)) for at in signers]
    return encode(Checkpoint(close=close, acks=tuple(Acked(site=at, ack=ack) for at, ack in zip(signers, acks, strict=True))))


@pytest.mark.parametrize("changes", [{}, {"bits": 16}])
def test_every_site_stands_where_the_server_stands(kit, changes):
    federation = closed(kit, rounds=3, **changes)
    for name in federation.names:
        standing = federation.models[name].read()
        assert standing.transcript == transcript(read_signed(Close, federation.last_close)[1])
        assert standing.model.weights.tobytes() == federation.now.weights.tobytes()
        assert standing.model.state.digest == federation.now.state.digest
    assert np.abs(federation.now.weights).max() > 0


REFUSED = {
    "the sum does not give the model that CLOSE names": {"model": bytes(32)},
    "the sum does not give the model that CLOSE names ": {"state": bytes(32)},
    "sum is not the one that CLOSE names": {"total": bytes(32)},
    "CLOSE counts the rounds wrongly": {"count": 2},
}


@pytest.mark.parametrize("phrase", REFUSED)
def test_model_that_the_sum_does_not_give_is_refused(kit, phrase):
    federation = answered(kit)
    site, before = federation.sites[NAME], federation.models[NAME].read()
    with pytest.raises(ProtocolError, match=phrase.strip()):
        site.close(forged(federation, **REFUSED[phrase]), federation.last_total)
    assert federation.models[NAME].read() is before and site.state(1).value == "ANSWERED"
    federation.take(NAME, site.close(federation.last_close, federation.last_total))


def test_a_disputed_round_is_kept_and_told(kit):
    federation = answered(kit)
    wrong = forged(federation, model=bytes(32))
    for _ in range(2):
        with pytest.raises(Disputed):
            federation.sites[NAME].close(wrong, federation.last_total)
    federation.restart(NAME)
    assert federation.sites[NAME].disputes == (1,)
    assert sum(record.kind == "DISPUTED" for record in federation.stores[NAME]._log) == 1


def test_start_with_a_wrong_model_in_its_close_begins_nothing(kit):
    federation = answered(kit)
    wrong = forged(federation, model=bytes(32))
    start = federation.make_coordinator().start(2, federation.names, bytes(32), wrong)
    with pytest.raises(Disputed):
        federation.sites[NAME].begin(start, federation.last_total)
    assert federation.sites[NAME].state(2) is None and federation.sites[NAME].state(1).value == "ANSWERED"


TOTALS = {
    "CLOSE came without its sum": lambda total: None,
    "CLOSE came without its sum ": lambda total: total.astype(np.uint16),
    "sum has another length": lambda total: total[:-1],
    "sum is not the one that CLOSE names": lambda total: total + np.uint32(1),
}


@pytest.mark.parametrize("phrase", TOTALS)
def test_sum_that_is_not_the_published_one_is_refused(kit, phrase):
    federation = answered(kit)
    with pytest.raises(ProtocolError, match=phrase.strip()):
        federation.sites[NAME].close(federation.last_close, TOTALS[phrase](federation.last_total))
    assert federation.models[NAME].read().transcript == GENESIS and federation.sites[NAME].disputes == ()


def test_close_of_a_round_that_started_elsewhere_is_refused(kit):
    federation = kit.Federation(kit.make_params(5))
    federation.begin(1, away={NAME})
    federation.upload(1, {name: u for name, u in federation.whole_updates(1).items() if name != NAME})
    federation.agree()
    federation.unmask()
    federation.finish()
    federation.initial = np.ones_like(federation.initial)
    federation.models[NAME] = MemoryModels()
    federation.restart(NAME)
    with pytest.raises(ProtocolError, match="round started from another model than this site has"):
        federation.sites[NAME].close(federation.last_close, federation.last_total)


def test_two_sums_for_two_sites_part_them_for_good(kit):
    """Ruling 13: no tag. A forged sum is not known as forged, but no later round adds those who got it to those who did not."""
    federation = answered(kit)
    fake = federation.last_total + np.uint32(1000)
    mean_of = History(federation.params, SPEC, weights_digest(federation.initial), MemoryModels())
    mean_of.begin(federation.initial)
    context = read_signed(Close, federation.last_close)[0].context
    wrong = {"total": vector_hash(fake)}
    with pytest.raises(Disputed):
        mean_of.follow(read_signed(Close, forged(federation, **wrong))[1], context, fake)
    weight = federation.params.weight_of(range(5))
    start = mean_of.standing.model
    model = start.after(mean_update(federation.params, context, fake, weight=weight), SPEC)
    second = forged(federation, **wrong, model=model.digest, state=model.state.digest)
    for name in federation.names[:2]:
        federation.sites[name].close(second, fake)
    for name in federation.names[2:]:
        federation.sites[name].close(federation.last_close, federation.last_total)
    start = federation.coordinator.start(2, federation.names, federation.model, federation.last_close)
    with pytest.raises(ProtocolError, match="CLOSE is older than what this site has seen"):
        federation.sites[federation.names[0]].begin(start, federation.last_total)
    assert federation.sites[federation.names[0]].alarms[0].kind == "CLOSE"
    federation.sites[federation.names[2]].begin(start, federation.last_total)


def behind(kit, rounds=3, **changes):
    """A federation whose first site saw nothing of `rounds` closed rounds."""
    federation = kit.Federation(kit.make_params(5, **changes))
    for round in range(1, rounds + 1):
        federation.begin(round, away={NAME})
        federation.upload(round, {name: u for name, u in federation.whole_updates(round).items() if name != NAME})
        federation.agree()
        federation.unmask()
        federation.close(round, lost={NAME})
    return federation


@pytest.mark.parametrize("start_from", [0, 1, 2])
def test_site_that_missed_rounds_replays_them_or_takes_a_checkpoint(kit, start_from):
    federation = behind(kit)
    if start_from:
        history = History(federation.params, SPEC, weights_digest(federation.initial), MemoryModels())
        history.begin(federation.initial)
        for data, total in federation.published[:start_from]:
            signed, body = read_signed(Close, data)
            history.follow(body, signed.context, total)
        message = checkpoint(federation, federation.published[start_from - 1][0], (1, 2, 3, 4))
        federation.sites[NAME].checkpoint(message, checkpoint_values(history.standing.model))
    for close, total in federation.published[start_from:]:
        federation.sites[NAME].close(close, total)
    assert federation.models[NAME].read().model.state.digest == federation.now.state.digest
    updates = federation.whole_updates(4)
    assert kit.signed_view(federation.run(4, updates)) == federation.expected(updates, federation.names)


CHECKPOINTS = {
    "checkpoint is not the model that CLOSE names": lambda values: np.concatenate([values[:1] + 1, values[1:]]),
    "checkpoint is not the optimizer's state": lambda values: np.concatenate([values[:-1], values[-1:] + 1]),
    "checkpoint's weights are not of float32": lambda values: np.concatenate([values[:1] + 1e-3, values[1:]]),
    "checkpoint has another length": lambda values: values[:-1],
    "checkpoint is not a vector of float64": lambda values: values.astype(np.float32),
}


@pytest.mark.parametrize("phrase", CHECKPOINTS)
def test_checkpoint_with_other_values_is_refused(kit, phrase):
    federation = behind(kit, 1)
    message = checkpoint(federation, federation.last_close, (1, 2, 3, 4))
    values = checkpoint_values(federation.now)
    with pytest.raises(ProtocolError, match=phrase):
        federation.sites[NAME].checkpoint(message, CHECKPOINTS[phrase](values))
    assert federation.models[NAME].read().transcript == GENESIS and federation.sites[NAME].state(1) is None
    federation.take(NAME, federation.sites[NAME].checkpoint(message, values))


def test_a_lost_model_comes_back_by_checkpoint_only(kit):
    federation = closed(kit, rounds=2)
    federation.models[NAME] = MemoryModels()
    federation.restart(NAME)
    start = federation.coordinator.start(3, federation.names, federation.model, federation.last_close)
    with pytest.raises(StateError, match="global model is of another round than the journal"):
        federation.sites[NAME].begin(start, federation.last_total)
    message = checkpoint(federation, federation.last_close, (1, 2, 3, 4))
    federation.take(NAME, federation.sites[NAME].checkpoint(message, checkpoint_values(federation.now)))
    federation.sites[NAME].begin(start, federation.last_total)


def test_no_model_no_round(kit):
    federation = kit.Federation(kit.make_params(4))
    bare = History(federation.params, SPEC, weights_digest(federation.initial), MemoryModels())
    with pytest.raises(StateError, match="no global model"):
        bare.weights  # noqa: B018
    with pytest.raises(ProtocolError, match="initial weights are not those of the signed plan"):
        bare.begin(np.ones_like(federation.initial))
    with pytest.raises(ProtocolError, match="initial weights have another length"):
        bare.begin(np.ones(3, np.float32))
    federation.sites[NAME]._history = bare
    start = federation.coordinator.start(1, federation.names, federation.model, None)
    with pytest.raises(StateError, match="no global model"):
        federation.sites[NAME].begin(start, None)
    assert federation.sites[NAME].state(1) is None
    bare.begin(federation.initial)
    federation.sites[NAME].begin(start, None)
