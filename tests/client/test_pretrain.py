"""A site that pretrains by itself: what it reads, what it keeps, and with what it trains."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_commands import edit, run

from client.pretrain import pretrain_alone
from ssl_core.data.patients import Patients
from ssl_core.errors import ChainError, PrivacyError, StateError
from ssl_core.privacy import absence, isolation, planner, training
from ssl_core.privacy.ledger import Ledger


def _plan_alone(federation: Any) -> Path:
    federation.launch()
    plan: Path = federation.root / "alone.toml"
    body = tomllib.loads((federation.root / "plan.toml").read_text())
    body |= {"alone": True, "sites": [{"name": "site-a", "nominal_size": 40}]}
    body["rounds"] |= {"rounds": 2, "steps_per_round": 1, "max_void": 0}
    plan.write_text(tomli_w.dumps(body))
    return plan


def test_a_site_that_pretrains_alone_trains_at_the_very_pace_that_was_checked_or_charges_nothing(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    plan, site, chosen = _plan_alone(federation), federation.site("site-a"), planner.choose_pace
    before = run("site", "ledger", "--home", site.root, "--json").stdout

    def smaller(*args: Any) -> Any:
        pace = chosen(*args)
        return replace(pace, size=pace.size // 2)

    monkeypatch.setattr(planner, "choose_pace", smaller)
    with pytest.raises(StateError, match="another pace"):
        pretrain_alone(site, plan)
    assert run("site", "ledger", "--home", site.root, "--json").stdout == before

    monkeypatch.setattr(planner, "choose_pace", chosen)
    trained, seen = training.train_round, list[Any]()

    def train(**kwargs: Any) -> Any:
        seen.append(kwargs["pace"])
        assert kwargs["pace"].engine._model is kwargs["model"]
        return trained(**kwargs)

    monkeypatch.setattr(training, "train_round", train)
    pretrain_alone(site, plan)
    assert len(seen) == 2 and seen[0] is seen[1]


def test_a_site_that_pretrains_alone_reads_its_files_once_and_keeps_no_copy(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    plan = _plan_alone(federation)
    folder = federation.root / "data" / "site-a"
    seen: list[Patients] = []
    checked, trained = isolation.check_isolation, training.train_round

    def check(*args: Any, **kwargs: Any) -> Any:
        shutil.rmtree(folder)
        return checked(*args, **kwargs)

    def train(**kwargs: Any) -> Any:
        seen.append(kwargs["patients"])
        return trained(**kwargs)

    monkeypatch.setattr(isolation, "check_isolation", check)
    monkeypatch.setattr(training, "train_round", train)
    pretrain_alone(federation.site("site-a"), plan)
    assert len(seen) == 2 and all(len(patients) == 40 for patients in seen)
    assert list((federation.root / "site-a" / "keys").iterdir()) == []


def test_an_encoder_that_could_not_be_written_is_said_before_anything_is_charged(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    site, plan = federation.site("site-a"), _plan_alone(federation)
    (site.root / "encoders").rmdir()
    (site.root / "encoders").write_text("a file where the folder should be")
    with pytest.raises(StateError, match="no encoder could be written"):
        pretrain_alone(site, plan)
    assert site.chain.entries("reserve") == [] == site.chain.entries("commit")


def test_start_weights_with_which_an_absence_is_heard_are_refused_before_anything_is_charged(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    site, plan = federation.site("site-a"), _plan_alone(federation)
    monkeypatch.setattr(absence, "gap", lambda *_: 1.0)
    with pytest.raises(PrivacyError, match="absence changes what others add"):
        pretrain_alone(site, plan)
    assert site.chain.entries("reserve") == [] == site.chain.entries("commit")


def test_ctrl_c_says_what_stays_spent_and_so_does_the_next_run(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    site, plan = federation.site("site-a"), _plan_alone(federation)

    def stopped(**_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(StateError, match=r"interrupted; what it was charged stays spent.*seed"):
        patch.setattr(training, "train_round", stopped)
        pretrain_alone(site, plan)
    assert len(site.chain.entries("commit")) == 1
    with pytest.raises(StateError, match=r"begun here before.*stays spent.*seed"):
        pretrain_alone(site, plan)
    assert len(site.chain.entries("commit")) == 1


def test_a_person_hears_how_far_it_is_and_a_script_reads_json_alone(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan = _plan_alone(federation)
    done = run("site", "pretrain", plan, "--home", federation.root / "site-a", "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [
        "Reading and checking the records.",
        "Checking that no patient's part depends on another's (isolation check).",
        "Round 1 of 2 is done: 1 of 2 steps.",
        "Round 2 of 2 is done: 2 of 2 steps.",
    ]
    assert Path(json.loads(done.stdout)["encoder"]).is_dir()


def test_who_was_included_after_a_kill_before_the_first_round_is_in_the_ledger_too(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a table of patients from before, with the ledger as it is, would leave them a second budget in a second cohort."""
    federation = make_federation(3)
    site, plan, units = federation.site("site-a"), _plan_alone(federation), federation.root / "anchors" / "site-a" / "units.db"
    folder = federation.root / "data" / "site-a"
    source, records = folder / "source.toml", folder / "reports.csv"

    def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Ledger, "commit", killed)
        pretrain_alone(site, plan)
    assert (len(site.chain.entries("reserve")), site.chain.entries("commit")) == (1, [])
    backup = units.read_bytes()
    records.write_text(re.sub(r"(?m)^p(\d+),", r"q\1,", records.read_text()))
    edit(source, cohort="year-2026")
    with pytest.raises(StateError, match="source declares another cohort than the study was approved for"):
        pretrain_alone(site, plan)
    edit(source, cohort="all")
    pretrain_alone(site, plan)
    assert (len(site.chain.entries("reserve")), len(site.chain.entries("units"))) == (1, 1)

    units.write_bytes(backup)
    edit(source, cohort="year-2026")
    edit(plan, seed=3)
    with pytest.raises(ChainError, match="table of patients is not the one that the ledger knows"):
        pretrain_alone(site, plan)
