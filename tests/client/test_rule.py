"""What pauses a hospital's approval by rule, what it then reads, and what puts it on again."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from tests_commands import edit, run

from client import site_service
from client.rule import paused_by
from client.site_service import SiteService
from ssl_core.errors import DataError
from ssl_core.parcel import IncomingKind, Parcel
from ssl_core.session import open_approval


def status(federation: Any, plan_hash: str) -> str:
    """The answer of a site that begins anew, to an invitation."""
    home = federation.site("site-a")
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    answer = SiteService(home.root).handle(Parcel(IncomingKind.INVITE, plan))
    return open_approval(answer.body, home.identity.public, plan_hash).status


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hashes of the studies whose records were checked; those of `bad` seeds are not passed."""
    seen, honest = list[str](), site_service.prepare

    def prepare(study: Any) -> Any:
        seen.append(study.plan_hash)
        if study.plan.seed == 7:
            raise DataError("more records are bad than the source declares", field="max_bad_share")
        return honest(study)

    monkeypatch.setattr(site_service, "prepare", prepare)
    return seen


def test_after_one_waiting_that_the_records_brought_about_the_rule_reads_nothing_until_a_person_acts(
    federation: Any, looked: list[str]
) -> None:
    site = federation.site("site-a")
    bad, good, later = federation.launch(seed=7), federation.launch(seed=8), federation.launch(seed=9)
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=50.0)
    assert status(federation, bad) == "waiting" and looked == [bad] and paused_by(site) == bad
    for plan_hash in (bad, good, later):
        assert status(federation, plan_hash) == "waiting"
    assert looked == [bad] and not site.chain.entries("reserve")
    assert stat.S_IMODE((site.root / "rule-paused").stat().st_mode) == 0o600

    shown = run("site", "status", "--home", site.root)
    assert f"paused: the check of the records left study {bad[:12]} to a person" in " ".join(shown.output.split())
    assert run("site", "approve", good, "--home", site.root, "--yes").exit_code == 0
    assert paused_by(site) is None and not (site.root / "rule-paused").exists()
    assert json.loads(run("site", "status", "--home", site.root, "--json").stdout)["rule_paused"] is None
    assert status(federation, later) == "approved" and looked == [bad, later]


def test_what_the_plan_alone_decides_pauses_nothing(federation: Any, looked: list[str]) -> None:
    site = federation.site("site-a")
    plan_hash = federation.launch()
    edit(site.root / "policy.toml", auto_approve_epsilon=0.01)
    assert status(federation, plan_hash) == "waiting"
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=0.1)
    assert status(federation, plan_hash) == "declined"
    assert looked == [] and paused_by(site) is None


def test_without_a_rule_nothing_is_paused_and_a_removed_file_puts_it_on_again(federation: Any, looked: list[str]) -> None:
    site = federation.site("site-a")
    bad, good = federation.launch(seed=7), federation.launch(seed=8)
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=50.0)
    assert status(federation, bad) == "waiting"
    edit(site.root / "policy.toml", auto_approve_epsilon=0.0)
    assert paused_by(site) is None
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0)
    assert paused_by(site) == bad
    (site.root / "rule-paused").unlink()
    assert status(federation, good) == "approved"
