"""The roster: who belongs to the federation, signed by k of the m keys of the hospitals' authority (rulings 1, 5).

Comes in: join requests signed by each site, the operator's and the server's public keys. Goes out: one roster in an
envelope that k holders signed, versions rising. A site pins the authority and accepts every other member by name and
fingerprint itself. c = floor((N-1)/3) is counted on the roster's N, never on whom a server invites.

A roster may hand over to another authority: it names the one that it `replaces`, and k of the old AND k of the new keys
sign it, as in The Update Framework (specification 1.0.33, "check for an arbitrary software attack" of the root file). Who
pins the old one follows only when a person gives the new card; who pinned the new one from the start needs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ssl_core.config import Name, PublicHex, parse
from ssl_core.errors import TrustError
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.authority import Authority, authority_of
from ssl_core.trust.envelope import open_envelope, peek, seal, signers
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


class AuthorityKeys(StrictModel):
    """An authority inside a roster: its keys, sorted, and how many of them sign."""

    authorities: tuple[PublicHex, ...]
    threshold: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _is_an_authority(self) -> Self:
        if not self.authorities or list(self.authorities) != sorted(set(self.authorities)):
            raise ValueError("authority's keys must be sorted, each once")
        if self.threshold > len(self.authorities):
            raise ValueError("threshold must lie between 1 and the number of authorities")
        return self

    @property
    def authority(self) -> Authority:
        """As a value."""
        return authority_of((bytes.fromhex(key) for key in self.authorities), self.threshold)


class Roster(AuthorityKeys):
    """Members and pinned keys; `version` only rises. `authority` is who signs the next; `replaces` who signed before it."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    version: Annotated[int, Field(ge=1)]
    replaces: AuthorityKeys | None = None
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
        if self.replaces is not None and self.replaces.authority == self.authority:
            raise ValueError("roster replaces an authority by itself")
        return self

    @property
    def signing(self) -> tuple[Authority, ...]:
        """Every authority of whose keys `threshold` must sign this roster."""
        return (self.authority,) if self.replaces is None else (self.replaces.authority, self.authority)

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
    """The roster's envelope, signed by every given authority key; without any, for the first holder to sign."""
    return seal("roster", roster.model_dump(mode="json", exclude_none=True), *signers)


def open_roster(
    data: bytes, pinned: Authority, *, successor: Authority | None = None, newer_than: int = 0
) -> tuple[Roster, str]:
    """Verify a roster against the `pinned` authority; returns (roster, SHA-256 hex of its payload).

    `successor` is the card of another authority, given by a person: only then may the roster hand over to it. Raises
    `TrustError` when fewer than k of the keys that must sign it did, when it names another authority than pinned (and
    given), or when its version is below `newer_than` (a roll-back).
    """
    roster: Roster = parse(Roster, peek(data, "roster"), "roster")
    if pinned not in roster.signing:
        raise TrustError(
            "roster is not of the authority that is pinned here", field="authorities", value=roster.authority.words,
            limit=pinned.words,
            remedy="where the authority changed, accept the roster that handed over to it first; else ask the authority",
        )  # fmt: skip
    # The old keys say who follows; the new ones that they are held by somebody who agreed.
    for authority in dict.fromkeys((pinned, roster.authority)):
        _, digest = open_envelope(data, "roster", authority.keys, threshold=authority.threshold)
    if successor is None and roster.authority != pinned:
        raise TrustError(
            "roster hands over to another authority", field="authorities", value=roster.authority.words, limit=pinned.words,
            remedy="get the new card, compare its fingerprint by telephone, then give it: --authority FILE",
        )  # fmt: skip
    if successor is not None and roster.authority != successor:
        raise TrustError(
            "roster is not of the authority whose card was given", field="authorities", value=roster.authority.words,
            limit=successor.words, remedy="compare the card's fingerprint with its holders by telephone",
        )  # fmt: skip
    if roster.version < newer_than:
        raise TrustError(
            "roster is older than the one accepted here",
            field="version",
            value=roster.version,
            limit=newer_than,
            remedy="ask the authority for the current roster",
        )
    return roster, digest


def open_as_named(data: bytes) -> tuple[Roster, str]:
    """(roster, digest), verified by the authority that it names itself: for who pins none. Raises `TrustError`."""
    return open_roster(data, parse(Roster, peek(data, "roster"), "roster").authority)


def signatures(data: bytes, roster: Roster) -> list[tuple[Authority, tuple[bytes, ...]]]:
    """For each authority that must sign the roster, those of its keys whose signature verifies."""
    return [(authority, signers(data, "roster", authority.keys)) for authority in roster.signing]


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
        "authority": roster.authority.facts(),
        "sites": {m.name: fingerprint(bytes.fromhex(m.identity)) for m in roster.members},
        "operator": fingerprint(bytes.fromhex(roster.server.operator)),
        "server": fingerprint(bytes.fromhex(roster.server.server)),
        "superlink": roster.server.superlink,
        "corrupt_sites_tolerated": roster.corrupt,
    }
