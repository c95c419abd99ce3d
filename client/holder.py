"""One holder of the hospitals' authority: his key, the set of keys that was agreed, and the last roster that he signed.

authority.key       Ed25519, mode 0600      authority.pub        its public half, an authority of its own (1 of 1)
authority-card.pub  the agreed k of m, where there are several holders
last-roster.json    the last roster signed here, written before its signature leaves

Comes in: a roster made here or by another holder. Goes out: the same payload with this holder's signature. A holder's
versions only rise, and he signs one payload of a version: so of two rosters of one version at most one can ever gather
k signatures, as long as fewer than 2k - m holders break the rule. Raises `TrustError`, `StateError`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from ssl_core.chain import write_durably
from ssl_core.config import parse
from ssl_core.errors import ConfigError, StateError, TrustError
from ssl_core.trust.authority import Authority, authority_of, read_authority
from ssl_core.trust.envelope import add_signature, canonical, digest, open_envelope, peek
from ssl_core.trust.identity import Identity, fingerprint
from ssl_core.trust.roster import AuthorityKeys, JoinRequest, Roster, ServerIdentity, sign_roster

_LAST = "last-roster.json"
_CARD = "authority-card.pub"


@dataclass(frozen=True)
class Holder:
    """An existing authority's folder."""

    root: Path

    @cached_property
    def identity(self) -> Identity:
        """This holder's key."""
        return Identity.load(self.root / "authority.key")

    @property
    def card(self) -> Path:
        """Where the agreed authority stands; absent while this holder's key is the only one."""
        return self.root / _CARD

    @property
    def authority(self) -> Authority:
        """Who signs the rosters that are made or signed here."""
        return read_authority(self.card) if self.card.is_file() else authority_of([self.identity.public], 1)

    @property
    def last(self) -> tuple[Roster, str] | None:
        """The last roster that was signed here, and its digest."""
        path = self.root / _LAST
        if not path.is_file():
            return None
        body, found = open_envelope(path.read_bytes(), "roster", [self.identity.public])
        return parse(Roster, body, "roster"), found

    def agree(self, authority: Authority) -> None:
        """Keep an agreed set of keys. This key must be in it, or in the one that it follows: a holder may leave."""
        followed = [self.authority] if self.card.is_file() else []
        if (last := self.last) is not None:
            followed.append(last[0].authority)
        if not any(self.identity.public in of.keys for of in (authority, *followed)):
            raise TrustError(
                "this holder's key is not among those given", field="authorities", value=authority.words,
                limit=fingerprint(self.identity.public), remedy=f"give {self.root / 'authority.pub'} too",
            )  # fmt: skip
        write_durably(self.card, authority.text.encode())

    def draft(
        self, requests: Sequence[JoinRequest], server: ServerIdentity | None, base: Roster | None, leaving: Sequence[str]
    ) -> bytes:
        """An unsigned roster of the next version.

        Without `base` of exactly the hospitals that ask; with it, of its hospitals but those `leaving`, and of those that
        ask, whose keys replace what the base says of their names. Where the agreed authority is not the base's (or, without
        one, not that of the last roster signed here), the roster hands over to it.
        """
        kept: list[JoinRequest] = []
        if base is not None:
            for name in leaving:
                base.member(name)
            gone = {*leaving, *(request.name for request in requests)}
            kept = [member for member in base.members if member.name not in gone]
        server = server or (base.server if base is not None else None)
        if server is None:
            raise ConfigError("operator's card is missing", field="--server", remedy="give server-card.json, or --from ROSTER")
        last = self.last
        before = base if base is not None else (last[0] if last is not None else None)
        replaced = None
        if before is not None and before.authority != self.authority:
            replaced = AuthorityKeys(authorities=before.authorities, threshold=before.threshold)
        try:
            roster = Roster(
                version=max(base.version if base else 0, last[0].version if last else 0) + 1,
                authorities=tuple(key.hex() for key in self.authority.keys),
                threshold=self.authority.threshold,
                replaces=replaced,
                server=server,
                members=tuple(sorted([*kept, *requests], key=lambda member: member.name)),
            )
        except ValidationError as error:
            raise TrustError(
                f"roster is not possible: {error.errors(include_url=False)[0]['msg']}",
                field="members",
                value=len(kept) + len(requests),
                limit="at least 3 sites, each with a name and keys of its own",
            ) from error
        return sign_roster(roster, [])

    def check(self, data: bytes) -> Roster:
        """Raise `TrustError` unless this holder may sign `data`; the roster in it."""
        body = peek(data, "roster")
        roster: Roster = parse(Roster, body, "roster")
        if roster.authority != self.authority:
            raise TrustError(
                "roster names another authority than the one agreed here", field="authorities", value=roster.authority.words,
                limit=self.authority.words,
                remedy="if the holders agreed on it: choral authority init FILES --threshold K; else do not sign it",
            )  # fmt: skip
        if not any(self.identity.public in authority.keys for authority in roster.signing):
            raise TrustError(
                "this holder's key does not count for the roster", field="authorities",
                value=fingerprint(self.identity.public), limit=", ".join(authority.words for authority in roster.signing),
            )  # fmt: skip
        if (last := self.last) is not None:
            _check_version(roster, digest_of(data), *last)
        return roster

    def sign(self, data: bytes) -> bytes:
        """The same payload with this holder's signature, kept durably before it is returned."""
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Two commands at once would each find the other's roster not signed yet.
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.check(data)
            signed = add_signature(data, "roster", self.identity)
            write_durably(self.root / _LAST, signed)
        finally:
            os.close(folder)
        return signed


def create_holder(root: Path) -> Holder:
    """Make a folder with a fresh key."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise StateError("folder is not empty", field="home", value=str(root), remedy="name a new folder")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = Identity.generate()
    identity.save(root / "authority.key")
    (root / "authority.pub").write_text(authority_of([identity.public], 1).text)
    return Holder(root)


def combine(files: Sequence[Path], threshold: int) -> Authority:
    """The authority of which each file holds one key; raises `ConfigError`, `TrustError`."""
    keys: list[bytes] = []
    for path in files:
        single = read_authority(path)
        if len(single.keys) != 1:
            raise ConfigError(
                "file holds several keys", field="path", value=str(path), limit="one holder's authority.pub",
                remedy="give every holder's own file",
            )  # fmt: skip
        keys += single.keys
    return authority_of(keys, threshold)


def digest_of(data: bytes) -> str:
    """SHA-256 hex of an envelope's payload, its signatures left aside."""
    return digest(canonical(peek(data, "roster")))


def _check_version(roster: Roster, found: str, last: Roster, signed: str) -> None:
    if roster.version < last.version:
        raise TrustError(
            "roster is older than the last one signed here", field="version", value=roster.version, limit=last.version,
            remedy="ask the holder who made it for a newer one",
        )  # fmt: skip
    if roster.version == last.version and found != signed:
        raise TrustError(
            "another roster of this version was signed here", field="version", value=f"{roster.version}, digest {found[:16]}",
            limit=f"digest {signed[:16]}",
            remedy="agree with the other holders which one counts; then make the next version: choral authority sign "
            "--from ROSTER",
        )  # fmt: skip
