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
from tests_commands import edit, refused, run
from tests_material import small_plan, write_reports

from ssl_core.data.reading import Effort, Reading
from ssl_core.data.source import Source
from ssl_core.datacheck import look as look_module
from ssl_core.spec.data import Data


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
        (home / "site.toml").touch()
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
