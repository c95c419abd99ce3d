"""The bench of the secure sum runs and says what it promises; its times are nobody's business here."""

from __future__ import annotations

import json

from tests_benches import bench_module


def test_quick_bench_prints_a_table_and_writes_rows(tmp_path, capsys):
    with bench_module("bench_secure_sum") as bench:
        assert bench.main(["--quick", "--json", str(tmp_path / "rows.json")]) == 0
    shown = capsys.readouterr().out
    assert "clipping_range=8.0, quantization_range=4194304, modulus_range=4294967296" in " ".join(shown.split())
    written = json.loads((tmp_path / "rows.json").read_text())
    assert set(written) == {"machine", "rows"}
    assert [(row["bits"], row["sites"], row["parameters"]) for row in written["rows"]] == [(32, 4, 5000), (16, 4, 5000)]
    wide, narrow = written["rows"]
    assert wide["vector_bytes"] == 20_000 and narrow["vector_bytes"] == 10_000
    assert wide["flwr_bytes"] > 40_000
    assert all(value > 0 for row in written["rows"] for value in row.values())
