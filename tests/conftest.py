"""A small federation on disk: real state folders, keys, roster, ledgers and journals; messages cross in this process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_material import small_plan, write_reports

from client.home import SiteHome, create_site
from client.isolation import keep_checked, pace_of
from client.site_service import SiteService
from client.study import Study, store_plan
from server.home import OperatorHome, create_operator
from server.launch import sign_plan, store_study
from ssl_core.chain import write_durably
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_request, sign_roster


@dataclass
class Federation:
    """Folders under `root`; `services` answer for the sites as their executors would."""

    root: Path
    names: list[str]
    authority: Identity = field(default_factory=Identity.generate)

    @property
    def operator(self) -> OperatorHome:
        return OperatorHome(self.root / "operator")

    def site(self, name: str) -> SiteHome:
        return SiteHome(self.root / name)

    def launch(self, **changes: Any) -> str:
        """Sign and store a study; returns its hash."""
        path = self.root / "plan.toml"
        path.write_text(tomli_w.dumps(small_plan(self.names, **changes)))
        return store_study(self.operator, sign_plan(self.operator, path))

    def invite_and_approve(self, plan_hash: str) -> None:
        """What `choral site approve` records at every site; the isolation check itself is left out, it takes a second each."""
        plan = (self.operator.study(plan_hash) / "plan.json").read_bytes()
        studies = [store_plan(self.site(name), plan) for name in self.names]
        # The same everywhere: all sites have one plan and one site.toml.
        pace = pace_of(studies[0])
        for study in studies:
            keep_checked(study, pace)
            study.approve("person")

    def study(self, name: str, plan_hash: str) -> Study:
        return Study(self.site(name), plan_hash)

    def services(self) -> dict[str, Callable[..., Any]]:
        """Fresh handlers, as after a restart of every executor."""
        return {name: SiteService(self.root / name).handle for name in self.names}


@pytest.fixture
def make_federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Federation]:
    """A factory: `make_federation(4)` sets up authority, operator and sites, every member accepted by every site."""
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))

    def make(count: int, *, patients: int = 40) -> Federation:
        names = [f"site-{letter}" for letter in "abcdefghij"[:count]]
        made = Federation(tmp_path, names)
        create_operator(tmp_path / "operator", ["127.0.0.1"], 9443, "127.0.0.1:9443")
        for number, name in enumerate(names):
            source = write_reports(tmp_path / "data" / name, patients=patients, seed=number)
            create_site(tmp_path / name, name, [made.authority.public], 1, str(source))
        requests = [open_request((tmp_path / name / "join-request.json").read_bytes()) for name in names]
        roster = Roster(
            version=1,
            authorities=(made.authority.public_hex,),
            threshold=1,
            server=made.operator.card,
            members=tuple(requests),
        )
        signed = sign_roster(roster, [made.authority])
        write_durably(tmp_path / "operator" / "roster.json", signed)
        for name in names:
            home = made.site(name)
            home.install_roster(signed)
            for other in names:
                home.accept_member(other, roster.fingerprint(other))
        return made

    return make


@pytest.fixture
def federation(make_federation: Callable[..., Federation]) -> Federation:
    """Three sites with a few patients each."""
    return make_federation(3, patients=6)


@pytest.fixture
def kept_signals() -> Iterator[None]:
    """A daemon's command sets handlers; the test run gets its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
