"""The roster: who belongs to the federation, signed by the hospitals' authority (rulings 1, 5).

Comes in: join requests signed by each site, the operator's and the server's public keys. Goes out: one signed roster,
versions rising. A site pins the authority's key and accepts every other member by name and fingerprint itself.
c = floor((N-1)/3) is counted on the roster's N, never on whom a server invites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ssl_core.config import Name, PublicHex, StrictModel, parse
from ssl_core.errors import TrustError
from ssl_core.trust.envelope import open_envelope, peek, seal
from ssl_core.trust.identity import Identity, fingerprint

MIN_SITES = 3


class JoinRequest(StrictModel):
    """What a hospital asks to join with; signed by the identity that it names."""

    name: Name
    identity: PublicHex
    supernode: str = Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]+$", max_length=400)


class ServerIdentity(StrictModel):
    """What `choral operator init` shows the authority: two keys and the CA of the one TLS server."""

    operator: PublicHex
    server: PublicHex
    server_ca: str
    superlink: str = Field(pattern=r"^[A-Za-z0-9.\-]+:\d{1,5}$")


class Roster(StrictModel):
    """Members and pinned keys; `version` only rises."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    version: Annotated[int, Field(ge=1)]
    authorities: tuple[PublicHex, ...]
    threshold: Annotated[int, Field(ge=1)]
    server: ServerIdentity
    members: tuple[JoinRequest, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [m.name for m in self.members]
        if names != sorted(set(names)):
            raise ValueError("members must be sorted by name, each once")
        keys = [m.identity for m in self.members] + [
            self.server.operator,
            self.server.server,
            *self.authorities,
        ]
        if len(set(keys)) != len(keys):
            raise ValueError("one key stands for two parties")
        if len({m.supernode for m in self.members}) != len(self.members):
            raise ValueError("one SuperNode key stands for two sites")
        if len(self.members) < MIN_SITES:
            raise ValueError(
                f"{len(self.members)} sites; at least {MIN_SITES} are needed: with two, each sees the other's update"
            )
        if not 1 <= self.threshold <= len(self.authorities):
            raise ValueError("threshold must lie between 1 and the number of authorities")
        return self

    @property
    def corrupt(self) -> int:
        """c: how many sites may collude with the server, floor((N-1)/3)."""
        return (len(self.members) - 1) // 3

    def member(self, name: str) -> JoinRequest:
        """The member of that name; `TrustError` if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise TrustError("site is not on the roster", field="site", value=name, remedy="ask the authority to sign it in")

    def fingerprint(self, name: str) -> str:
        """What the hospital called `name` reads out over the telephone."""
        return fingerprint(bytes.fromhex(self.member(name).identity))


def sign_request(request: JoinRequest, identity: Identity) -> bytes:
    """A join request signed by the identity that it names."""
    return seal("join", request.model_dump(mode="json"), identity)


def open_request(data: bytes) -> JoinRequest:
    """Check that a join request is signed by the very identity in it; raises `TrustError`."""
    request = parse(JoinRequest, peek(data, "join"), "join request")
    open_envelope(data, "join", [bytes.fromhex(request.identity)])
    return request


def sign_roster(roster: Roster, signers: Sequence[Identity]) -> bytes:
    """The roster's envelope, signed by every given authority key."""
    return seal("roster", roster.model_dump(mode="json"), *signers)


def open_roster(data: bytes, authorities: Sequence[bytes], *, threshold: int, newer_than: int = 0) -> tuple[Roster, str]:
    """Verify a roster against the pinned `authorities`; returns (roster, SHA-256 hex of its payload).

    Raises `TrustError` when fewer than `threshold` pinned keys signed it, when it names other authorities, or when its
    version is below `newer_than` (a roll-back).
    """
    body, digest = open_envelope(data, "roster", authorities, threshold=threshold)
    roster: Roster = parse(Roster, body, "roster")
    if {bytes.fromhex(a) for a in roster.authorities} != set(authorities) or roster.threshold != threshold:
        raise TrustError("roster names other authorities than those pinned here", field="authorities")
    if roster.version < newer_than:
        raise TrustError(
            "roster is older than the one accepted here",
            field="version",
            value=roster.version,
            limit=newer_than,
            remedy="ask the authority for the current roster",
        )
    return roster, digest


def open_server_identity(data: bytes) -> ServerIdentity:
    """An operator's card for the authority, signed by both keys that it names; raises `TrustError`."""
    card: ServerIdentity = parse(ServerIdentity, peek(data, "server"), "operator card")
    open_envelope(data, "server", [bytes.fromhex(card.operator), bytes.fromhex(card.server)], threshold=2)
    return card


def sign_server_identity(card: ServerIdentity, operator: Identity, server: Identity) -> bytes:
    """The operator's card, signed by both of its keys."""
    return seal("server", card.model_dump(mode="json"), operator, server)


def describe(roster: Roster) -> dict[str, Any]:
    """Names, fingerprints and limits, for `--json` and tables."""
    return {
        "version": roster.version,
        "sites": {m.name: fingerprint(bytes.fromhex(m.identity)) for m in roster.members},
        "operator": fingerprint(bytes.fromhex(roster.server.operator)),
        "server": fingerprint(bytes.fromhex(roster.server.server)),
        "superlink": roster.server.superlink,
        "corrupt_sites_tolerated": roster.corrupt,
    }
