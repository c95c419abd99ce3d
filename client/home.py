"""A site's state folder: where everything that must survive stands, and how it is opened.

site.toml       name, first authority, data source, speed           policy.toml   this hospital's own limits
watch.toml      labels for the watch's probe, where a person wrote it
identity.key    Ed25519, mode 0600     supernode.key(.pub)  P-384    join-request.json  to the authority
roster.json     the accepted roster    chain.db(.head)  ledger, journal, approvals, receipts, members, rosters (one chain)
keys/           of each open study: epoch keys, chains, copy of the records, optimizer state; never backed up
studies/<plan hash>/  plan, uploads
encoders/       what studies gave      logs/     run/   socket, secret, lock

Outside it, in the folder that CHORAL_ANCHORS names (else this user's state folder): <chain id>.head, the log's anchor, and
<site>/units.db, units.key, which cohort each patient belongs to. They are kept for life, on a disk that survives.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
import tomli_w
from pydantic import Field

from client.policy import DEFAULT_POLICY, SitePolicy
from ssl_core.chain import Chain, write_durably
from ssl_core.config import Name, PublicHex, SpeedSpec, parse, read_toml
from ssl_core.data.reading import Effort
from ssl_core.errors import ConfigError, StateError, TrustError
from ssl_core.privacy.cohorts import UnitTable
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.authority import Authority, authority_of
from ssl_core.trust.certificates import generate_node_key
from ssl_core.trust.identity import Identity, fingerprint, write_private
from ssl_core.trust.roster import AuthorityKeys, JoinRequest, Roster, open_roster, sign_request

ANCHOR_VARIABLE = "CHORAL_ANCHORS"


class SiteConfig(StrictModel):
    """site.toml: what this site is; nothing here changes the guarantee."""

    name: Name
    chain_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    authorities: tuple[PublicHex, ...] = Field(min_length=1)
    threshold: int = Field(ge=1, default=1)
    source: str | None = None
    speed: SpeedSpec = SpeedSpec()


@dataclass(frozen=True)
class SiteHome:
    """An existing state folder; raises `StateError` when `root` is none."""

    root: Path

    def __post_init__(self) -> None:
        # What is started from here runs elsewhere, and flwr refuses a relative path of a certificate.
        object.__setattr__(self, "root", self.root.absolute())
        if not (self.root / "site.toml").is_file():
            raise StateError(
                "folder is not a site's state folder",
                field="home",
                value=str(self.root),
                remedy="run: choral site init NAME --authority FILE --home FOLDER",
            )

    @cached_property
    def config(self) -> SiteConfig:
        """site.toml, validated."""
        return read_toml(SiteConfig, self.root / "site.toml", "site")

    @property
    def policy(self) -> SitePolicy:
        """policy.toml, read anew each time: a hospital's change counts at once."""
        return read_toml(SitePolicy, self.root / "policy.toml", "policy")

    @cached_property
    def identity(self) -> Identity:
        """The site's Ed25519 key."""
        return Identity.load(self.root / "identity.key")

    @cached_property
    def chain(self) -> Chain:
        """The one durable log, verified against its head and its anchor outside this folder."""
        return Chain(self.root / "chain.db", anchor=anchor_path(self.config.chain_id))

    @property
    def units(self) -> UnitTable:
        """Which cohort each patient belongs to; outside this folder, so that a folder made anew finds it (ruling 21)."""
        return UnitTable(_anchors() / self.config.name, self.config.chain_id)

    @property
    def source_path(self) -> Path:
        """The declared data source; `ConfigError` when none is declared."""
        if self.config.source is None:
            raise ConfigError(
                "no data source is declared", field="source", remedy=f'add source = "..." to {self.root / "site.toml"}'
            )
        path = Path(self.config.source)
        return path if path.is_absolute() else self.root / path

    @property
    def effort(self) -> Effort:
        """How this site reads its files; records that do not fit in memory lie in this folder meanwhile, without a name."""
        return Effort(workers=self.config.speed.workers, scratch=self.root)

    def study(self, plan_hash: str) -> Path:
        """The folder of one study."""
        return self.root / "studies" / plan_hash

    @property
    def authority(self) -> Authority:
        """Who signs rosters for this site: the card of `choral site init`, or the one that was accepted since."""
        changes = self.chain.entries("authority")
        if not changes:
            return authority_of((bytes.fromhex(key) for key in self.config.authorities), self.config.threshold)
        return parse(AuthorityKeys, changes[-1].body, "authority").authority

    def roster(self) -> tuple[Roster, str]:
        """The accepted roster and its digest; `TrustError` when none was accepted, or the file is another."""
        path = self.root / "roster.json"
        if not path.is_file():
            raise TrustError("no roster was accepted yet", remedy="run: choral site accept --roster FILE")
        roster, digest = self.verify_roster(path.read_bytes())
        accepted = self.chain.entries("roster")
        if not accepted or accepted[-1].body["digest"] != digest:
            raise TrustError(
                "roster was not accepted here by a person", field="roster.json", value=f"version {roster.version}",
                remedy="run: choral site accept --roster FILE",
            )  # fmt: skip
        return roster, digest

    def verify_roster(self, data: bytes, successor: Authority | None = None) -> tuple[Roster, str]:
        """Check a roster against the pinned authority, the last accepted version and this site's own keys.

        `successor`: the card of the authority that the roster may hand over to, given by a person here.
        """
        versions = {entry.body["version"]: entry.body["digest"] for entry in self.chain.entries("roster")}
        newest = max(versions, default=0)
        roster, digest = open_roster(data, self.authority, successor=successor, newer_than=newest)
        if versions.get(roster.version, digest) != digest:
            raise TrustError(
                "two rosters carry one version", field="version", value=f"{roster.version}, digest {digest[:16]}",
                limit=f"digest {versions[roster.version][:16]}, accepted here",
                remedy="tell the holders of the authority: they must agree on one, and sign the next version",
            )  # fmt: skip
        mine = roster.member(self.config.name)
        if mine.identity != self.identity.public_hex:
            raise TrustError(
                "roster lists another key for this site",
                field=self.config.name,
                value=fingerprint(bytes.fromhex(mine.identity)),
                limit=fingerprint(self.identity.public),
                remedy="tell the authority at once",
            )
        return roster, digest

    def install_roster(self, data: bytes, successor: Authority | None = None) -> Roster:
        """Accept a newer (or the same) roster; durable before it counts.

        Whoever is not on it, or has another key there, is accepted no more.
        """
        with self.chain.transaction():
            roster, digest = self.verify_roster(data, successor)
            if digest not in {entry.body["digest"] for entry in self.chain.entries("roster")}:
                if roster.authority != self.authority:
                    keys = [key.hex() for key in roster.authority.keys]
                    self.chain.append("authority", {"authorities": keys, "threshold": roster.threshold})
                self.chain.append("roster", {"version": roster.version, "digest": digest})
                listed = {member.name: member.identity for member in roster.members}
                for name, identity in sorted(self.accepted().items()):
                    if listed.get(name) != identity:
                        self.chain.append("member", {"name": name, "identity": None})
        write_durably(self.root / "roster.json", data)
        return roster

    def accept_member(self, name: str, claimed: str) -> None:
        """Record that a person here compared `name`'s fingerprint; `TrustError` when the roster says another."""
        roster, _ = self.roster()
        check_fingerprint(roster, name, claimed)
        if self.accepted().get(name) != roster.member(name).identity:
            self.chain.append("member", {"name": name, "identity": roster.member(name).identity})

    def accepted(self) -> dict[str, str]:
        """Name -> identity key of the members that a person here accepted, this site included."""
        members = {entry.body["name"]: entry.body["identity"] for entry in self.chain.entries("member")}
        return {name: key for name, key in members.items() if key is not None} | {self.config.name: self.identity.public_hex}

    def once_accepted(self) -> dict[str, str]:
        """Name -> the last identity key that was accepted here, whether or not it counts now."""
        given = [entry.body for entry in self.chain.entries("member") if entry.body["identity"] is not None]
        return {body["name"]: body["identity"] for body in given}


def check_fingerprint(roster: Roster, name: str, claimed: str) -> None:
    """Raise `TrustError` unless `claimed` is what the roster says of `name`."""
    found = roster.fingerprint(name)
    if claimed.strip().lower() != found:
        raise TrustError(
            "fingerprint is not the one on the roster",
            field=name,
            value=claimed,
            limit=found,
            remedy="telephone that hospital; do not accept it",
        )


def create_site(root: Path, name: str, authorities: list[bytes], threshold: int, source: str | None) -> SiteHome:
    """Make a state folder with fresh keys, a default policy, an empty chain and a signed join request."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise StateError("folder is not empty", field="home", value=str(root), remedy="name a new folder")
    config = {
        "name": name,
        "chain_id": secrets.token_hex(16),
        "authorities": [key.hex() for key in authorities],
        "threshold": threshold,
        **({"source": source} if source else {}),
    }
    parse(SiteConfig, config, "site")  # before anything is written
    authority_of(authorities, threshold)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(root, 0o700)
    for folder in ("keys", "studies", "encoders", "logs", "run"):
        (root / folder).mkdir(mode=0o700)
    identity = Identity.generate()
    identity.save(root / "identity.key")
    private, public = generate_node_key()
    write_private(root / "supernode.key", private.reveal())
    (root / "supernode.pub").write_text(public + "\n")
    (root / "policy.toml").write_text(DEFAULT_POLICY)
    request = JoinRequest(name=name, identity=identity.public_hex, supernode=public)
    (root / "join-request.json").write_bytes(sign_request(request, identity))
    Chain(root / "chain.db", anchor=anchor_path(str(config["chain_id"])), create=True).close()
    write_durably(root / "site.toml", tomli_w.dumps(config).encode())
    return SiteHome(root)


def anchor_path(chain_id: str) -> Path:
    """Where the chain's head is kept a second time, outside the state folder (ruling 20)."""
    return _anchors() / f"{chain_id}.head"


def _anchors() -> Path:
    folder = os.environ.get(ANCHOR_VARIABLE)
    return Path(folder) if folder else platformdirs.user_state_path("choral") / "anchors"
