"""Rows of a long table beside the record that is made of them: as pandas reads the file, and as the record itself says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from deploy.data_page import render_page
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import read_source
from ssl_core.datacheck import measurements as module
from ssl_core.datacheck.look import Look, look_at
from ssl_core.datacheck.measurements import Measurements
from ssl_core.spec.data import SignalData

DATA = SignalData(
    kind="signal", channels=2, samples=8, rate_hz=1 / 3600, units=("1/min", "Cel"), centre=(80.0, 37.0), typical=(20.0, 0.5)
)
HEAD = "p,t,n,v,r\n"


def look(folder: Path, patient: str | None = None, **changes: Any) -> Look:
    body = {
        "kind": "vitals", "path": "t.csv", "patient_column": "p", "time_column": "t", "name_column": "n", "value_column": "v",
        "channels": ["HR", ["T C", "T F"]], "units": ["1/min", "Cel"], "factors": {"T F": 5 / 9}, "offsets": {"T F": -160 / 9},
        "max_bad_share": 0.9, **changes,
    }  # fmt: skip
    (folder / "s.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return look_at(read_source(folder / "s.toml"), DATA, Effort(0), patient=patient, picture=True)


def before(found: Look) -> Measurements:
    assert found.shown is not None and isinstance(found.shown.before, Measurements)
    return found.shown.before


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("cell", ["mean", "last"])
def test_rows_are_those_of_the_file_and_become_what_the_record_holds(tmp_path: Path, form: str, cell: str) -> None:
    rng = np.random.default_rng(3)
    hours = np.sort(rng.uniform(0, 20, 90))
    frame = pd.DataFrame(
        {
            "p": rng.choice(["ann", "ben"], 90),
            "t": (pd.Timestamp("2024-02-28 22:17") + pd.to_timedelta(np.round(3600 * hours), "s")).astype(str),
            "n": rng.choice(["HR", "T C", "T F", "SpO2"], 90),
            "v": np.round(rng.normal(90, 5, 90), 1).astype(str),
        }
    )
    mixed = frame.sample(frac=1, random_state=0)
    if form == "csv":
        mixed.to_csv(tmp_path / "t.csv", index=False)
    else:
        mixed.to_parquet(tmp_path / "t.parquet", index=False)
    found = look(tmp_path, "ben", path=f"t.{form}", format=form, cell=cell)
    shown = before(found)
    mine = frame[(frame.p == "ben") & (frame.n != "SpO2")]
    since = pd.to_datetime(mine.t) - pd.to_datetime(mine.t).min()
    here = mine[since < pd.Timedelta("8h")]
    assert [row[:3] for row in shown.rows] == list(here[["t", "n", "v"]].itertuples(index=False, name=None))
    assert (shown.unlisted, shown.later) == (0, len(mine) - len(here))
    assert shown.other == len(frame[(frame.p == "ben") & (frame.n == "SpO2")]) > 0
    said = pd.DataFrame(
        [re.findall(r"^channel (\d), sample (\d) of 8: ([+-][\d.]+)(?:; of (\d+) there)?", row[3])[0] for row in shown.rows],
        columns=["channel", "sample", "value", "of"],
    )
    said = said.astype({"channel": int, "sample": int, "value": float})
    together = said.groupby(["channel", "sample"])
    assert set(said["of"]) > {""} and all(len(own) == int(own["of"].iloc[0] or 1) for _, own in together)
    assert found.shown is not None
    record = found.shown.after.reshape(2, 8)
    wanted = np.zeros((2, 8))
    for (channel, sample), own in together:
        wanted[channel - 1, sample - 1] = own.value.mean() if cell == "mean" else own.value.iloc[-1]
    assert np.allclose(record, wanted, atol=1e-3) and record.any(axis=1).all()


def test_bad_rows_stay_with_their_reason_and_other_stays_and_patients_are_left_out(tmp_path: Path) -> None:
    rows = [
        "ann,2024-01-01T05:00,HR,100,s1", "ben,2024-01-01T00:00,HR,66,s1", "ann,2024-01-01T04:00,HR,NA,s1",
        "ann,never,HR,90,s1", "ann,2024-01-01T03:00,T C,high,s1", "ann,2024-01-01T06:30, T F ,98.6,s1",
        "ann,2023-01-01T00:00,HR,77,s0", "ann,2024-01-02T05:00,HR,80,s1", "ann,2024-01-01T05:00,Rhythm,sinus,s1",
    ]  # fmt: skip
    (tmp_path / "t.csv").write_text(HEAD + "\n".join(rows) + "\n")
    found = look(tmp_path, "ann", record_column="r", missing=["NA"])
    assert before(found) == Measurements(
        (
            ("2024-01-01T03:00", "T C", "high", f"a bad row, {Fault.NO_NUMBER}"),
            ("2024-01-01T04:00", "HR", "NA", "declared to be no value"),
            ("2024-01-01T05:00", "HR", "100", "channel 1, sample 1 of 8: +1.000"),
            ("2024-01-01T06:30", " T F ", "98.6", "channel 2, sample 2 of 8: +0.000"),
            ("never", "HR", "90", f"a bad row, {Fault.NO_TIME}"),
        ),
        unlisted=0, later=1, other=1,
    )  # fmt: skip
    assert "2024" not in repr(before(found)) and "high" not in repr(found)


def test_a_patient_without_one_good_row_sees_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{HEAD}ann,2024-01-01,HR,?,\nann,2025-01-01,HR,?,\nben,2024-01-01,HR,60,\n")
    found = look(tmp_path, "ann")
    assert len(before(found).rows) == 2 and before(found).later == 0
    assert found.shown is not None and not found.shown.after.any()


def test_the_page_lists_the_first_rows_escaped_and_counts_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    rows = [f"ann,2024-01-01T0{hour}:00,HR,{60 + hour},\n" for hour in range(6)]
    rows += ["ann,2024-01-01T00:30,HR,<b>7</b>,\n", "ann,2024-01-03,HR,70,\n", "ann,2024-01-01,x,1,\nann,2024-01-01,x,1,\n"]
    (tmp_path / "t.csv").write_bytes((HEAD + "".join(rows)).encode() + b"ann,2024-01-01T00:15,HR,\xff,\n")
    page = render_page(look(tmp_path), DATA)
    cells = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', page)
    assert [cell[:3] for cell in cells] == [
        ("2024-01-01T00:00", "HR", "60"), ("2024-01-01T00:15", "HR", "?"), ("2024-01-01T00:30", "HR", "&lt;b&gt;7&lt;/b&gt;"),
    ]  # fmt: skip
    assert cells[0][3] == "channel 1, sample 1 of 8: -1.000" and cells[1][3] == "a bad row, unreadable"
    assert "Not shown: 5 more of this record, 1 later than it, 2 of names that are not declared." in page
