"""What comes before what when a study is approved: policy and budget, then data and isolation, then the log again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import tomli_w
import torch
from tests_commands import edit, refused, run
from tests_material import small_plan
from tests_tasks import plan as task_plan

from client import approval
from client.policy import SitePolicy
from client.site_service import SiteService
from client.study import Study, store_plan
from ssl_core.chain import Chain
from ssl_core.config import SpeedSpec
from ssl_core.data import check
from ssl_core.errors import DataError
from ssl_core.parcel import Parcel
from ssl_core.privacy import isolation, ledger
from ssl_core.privacy.statement import Quote
from ssl_core.session import open_approval

SLOW = ((check, "check_and_load"), (approval, "check_study"), (isolation, "check_isolation"))


@pytest.fixture
def invited(federation: Any) -> tuple[Any, str]:
    """A federation, and a study that site-a was invited to."""
    plan_hash = federation.launch()
    store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    return federation, plan_hash


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both slow checks end the test that comes to them."""

    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("a slow check was reached")

    for module, name in SLOW:
        monkeypatch.setattr(module, name, reached)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_epsilon": 0.1}, ("BudgetError", "limit: 0.1 at delta")),
        ({"max_steps": 9}, ("PolicyError", "limit: at most 9")),
        ({"min_sites": 4}, ("PolicyError", "limit: at least 4")),
    ],
)
def test_a_study_that_is_too_dear_is_refused_before_any_record_is_read(
    invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    edit(home / "policy.toml", **changes)
    never(monkeypatch)
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), *words)
    edit(home / "policy.toml", auto_approve_epsilon=9.0)
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    answer = SiteService(home).handle(Parcel("INVITE", plan))
    assert open_approval(answer.body, federation.site("site-a").identity.public, plan_hash).status == "declined"
    assert federation.site("site-a").chain.entries("reserve") == []


def test_accountants_that_disagree_are_found_before_any_record_is_read(
    invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, plan_hash = invited
    never(monkeypatch)
    monkeypatch.setattr("ssl_core.privacy.accountant.epsilon_prv", lambda _schedules, _delta: 0.01)
    refused(run("site", "approve", plan_hash, "--home", federation.root / "site-a", "--yes"), "two accountants disagree")


def test_a_study_of_ones_own_that_is_too_dear_is_refused_before_any_record_is_read(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(["site-a"], alone=True)
    plan["rounds"] |= {"max_void": 0}
    (federation.root / "alone.toml").write_text(tomli_w.dumps(plan))
    edit(federation.root / "site-a" / "policy.toml", max_epsilon=0.01)
    never(monkeypatch)
    home = federation.root / "site-a"
    refused(run("site", "pretrain", federation.root / "alone.toml", "--home", home, "--yes"), "BudgetError", "limit: 0.01")


def lower_limit(federation: Any) -> None:
    edit(federation.root / "site-a" / "policy.toml", max_epsilon=0.1)


def spend(federation: Any) -> None:
    """Another study of the same cost, where the limit leaves room for one."""
    other = federation.launch(seed=9)
    store_plan(federation.site("site-a"), (federation.operator.study(other) / "plan.json").read_bytes()).approve("person")


@pytest.mark.parametrize("meanwhile", [lower_limit, spend])
def test_what_changes_while_the_data_are_checked_still_counts(
    invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Any], None]
) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    cost = Study(federation.site("site-a"), plan_hash).quote().spent_after
    edit(home / "policy.toml", max_epsilon=round(1.3 * cost, 3))
    honest, done = approval.check_study, list[bool]()

    def checked(*args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(True)
            meanwhile(federation)
        return honest(*args, **kwargs)

    monkeypatch.setattr(approval, "check_study", checked)
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), "BudgetError", "epsilon for life after this study")
    log = federation.site("site-a").chain
    assert done and plan_hash not in {entry.body["study"] for entry in log.entries("reserve")}
    assert plan_hash not in {entry.body["plan"] for entry in log.entries("approval")}
    assert not (home / "keys" / plan_hash / "patients.npz").exists()


@pytest.mark.parametrize("alone", [False, True])
def test_numbers_that_changed_while_the_question_stood_are_not_approved(
    invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Another study was approved, and another plan written, where a person was still looking at the old numbers."""
    federation, plan_hash = invited
    home, plan = federation.root / "site-a", federation.root / "alone.toml"
    body = tomllib.loads((federation.root / "plan.toml").read_text())
    body |= {"alone": True, "sites": [{"name": "site-a", "nominal_size": 40}]}
    body["rounds"] |= {"max_void": 0}
    plan.write_text(tomli_w.dumps(body))

    def answer(yes: bool, _question: str) -> None:
        assert not yes
        if alone:
            body["privacy"] |= {"noise_multiplier": 0.5 * body["privacy"]["noise_multiplier"]}
            plan.write_text(tomli_w.dumps(body))
        else:
            spend(federation)

    monkeypatch.setattr(approval, "confirm", answer)
    monkeypatch.setattr(approval, "check_study", lambda *_: SimpleNamespace(why=""))
    command = ("pretrain", plan) if alone else ("approve", plan_hash)
    field = "epsilon of this study" if alone else "spent before / after"
    refused(run("site", *command, "--home", home), "StateError", f"field: {field}", "as it was shown")
    log = federation.site("site-a").chain
    assert len(log.entries("reserve")) == (0 if alone else 1)
    assert plan_hash not in {entry.body["study"] for entry in log.entries("reserve")}


def test_no_accountant_works_while_the_sites_log_is_held(invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    federation, plan_hash = invited
    home = federation.site("site-a")
    held: list[bool] = []
    for name in ("checked_epsilon", "epsilon", "epsilon_rdp"):
        real = getattr(ledger, name)

        def reckon(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            held.append(home.chain._database.in_transaction)
            return _real(*args, **kwargs)

        monkeypatch.setattr(ledger, name, reckon)
    Study(home, plan_hash).approve("person")
    assert held and not any(held)
    assert [e.kind for e in home.chain.entries()][-2:] == ["reserve", "approval"]


def test_the_isolation_check_runs_as_the_site_trains(invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    edit(home / "site.toml", speed={"chunk": 7, "threads": 2, "device": "cuda"})
    words = ("ConfigError", "no CUDA device", "speed.device")
    refused(run("site", "approve", plan_hash, "--home", home, "--yes"), *words)
    plan = small_plan(["site-a"], alone=True)
    plan["rounds"] |= {"max_void": 0}
    (federation.root / "alone.toml").write_text(tomli_w.dumps(plan))
    refused(run("site", "pretrain", federation.root / "alone.toml", "--home", home, "--yes"), *words)
    assert federation.site("site-a").chain.entries("reserve") == []
    edit(home / "site.toml", speed={"chunk": 7, "threads": 2})
    asked: list[SpeedSpec] = []
    honest = isolation.check_isolation

    def checked(plan: Any, *, speed: SpeedSpec, declared: Any, nominal_size: int) -> Any:
        asked.append(speed)
        assert declared.path == "reports.csv", "files like the site's own are tried"
        assert nominal_size == plan.nominal_size("site-a"), "and batches of the shape of its own"
        return honest(plan, speed=speed, declared=declared, nominal_size=nominal_size)

    monkeypatch.setattr(isolation, "check_isolation", checked)
    assert run("site", "approve", plan_hash, "--home", home, "--yes").exit_code == 0
    assert asked == [SpeedSpec(chunk=7, threads=2)]


def test_a_person_is_told_once_more_that_a_study_is_approved(invited: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    assert run("site", "approve", plan_hash, "--home", home, "--yes").exit_code == 0
    entries = federation.site("site-a").chain.entries()
    never(monkeypatch)
    again = run("site", "approve", plan_hash, "--home", home)
    assert again.exit_code == 0 and "approved already" in again.output
    assert json.loads(run("site", "approve", plan_hash, "--home", home, "--json").stdout)["approved"] is True
    assert federation.site("site-a").chain.entries() == entries


def test_the_ledger_says_under_which_limit_each_study_was_admitted(invited: tuple[Any, str]) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    assert run("site", "approve", plan_hash, "--home", home, "--yes").exit_code == 0
    edit(home / "policy.toml", max_epsilon=12.0)
    statement = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"][0]
    (rule,) = get_args(SitePolicy.model_fields["composition"].annotation)
    assert rule == ledger.RULE, "policy.toml and the ledger name one rule"
    assert statement["entries"][0]["admitted_under"] == {"max_epsilon": 10.0, "delta": 3e-5, "rule": rule}
    assert statement["limit"] == 12.0
    words = " ".join(run("site", "ledger", "--home", home).output.split())
    assert f"admitted under epsilon 10 at delta 3e-05 for life, by the {rule}" in words
    assert "of 12 at delta 3e-05" in words and "limit for life 12" in words


def test_a_log_of_an_older_version_is_read_and_shown(invited: tuple[Any, str]) -> None:
    federation, plan_hash = invited
    home = federation.root / "site-a"
    chain: Chain = federation.site("site-a").chain
    body = {"study": "c" * 64, "name": "older", "cohort": "all", "unit": "patient", "steps": 4, "delta": 1e-5}
    body |= {"adjacency": "add or remove one patient", "noise_multiplier": 4.0, "sampling_rate": 0.1}
    chain.append("reserve", body)
    assert run("site", "approve", plan_hash, "--home", home, "--yes").exit_code == 0
    entries = json.loads(run("site", "ledger", "--home", home, "--json").stdout)["cohorts"][0]["entries"]
    assert [entry["admitted_under"] is None for entry in entries] == [True, False]
    shown = " ".join(run("site", "ledger", "--home", home).output.split())
    assert "older (cccccccc) admitted under a limit that was not recorded" in shown


def test_a_malformed_quote_is_refused_by_file_and_line_before_the_approval(invited: tuple[Any, str]) -> None:
    federation, plan_hash = invited
    home, data = federation.root / "site-a", federation.root / "data" / "site-a"
    rows = "".join(f"p{n},lung no heart\n" for n in range(8))
    Path(data / "reports.csv").write_text(f'patient,text\n{rows}p8,"rib left\np9,new ribal\np10,"\n')
    result = run("site", "approve", plan_hash, "--home", home, "--yes")
    refused(result, "DataError", "reports.csv lines 10-12", "multiline")
    assert not any(word in result.output for word in ("p8", "p9", "p10", "rib", "lung"))
    edit(data / "source.toml", multiline=True)
    assert run("site", "approve", plan_hash, "--home", home, "--yes").exit_code == 0


def test_who_approves_a_study_with_buckets_is_told_what_c_bounds() -> None:
    quote = Quote(
        study_epsilon=1.0001, study_delta=1e-5, spent_before=0.0, spent_after=1.0001, limit=10.0, remaining=8.9999, delta=3e-5
    )
    shown: dict[str, Any] = {}
    for task in ("simclr-buckets", "crops-contrast"):
        plan = task_plan(("image", "resnet", task), 1)
        study = SimpleNamespace(plan=plan, plan_hash="ab" * 32, nominal_size=9000, quote=lambda: quote)
        shown[task] = dict(approval.consent_screen(cast(Study, study)))
    bounded = shown["simclr-buckets"].pop("what C bounds")
    assert bounded == "C is of a bucket of about 16 patients; one can change it by 2 C: noise sigma x 2 C"
    assert shown["simclr-buckets"].keys() == shown["crops-contrast"].keys()
    assert shown["crops-contrast"]["epsilon of this study"].startswith("1.001 at delta"), "what is shown is a bound, too"
    assert shown["crops-contrast"]["spent before / after"].startswith("0.000 / 1.001 of 10")
    assert shown["crops-contrast"]["remains after"] == "8.999"


@pytest.mark.parametrize(
    ("objective", "patients", "fits"), [("simclr-buckets", 300, True), ("simclr-buckets", 301, False), ("byol", 9999, True)]
)
def test_a_site_that_outgrows_its_buckets_is_refused_before_it_approves(objective: str, patients: int, fits: bool) -> None:
    """Or its true size would decide, in a round, whether there is memory for a bucket."""
    plan = task_plan(("image", "resnet", objective), 1)
    study = SimpleNamespace(plan=plan, nominal_size=100, checked=SimpleNamespace(report=SimpleNamespace(patients=patients)))
    if fits:
        approval.check_size(cast("Study", study))
        return
    with pytest.raises(DataError, match="nominal_size"):
        approval.check_size(cast("Study", study))


@pytest.mark.parametrize(("nominal", "patients", "said"), [(10, 5, False), (10, 4, True), (10, 20, False), (10, 21, True)])
def test_a_declared_size_far_from_the_sources_is_said(nominal: int, patients: int, said: bool) -> None:
    lines = approval.size_lines(nominal, patients)
    assert len(lines) == said and all(f"declares {nominal} patients" in line and f"has {patients}:" in line for line in lines)


def test_the_person_who_approves_reads_that_the_size_is_another(invited: tuple[Any, str]) -> None:
    federation, plan_hash = invited
    shown, _ = approval.prepare(Study(federation.site("site-a"), plan_hash))
    assert "The plan declares 40 patients for this site, and the source has 6:" in shown
