"""Target: signed envelopes, rosters, join requests and operator cards, as files that somebody sends.

The first byte names the reader, the second how the rest is wrapped: as it is, or as a payload that the right keys signed.
Property: a `TrustError` or `ConfigError` comes out, or a value that its own signing gives again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner
from tests_federation import identity_of

from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust import envelope
from ssl_core.trust.authority import authority_of
from ssl_core.trust.roster import (
    JoinRequest,
    Roster,
    ServerIdentity,
    describe,
    open_as_named,
    open_request,
    open_roster,
    open_server_identity,
    sign_request,
    sign_roster,
    sign_server_identity,
    signatures,
)

AUTHORITY, OPERATOR, SERVER = (identity_of(name) for name in ("authority", "operator", "server"))
NAMES = ("east", "north", "south", "west")
PINNED = authority_of([AUTHORITY.public], 1)
NODE_KEY = "ecdsa-sha2-nistp384 AAAA"


def _roster(data: bytes) -> None:
    roster, digest = open_roster(data, PINNED, newer_than=1)
    assert roster.version >= 1 and len(digest) == 64 and len(roster.members) >= 3 and roster.corrupt >= 0
    assert open_roster(sign_roster(roster, [AUTHORITY]), PINNED)[0] == roster
    describe(roster)
    signatures(data, roster)


def _server(data: bytes) -> None:
    card = open_server_identity(data)
    assert card.operator != card.server or card.operator == AUTHORITY.public_hex


READERS: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("roster", _roster),
    ("roster", open_as_named),
    ("join", open_request),
    ("server", _server),
    ("roster", lambda data: envelope.peek(data, "roster")),
    ("roster", lambda data: envelope.open_envelope(data, "roster", [AUTHORITY.public, SERVER.public], threshold=2)),
    ("roster", lambda data: envelope.signers(data, "roster", [AUTHORITY.public])),
    ("roster", lambda data: envelope.add_signature(data, "roster", SERVER)),
    ("roster", envelope.kind_of),
)


@cache
def _members() -> tuple[JoinRequest, ...]:
    return tuple(JoinRequest(name=n, identity=identity_of(n).public_hex, supernode=f"{NODE_KEY}{n}") for n in NAMES)


def seeds() -> list[bytes]:
    """Real files of each kind, whole and as payloads; and the JSON that parsers stumble over."""
    card = ServerIdentity(operator=OPERATOR.public_hex, server=SERVER.public_hex, server_ca="-", superlink="127.0.0.1:9443")
    roster = Roster(version=1, authorities=(AUTHORITY.public_hex,), threshold=1, server=card, members=_members())
    files = (
        sign_roster(roster, [AUTHORITY, SERVER]),
        sign_request(_members()[0], identity_of(NAMES[0])),
        sign_server_identity(card, OPERATOR, SERVER),
        b"[" * 3000, b'{"a":' * 3000, b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b'{"a":1' + b"0" * 5000 + b"}",
        b'{"payload":1,"payloadType":[],"signatures":{}}', b"null", b"\xff\xfe", b'{"a":1,"a":2}', b'{"version":true}',
    )  # fmt: skip
    payloads = [envelope._parse(file).payload for file in files[:3]]
    return [bytes([reader, 0]) + file for reader in range(len(READERS)) for file in files] + [
        bytes([reader, 1]) + payload for reader in range(len(READERS)) for payload in (*payloads, *files[3:])
    ]


def _wrapped(kind: str, payload: bytes) -> bytes:
    """The payload under signatures of every key that is asked for here."""
    whole = Envelope(payload, f"application/vnd.choral.{kind}+json", {})
    for identity in (AUTHORITY, OPERATOR, SERVER, identity_of(NAMES[0])):
        whole.sign(CryptoSigner(identity.private_key, envelope._key(identity.public)))
    return json.dumps(whole.to_dict()).encode()


def run(data: bytes) -> None:
    """One input."""
    kind, reader = READERS[(data[0] if data else 0) % len(READERS)]
    body = _wrapped(kind, data[2:]) if data[1:2] > b"\x00" else data[2:]
    try:
        reader(body)
    except (TrustError, ConfigError) as error:
        assert len(str(error)) < 2000, "an error repeats the file"
