from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from tests_commands import edit
from tests_material import small_plan
from tests_tasks import plan as task_plan

from client import approval
from client.policy import DEFAULT_POLICY, SitePolicy, check_plan, largest_share
from client.pretrain import pretrain_alone, quote_alone
from client.site_service import SiteService
from client.study import store_plan
from deploy.console import rows_to_text
from ssl_core.config import parse
from ssl_core.errors import ConfigError, DataError, PolicyError, PrivacyError, ProtocolError, StateError, TransportError
from ssl_core.parcel import Parcel
from ssl_core.session import open_approval


def test_the_default_policy_is_valid_and_names_every_limit() -> None:
    assert set(tomllib.loads(DEFAULT_POLICY)) == set(SitePolicy.model_fields)
    parse(SitePolicy, tomllib.loads(DEFAULT_POLICY), "policy")


def test_a_plan_whose_sum_would_be_one_sites_update_is_refused(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    sizes = {"site-a": 20000, "site-b": 1, "site-c": 1, "site-d": 1}
    lopsided = [{"name": name, "nominal_size": size} for name, size in sizes.items()]
    plan_hash = federation.launch(sites=lopsided)
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    with pytest.raises(PolicyError, match="largest share of a sum"):
        store_plan(federation.site("site-b"), plan).approve("person")


def test_a_delta_for_life_of_one_patient_in_the_sites_size_or_more_is_refused(make_federation: Callable[..., Any]) -> None:
    """At delta 1 / N whole records of one patient in N could be published: whatever the plan's own delta is."""
    federation = make_federation(3, patients=6)
    home = federation.site("site-a")
    sizes = {"site-a": 50000, "site-b": 30000, "site-c": 30000}
    plan_hash = federation.launch(sites=[{"name": name, "nominal_size": size} for name, size in sizes.items()])
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    with pytest.raises(PolicyError, match=r"field: policy delta; value: 3e-05; limit: .*size = 2e-05; remedy: set a smaller"):
        store_plan(home, plan).check()
    with pytest.raises(PolicyError, match="policy delta"):
        check_plan(store_plan(home, plan).plan, home.policy.model_copy(update={"delta": 2e-5}), "site-a")
    # Of another site's size nothing is asked here, and of a smaller delta neither.
    store_plan(federation.site("site-b"), plan).check()
    policy = (home.root / "policy.toml").read_text()
    (home.root / "policy.toml").write_text(policy.replace("delta = 3e-5", "delta = 1.9e-5"))
    store_plan(federation.site("site-a"), plan).check()
    alone = federation.root / "alone.toml"
    body = small_plan(["site-a"], alone=True, rounds__max_void=0, sites=[{"name": "site-a", "nominal_size": 60000}])
    alone.write_text(tomli_w.dumps(body))
    with pytest.raises(PolicyError, match="policy delta"):
        quote_alone(federation.site("site-a"), alone)


def test_the_share_counts_the_lightest_survivors(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan = store_plan(
        federation.site("site-a"), (federation.operator.study(federation.launch()) / "plan.json").read_bytes()
    ).plan
    sizes = zip(plan.sites, (50, 20, 20, 10), strict=True)
    heavy = plan.model_copy(update={"sites": tuple(s.model_copy(update={"nominal_size": n}) for s, n in sizes)})
    # n = 4, c = 1: m = 3 survivors; the heaviest beside the two lightest: 50 / (50 + 10 + 20).
    assert largest_share(heavy, 1) == pytest.approx(50 / 80)
    assert largest_share(plan, 1) == pytest.approx(1 / 3)


@pytest.mark.parametrize("purpose", ["ok\nepsilon of this study  0.01", "ok \x1b[8m", "ok \u202e kcab"])
def test_a_purpose_cannot_forge_the_consent_screen(make_federation: Callable[..., Any], purpose: str) -> None:
    federation = make_federation(3)
    with pytest.raises(ConfigError, match="purpose"):
        federation.launch(purpose=purpose)
    assert "\n" not in rows_to_text([("a", purpose)]) and "\x1b" not in rows_to_text([("a", purpose)])


def test_a_roster_accepted_later_stops_a_running_study(make_federation: Callable[..., Any]) -> None:
    from ssl_core.chain import write_durably
    from ssl_core.trust.roster import sign_roster

    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    service = SiteService(federation.root / "site-a")
    roster, _ = federation.site("site-a").roster()
    newer = sign_roster(roster.model_copy(update={"version": 2}), [federation.authority])
    federation.site("site-a").install_roster(newer)
    write_durably(federation.root / "site-a" / "roster.json", newer)
    with pytest.raises(PolicyError, match="another roster"):
        service.handle(Parcel("UNMASK", bytes.fromhex(plan_hash) + b"x" * 40))


def test_weights_that_are_not_finite_are_refused_before_anything_is_kept(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    service = SiteService(federation.root / "site-a")
    weights = np.full(4, np.nan, np.float32)
    with pytest.raises(ProtocolError, match="finite"):
        service.handle(Parcel("KEYS", bytes.fromhex(plan_hash) + b"x" * 40, weights))
    assert federation.site("site-a").chain.entries("commit") == []


def test_approval_by_rule_leaves_bad_data_to_a_person(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    policy = (home / "policy.toml").read_text().replace("auto_approve_epsilon = 0.0", "auto_approve_epsilon = 9.0")
    (home / "policy.toml").write_text(policy)
    table = federation.root / "data" / "site-a" / "reports.csv"
    good = table.read_text()
    table.write_text("patient,text\n,no patient here\n")
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    service = SiteService(home)
    identity = federation.site("site-a").identity.public

    def status() -> str:
        return open_approval(service.handle(Parcel("INVITE", plan)).body, identity, plan_hash).status

    assert status() == "waiting"
    table.write_text(good)
    assert status() == "waiting"
    assert federation.site("site-a").chain.entries("reserve") == []


def test_a_delta_for_life_too_great_for_the_true_size_is_said_whatever_the_plan_declares(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who declares one patient here passes the policy's check at any delta."""
    federation = make_federation(3, patients=6)
    home, plan = federation.site("site-a"), small_plan(["site-a"], alone=True)
    one = [{"name": name, "nominal_size": 1} for name in federation.names]
    plan_hash = federation.launch(sites=one)
    study = store_plan(home, (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    study.check()
    assert approval.delta_lines(3e-5, 33_333) == []
    (warning,) = approval.delta_lines(3e-5, 33_334)
    assert warning.startswith("WARNING: the delta for life of policy.toml, 3e-05, is not below 1 in 33334 patients")

    monkeypatch.setattr(approval, "delta_lines", lambda delta, patients: [f"{delta} of {patients}"])
    assert "3e-05 of 6" in approval.prepare(study)[0]
    plan["rounds"] |= {"max_void": 0, "rounds": 1}
    (federation.root / "alone.toml").write_text(tomli_w.dumps(plan))
    told = list[str]()
    pretrain_alone(home, federation.root / "alone.toml", None, lambda lines, _: bool(told.extend(lines)))
    assert "3e-05 of 6" in told


def write_images(folder: Path, patients: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (patients, 16, 16)).astype(np.uint8)
    np.savez(folder / "images.npz", images=pixels, patient=np.array([f"p{number}" for number in range(patients)]))
    source = {"kind": "npz", "path": "images.npz", "image_field": "images", "patient_field": "patient"}
    (folder / "source.toml").write_text(tomli_w.dumps(source))


@pytest.mark.parametrize(("patients", "status"), [(24, "approved"), (25, "waiting")])
def test_approval_by_rule_leaves_a_site_that_outgrows_its_buckets_to_a_person(
    make_federation: Callable[..., Any], patients: int, status: str
) -> None:
    """Declined, it would tell the server on which side of three nominal sizes the number of patients lies."""
    federation = make_federation(4)
    body = task_plan(("image", "resnet", "simclr-buckets"), 1).model_dump(mode="json")
    changes = {name: body[name] for name in ("data", "encoder", "objective")}
    sites = [{"name": name, "nominal_size": 8} for name in federation.names]
    plan_hash = federation.launch(**changes, sites=sites, privacy__noise_multiplier=40.0)
    home = federation.root / "site-a"
    edit(home / "policy.toml", auto_approve_epsilon=9.0)
    write_images(federation.root / "data" / "site-a", patients)
    answer = SiteService(home).handle(Parcel("INVITE", (federation.operator.study(plan_hash) / "plan.json").read_bytes()))
    assert open_approval(answer.body, federation.site("site-a").identity.public, plan_hash).status == status


FOUND = [error("what is wrong") for error in (DataError, ConfigError, PrivacyError, StateError, TransportError)]
"""By a check; what nobody foresaw stands beside it."""


@pytest.mark.parametrize("error", [*FOUND, MemoryError("p7"), ValueError("row of p7")], ids=lambda error: type(error).__name__)
def test_approval_by_rule_leaves_whatever_the_records_bring_up_to_a_person(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """An empty DECLINED would be a third answer that depends on the records."""
    federation = make_federation(4)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    edit(home / "policy.toml", auto_approve_epsilon=9.0)

    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("ssl_core.data.check.check_and_load", fails)
    answer = SiteService(home).handle(Parcel("INVITE", (federation.operator.study(plan_hash) / "plan.json").read_bytes()))
    assert open_approval(answer.body, federation.site("site-a").identity.public, plan_hash).status == "waiting"
    assert "waits for a person" in caplog.text and "p7" not in caplog.text


def test_plans_parse_with_plain_words(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch(purpose="Ärzte: reports, 2026 (pilot)")
    plan = store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes()).plan
    assert plan.purpose.startswith("Ärzte")
