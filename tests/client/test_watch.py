"""`choral site watch`: the staff sees how the encoder stands; nothing that leaves knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_commands import refused, run
from tests_network import LocalExchange

from client.site_service import SiteService
from client.watch import MOST_RECORDS, MOST_SIGHTINGS, RECORDS_EACH, Sighting, _keep, _some, read_sightings, rows
from server.rounds import run_study
from ssl_core.data.patients import Patients, group
from ssl_core.errors import StateError
from ssl_core.evaluation.collapse import Health
from ssl_core.parcel import IncomingKind, Parcel


@pytest.mark.parametrize(
    ("counts", "patients", "records"),
    [
        ([2000] * 100, 100, 400),
        ([3000] * 20, 20, 80),
        ([20] * 200, 200, 800),
        ([9] * 5000, 256, 1024),
        ([1] * 1500, 1024, 1024),
        ([5000] + [1] * 1000, 1001, 1004),
        ([5000], 1, 4),
    ],
)
def test_patients_are_chosen_first_and_a_few_records_of_each(counts: list[int], patients: int, records: int) -> None:
    found = _some(_of(counts))
    assert (len(found), len(found.records)) == (patients, records)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=1500), st.randoms(use_true_random=False))
def test_what_is_looked_at_is_bounded_even_and_always_the_same(counts: list[int], random: Random) -> None:
    counts = counts * random.choice([1, 1, 7])
    patients = _of(counts)
    found, again = _some(patients), _some(_of(counts))
    assert found.units == again.units and np.array_equal(found.records, again.records)
    assert len(found.records) <= MOST_RECORDS and len(found) >= min(len(counts), MOST_RECORDS // RECORDS_EACH)
    places = np.array(found.units).astype(int)
    gaps = np.diff([*places, len(counts)])
    assert places[0] == 0 and gaps.max() - gaps.min() <= 1, "evenly over all patients"
    for place, first, last in zip(places, found.offsets, found.offsets[1:], strict=False):
        whose, which = found.records[first:last].T
        assert (whose == place).all() and len(which) == min(counts[place], RECORDS_EACH)
        steps = np.diff([*which, counts[place]])
        assert which[0] == 0 and steps.max() - steps.min() <= 1, "evenly over a patient's records"


def _of(counts: list[int]) -> Patients:
    """A record is (number of its patient, its own number)."""
    owners = np.repeat(np.arange(len(counts)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    records = np.stack([owners, numbers], axis=1).astype(np.float32)
    return group([f"{owner:06d}" for owner in owners], records)


def test_the_course_says_what_a_collapse_looks_like_and_when_patients_lie_in_one_place() -> None:
    healthy = Health(records=9, effective_rank=5.0, alignment=0.1, uniformity=-0.9, neighbours=0.7, apart=0.31)
    dead = Health(records=9, effective_rank=63.5, alignment=1e-8, uniformity=-1e-9, neighbours=0.7, apart=2.3e-7)
    older = Health(records=9, effective_rank=5.0, alignment=None, uniformity=-0.9)
    shown = dict(rows([Sighting(0, older), Sighting(1, healthy), Sighting(2, dead)]))
    assert shown["0 (start)"] == "5.0, -, -0.900, -, -" and shown["1"] == "5.0, 0.100, -0.900, 0.31, 0.700"
    assert shown["2"] == "63.5, 0.000, 0.000, 2.3e-07, 0.700", "no minus before a nought"
    assert "all patients in nearly one place" in shown["collapse?"]
    assert "collapse?" not in dict(rows([Sighting(1, dead), Sighting(2, healthy)])), "what stands now counts"
    assert "collapse?" not in dict(rows([Sighting(2, older)]))


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_study_is_watched_from_its_start_to_its_end(make_federation: Callable[..., Any], tmp_path: Path) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    federation.invite_and_approve(plan_hash)
    before = _tree(home)
    assert "nothing was seen yet" in run("site", "watch", plan_hash[:8], "--home", home).output and _tree(home) == before
    (first,) = json.loads(run("site", "watch", plan_hash[:8], "--now", "--home", home, "--json").stdout)["rounds"]
    assert first["round"] == 0 and first["effective_rank"] > 1 and 0.0 < first["apart"] < 2.0 and first["in_one_place"] is False
    changed = {name for name, content in _tree(home).items() if before.get(name) != content}
    assert changed == {f"studies/{plan_hash}/watch.jsonl"}
    units = _units(federation.root / "data/site-a/reports.csv")
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,finding\n" + "".join(f"{unit},{number % 2}\n" for number, unit in enumerate(units)))
    assert "0 (start)" in run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels).output
    (again,) = json.loads(run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels, "--json").stdout)["rounds"]
    assert 0.0 <= again.pop("neighbours") <= 1.0 and first.pop("neighbours") is None and again == first
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    assert "0 (start)" in run("site", "watch", plan_hash[:8], "--home", home, "--follow").output, "what was seen is still shown"


def test_watch_toml_names_labels_of_findings_or_classes_and_a_person_others(
    make_federation: Callable[..., Any], tmp_path: Path
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    units = _units(federation.root / "data/site-a/reports.csv")
    (home / "own.csv").write_text("patient,finding\n" + "".join(f"{unit},{number % 2}\n" for number, unit in enumerate(units)))
    kinds = tmp_path / "kinds.csv"
    kinds.write_text("patient,kind\n" + "".join(f"{unit},{'ab'[number % 2]}\n" for number, unit in enumerate(units)))
    (home / "watch.toml").write_text('labels = "own.csv"')
    SiteService(home).handle(Parcel(IncomingKind.INVITE, (federation.operator.study(plan_hash) / "plan.json").read_bytes()))
    said = run("site", "approve", plan_hash, "--home", home)
    assert "Watch: after each round the neighbours probe takes the labels of own.csv; they stay here." in said.output
    (home / "own.csv").rename(tmp_path / "own.csv")
    said = run("site", "approve", plan_hash, "--home", home, "--yes", "--json")
    assert said.exit_code == 0 and json.loads(said.stdout)["watch"].startswith("no neighbours probe: label file is missing.")
    look = ("site", "watch", plan_hash[:8], "--now", "--home", home)
    shown = run(*look)
    assert shown.exit_code == 0 and "no neighbours  label file is missing" in shown.output
    # Corrected, the same round is looked at again.
    (home / "watch.toml").write_text(f'labels = "{tmp_path / "own.csv"}"')
    (named,) = json.loads(run(*look, "--json").stdout)["rounds"]
    (home / "watch.toml").write_text(f'labels = "{kinds}"\nclass_column = "kind"')
    (home / "studies" / plan_hash / "watch.jsonl").unlink()
    (classes,) = json.loads(run(*look, "--json").stdout)["rounds"]
    (given,) = json.loads(run(*look, "--labels", kinds, "--class-column", "kind", "--json").stdout)["rounds"]
    assert named == classes == given and 0.0 <= given["neighbours"] <= 1.0 and given["without"] is None
    (home / "studies" / plan_hash / "watch.jsonl").unlink()
    (home / "watch.toml").write_text(f'labels = "{kinds}"')
    (bad,) = json.loads(run(*look, "--json").stdout)["rounds"]
    assert bad["neighbours"] is None and "a column of file 'kinds.csv' is neither 0 nor 1 in line 2" == bad["without"]
    refused(run(*look, "--labels", kinds), "neither 0 nor 1")
    refused(run(*look, "--class-column", "kind"), "no label file to take it from")


def _units(csv: Path) -> list[str]:
    return sorted({line.split(",")[0] for line in csv.read_text().splitlines()[1:]})


def test_labels_of_nobody_and_a_damaged_file_are_named(make_federation: Callable[..., Any], tmp_path: Path) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    federation.invite_and_approve(plan_hash)
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,finding\nnobody,1\nsomebody,0\n")
    refused(run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels), "name none of the patients")
    plan = home / "studies" / plan_hash / "plan.json"
    other = next((federation.root / "operator/studies").glob(f"{federation.launch(seed=7)}/plan.json"))
    whole = plan.read_bytes()
    plan.write_bytes(other.read_bytes())
    refused(run("site", "watch", plan_hash[:8], "--home", home, "--now"), "another hash")
    plan.write_bytes(whole)
    (home / "studies" / plan_hash / "watch.jsonl").write_text('{"round": 0}\n')
    with pytest.raises(StateError, match="damaged"):
        read_sightings(home / "studies" / plan_hash)


def test_the_file_is_bounded_keeps_the_start_and_loses_what_a_cut_look_left(tmp_path: Path) -> None:
    (tmp_path / ".watch.jsonl.12345").write_text('{"round": 1')
    health = Health(records=1024, effective_rank=3 + 1 / 7, alignment=1 / 7, uniformity=-1 / 7, neighbours=1 / 7, apart=1 / 7)
    _keep(tmp_path, [Sighting(number, health, "x" * 200) for number in range(MOST_SIGHTINGS)])
    kept = _keep(tmp_path, [Sighting(MOST_SIGHTINGS + 4, health)])
    assert kept == read_sightings(tmp_path) and len(kept) == MOST_SIGHTINGS
    assert [each.round for each in kept[:2]] == [0, 2] and kept[-1].round == MOST_SIGHTINGS + 4
    assert [path.name for path in tmp_path.iterdir()] == ["watch.jsonl"]
    assert (tmp_path / "watch.jsonl").stat().st_size < 1 << 19
