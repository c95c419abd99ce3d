"""Target: a whole site, at any stage of a round, given any bytes as any message of the server, signed by it or not.

First byte: the stage. Second: the message. Third: odd for a body that the server signs under the right context. Property:
a refusal is a `ProtocolError` and leaves the store as it was, but for what it keeps as evidence; what is accepted is
answered the same when it comes again, and to no stage does it give a second answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from tests_federation import Federation, make_params

from ssl_core.errors import ProtocolError
from ssl_core.secure_sum.codec import Message, decode, encode, join
from ssl_core.secure_sum.history import MemoryModels, checkpoint_values
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import Backup, Checkpoint, Close, Consent, KeySet, Signed, Start, Unmask, Void
from ssl_core.secure_sum.ring import Words
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.secure_sum.statements import close_context, read_signed, start_context

NAME = "site-01"
KEPT_AS_EVIDENCE = {"ALARM", "DISPUTED"}
STAGES = ("new", "started", "uploaded", "agreed", "answered", "closed", "void")


@dataclass(frozen=True)
class Past:
    """A federation of six, a site's stores at each stage of round 1, the messages that led there, and round 1's result."""

    federation: Federation
    context: bytes
    stores: dict[str, tuple[MemoryStore, MemoryModels]]
    messages: dict[type[Message], list[bytes]]
    total: Words
    values: np.ndarray


@cache
def past() -> Past:
    """One lost before the upload, one after: every message of the protocol is in it."""
    federation = Federation(make_params(6, dimension=3))
    names, updates = federation.names, federation.whole_updates(1)
    stores = {}

    def keep(stage: str) -> None:
        stores[stage] = (federation.stores[NAME].copy(), _copied(federation.models[NAME]))

    keep("new")
    start = federation.begin(1)
    keep("started")
    federation.upload(1, {name: updates[name] for name in names[:5]})
    keep("uploaded")
    federation.agree(silent=names[5:])
    keep("agreed")
    asked = federation.coordinator.consent_requests()[NAME], federation.coordinator.unmask_requests()[NAME]
    federation.unmask(silent=names[4:])
    keep("answered")
    backup = federation.coordinator.backup_requests()[NAME]
    federation.relieve()
    close = federation.close(1)
    keep("closed")
    second = federation.begin(2)
    federation.upload(2, federation.whole_updates(2))
    checkpoint = federation.coordinator.checkpoint()
    void = federation.coordinator.void()
    federation.sites[NAME].void(void)
    keep("void")
    messages = {
        Start: [start, second],
        Consent: [asked[0]],
        Unmask: [asked[1]],
        Backup: [backup],
        Close: [close],
        Void: [void],
        KeySet: [federation.keyset],
        Checkpoint: [checkpoint],
    }
    context = read_signed(Start, start)[0].context
    return Past(federation, context, stores, messages, federation.last_total, checkpoint_values(federation.now))


def _copied(models: MemoryModels) -> MemoryModels:
    other = MemoryModels()
    other.write(models.read())
    return other


CALLS: tuple[tuple[type[Message], Callable[[SecureSumSite, bytes], object]], ...] = (
    (Start, lambda site, data: site.begin(data, past().total)),
    (Start, lambda site, data: site.recognise(data)),
    (Consent, lambda site, data: site.consent(data)),
    (Unmask, lambda site, data: site.unmask(data)),
    (Backup, lambda site, data: site.backup(data)),
    (Close, lambda site, data: site.close(data, past().total)),
    (Void, lambda site, data: site.void(data)),
    (KeySet, lambda site, data: site.accept_keys(data)),
    (Checkpoint, lambda site, data: site.checkpoint(data, past().values)),
)
SIGNED = {Start, Consent, Unmask, Backup, Close, Void}


def seeds() -> list[bytes]:
    """Each message, whole and as a body to sign, at every stage."""
    found = []
    for stage in range(len(STAGES)):
        for call, (form, _) in enumerate(CALLS):
            for message in past().messages[form]:
                found.append(bytes([stage, call, 0]) + message)
                if form in SIGNED:
                    found.append(bytes([stage, call, 1]) + decode(Signed, message).body)
    return found


def run(data: bytes) -> None:
    """One input."""
    (stage, which, signs), body = (*data[:3], 0, 0, 0)[:3], data[3:]
    form, call = CALLS[which % len(CALLS)]
    message = _signed(form, body) if signs % 2 and form in SIGNED else body
    store, models = past().stores[STAGES[stage % len(STAGES)]]
    store, models = store.copy(), _copied(models)
    before, site = image(store, models), past().federation.make_site(NAME, store, models)
    try:
        reply = call(site, message)
    except ProtocolError as error:
        assert image(store, models) == before, "a refused message changed the site's state"
        assert len(str(error)) < 400, "an error repeats the message"
        return
    if which % len(CALLS) != 0:
        assert call(site, message) == reply, "the same message was answered otherwise"
        assert call(past().federation.make_site(NAME, store, models), message) == reply, "a restart answers otherwise"


def image(store: MemoryStore, models: MemoryModels) -> tuple[object, ...]:
    """All that a site keeps but evidence."""
    log = [record for record in store._log if record.kind not in KEPT_AS_EVIDENCE]
    vectors = {at: vector.tobytes() for at, vector in store._vectors.items()}
    return store._secrets, log, dict(store._parts), vectors, id(models.read())


def _signed(form: type[Message], body: bytes) -> bytes:
    """The body under the server's own signature, for the round that it describes itself, or for round 1."""
    context, params = past().context, past().federation.params
    try:
        if form is Start:
            context = start_context(params, decode(Start, body))
        elif form is Close:
            context = close_context(params, decode(Close, body))
    except ProtocolError:
        context = past().context
    signature = past().federation.server.sign(join("sign/" + form.TAG, context, body))
    return encode(Signed(kind=form.TAG, context=context, body=body, signature=signature))
