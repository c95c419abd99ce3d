"""What pauses a hospital's approval by rule, what it then reads, and what puts it on again."""

from __future__ import annotations

import errno
import json
import stat
from typing import Any

import pytest
from tests_commands import edit, run

from client import site_service
from client.budget import site_statement
from client.rule import paused_by, resume_rule
from client.site_service import SiteService
from client.study import Study
from ssl_core.errors import DataError, PolicyError, PrivacyError
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


class Killed(BaseException):
    """A process that ends in the middle: nothing catches it, as nothing catches the end of memory."""


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", [killed, full])
def test_a_check_that_the_records_end_has_paused_the_rule_before_they_were_read(
    federation: Any, looked: list[str], monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    """A process that ran out of memory, or a disk that their copy filled, could not write down any more that it must pause."""
    site = federation.site("site-a")
    large, good = federation.launch(seed=8), federation.launch(seed=9)
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=50.0)
    with monkeypatch.context() as patched:
        honest = site_service.prepare

        def prepare(study: Any) -> Any:
            honest(study)
            patched.setattr("client.rule.write_durably", full)
            how()

        patched.setattr(site_service, "prepare", prepare)
        try:
            assert status(federation, large) == "waiting" and how is full
        except Killed:
            assert how is killed
    assert paused_by(site) == large
    assert [status(federation, each) for each in (large, good)] == ["waiting"] * 2
    assert looked == [large] and not site.chain.entries("reserve")


def test_a_rule_that_was_put_on_again_during_a_check_that_fails_is_paused_by_it(
    federation: Any, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, bad = federation.site("site-a"), federation.launch(seed=7)
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=50.0)
    honest = site_service.prepare

    def prepare(study: Any) -> Any:
        resume_rule(site)
        return honest(study)

    monkeypatch.setattr(site_service, "prepare", prepare)
    assert status(federation, bad) == "waiting" and paused_by(site) == bad and looked == [bad]


def test_an_error_of_the_plan_alone_leaves_it_to_a_person_and_pauses_nothing(
    federation: Any, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever makes a plan that no accountant has an answer for puts every hospital's rule off."""
    site = federation.site("site-a")
    strange, good = federation.launch(seed=8), federation.launch(seed=9)
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0, max_epsilon=50.0)
    honest = Study.quote

    def quote(self: Study) -> Any:
        if self.plan_hash == strange:
            raise PrivacyError("accountant of record has no answer for this schedule", field="schedule")
        return honest(self)

    monkeypatch.setattr(Study, "quote", quote)
    assert status(federation, strange) == "waiting" and looked == [] and paused_by(site) is None
    assert status(federation, good) == "approved" and looked == [good] and paused_by(site) is None


def test_weights_that_are_not_those_of_the_seed_are_declined_and_pause_nothing(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plan_hash = federation.site("site-a"), federation.launch()
    edit(site.root / "policy.toml", auto_approve_epsilon=9.0)

    def prepare(_study: Any) -> Any:
        raise PolicyError("plan starts from other weights than its seed gives, and does not say so", field="initial_weights")

    monkeypatch.setattr(site_service, "prepare", prepare)
    assert status(federation, plan_hash) == "declined" and paused_by(site) is None


CHEAP = {"privacy__sampling_rate": 1e-9, "rounds__rounds": 1, "rounds__steps_per_round": 1, "rounds__max_void": 0}


def test_approved_by_rule_answers_one_new_question_of_the_records_until_a_person_approves(
    federation: Any, looked: list[str]
) -> None:
    """Plans of epsilon 0 are approved without end, uncharged: each would tell that the records are as it asked."""
    site = federation.site("site-a")
    words = [{"kind": "text", "words": count, "codes": 2, "buckets": 64} for count in (8, 9, 10)]
    first, *others = [federation.launch(seed=seed, data=data, **CHEAP) for seed, data in enumerate(words)]
    again = federation.launch(seed=9, data=words[0], **CHEAP)
    sizes = [{"name": name, "nominal_size": 30} for name in federation.names]
    resized = federation.launch(data=words[0], sites=sizes, **CHEAP)
    edit(site.root / "policy.toml", auto_approve_epsilon=1e-6)
    assert status(federation, first) == "approved"
    assert [status(federation, each) for each in (*others, resized)] == ["waiting"] * 3 and looked == [first]
    assert status(federation, again) == "approved" and status(federation, first) == "approved"
    assert looked == [first, again] and paused_by(site) is None
    assert site_statement(site).cohorts[0].totals.spent == 0.0

    said = " ".join(run("site", "status", "--home", site.root).output.split())
    assert said.count("the rule leaves it to a person, since it reads the records in another way") == 3
    assert run("site", "approve", others[0], "--home", site.root, "--yes").exit_code == 0
    assert status(federation, others[1]) == "approved" and looked == [first, again, others[1]]
    assert status(federation, resized) == "waiting"
    last = federation.launch(seed=10, data=words[1], **CHEAP)
    assert status(federation, last) == "approved", "what the person approved is asked again"
