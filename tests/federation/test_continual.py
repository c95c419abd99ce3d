"""A second year: last year's release is the start, its patients stay in their cohort, new ones have a budget of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomli_w
from tests_commands import edit, refused, run
from tests_material import small_plan, write_reports

from client.study import store_plan
from server.exchange import LocalExchange
from server.launch import sign_plan, store_study
from server.rounds import run_study
from ssl_core.card import load_encoder


def operate(federation: Any, *words: object) -> dict[str, Any]:
    home = () if words[0] == "prepare" else ("--home", federation.operator.root)
    done = run("operator", *words, *home, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def new_patients(folder: Path, seed: int) -> None:
    write_reports(folder, patients=40, seed=seed)
    text = (folder / "reports.csv").read_text()
    head, *rows = text.splitlines()
    (folder / "reports.csv").write_text("\n".join([head, *(f"q{row[1:]}" for row in rows)]) + "\n")
    edit(folder / "source.toml", cohort="year-2027")


def cohorts(federation: Any, name: str) -> list[tuple[str, int, float]]:
    found = json.loads(run("site", "ledger", "--home", federation.root / name, "--json").stdout)["cohorts"]
    return [(cohort["cohort"], len(cohort["entries"]), cohort["totals"]["spent"]) for cohort in found]


def test_a_second_year_begins_from_the_first_years_release_with_new_patients(make_federation: Any, tmp_path: Path) -> None:
    federation = make_federation(3)
    first = federation.launch()
    federation.invite_and_approve(first)
    run_study(federation.operator.root, first, LocalExchange(federation.services()))
    release = Path(operate(federation, "publish", first)["release"])
    spent = cohorts(federation, "site-a")

    path, start = tmp_path / "second.toml", tmp_path / "start"
    path.write_text(tomli_w.dumps(small_plan(federation.names, name="reports-2027", seed=2)))
    facts = operate(federation, "prepare", path, "--from", release, "--steps", 0, "--out", start)
    second = store_study(federation.operator, sign_plan(federation.operator, path, start), start)

    # Patients of the first year under the second year's name are refused: their budget would be spent twice.
    plan = (federation.operator.study(second) / "plan.json").read_bytes()
    for number, name in enumerate(federation.names):
        store_plan(federation.site(name), plan)
        edit(federation.root / "data" / name / "source.toml", cohort="year-2027")
        words = ("site", "approve", second, "--home", federation.root / name, "--yes")
        refused(run(*words), "DataError", "belong to another cohort")
        new_patients(federation.root / "data" / name, 50 + number)
        done = run(*words)
        assert done.exit_code == 0 and "year-2027: 40 new patients, 0 known in it, none of another" in done.output, done.output
    run_study(federation.operator.root, second, LocalExchange(federation.services()))

    # The plan's number of rounds is the stop rule: both years were charged for theirs, each in its own cohort.
    (before,), (kept, added) = spent, cohorts(federation, "site-a")
    assert kept == before and added == ("year-2027", 1, before[2])
    card = load_encoder(
        Path(operate(federation, "publish", second)["release"]), keys=[federation.operator.operator.public]
    ).card
    assert card.plan.start == facts["weights"] and card.rounds_closed == card.plan.rounds.rounds
