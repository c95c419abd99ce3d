"""Cohorts at a site: each has its budget, a patient has one cohort for life, whatever folder is made anew."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_commands import edit, refused, run
from tests_material import small_plan, write_reports
from tests_units import as_an_older_version_left_it

from client import approval, cli
from client.budget import census_lines, check_for_rule
from client.home import create_site
from client.site_service import SiteService
from client.study import Study, store_plan
from ssl_core.chain import write_durably
from ssl_core.errors import DataError
from ssl_core.parcel import Parcel
from ssl_core.privacy import cohorts
from ssl_core.session import open_approval


def invited(federation: Any, **changes: Any) -> str:
    plan_hash: str = federation.launch(**changes)
    store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    return plan_hash


def approve(federation: Any, plan_hash: str) -> Any:
    return run("site", "approve", plan_hash, "--home", federation.root / "site-a", "--yes")


def other_patients(federation: Any, cohort: str, *, first: int = 100) -> None:
    """The source now holds patients that nobody saw before, under `cohort`."""
    folder = federation.root / "data" / "site-a"
    write_reports(folder, patients=6, seed=9)
    text = (folder / "reports.csv").read_text()
    for number in range(6):
        text = text.replace(f"p{number},", f"p{first + number},")
    (folder / "reports.csv").write_text(text)
    edit(folder / "source.toml", cohort=cohort)


def statement(federation: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("site", "ledger", "--home", federation.root / "site-a", "--json").stdout)[
        "cohorts"
    ]
    return found


def test_each_cohort_has_its_own_budget(federation: Any) -> None:
    home = federation.root / "site-a"
    first = invited(federation)
    assert approve(federation, first).exit_code == 0
    spent = statement(federation)[0]["totals"]["spent"]
    edit(home / "policy.toml", max_epsilon=round(1.01 * spent, 3))
    second = invited(federation, seed=11)
    refused(approve(federation, second), "BudgetError")
    other_patients(federation, "year-2026")
    done = approve(federation, second)
    assert done.exit_code == 0 and "year-2026: 6 new patients, 0 known in it, none of another" in done.output, done.output
    cohorts = statement(federation)
    assert [(c["cohort"], len(c["entries"])) for c in cohorts] == [("all", 1), ("year-2026", 1)]
    assert [c["totals"]["spent"] for c in cohorts] == [spent, spent]
    shown = run("site", "ledger", "--home", home).output
    assert "cohort “all”" in shown and "cohort “year-2026”" in shown
    federation.site("site-a").chain.verify()
    Study(federation.site("site-a"), second).approve("person")
    assert len(federation.site("site-a").chain.entries("reserve")) == 2


def test_patients_of_one_cohort_are_refused_in_another_with_their_number_for_staff_alone(federation: Any) -> None:
    home = federation.root / "site-a"
    assert approve(federation, invited(federation)).exit_code == 0
    second = invited(federation, seed=11)
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="later")
    result = approve(federation, second)
    refused(result, "DataError", "belong to another cohort", "0 new patients, 0 known in it, 6 of another cohort")
    assert "6" not in result.output.split("DataError")[1], "the error itself carries no number"
    assert len(federation.site("site-a").chain.entries("reserve")) == 1
    assert not (home / "keys" / second / "patients.npz").exists()
    edit(home / "policy.toml", auto_approve_epsilon=9.0)
    plan = (federation.operator.study(second) / "plan.json").read_bytes()
    answer = SiteService(home).handle(Parcel("INVITE", plan))
    assert open_approval(answer.body, federation.site("site-a").identity.public, second).status == "waiting"


def test_a_state_folder_made_anew_does_not_begin_a_second_budget(federation: Any) -> None:
    """The keys are kept, so that the roster still counts; only the log is new."""
    home = federation.root / "site-a"
    assert approve(federation, invited(federation)).exit_code == 0
    plan = small_plan(["site-a"], alone=True)
    plan["rounds"] |= {"max_void": 0, "rounds": 1}
    (federation.root / "alone.toml").write_text(tomli_w.dumps(plan))
    shutil.rmtree(home)
    create_site(home, "site-a", [federation.authority.public], 1, str(federation.root / "data" / "site-a" / "source.toml"))
    assert statement(federation)[0]["entries"] == []
    refused(
        run("site", "pretrain", federation.root / "alone.toml", "--home", home, "--yes"),
        "DataError", "earlier ledger of this site", "restore that one",
    )  # fmt: skip
    assert federation.site("site-a").chain.entries("reserve") == []


def test_with_one_cohort_a_lost_table_stops_nothing_before_a_second_one_it_does(federation: Any) -> None:
    units = federation.root / "anchors" / "site-a"
    assert approve(federation, invited(federation)).exit_code == 0
    shutil.rmtree(units)
    second, third = invited(federation, seed=11), invited(federation, seed=12)
    assert approve(federation, second).exit_code == 0
    other_patients(federation, "year-2026")
    refused(approve(federation, third), "ChainError", "table of patients is not the one that the ledger knows")
    assert len(federation.site("site-a").chain.entries("reserve")) == 2


def test_a_study_that_wrote_down_no_patients_leaves_no_room_for_a_second_cohort(federation: Any) -> None:
    """A row of an older version: who was in it is not known."""
    body = {"study": "c" * 64, "name": "older", "cohort": "all", "unit": "patient", "steps": 4, "delta": 1e-5}
    body |= {"adjacency": "add or remove one patient", "noise_multiplier": 4.0, "sampling_rate": 0.1}
    federation.site("site-a").chain.append("reserve", body)
    study = invited(federation)
    other_patients(federation, "year-2026")
    refused(approve(federation, study), "StateError", "before this site wrote down")
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="all")
    assert approve(federation, study).exit_code == 0


def test_records_copied_again_bring_no_patient_of_another_cohort(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3, patients=6)
    plan_hash = invited(federation)
    assert approve(federation, plan_hash).exit_code == 0
    copy = federation.root / "site-a" / "keys" / plan_hash / "patients.npz"
    copy.unlink()
    other_patients(federation, "year-2026")
    refused(approve(federation, plan_hash), "StateError", "another cohort than the study was approved for")
    assert not copy.exists()
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="all")
    assert approve(federation, plan_hash).exit_code == 0 and copy.exists()
    tags = Study(federation.site("site-a"), plan_hash).patients.tags
    assert federation.site("site-a").units.census("all", tags, tags).known == 6


def respelled(federation: Any, change: Callable[[str], str], **source: str) -> None:
    """The same patients and records, their ids written otherwise."""
    folder = federation.root / "data" / "site-a"
    header, *rows = (folder / "reports.csv").read_text().splitlines()
    rows = [f"{change(patient)},{text}" for patient, _, text in (row.partition(",") for row in rows)]
    (folder / "reports.csv").write_text("\n".join([header, *rows]) + "\n")
    edit(folder / "source.toml", **source)


def invite(federation: Any, plan_hash: str) -> tuple[str, Parcel]:
    """(status, answer) of a site that approves by a rule where it may."""
    home = federation.root / "site-a"
    edit(home / "policy.toml", auto_approve_epsilon=9.0)
    answer = SiteService(home).handle(Parcel("INVITE", (federation.operator.study(plan_hash) / "plan.json").read_bytes()))
    return open_approval(answer.body, federation.site("site-a").identity.public, plan_hash).status, answer


def test_ids_in_another_spelling_wait_for_a_person_who_says_that_they_are_other_people(
    federation: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site, home = federation.site("site-a"), federation.root / "site-a"
    assert approve(federation, invited(federation)).exit_code == 0
    second, third = invited(federation, seed=11), invited(federation, seed=12)
    respelled(federation, lambda patient: f"0P-{patient[1:]}", cohort="year-2027")
    status, answer = invite(federation, second)
    assert status == "waiting" and "in spelling alone" in caplog.text and len(site.chain.entries("reserve")) == 1
    assert not any(char.isdigit() for char in caplog.messages[-1].replace(second, "")), "no number is in the log"
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="Year 2027")
    other = invited(federation, seed=13)
    status, of_bad_data = invite(federation, other)
    assert status == "waiting" and len(of_bad_data.body) == len(answer.body), "of what a person must look at nothing is said"
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="year-2027")
    result = approve(federation, second)
    refused(
        result, "6 new patients, 0 known in it", "WARNING: 6 patient ids differ in spelling alone", "as in the first export",
        "None of these patients is known here", "DataError", "--different-people",
    )  # fmt: skip
    assert not any(char.isdigit() for char in result.output.split("DataError")[1]), "the error itself carries no number"
    assert len(site.chain.entries("reserve")) == 1 and not (home / "keys" / second / "patients.npz").exists()
    asked = list[str]()
    for module in (approval, cli):
        monkeypatch.setattr(module, "confirm", lambda yes, question: None if yes else asked.append(question))
    assert run("site", "approve", second, "--home", home).exit_code == 0
    assert len(asked) == 2 and "different people" in asked[0] and len(site.chain.entries("reserve")) == 2
    # What the person said holds: the same ids are known, by either spelling, and asked about no more.
    said = approve(federation, third)
    assert said.exit_code == 0 and "0 new patients, 6 known in it" in said.output and "WARNING" not in said.output
    site.chain.verify()


def test_ids_that_cannot_be_compared_wait_for_a_person_whatever_the_rule_is(
    federation: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = cohorts.UnitTable.include

    def of_an_older_version(self: Any, *given: Any, **said: Any) -> str:
        honest(self, *given, **said)
        return as_an_older_version_left_it(self._path)

    site = federation.site("site-a")
    with monkeypatch.context() as patch:
        patch.setattr(cohorts.UnitTable, "include", of_an_older_version)
        assert approve(federation, invited(federation)).exit_code == 0
    second, third = invited(federation, seed=11), invited(federation, seed=12)
    respelled(federation, str.upper, cohort="year-2027")
    assert invite(federation, second)[0] == "waiting" and len(site.chain.entries("reserve")) == 1
    assert "could not be compared" in caplog.messages[-1]
    assert not any(char.isdigit() for char in caplog.messages[-1].replace(second, "")), "no number is in the log"
    seen = approve(federation, second)
    assert seen.exit_code == 0 and "6 patients were included by a version that wrote down no spellings" in seen.output
    assert invite(federation, third)[0] == "approved", "whom a person let in, a rule lets in again"
    site.chain.verify()


def test_where_nobody_is_known_though_there_are_earlier_cohorts_a_rule_approves_nothing(
    federation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site = federation.site("site-a")
    assert invite(federation, invited(federation))[0] == "approved", "the first study of all"
    second, third = invited(federation, seed=11), invited(federation, seed=12)
    other_patients(federation, "year-2027")
    assert invite(federation, second)[0] == "waiting" and len(site.chain.entries("reserve")) == 1
    assert "no patient of this source is known here" in caplog.messages[-1]
    seen = approve(federation, second)
    assert seen.exit_code == 0 and "None of these patients is known here" in seen.output
    assert invite(federation, third)[0] == "approved"


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(("known", "elsewhere"), [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("counts", list(itertools.product((0, 2), repeat=3)), ids=str)
def test_a_rule_decides_where_a_person_would_read_the_counts_and_nothing_else(
    counts: tuple[int, int, int], known: int, elsewhere: int, others: bool
) -> None:
    census = cohorts.Census(4, known, elsewhere, *counts, others=others)
    more = len(census_lines("all", census)) > 1
    with pytest.raises(DataError) if more else nullcontext() as refusal:
        check_for_rule(census)
    assert refusal is None or not any(char.isdigit() for char in str(refusal.value))


def test_the_page_shows_the_screen_as_it_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "continual.md").read_text()
    for line in census_lines("year-2027", cohorts.Census(6, 0, 0, alike_before=6, others=True)):
        assert f"\n{line}\n" in page


def test_two_spellings_within_one_export_are_counted_and_an_option_says_that_they_are_two_people(federation: Any) -> None:
    folder = federation.root / "data" / "site-a"
    rows = (folder / "reports.csv").read_text()
    (folder / "reports.csv").write_text(rows + "".join(row.replace("p", "P", 1) + "\n" for row in rows.splitlines()[1:3]))
    first = invited(federation)
    assert invite(federation, first)[0] == "waiting"
    doubtful = len({row.split(",")[0] for row in rows.splitlines()[1:3]})
    refused(
        approve(federation, first), f"WARNING: {2 * doubtful} patient ids differ from another id of this source", "DataError"
    )
    said = run("site", "approve", first, "--home", federation.root / "site-a", "--yes", "--different-people")
    assert said.exit_code == 0 and "WARNING" in said.output and "None of these" not in said.output
    # Asked again because the copy is lost: nobody is new.
    (federation.root / "site-a" / "keys" / first / "patients.npz").unlink()
    assert "Copied" in approve(federation, first).output


def test_a_site_that_pretrains_alone_is_asked_about_spellings_too(federation: Any) -> None:
    home, plan = federation.root / "site-a", small_plan(["site-a"], alone=True)
    assert approve(federation, invited(federation)).exit_code == 0
    plan["rounds"] |= {"max_void": 0, "rounds": 1}
    (federation.root / "alone.toml").write_text(tomli_w.dumps(plan))
    respelled(federation, str.upper)
    pretrain = ("site", "pretrain", federation.root / "alone.toml", "--home", home, "--yes")
    refused(run(*pretrain), "WARNING: 6 patient ids", "DataError", "--different-people")
    assert len(federation.site("site-a").chain.entries("reserve")) == 1
    done = run(*pretrain, "--different-people")
    assert done.exit_code == 0 and "6 new patients" in done.output and "None of these" not in done.output


def test_the_cohort_is_a_name_that_the_source_declares(federation: Any) -> None:
    plan_hash = invited(federation)
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="Year 2026")
    refused(approve(federation, plan_hash), "ConfigError", "field: cohort")
    (nothing,) = statement(federation)
    assert (nothing["cohort"], nothing["entries"]) == ("all", []), "the ledger is shown whatever became of the source"
    assert "the declared source cannot be read" in run("site", "ledger", "--home", federation.root / "site-a").output


@pytest.mark.parametrize("where", ["state folder and anchor", "state folder"])
def test_a_folder_restored_from_a_backup_is_refused(federation: Any, where: str, tmp_path: Path) -> None:
    """With the anchor restored too, only what peers hold of this site can tell: tests/adversary/test_noise.py."""
    home = federation.root / "site-a"
    shutil.copytree(home, tmp_path / "backup")
    before = (federation.root / "anchors").rglob("*.head")
    kept = {path: path.read_bytes() for path in before}
    assert approve(federation, invited(federation)).exit_code == 0
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    if where == "state folder":
        refused(run("site", "ledger", "--home", home), "ChainError", "older than its anchor")
        return
    for path, data in kept.items():
        write_durably(path, data)
    assert run("site", "ledger", "--home", home).exit_code == 0
    # The patients are known in the cohort, so no second cohort can be begun with them.
    edit(federation.root / "data" / "site-a" / "source.toml", cohort="year-2026")
    refused(approve(federation, invited(federation, seed=11)), "DataError", "belong to another cohort")
