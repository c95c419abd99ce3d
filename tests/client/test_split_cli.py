"""`choral site data split`, as a person simulates a federation and splits off a test set: files, counts, leaks, refusals."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from scipy.stats import chi2_contingency, entropy
from tests_commands import edit, refused, run
from tests_material import WORDS, small_plan

from client.study import store_plan
from ssl_core.card import Card, save_encoder
from ssl_core.config import StudyPlan, parse
from ssl_core.data.assignment import read_assignment, require_disjoint
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.objectives.build import build_model
from ssl_core.trust.random import unit_tag

SITES = ("site-1", "site-2", "site-3")
SKEWED = ("--by-label", "rhythm", "--sites", 3, "--seed", 4, "--least", 20)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """300 patients, one to three reports each, a rhythm and a finding; the label file in another order than the reports."""
    draw = np.random.default_rng(0)
    units = [f"p{number:03d}" for number in range(300)]
    rhythm = draw.choice(["normal", "flutter", "block"], 300, p=[0.5, 0.3, 0.2])
    reports = [
        (unit, f"{' '.join(draw.choice(WORDS, 6))} n{number}{record}")
        for number, unit in enumerate(units)
        for record in range(1 + number % 3)
    ]
    labels = pd.DataFrame({"patient": units, "rhythm": rhythm, "machine": draw.choice(["A/1", "B"], 300)})
    labels.sample(frac=1, random_state=1).to_csv(tmp_path / "labels.csv", index=False)
    labels.assign(block=(labels["rhythm"] == "block").astype(int))[["patient", "block"]].to_csv(
        tmp_path / "block.csv", index=False
    )
    pd.DataFrame(reports, columns=["patient", "text"]).to_csv(tmp_path / "reports.csv", index=False)
    source = {"kind": "table", "path": "reports.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    (tmp_path / "source.toml").write_text(tomli_w.dumps(source))
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(small_plan(list(SITES))))
    return tmp_path


def split(folder: Path, out: str, *words: object, labels: str = "labels.csv", source: str = "source.toml") -> Any:
    given = ("--source", folder / source, "--plan", folder / "plan.toml", "--labels", folder / labels)
    return run("site", "data", "split", *given, "--out", folder / out, *words)


def crosstab(folder: Path, out: str) -> Any:
    """Patients of each site and rhythm, from the files alone."""
    parts = pd.read_csv(folder / out / "split.csv", comment="#")
    return pd.crosstab(*parts.merge(pd.read_csv(folder / "labels.csv"))[["part", "rhythm"]].to_numpy().T)


def test_three_simulated_sites_of_one_hospital(held: Path) -> None:
    result = split(held, "skewed", "--alpha", 0.3, *SKEWED)
    assert result.exit_code == 0, result.output
    data = parse(StudyPlan, small_plan(list(SITES)), "plan").data
    whole = load_patients(read_source(held / "source.toml"), data)
    made = read_assignment(held / "skewed" / "split.csv")
    assert made.digest in result.output and "they stay here" in result.output
    counts = crosstab(held, "skewed")
    shown = " ".join(result.output.split())
    for site in SITES:
        told = ", ".join(f"{name}: {count}" for name, count in counts.loc[site].items() if count)
        assert f"{site} {counts.loc[site].sum()} {counts.loc[site].sum() / 300:.1%} {told}" in shown
    # Each simulated site reads its own patients, with all their records, and nobody else's.
    read = {}
    for site in SITES:
        own = load_patients(read_source(held / f"source-skewed-{site}.toml"), data)
        labelled = pd.read_csv(held / "skewed" / f"labels-{site}.csv")
        assert own.units == made.units(site) == tuple(sorted(labelled["patient"]))
        mine = whole.take(np.array([whole.units.index(unit) for unit in own.units]))
        assert own.whole.tobytes() == mine.whole.tobytes() and own.counts().tolist() == mine.counts().tolist()
        read[site] = own.units
    require_disjoint(read)
    assert sorted(unit for units in read.values() for unit in units) == sorted(whole.units)
    together = pd.concat([pd.read_csv(held / "skewed" / f"labels-{site}.csv") for site in SITES])
    whole_labels = pd.read_csv(held / "labels.csv")
    assert together.sort_values("patient").values.tolist() == whole_labels.sort_values("patient").values.tolist()


def test_files_that_name_patients_are_their_owners_alone(held: Path) -> None:
    split(held, "skewed", "--alpha", 0.3, *SKEWED)
    assert stat.S_IMODE((held / "skewed").stat().st_mode) == 0o700
    files = [*(held / "skewed").iterdir(), *held.glob("source-*.toml")]
    assert len(files) == 7 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_same_from_rows_in_another_order_and_skewer_for_a_smaller_alpha(held: Path) -> None:
    split(held, "one", "--alpha", 0.3, *SKEWED)
    for name in ("labels.csv", "reports.csv"):
        pd.read_csv(held / name).sample(frac=1, random_state=7).to_csv(held / name, index=False)
    split(held, "two", "--alpha", 0.3, *SKEWED)
    assert (held / "one" / "split.csv").read_bytes() == (held / "two" / "split.csv").read_bytes()
    assert split(held, "even", "--alpha", 100, *SKEWED).exit_code == 0
    skewed, even = crosstab(held, "one"), crosstab(held, "even")
    assert chi2_contingency(skewed).pvalue < 1e-6 < 0.01 < chi2_contingency(even).pvalue
    assert entropy(skewed, axis=1).mean() < 0.8 * entropy(even, axis=1).mean()


def test_the_check_finds_no_leak_until_a_line_is_copied_over(held: Path) -> None:
    split(held, "skewed", "--alpha", 0.3, *SKEWED)
    files = [held / "skewed" / f"labels-{site}.csv" for site in SITES]
    words = [word for path in files for word in ("--labels", path)]
    check = ("site", "data", "check", "--source", held / "source.toml", "--plan", held / "plan.toml", "--json", *words)
    clean = run(*check)
    topics = {finding["topic"] for finding in json.loads(clean.stdout)["findings"]}
    assert clean.exit_code == 0 and not topics & {"leaks", "labels"}
    with files[1].open("a") as stream:
        stream.write(files[0].read_text().splitlines()[1] + "\n")
    leaking = run(*check)
    (leak,) = [finding for finding in json.loads(leaking.stdout)["findings"] if finding["topic"] == "leaks"]
    assert leaking.exit_code == 1 and leak["count"] == 1 and "labels-site-1.csv and labels-site-2.csv" in leak["what"]


def test_a_model_is_fitted_and_tested_on_the_parts_and_the_training_part_is_split_again(held: Path) -> None:
    made = split(held, "cv", "--parts", "train=.8,test=.2", "--key", "study-1", "--stratify", "block", labels="block.csv")
    assert made.exit_code == 0, made.output
    plan = parse(StudyPlan, small_plan(list(SITES)), "plan")
    weights = to_vector(build_model(plan))
    card = Card(
        name="small", kind="initial", plan=plan, plan_hash="0" * 64, weights=weights_hash(weights), rounds_closed=0,
        rounds_void=0, accountant="none", site_privacy=(), software={},
    )  # fmt: skip
    save_encoder(held / "encoder", weights, card)
    tuned = run(
        "finetune", held / "encoder", "--source", held / "source-cv-train.toml", "--labels", held / "cv" / "block-train.csv",
        "--test-source", held / "source-cv-test.toml", "--test-labels", held / "cv" / "block-test.csv",
        "--out", held / "model", "--json",
    )  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    assert json.loads(tuned.stdout)["patients"] == len(pd.read_csv(held / "cv" / "block-train.csv")) == 240
    again = split(
        held, "sites", "--by-size", "--sites", 2, "--sigma", 0.5, "--seed", 1, "--json", labels="cv/block-train.csv",
        source="source-cv-train.toml",
    )  # fmt: skip
    told = json.loads(again.stdout)
    assert sum(told["patients"].values()) == 240 and told["stays_here"] is True and told["classes"] is None
    own = load_patients(read_source(held / "source-cv-train-sites-site-2.toml"), plan.data)
    assert len(own) == told["patients"]["site-2"]
    assert set(own.units) < set(read_assignment(held / "cv" / "split.csv").units("train"))


def test_a_label_file_alone_by_real_domain(held: Path) -> None:
    result = run("site", "data", "split", "--labels", held / "labels.csv", "--by-domain", "machine", "--out", held / "d")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (held / "d").iterdir()} == {"split.csv", "labels-A_1.csv", "labels-B.csv"}
    machines = pd.read_csv(held / "labels.csv").set_index("patient")["machine"].to_dict()
    assert dict(read_assignment(held / "d" / "split.csv").parts) == machines and not [*held.glob("source-*")]


def test_labels_of_others_and_patients_without_a_label_are_told(held: Path) -> None:
    rows = pd.read_csv(held / "labels.csv").sort_values("patient")
    rows.iloc[100:].to_csv(held / "few.csv", index=False)
    reports = pd.read_csv(held / "reports.csv")
    reports[reports["patient"] < "p290"].to_csv(held / "reports.csv", index=False)
    result = split(held, "s", "--alpha", 1, *SKEWED, labels="few.csv")
    assert "10 patients of the label file have no record" in result.output and "(none): " in result.output
    made = read_assignment(held / "s" / "split.csv")
    assert len(made.parts) == 290
    assert sum(len(pd.read_csv(path)) for path in (held / "s").glob("few-*")) == 190


def test_what_cannot_be_done_is_refused_and_nothing_is_written(held: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for words, told in (
        ((), "one way to draw"),
        (("--by-size", "--by-domain", "machine"), "one way to draw"),
        (("--by-size", "--sites", 3, "--sigma", 1), "--by-size needs --seed"),
        (("--by-domain", "machine", "--alpha", 1), "--alpha does not go with --by-domain"),
        (("--parts", "train=.8;test=.2", "--key", "k"), "cannot be read"),
        (("--parts", "a=.8,a=.2", "--key", "k"), "cannot be read"),
        (("--parts", "../a=.8,b=.2", "--key", "k"), "cannot be read"),
        (("--parts", "a=.8,b=.1", "--key", "k"), "add up to 1"),
        (("--by-label", "patient", "--sites", 3, "--alpha", 1, "--seed", 1), "ids, no classes"),
        (("--by-label", "rhythm", "--sites", 3, "--alpha", "inf", "--seed", 1), "alpha is outside"),
    ):
        refused(split(held, "out", *words), told)
    size = ("--by-size", "--sites", 2, "--sigma", 0, "--seed", 1)
    alone = ("site", "data", "split", *size, "--out", held / "out")
    refused(run(*alone), "whose patients")
    refused(run(*alone, "--source", held / "source.toml", "--home", held / "nowhere"), "give --plan FILE")
    refused(run("site", "data", "split", "--by-domain", "machine", "--out", held / "out"), "names a column of --labels")
    refused(split(held, "../beside", *size), "in its own folder")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_fails_half_way_leaves_nothing(held: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    # The second part's source has a name that no file system takes.
    done = split(held, "o" * 190, "--parts", f"a=.5,{'b' * 60}=.5", "--key", "k")
    assert done.exit_code != 0 and sorted(tmp_path.rglob("*")) == before


def test_nothing_is_written_over(held: Path) -> None:
    words = ("--by-size", "--sites", 2, "--sigma", 0, "--seed", 1)
    (held / "source-out-site-2.toml").write_text("mine")
    refused(split(held, "out", *words), "not written over", "source-out-site-2.toml")
    assert not (held / "out").exists() and not (held / "source-out-site-1.toml").exists()
    (held / "taken").mkdir()
    refused(split(held, "taken", *words), "not written over", "taken")
    assert not [*(held / "taken").iterdir()]
    pd.DataFrame({"patient": ["a", "b"], "machine": ["x y", "X/y"]}).to_csv(held / "m.csv", index=False)
    refused(
        run("site", "data", "split", "--labels", held / "m.csv", "--by-domain", "machine", "--out", held / "new"),
        "files of the same name",
    )
    assert not (held / "new").exists()


def test_a_folder_whose_files_are_read_by_name_must_not_take_the_splits_for_its_own(held: Path) -> None:
    edit(held / "plan.toml", data={"kind": "image", "height": 8, "width": 8})
    for folder in (".", "archive"):
        (held / "dicom.toml").write_text(tomli_w.dumps({"kind": "dicom", "path": folder, "modalities": ["CR"]}))
        (held / "archive").mkdir(exist_ok=True)
        result = split(held, "archive/out", "--by-size", "--sites", 2, "--sigma", 0, "--seed", 1, source="dicom.toml")
        refused(result, "would read the split's files as its own")


def test_a_site_of_one_part_keeps_that_parts_patients_alone(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    folder, plan_hash = federation.root / "data" / "site-a", federation.launch()
    words = ("--parts", "mine=.5,others=.5", "--key", "k", "--plan", federation.root / "plan.toml")
    made = run("site", "data", "split", "--source", folder / "source.toml", "--out", folder / "half", *words)
    assert made.exit_code == 0, made.output
    edit(federation.root / "site-a" / "site.toml", source=str(folder / "source-half-mine.toml"))
    store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    approved = run("site", "approve", plan_hash, "--home", federation.root / "site-a", "--yes")
    assert approved.exit_code == 0, approved.output
    assert "records of other parts' patients left out" in approved.output and "Isolation check passed" in approved.output
    mine = read_assignment(folder / "half" / "split.csv").units("mine")
    kept = federation.study("site-a", plan_hash).patients
    assert 0 < len(mine) < 40 and kept.tags.tobytes() == b"".join(map(unit_tag, mine))
