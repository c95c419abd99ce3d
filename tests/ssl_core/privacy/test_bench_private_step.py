"""The bench of the private step runs, and its JSON has what is said of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_private_step", BENCH / "bench_private_step.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


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
