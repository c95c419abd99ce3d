"""The operator's folder: keys, TLS, the roster it relays, studies and releases.

operator.toml  hosts, address      operator.key  signs plans and releases (offline role)   server.key  signs rounds (online)
server-card.json  to the authority roster.json  relayed, never signed here   tls/  CA, certificate, key
accepted.json  which roster and authority count here: the first roster pins its authority, later ones must follow it
studies/<plan hash>/  plan, keys, closed rounds, events.jsonl   releases/<name>/   flwr/ logs/ run/
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tomli_w
from pydantic import Field

from server.superlink import LinkTls
from ssl_core.chain import write_durably
from ssl_core.config import Sha256Hex, parse, read_toml
from ssl_core.errors import StateError, TrustError
from ssl_core.spec.strict import StrictModel
from ssl_core.trust.certificates import issue_server_certificate
from ssl_core.trust.envelope import canonical
from ssl_core.trust.identity import Identity, write_private
from ssl_core.trust.roster import (
    AuthorityKeys,
    Roster,
    ServerIdentity,
    open_as_named,
    open_roster,
    open_server_identity,
    sign_server_identity,
)


class OperatorConfig(StrictModel):
    """operator.toml: where the SuperLink listens on loopback, and the address that sites dial."""

    port: int = Field(ge=1024, le=65535)
    address: str = Field(pattern=r"^[A-Za-z0-9.\-]+:\d{1,5}$")


class AcceptedRoster(AuthorityKeys):
    """accepted.json: the roster that counts here, and the authority that signs the next."""

    version: int = Field(ge=1)
    digest: Sha256Hex


@dataclass(frozen=True)
class OperatorHome:
    """An existing operator folder; raises `StateError` when `root` is none."""

    root: Path

    def __post_init__(self) -> None:
        # What is started from here runs elsewhere, and flwr refuses a relative path of a certificate.
        object.__setattr__(self, "root", self.root.absolute())
        if not (self.root / "operator.toml").is_file():
            raise StateError(
                "folder is not an operator's folder",
                field="home",
                value=str(self.root),
                remedy="run: choral operator init --home FOLDER",
            )

    @cached_property
    def config(self) -> OperatorConfig:
        """operator.toml, validated."""
        return read_toml(OperatorConfig, self.root / "operator.toml", "operator")

    @cached_property
    def operator(self) -> Identity:
        """The key that signs study plans and releases; it can live on another, offline machine."""
        return Identity.load(self.root / "operator.key")

    @cached_property
    def server(self) -> Identity:
        """The key that signs START, CONSENT, CLOSE."""
        return Identity.load(self.root / "server.key")

    @property
    def card(self) -> ServerIdentity:
        """What the authority was shown."""
        return open_server_identity((self.root / "server-card.json").read_bytes())

    @property
    def tls(self) -> LinkTls:
        """The TLS files of the SuperLink."""
        folder = self.root / "tls"
        return LinkTls(ca_certificate=folder / "ca.crt", certificate=folder / "server.crt", private_key=folder / "server.key")

    def study(self, plan_hash: str) -> Path:
        """The folder of one study."""
        return self.root / "studies" / plan_hash

    def studies(self) -> list[str]:
        """Hashes of all studies, oldest first."""
        folder = self.root / "studies"
        if not folder.is_dir():
            return []
        plans = sorted(folder.glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        return [path.parent.name for path in plans]

    @property
    def accepted(self) -> AcceptedRoster | None:
        """The roster that counts here; None before the first was taken."""
        path = self.root / "accepted.json"
        if not path.is_file():
            return None
        try:
            body = json.loads(path.read_bytes())
        except ValueError as error:
            raise StateError(
                "record of the accepted roster is damaged", field="path", value=str(path),
                remedy="delete it: the roster.json beside it is then taken as the first one, so look at that first",
            ) from error  # fmt: skip
        return parse(AcceptedRoster, body, "accepted roster")

    def roster(self) -> tuple[Roster, str]:
        """The relayed roster; `TrustError` when there is none, when it may not follow the accepted one, or when it pins
        other keys than this server's."""
        path = self.root / "roster.json"
        if not path.is_file():
            raise TrustError(
                "the authority's roster is missing",
                field="roster.json",
                remedy="copy the roster that the authority signed into this folder",
            )
        return self.verify_roster(path.read_bytes())

    def verify_roster(self, data: bytes) -> tuple[Roster, str]:
        """Check a roster against the accepted one: the same, or a newer one of its authority or of that one's successor."""
        roster, digest = open_as_named(data)
        accepted = self.accepted
        if accepted is not None:
            open_roster(data, accepted.authority, successor=roster.authority, newer_than=accepted.version)
            if roster.version == accepted.version and digest != accepted.digest:
                raise TrustError(
                    "two rosters carry one version", field="version", value=f"{roster.version}, digest {digest[:16]}",
                    limit=f"digest {accepted.digest[:16]}, accepted here", remedy="ask the holders of the authority",
                )  # fmt: skip
        if roster.server != self.card:
            raise TrustError("roster names another server than this one", field="server", remedy="ask the authority")
        return roster, digest

    def adopt_roster(self, data: bytes | None = None) -> tuple[Roster, str]:
        """Let `data`, or else the roster.json that stands here, count from now on; the same again changes nothing."""
        roster, digest = self.roster() if data is None else self.verify_roster(data)
        if data is not None:
            write_durably(self.root / "roster.json", data)
        if self.accepted is None or self.accepted.digest != digest:
            taken = AcceptedRoster(
                authorities=roster.authorities, threshold=roster.threshold, version=roster.version, digest=digest
            )
            write_durably(self.root / "accepted.json", canonical(taken.model_dump(mode="json")))
        return roster, digest


def create_operator(root: Path, hosts: Sequence[str], port: int, address: str) -> OperatorHome:
    """Make an operator's folder with fresh keys, a certificate for `hosts`, and the signed card for the authority."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise StateError("folder is not empty", field="home", value=str(root), remedy="name a new folder")
    config = {"port": port, "address": address}
    parse(OperatorConfig, config, "operator")  # before anything is written
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(root, 0o700)
    for folder in ("tls", "studies", "releases", "logs", "run"):
        (root / folder).mkdir(mode=0o700)
    operator, server = Identity.generate(), Identity.generate()
    operator.save(root / "operator.key")
    server.save(root / "server.key")
    tls = issue_server_certificate(list(hosts), now=datetime.datetime.now(datetime.UTC))
    (root / "tls" / "ca.crt").write_bytes(tls.ca)
    (root / "tls" / "server.crt").write_bytes(tls.certificate)
    write_private(root / "tls" / "server.key", tls.key.reveal())
    card = ServerIdentity(operator=operator.public_hex, server=server.public_hex, server_ca=tls.ca.decode(), superlink=address)
    (root / "server-card.json").write_bytes(sign_server_identity(card, operator, server))
    write_durably(root / "operator.toml", tomli_w.dumps(config).encode())
    return OperatorHome(root)
