"""Secrets are in no repr, pickle, exception, log record or message but those that must carry them; lengths tell nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ssl_core.errors import ChoralError
from ssl_core.secure_sum.codec import decode
from ssl_core.secure_sum.messages import Answer
from ssl_core.secure_sum.vault import Contents, Vault


@pytest.fixture
def recorded(kit):
    """A round in which one site is lost, with all that site 0 drew, and the secrets of its round."""
    federation = kit.Federation(kit.make_params(4))
    name = federation.names[0]
    draws = []
    random = federation.sites[name]._random
    federation.sites[name]._random = lambda count: draws.append(random(count)) or draws[-1]
    federation.begin(1)
    vault = Vault(federation.stores[name], federation.params.hash)
    chains = [vault.chain(peer).reveal() for peer in range(4)]
    federation.upload(1, {n: u for n, u in federation.whole_updates(1).items() if n != federation.names[3]})
    federation.agree()
    federation.unmask()
    return federation, name, draws, chains


def secrets_of(released):
    return [value.reveal() for kind in (released.shares, released.pairs, released.complaints) for value in kind.values()]


def spellings(secret):
    return {repr(secret), secret.hex(), repr(list(secret)), str(int.from_bytes(secret, "big"))}


def test_no_repr_shows_a_secret(recorded):
    federation, name, draws, chains = recorded
    site = federation.sites[name]
    answer = federation.coordinator._round.answers[0]
    contents = decode(Contents, federation.stores[name]._secrets)
    shown = repr((site, site._vault, contents, answer, federation.stores[name], site._identity))
    hidden = [*chains, *draws, *secrets_of(answer)]
    assert "redacted" in shown
    for secret in hidden:
        assert not any(text in shown for text in spellings(secret))


def test_nothing_with_a_secret_is_pickled(recorded):
    federation, name, _, _ = recorded
    contents = decode(Contents, federation.stores[name]._secrets)
    for value in (federation.sites[name], contents, contents.chains, federation.coordinator._round.answers[0]):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(value)


def test_x_and_b_are_never_on_disk(recorded):
    """The first two draws of an upload are the rounding key and b; neither they nor q are in the store."""
    federation, name, draws, _ = recorded
    rounding, own = draws[0], draws[1]
    store = federation.stores[name]
    logged, vectors = (record.body for record in store._log), (vector.tobytes() for vector in store._vectors.values())
    image = b"".join([store._secrets, *logged, *vectors, *store._parts.values()])
    prime = 2**255 - 19
    assert len(rounding) == 32 and len(own) == 48
    assert rounding not in image and own not in image
    assert (int.from_bytes(own, "big") % prime).to_bytes(32, "big") not in image
    weight = federation.params.members[0].weight
    plain = (federation.whole_updates(1)[name].astype(np.int32) * weight).astype("<i4").tobytes()
    assert not any(plain[at : at + 8] in image for at in range(0, len(plain) - 8, 4))


def test_opened_shares_are_in_the_secret_file_only(recorded):
    federation, name, _, _ = recorded
    answer = federation.coordinator._round.answers[0]
    log = b"".join(record.body for record in federation.stores[name]._log)
    for value in secrets_of(answer):
        assert value not in log
        assert value in federation.stores[name]._secrets


def test_faults_and_errors_of_a_wrong_share_show_no_secret(recorded):
    federation, name, _, chains = recorded
    federation.coordinator._round.shares[0][1] = federation.coordinator._round.shares[1][1]
    hidden = [*chains, *secrets_of(federation.coordinator._round.answers[0])]
    with pytest.raises(ChoralError) as caught:
        federation.coordinator.total()
    shown = f"{caught.value} {caught.value!r} {federation.coordinator.faults!r}"
    assert federation.coordinator.faults[0].sites == (name,)
    assert not any(text in shown for secret in hidden for text in spellings(secret))


@pytest.mark.parametrize("count", [3, 4, 7])
def test_lengths_depend_on_participants_alone(kit, count):
    """Two runs with different updates, one of them out of range, send the same kinds, counts and lengths."""
    seen = []
    for updates in (
        {n: np.zeros(11, np.float32) for n in kit.Federation(kit.make_params(count)).names},
        {n: np.full(11, 3e38, np.float32) for n in kit.Federation(kit.make_params(count)).names},
    ):
        federation = kit.Federation(kit.make_params(count))
        lengths = []
        federation.begin(1)
        for name in federation.names:
            body, vector = federation.sites[name].upload(1, updates[name])
            federation.coordinator.add_upload(name, body, vector)
            lengths.append(("upload", len(body), vector.shape, vector.dtype.str))
        federation.agree()
        for name, request in federation.coordinator.unmask_requests().items():
            reply = federation.sites[name].unmask(request)
            federation.coordinator.add_answer(name, reply)
            lengths.append(("answer", len(reply)))
        close = federation.finish()
        lengths += [("ack", len(federation.sites[name].close(close, federation.last_total))) for name in federation.names]
        seen.append(lengths)
    assert seen[0] == seen[1]
    assert len({length for kind, length, *_ in seen[0] if kind == "upload"}) == 1


def test_answer_and_agreement_have_one_length_whoever_is_lost(kit):
    lengths = set()
    for lost in ((), (1,), (2, 3)):
        federation = kit.Federation(kit.make_params(7))
        federation.begin(1)
        gone = {federation.names[at] for at in lost}
        federation.upload(1, {n: u for n, u in federation.whole_updates(1).items() if n not in gone})
        federation.agree()
        request = federation.coordinator.unmask_requests()[federation.names[0]]
        reply = federation.sites[federation.names[0]].unmask(request)
        assert len(decode(Answer, reply).values) == 7
        if lost:
            consent = federation.coordinator.consent_requests()[federation.names[0]]
            lengths.add(("agreement", len(federation.sites[federation.names[0]].consent(consent))))
        lengths.add(("answer", len(reply)))
    assert len(lengths) == 2


def test_answer_encodes_its_secrets_only_when_sent(recorded):
    federation, name, _, _ = recorded
    reply = federation.sites[name].unmask(federation.coordinator.unmask_requests()[name])
    assert all(secret in reply for secret in secrets_of(federation.coordinator._round.answers[0]))
    assert not any(text in repr(decode(Answer, reply)) for secret in secrets_of(federation.coordinator._round.answers[0])
                   for text in spellings(secret))  # fmt: skip
