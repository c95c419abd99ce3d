"""Generated reports and a small plan, for every federation of the tests."""

from __future__ import annotations

import csv
import random
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomli_w

WORDS = [f"{a}{b}" for a in ("lung", "heart", "rib", "left", "right", "no", "new") for b in ("", "ic", "al", "ous")]
PRIVACY = {
    "unit": "patient",
    "adjacency": "add-or-remove-one",
    "noise": "site",
    "sampling_rate": 0.25,
    "noise_multiplier": 1.0,
    "max_grad_norm": 0.5,
    "delta": 1e-5,
}


def write_reports(folder: Path, *, patients: int = 40, seed: int = 0, skip: int | None = None) -> Path:
    """A table of texts of `patients` patients with one to three reports, and the TOML that declares it."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "text"])
        for number in range(patients):
            texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(draw.randint(1, 3))]
            if number != skip:
                writer.writerows([f"p{number}", text] for text in texts)
    source = {"kind": "table", "path": "reports.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    (folder / "source.toml").write_text(tomli_w.dumps(source))
    return folder / "source.toml"


def small_plan(names: list[str], **changes: Any) -> dict[str, Any]:
    """The demo's plan made small; `privacy__delta=...` changes one value."""
    plan = tomllib.loads((files("deploy") / "studies" / "reports.toml").read_text())
    plan["data"] |= {"words": 8, "codes": 1, "buckets": 32}
    plan["encoder"]["width"] = 8
    plan["rounds"] |= {"rounds": 3, "steps_per_round": 2, "min_sites": 3, "max_void": 2, "patience_s": 20.0}
    plan["privacy"] |= {"sampling_rate": 0.1, "noise_multiplier": 2.0}
    plan["sites"] = [{"name": name, "nominal_size": 40} for name in sorted(names)]
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            plan[part][name] = value
        else:
            plan[part] = value
    return plan
