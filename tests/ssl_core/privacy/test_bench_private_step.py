"""The bench of the private step runs, and its JSON has what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests_benches import bench_module


@pytest.fixture
def bench() -> Iterator[ModuleType]:
    with bench_module("bench_private_step") as module:
        yield module


def test_every_engine_has_a_row_and_bookkeeping_a_whole_step(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--quick", "--models", "vit-tiny", "--json", str(tmp_path / "rows.json")]) == 0
    written = json.loads((tmp_path / "rows.json").read_text())
    rows = {row["engine"]: row for row in written["rows"]}
    assert set(rows) == {"plain", "bookkeeping", "hooks", "vmap", "ghost"} and "cores" in written["machine"]
    for engine, row in rows.items():
        assert row["model"].startswith("ViT-tiny") and (row["batch"], row["device"]) == (3, "cpu")
        assert row["time_ratio"] > 0 and row["memory_ratio"] > 0
        assert (row["step_ratio"] is not None) == (engine == "bookkeeping")
        assert engine == "plain" or row["gap"] < 1e-5
    assert rows["plain"]["time_ratio"] == rows["plain"]["memory_ratio"] == 1.0
    assert "whole step" in capsys.readouterr().out
