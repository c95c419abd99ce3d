"""Each generated modality through the hospital's own commands: its site's files, its frozen plan made short, every arm.

`make demo-nightly` runs the whole federations.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_commands import edit, refused, run

from client.home import create_site
from deploy import demo as module
from deploy.demo_choice import DemoChoice, Modality
from deploy.demo_data import (
    procedural_events,
    procedural_images,
    procedural_pairs,
    procedural_signals,
    procedural_sounds,
    procedural_tables,
    sites,
)
from deploy.demo_result import Scores, arm_label
from deploy.evaluate_site import evaluate_site
from ssl_core.config import parse
from ssl_core.evaluation.label_efficiency import Arm
from ssl_core.spec.data import EventData, ImageData, PairData, SignalData, SoundData, TableData
from ssl_core.trust.identity import Identity

WRITERS: dict[Modality, tuple[Any, Any]] = {
    "image": (procedural_images.write_sites, ImageData),
    "signal": (procedural_signals.write_sites, SignalData),
    "table": (procedural_tables.write_sites, TableData),
    "sound": (procedural_sounds.write_sites, SoundData),
    "events": (procedural_events.write_sites, EventData),
    "pair": (procedural_pairs.write_sites, PairData),
}
SIZES = (60, 60, 60, 60, 60)


@pytest.mark.parametrize("modality", WRITERS)
def test_a_site_pretrains_on_its_files_fine_tunes_and_is_scored_in_every_arm(
    modality: Modality, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    monkeypatch.setattr(sites, "_POOL", 60)
    monkeypatch.setattr(sites, "_TEST", 60)
    plan = DemoChoice(modality=modality).plan()
    write, kind = WRITERS[modality]
    demo = write(tmp_path / "data", parse(kind, plan["data"], "study plan"), nominal_sizes=SIZES, patients=60)
    site = demo.sites[0]
    plan |= {"sites": [{"name": site.name, "nominal_size": site.nominal_size}], "alone": True}
    plan["rounds"] |= {"rounds": 1, "steps_per_round": 2, "max_void": 0, "min_sites": 3}
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(plan))
    home = tmp_path / "home"
    create_site(home, site.name, [Identity.generate().public], 1, str(site.source))
    edit(home / "policy.toml", **module._POLICY)
    done = run("site", "pretrain", tmp_path / "plan.toml", "--home", home, "--yes", "--json")
    assert done.exit_code == 0, done.output
    encoder = json.loads(done.stdout)["encoder"]
    tuned = run("finetune", encoder, "--source", site.pool, "--labels", site.labels, "--count", 40, "--out", tmp_path / "model")
    assert tuned.exit_code == 0, tuned.output
    found = evaluate_site(site.folder, federated=Path(encoder), own=Path(encoder), budgets=(40,), draws=2)
    rows = [Scores(arm=row.arm, budget=row.budget, auroc=row.auroc) for row in found.scores]
    assert {row.arm for row in rows} == set(Arm) and arm_label(Arm.FLOOR, modality).startswith("raw floor: ")
    scores = {row.arm: row.auroc for row in rows}
    assert scores[Arm.OWN] == scores[Arm.FEDERATED], "one encoder in two arms"
    assert scores[Arm.RANDOM] != scores[Arm.FEDERATED], "two steps moved it"


def test_a_warm_start_is_prepared_on_the_federation_s_plan_and_begins_a_site_s_own_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    monkeypatch.setattr(sites, "_POOL", 10)
    monkeypatch.setattr(sites, "_TEST", 10)
    choice = DemoChoice(modality="image", warm=True)
    choice.check()
    pixels = parse(ImageData, choice.plan()["data"], "study plan")
    demo = procedural_images.write_sites(tmp_path / "data", pixels, nominal_sizes=SIZES, patients=60)
    together = module._plan(choice, demo, tmp_path)
    start = tmp_path / "start"
    short = ("--units", 64, "--steps", 2, "--batch", 32)
    prepared = run("operator", "prepare", together, "--out", start, *short, "--json")
    assert prepared.exit_code == 0, prepared.output
    site = demo.sites[0]
    alone = module._plan_alone(choice, demo, tmp_path, site.name, json.loads(prepared.stdout)["weights"])
    edit(alone, rounds={"rounds": 1, "steps_per_round": 2, "max_void": 0, "min_sites": 3})
    home = tmp_path / "home"
    create_site(home, site.name, [Identity.generate().public], 1, str(site.source))
    edit(home / "policy.toml", **module._POLICY)
    refused(run("site", "pretrain", alone, "--home", home, "--yes"), "plan starts from prepared weights")
    done = run("site", "pretrain", alone, "--start", start, "--home", home, "--yes", "--json")
    assert done.exit_code == 0, done.output
