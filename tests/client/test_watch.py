"""`choral site watch`: the staff sees how the encoder stands; nothing that leaves knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_commands import refused, run
from tests_network import LocalExchange

from client.watch import read_sightings
from server.rounds import run_study
from ssl_core.errors import StateError


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_study_is_watched_from_its_start_to_its_end(make_federation: Callable[..., Any], tmp_path: Path) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    federation.invite_and_approve(plan_hash)
    before = _tree(home)
    (first,) = json.loads(run("site", "watch", plan_hash[:8], "--home", home, "--json").stdout)["rounds"]
    assert first["round"] == 0 and first["effective_rank"] > 1
    changed = {name for name, content in _tree(home).items() if before.get(name) != content}
    assert changed == {f"studies/{plan_hash}/watch.jsonl"}
    units = sorted({line.split(",")[0] for line in (federation.root / "data/site-a/reports.csv").read_text().splitlines()[1:]})
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,finding\n" + "".join(f"{unit},{number % 2}\n" for number, unit in enumerate(units)))
    assert "0 (start)" in run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels).output
    (again,) = json.loads(run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels, "--json").stdout)["rounds"]
    assert 0.0 <= again.pop("neighbours") <= 1.0 and first.pop("neighbours") is None and again == first
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    assert "0 (start)" in run("site", "watch", plan_hash[:8], "--home", home, "--follow").output, "what was seen is still shown"


def test_labels_of_nobody_and_a_damaged_file_are_named(make_federation: Callable[..., Any], tmp_path: Path) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.root / "site-a"
    federation.invite_and_approve(plan_hash)
    labels = tmp_path / "labels.csv"
    labels.write_text("patient,finding\nnobody,1\nsomebody,0\n")
    refused(run("site", "watch", plan_hash[:8], "--home", home, "--labels", labels), "--labels")
    (home / "studies" / plan_hash / "watch.jsonl").write_text('{"round": 0}\n')
    with pytest.raises(StateError, match="damaged"):
        read_sightings(home / "studies" / plan_hash)
