"""Heads for numbers and survival on files: what is told, saved, loaded again, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_commands import refused, run

from ssl_core.card import read_encoder
from ssl_core.data.labels import read_labels
from ssl_core.data.outcomes import read_numbers
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.finetuning.model import load_site_model
from ssl_core.finetuning.outcome import Columns, finetune_outcome


def outcomes(labels: Path, seed: int) -> Path:
    """Outcomes that the records tell of, by way of the 0/1 labels of the same patients."""
    table = read_labels(labels)
    draw = np.random.default_rng(seed)
    path = labels.with_name("outcomes.csv")
    lines = ["patient,size,days,died"]
    for unit, (heart, lung) in zip(table.units, table.values, strict=True):
        days = 1 + 100 * np.exp(-3.0 * heart + 2.0 * lung) * draw.exponential()
        lines.append(f"{unit},{50 + 10 * heart - 10 * lung + draw.normal():.3f},{min(days, 150):.2f},{int(days < 150)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "columns", [Columns(values=("size",)), Columns(time="days", event="died")], ids=["numbers", "survival"]
)
def test_a_head_is_fitted_tested_saved_and_loaded(tmp_path: Path, small: Any, columns: Columns) -> None:
    folder = small.make_encoder(tmp_path / "encoder", "text")
    source, labels = small.write_site(tmp_path / "pool", "text", patients=120, seed=1)
    test_source, test_labels = small.write_site(tmp_path / "test", "text", patients=80, seed=2, name="t")
    test = outcomes(test_labels, 2)
    report = finetune_outcome(
        read_encoder(folder), source, outcomes(labels, 1), tmp_path / "m", columns, test_source=test_source, test_outcomes=test
    )
    assert report.outcome == columns.outcome and report.patients == 120
    (own,), (floor,) = report.score, report.floor
    assert own is not None and floor is not None
    assert own > (0.1 if columns.values else 0.55) and floor > (0.3 if columns.values else 0.55)
    assert "raw floor" in report.to_text() and "Do not share" in report.to_text()
    json.dumps(report.to_json())
    model = load_site_model(tmp_path / "m")
    assert model.card.outcome == columns.outcome and model.card.private is False
    if columns.values:
        patients = load_patients(read_source(test_source), model.card.encoder.plan.data)
        index, truth = read_numbers(test, columns.values).align(patients)
        left = ((model.scores(patients.take(index)) - truth) ** 2).sum()
        assert own == pytest.approx(1 - left / ((truth - truth.mean()) ** 2).sum(), abs=1e-9)


def test_what_is_refused(tmp_path: Path, small: Any) -> None:
    encoder = read_encoder(small.make_encoder(tmp_path / "encoder", "text"))
    source, labels = small.write_site(tmp_path / "pool", "text", patients=20, seed=1)
    table = outcomes(labels, 1)
    for wrong in ({}, {"time": "days"}, {"values": ("size",), "time": "days", "event": "died"}):
        with pytest.raises(ConfigError, match="time and an event"):
            Columns(**wrong)  # type: ignore[arg-type]
    numbers = Columns(values=("size",))
    with pytest.raises(DataError, match="to fit on and to test on"):
        finetune_outcome(encoder, source, table, tmp_path / "m", numbers, test_source=source, test_outcomes=table)
    with pytest.raises(ConfigError, match="needs its source"):
        finetune_outcome(encoder, source, table, tmp_path / "m", numbers, test_source=source)
    few = tmp_path / "few.csv"
    few.write_text("patient,size\nzz,1\n")
    with pytest.raises(DataError, match="too few patients"):
        finetune_outcome(encoder, source, few, tmp_path / "m", numbers)
    same = tmp_path / "same.csv"
    same.write_text("patient,size\n" + "".join(f"{unit},1\n" for unit in read_labels(labels).units))
    with pytest.raises(DataError, match="the same for all"):
        finetune_outcome(encoder, source, same, tmp_path / "m", numbers)
    assert not (tmp_path / "m").exists()


def test_the_command(tmp_path: Path, small: Any) -> None:
    encoder = small.make_encoder(tmp_path / "encoder", "text")
    source, labels = small.write_site(tmp_path / "pool", "text", patients=60, seed=1)
    table = outcomes(labels, 1)
    words = ["finetune", encoder, "--source", source, "--labels", table, "--out", tmp_path / "m"]
    refused(run(*words, "--time", "days"), "time and an event")
    refused(run(*words, "--values", "size", "--count", "10"), "all patients")
    told = run(*words, "--values", "size", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["outcome"] == "numbers" and (tmp_path / "m" / "card.json").is_file()
