"""A small federation on disk: real state folders, keys, roster, ledgers and journals; messages cross in this process."""

from __future__ import annotations

import csv
import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.home import SiteHome, create_site
from client.site_service import SiteService
from client.study import Study, store_plan
from server.home import OperatorHome, create_operator
from server.launch import sign_plan, store_study
from ssl_core.chain import write_durably
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_request, sign_roster

WORDS = [f"{a}{b}" for a in ("lung", "heart", "rib", "left", "right", "no", "new") for b in ("", "ic", "al", "ous")]


def write_reports(folder: Path, *, patients: int = 40, seed: int = 0, skip: int | None = None) -> Path:
    """A table of texts of `patients` patients with one to three reports, and the TOML that declares it."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "text"])
        for number in range(patients):
            texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(draw.randint(1, 3))]
            if number != skip:
                writer.writerows([f"p{number}", text] for text in texts)
    source = {"kind": "table", "path": "reports.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    (folder / "source.toml").write_text(tomli_w.dumps(source))
    return folder / "source.toml"


def small_plan(names: list[str], **changes: Any) -> dict[str, Any]:
    """The demo's plan made small; `privacy__delta=...` changes one value."""
    plan = tomllib.loads((files("deploy") / "studies" / "reports.toml").read_text())
    plan["data"] |= {"words": 8, "codes": 1, "buckets": 32}
    plan["encoder"]["width"] = 8
    plan["rounds"] |= {"rounds": 3, "steps_per_round": 2, "min_sites": 3, "max_void": 2, "patience_s": 20.0}
    plan["privacy"] |= {"sampling_rate": 0.1, "noise_multiplier": 2.0}
    plan["sites"] = [{"name": name, "nominal_size": 40} for name in sorted(names)]
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            plan[part][name] = value
        else:
            plan[part] = value
    return plan


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
        """What `choral site approve` records at every site."""
        plan = (self.operator.study(plan_hash) / "plan.json").read_bytes()
        for name in self.names:
            store_plan(self.site(name), plan).approve("person")

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
