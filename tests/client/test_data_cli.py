"""`choral site data`: exit codes, the screen, the page, and that no text of a patient is printed."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from tests_commands import edit, refused, run
from tests_material import small_plan, write_reports

from ssl_core.config import StudyPlan, read_toml
from ssl_core.data.patients import Patients
from ssl_core.data.reading import Effort, Reading
from ssl_core.data.source import Source, load_patients, read_source
from ssl_core.datacheck import look as look_module
from ssl_core.objectives.masked_words import MaskedWordsModel
from ssl_core.spec.data import Data

SITE = f'name = "site-b"\nchain_id = "{"0" * 32}"\nauthorities = ["{"0" * 64}"]\n'


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(small_plan(["site-a", "site-b", "site-c"])))
    return path


def add(folder: Path, *rows: tuple[str, str]) -> None:
    with (folder / "reports.csv").open("a", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_good_notes_exit_with_0_and_say_what_they_cost(tmp_path: Path, plan: Path) -> None:
    source = write_reports(tmp_path, patients=12)
    result = run("site", "data", "check", "--source", source, "--plan", plan)
    shown = " ".join(result.output.split())
    assert result.exit_code == 0, result.output
    for words in ("patients 12", "bad records 0.00%", "time to read", "a record"):
        assert words in shown
    assert "can be approved as they are" in shown and "stays on this machine" in shown


def test_warnings_exit_with_1_and_what_is_refused_with_2(tmp_path: Path, plan: Path) -> None:
    source = write_reports(tmp_path, patients=12)
    add(tmp_path, ("p1", "Mrs SECRET came with a cough on 01.02.2020"))
    result = run("site", "data", "check", "--source", source, "--plan", plan)
    assert result.exit_code == 1 and "reports.csv, line" in result.output and "SECRET" not in result.output
    facts = json.loads(run("site", "data", "check", "--source", source, "--plan", plan, "--json").stdout)
    assert {finding["topic"] for finding in facts["findings"] if finding["weight"] == "warning"} == {"notes"}
    add(tmp_path, ("p1", "..."), ("p2", ""))
    result = run("site", "data", "check", "--source", source, "--plan", plan)
    assert result.exit_code == 2 and "would be refused here" in result.output and "without a word" in result.output
    edit(source, max_bad_share=0.5)
    assert run("site", "data", "check", "--source", source, "--plan", plan).exit_code == 1


def test_what_training_costs_is_of_the_plan_and_of_made_up_patients_alone(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[tuple[str, ...], np.ndarray]] = []
    honest = MaskedWordsModel.draw

    def spy(self: MaskedWordsModel, patients: Patients, index: Any, uniforms: Any) -> Any:
        drawn.append((patients.units, np.array(patients.records)))
        return honest(self, patients, index, uniforms)

    monkeypatch.setattr(MaskedWordsModel, "draw", spy)
    source = write_reports(tmp_path, patients=12)
    mine = load_patients(read_source(source), read_toml(StudyPlan, plan, "plan").data, Effort(0))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "site.toml").write_text(SITE + "[speed]\nchunk = 3\n")
    check = ["site", "data", "check", "--source", source, "--plan", plan]
    facts = json.loads(run(*check, "--json", "--home", tmp_path / "home").stdout)["training"]
    assert drawn and all(unit.startswith("synthetic-") for units, _ in drawn for unit in units)
    real = {record.tobytes() for record in mine.records}
    assert not any(record.tobytes() in real for _, records in drawn for record in records)
    # The plan's constants: 0.1 of 40 patients, 2 steps, 3 rounds; the site's own batch.
    assert (facts["patients"], facts["steps_a_round"], facts["rounds"], facts["physical_batch"]) == (40, 2, 3, 3)
    assert facts["expected_sample"] == pytest.approx(4) and facts["peak_bytes"] is None
    assert facts["seconds_in_all"] == pytest.approx(6 * facts["seconds_a_step"])
    page = tmp_path / "page.html"
    for result in (run(*check, "--html", page, "--home", tmp_path / "home"), run(*check)):
        shown = " ".join(result.output.split())
        assert "engine vmap" in shown and "of computing: 3 rounds of 2 steps (" in shown and "+ up to 2 that fail" in shown
    assert "64 patients at once, about" in shown and "4 of the 40 patients of the plan's largest site" in shown
    assert '<th scope="row">to train</th><td>engine vmap, 3 patients at once; memory not looked at' in page.read_text()


def test_training_is_not_looked_at_where_nobody_wants_it_and_roughly_where_it_takes_long(tmp_path: Path, plan: Path) -> None:
    check = ["site", "data", "check", "--source", write_reports(tmp_path, patients=4), "--plan", plan]
    for seconds in ("inf", "nan"):
        refused(run(*check, "--training-seconds", seconds), "no number of seconds")
    result = run(*check, "--training-seconds", "0")
    assert result.exit_code == 0 and "to train" not in result.output
    assert json.loads(run(*check, "--training-seconds", "0", "--json").stdout)["training"] is None
    result = run(*check, "--training-seconds", "1e-6")
    shown = " ".join(result.output.split())
    assert result.exit_code == 0 and "at least" in shown and "--training-seconds" in shown and "or less" in shown


def test_a_machine_that_cannot_train_the_study_is_told_before_the_approval_refuses_it(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "site.toml").write_text(SITE + '[speed]\ndevice = "cuda"\n')
    check = ["site", "data", "check", "--source", write_reports(tmp_path, patients=4), "--plan", plan]
    result = run(*check, "--home", tmp_path / "home")
    shown = " ".join(result.output.split())
    assert result.exit_code == 2 and "no CUDA device" in shown and 'set device = "cpu"' in shown
    assert run(*check).exit_code == 0


def test_labels_of_records_leak_by_patient(tmp_path: Path, plan: Path) -> None:
    source = write_reports(tmp_path, patients=12)
    with (tmp_path / "reports.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (tmp_path / "reports.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "note"])
        writer.writeheader()
        writer.writerows(row | {"note": f"n{number}"} for number, row in enumerate(rows))
    edit(source, record_column="note")
    for name, places in (("a.csv", "02"), ("b.csv", "13")):
        lines = [f"{row['patient']},n{number},1" for number, row in enumerate(rows) if str(number % 4) in places]
        (tmp_path / name).write_text("\n".join(["patient,note,y", *lines, "SECRET,n1,0"]) + "\n")
    words = ["site", "data", "check", "--source", source, "--plan", plan, "--json", "--record-column", "note"]
    result = run(*words, "--labels", tmp_path / "a.csv", "--labels", tmp_path / "b.csv")
    found = {each["what"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1 and "SECRET" not in result.output
    both = {row["patient"] for row in rows[::2]} & {row["patient"] for row in rows[1::2]}
    assert found["patients who are in both a.csv and b.csv"]["count"] == len(both | {"SECRET"})
    assert found["records of a.csv that are not in the source"]["count"] == 1 and "records without a label" not in found


@pytest.mark.parametrize("founded", [True, False])
def test_records_that_do_not_fit_in_memory_lie_in_the_sites_folder(
    tmp_path: Path, plan: Path, founded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path | None] = []
    honest = look_module.read_records

    def spy(source: Source, data: Data, effort: Effort) -> Reading:
        places.append(effort.scratch)
        return honest(source, data, effort)

    monkeypatch.setattr(look_module, "read_records", spy)
    home = tmp_path / "home"
    home.mkdir()
    if founded:
        (home / "site.toml").write_text(SITE)
    result = run("site", "data", "check", "--home", home, "--source", write_reports(tmp_path, patients=4), "--plan", plan)
    assert result.exit_code == 0, result.output
    assert places == [home if founded else None]


def test_the_page_is_private_shows_one_patient_and_escapes_his_text(tmp_path: Path, plan: Path) -> None:
    source = write_reports(tmp_path, patients=4)
    add(tmp_path, ("zz", "<script>alert(1)</script> one two three four five six seven eight nine ten"))
    page = tmp_path / "out" / "page.html"
    result = run("site", "data", "check", "--source", source, "--plan", plan, "--html", page, "--patient", "zz")
    assert result.exit_code == 0 and "do not send it on" in result.output
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "Confidential" in text and "<script" not in text and "&lt;script&gt;alert" in text
    assert "<span>one</span>" in text and '<span class="cut">ten</span>' in text
    assert "alert" not in result.output
    absent = run("site", "data", "check", "--source", source, "--plan", plan, "--html", page, "--patient", "SECRET")
    refused(absent, "no record of this patient")
    assert "SECRET" not in absent.output


@pytest.mark.parametrize("kind", ["image", "signal", "table"])
def test_the_page_of_other_kinds(tmp_path: Path, kind: str) -> None:
    draw = np.random.default_rng(0)
    study = {"image": "images", "signal": "procedural-signals", "table": "procedural-tables"}[kind]
    import tomllib
    from importlib.resources import files

    body = tomllib.loads((files("deploy") / "studies" / f"{study}.toml").read_text())
    body["sites"] = [{"name": f"site-{letter}", "nominal_size": 40} for letter in "abcd"]
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(body))
    data: dict[str, Any] = body["data"]
    patients = np.array(["a", "a", "b"])
    if kind == "image":
        np.savez(tmp_path / "f.npz", image=draw.integers(0, 255, (3, data["height"], data["width"])), patient=patients)
        source: dict[str, Any] = {"kind": "npz", "path": "f.npz"}
    elif kind == "signal":
        values = draw.normal(size=(3, data["channels"], data["samples"])).astype(np.float32) * data["typical"][0]
        np.savez(tmp_path / "f.npz", signal=values, patient=patients)
        source = {"kind": "signals", "path": "f.npz", "rate_hz": data["rate_hz"], "units": data["units"]}
    else:
        names = [column["name"] for column in (*data["numeric"], *data["categorical"])]
        cells = [str(column.get("centre", 0.0)) for column in data["numeric"]]
        cells += [column["levels"][0] for column in data["categorical"]]
        (tmp_path / "f.csv").write_text(
            "\n".join([",".join(["patient", *names]), ",".join(["a", *cells]), ",".join(["b", *cells])])
        )
        units = {column["name"]: column["unit"] for column in data["numeric"] if "unit" in column}
        source = {"kind": "columns", "path": "f.csv", "patient_column": "patient", "units": units}
    (tmp_path / "s.toml").write_text(tomli_w.dumps(source))
    page = tmp_path / "page.html"
    result = run("site", "data", "check", "--source", tmp_path / "s.toml", "--plan", tmp_path / "plan.toml", "--html", page)
    assert result.exit_code in (0, 1), result.output
    text = page.read_text()
    assert "Patient data" in text and text.count("data:image/png") == (0 if kind == "table" else 2)
    assert kind != "table" or "as the study sees it" in text


def test_a_study_of_the_site_is_found_by_its_hash_or_by_being_the_only_one(federation: Any) -> None:
    home = federation.root / "site-a"
    refused(run("site", "data", "check", "--home", home), "for which study", "--plan")
    plan_hash = federation.launch()
    refused(run("site", "data", "check", "--home", home, "--study", plan_hash), "no single study")
    from client.study import store_plan

    store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    log = federation.site("site-a").chain.entries()
    for choice in ([], ["--study", plan_hash[:8]]):
        result = run("site", "data", "check", "--home", home, "--json", *choice)
        assert json.loads(result.stdout)["stays_here"] is True and result.exit_code in (0, 1), result.output
    assert federation.site("site-a").chain.entries() == log
    refused(run("site", "data", "check", "--home", home, "--study", plan_hash, "--plan", "x.toml"), "not both")
