"""Target: every message form of the secure sum against bytes of its kind, and the wrapper of signed messages.

The first byte names the form. Property: a `ChoralError` comes out, or a value whose one encoding the bytes were.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from tests_federation import make_params

import ssl_core.secure_sum
from ssl_core.errors import ConfigError, ProtocolError, TrustError
from ssl_core.secure_sum import codec, evidence
from ssl_core.secure_sum.codec import Message, decode, encode
from ssl_core.secure_sum.messages import Signed
from ssl_core.secure_sum.params import SumParams
from ssl_core.secure_sum.statements import read_signed
from ssl_core.trust.identity import Secret

for _module in pkgutil.iter_modules(ssl_core.secure_sum.__path__):
    importlib.import_module(f"ssl_core.secure_sum.{_module.name}")


def _leaves(form: type[Message]) -> list[type[Message]]:
    return [leaf for child in form.__subclasses__() for leaf in ([child, *_leaves(child)])]


# Slotted dataclasses leave the class that they replace behind, so that one name may stand for two.
_OURS = [form for form in _leaves(Message) if form.__module__.startswith("ssl_core.") and "__slots__" in vars(form)]
FORMS = tuple({form.TAG: form for form in sorted(_OURS, key=lambda form: form.TAG)}.values())


def sample(form: type[Message]) -> Message:
    """A small value of any form, from its wire forms alone."""
    if form is SumParams:
        return make_params(4)
    return form(**{name: _sample(wire) for name, wire in codec._forms(form)})


def _sample(wire: codec.Wire) -> Any:
    match wire:
        case codec.UInt():
            return 1
        case codec.Flag():
            return True
        case codec.Real():
            return 1.5
        case codec.Fixed(size):
            return bytes(range(size))
        case codec.Blob(limit):
            whole = encode(Signed(kind="X", context=bytes(32), body=b"body", signature=bytes(64)))
            return whole if len(whole) <= limit else b""
        case codec.Hidden(least, limit):
            return Secret(bytes(max(least, min(limit, 33))))
        case codec.Text():
            return "A"
        case codec.Listing(item):
            return (_sample(item),) * 2
        case codec.Nested(form):
            return sample(form)
    raise TypeError(f"a wire form without a sample: {wire}")


def seeds() -> list[bytes]:
    """Each form once, and one wrapped as signed messages are."""
    plain = [bytes([at]) + encode(sample(form)) for at, form in enumerate(FORMS)]
    at = FORMS.index(Signed)
    wrapped = [Signed(kind=f.TAG[:16], context=bytes(32), body=encode(sample(f)), signature=bytes(64)) for f in FORMS]
    return plain + [bytes([at]) + encode(message) for message in wrapped]


def run(data: bytes) -> None:
    """One input."""
    form, body = FORMS[data[0] % len(FORMS)] if data else Signed, data[1:]
    try:
        message = decode(form, body)
    except (ProtocolError, ConfigError, TrustError) as error:
        assert len(str(error)) < 400, "an error repeats the message"
        assert isinstance(error, ProtocolError) or form is SumParams, "only parameters are a person's own"
        return
    assert encode(message) == body, "a value has two encodings"
    if isinstance(message, Signed):
        for wanted in FORMS:
            try:
                signed, inner = read_signed(wanted, body)
            except (ProtocolError, ConfigError, TrustError):
                continue
            assert signed == message and encode(inner) == message.body
    if isinstance(message, evidence.Evidence):
        assert not evidence.proves(make_params(4), message), "a fault is proved without a signature"
