"""Small encoders, patients with findings, and an encoder's folder, for each kind of data."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from ssl_core.card import Card, save_encoder
from ssl_core.config import StudyPlan, parse
from ssl_core.encoders.vector import to_vector, weights_hash
from ssl_core.objectives.build import build_model

PARTS: dict[str, dict[str, Any]] = {
    "text": {
        "data": {"kind": "text", "words": 8, "codes": 2, "buckets": 64},
        "encoder": {"name": "hashed-words", "width": 16},
        "objective": {"name": "masked-words"},
    },
    "image": {
        "data": {"kind": "image", "height": 8, "width": 8},
        "encoder": {"name": "mlp-image", "hidden": 24, "code": 12},
        "objective": {"name": "masked-image", "patch": 4},
    },
    "text-transformer": {
        "data": {"kind": "text", "words": 8, "codes": 2, "buckets": 64},
        "encoder": {"name": "text-transformer", "size": "nano"},
        "objective": {"name": "masked-language"},
    },
    "next-token": {
        "data": {"kind": "text", "words": 8, "codes": 2, "buckets": 64},
        "encoder": {"name": "text-transformer", "size": "nano"},
        "objective": {"name": "next-token"},
    },
    "event-transformer": {
        "data": {"kind": "events", "vocabulary": ["a", "b", "c"], "events": 6, "gap_hours": [1, 24]},
        "encoder": {"name": "event-transformer", "size": "nano"},
        "objective": {"name": "next-event"},
    },
    "signal-transformer": {
        "data": {"kind": "signal", "channels": 2, "samples": 32, "rate_hz": 64, "units": ["mV", "%"], "typical": [0.5, 10]},
        "encoder": {"name": "signal-transformer", "size": "nano", "patch": 8},
        "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
    },
    "conv1d": {
        "data": {"kind": "signal", "channels": 2, "samples": 32, "rate_hz": 64, "units": ["mV", "%"], "typical": [0.5, 10]},
        "encoder": {"name": "conv1d", "size": "nano"},
        "objective": {"name": "shuffled-order", "segments": 2},
    },
    "table-transformer": {
        "data": {
            "kind": "table",
            "numeric": [{"name": "age", "unit": "years", "centre": 60, "typical": 15}, {"name": "ejection", "typical": 10}],
            "categorical": [{"name": "smoker", "levels": ["no", "yes"]}, {"name": "ward", "levels": ["a", "b", "c"]}],
        },
        "encoder": {"name": "table-transformer", "size": "nano"},
        "objective": {"name": "masked-features"},
    },
    "resnet": {
        "data": {"kind": "image", "height": 8, "width": 8},
        "encoder": {"name": "resnet", "size": "nano"},
        "objective": {"name": "rotation"},
    },
    "vit": {
        "data": {"kind": "image", "height": 8, "width": 8},
        "encoder": {"name": "vit", "size": "nano", "patch": 4},
        "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
    },
}
PARTS["two-tower"] = {
    "data": {"kind": "pair", "image": {"height": 8, "width": 8}, "text": {"words": 6, "buckets": 64}},
    "encoder": {"name": "two-tower", "size": "nano", "patch": 4, "joint": 16},
    "objective": {"name": "caption"},
}
FINDINGS = ("heart", "lung")


def make_plan(kind: str) -> StudyPlan:
    rest: dict[str, Any] = {
        "name": "small",
        "purpose": "a test",
        "alone": True,
        "sites": [{"name": "a", "nominal_size": 100}],
        "privacy": {
            "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.1,
            "noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5,
        },
        "training": {"optimizer": "adam", "learning_rate": 0.01},
        "rounds": {"rounds": 1, "steps_per_round": 1},
        "aggregation": {"update_range": 1.0},
    }  # fmt: skip
    return parse(StudyPlan, rest | PARTS[kind], "plan")


def make_encoder(folder: Path, kind: str) -> Path:
    plan = make_plan(kind)
    weights = to_vector(build_model(plan))
    card = Card(
        name="small", kind="initial", plan=plan, plan_hash="0" * 64, weights=weights_hash(weights), rounds_closed=0,
        rounds_void=0, accountant="none", site_privacy=(), software={},
    )  # fmt: skip
    save_encoder(folder, weights, card)
    return folder


def write_site(folder: Path, kind: str, *, patients: int, seed: int, name: str = "p") -> tuple[Path, Path]:
    """Source TOML and label CSV of patients with one or two records that tell their findings, with noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = [f"{name}{number:03d}" for number in range(patients)]
    labels = rng.integers(0, 2, (patients, 2))
    owners = [(index, unit) for index, unit in enumerate(ids) for _ in range(1 + index % 2)]
    if PARTS[kind]["data"]["kind"] == "text":
        with (folder / "r.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["patient", "text"])
            for index, unit in owners:
                own = [
                    f"{word}{rng.integers(3)}" for word, there in zip(("cardio", "pulmo"), labels[index], strict=True) if there
                ]
                writer.writerow([unit, " ".join([*own, *(f"filler{n}" for n in rng.integers(0, 40, 3))])])
        source = {"kind": "table", "path": "r.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    elif PARTS[kind]["data"]["kind"] == "table":
        with (folder / "r.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["patient", "age", "ejection", "smoker", "ward"])
            for index, unit in owners:
                heart, lung = labels[index]
                cells = [60 + 9 * rng.normal(), 55 - 25 * heart + 6 * rng.normal(), ("no", "yes")[lung], "abc"[rng.integers(3)]]
                writer.writerow([unit, *("" if rng.integers(10) == 0 else cell for cell in cells)])
        source = {"kind": "columns", "path": "r.csv", "patient_column": "patient", "units": {"age": "years"}}
    elif PARTS[kind]["data"]["kind"] == "events":
        with (folder / "r.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["patient", "time", "code", "stay"])
            for stay, (index, unit) in enumerate(owners):
                codes = [*"a" * (2 * labels[index, 0]), *"b" * (2 * labels[index, 1]), "c", *rng.choice(list("abc"), 1)]
                hours = rng.integers(0, 200, len(codes))
                writer.writerows(
                    [unit, (datetime(2025, 1, 1) + timedelta(hours=int(hour))).isoformat(), code, stay]
                    for hour, code in zip(hours, codes, strict=True)
                )
        columns = {f"{name}_column": name for name in ("patient", "time", "code")} | {"record_column": "stay"}
        source = {"kind": "events", "path": "r.csv", **columns}
    elif PARTS[kind]["data"]["kind"] == "signal":
        count = rng.integers(-40, 41, (len(owners), 2, 32))
        wave = np.rint(400 * np.sin(2 * np.pi * 4 * np.arange(32) / 32)).astype(np.int64)
        for row, (index, _) in enumerate(owners):
            count[row] += labels[index][:, None] * np.roll(wave, rng.integers(32))
        np.savez(folder / "r.npz", signal=count.astype(np.int16), patient=np.array([unit for _, unit in owners]))
        source = {"kind": "signals", "path": "r.npz", "rate_hz": 64, "units": ["mV", "%"], "scale": [0.001, 0.02]}
    else:
        image = rng.integers(90, 110, (len(owners), 8, 8))
        for row, (index, _) in enumerate(owners):
            image[row, :4, :4] += 60 * labels[index, 0]
            image[row, 4:, 4:] += 60 * labels[index, 1]
        fields = {"image": image.astype(np.uint8), "patient": np.array([unit for _, unit in owners])}
        source = {"kind": "npz", "path": "r.npz"}
        if PARTS[kind]["data"]["kind"] == "pair":
            fields["study"] = np.arange(len(owners))
            with (folder / "r.csv").open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["patient", "study", "text"])
                writer.writerows([unit, row, f"seen {rng.integers(9)}"] for row, (_, unit) in enumerate(owners))
            table = {"kind": "table", "path": "r.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
            source = {"kind": "pairs", "study_from": "field", "image": source, "text": table | {"record_column": "study"}}
        np.savez(folder / "r.npz", **fields)
    (folder / "source.toml").write_text(tomli_w.dumps(source))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", *FINDINGS])
        writer.writerows([unit, *row] for unit, row in zip(ids, labels.tolist(), strict=True))
    return folder / "source.toml", folder / "labels.csv"


def spoil(source: Path, patient: str, *, added: bool = False) -> None:
    """Make every record of one patient bad: cells emptied, pixels and samples without any change; `added`: such ones beside."""
    arrays, table = source.with_name("r.npz"), source.with_name("r.csv")
    if arrays.exists():
        with np.load(arrays) as saved:
            fields = dict(saved)
        if added:
            more = np.flatnonzero(fields["patient"] == patient)
            fields = {name: np.concatenate([field, field[more]]) for name, field in fields.items()}
            fields["image" if "image" in fields else "signal"][-len(more) :] = 7
            np.savez(arrays, **fields)
            return
        fields["image" if "image" in fields else "signal"][fields["patient"] == patient] = 7
        np.savez(arrays, **fields)
        return
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    empty = [name for name in rows[0] if name not in ("patient", "time", "stay")]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        if added:
            writer.writerows([*rows, *(row | dict.fromkeys(empty, "") for row in rows if row["patient"] == patient)])
            return
        writer.writerows(row | dict.fromkeys(empty, "") if row["patient"] == patient else row for row in rows)


@pytest.fixture(params=PARTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Small:
    """The helpers above, for tests that cannot import this file."""

    make_plan = staticmethod(make_plan)
    make_encoder = staticmethod(make_encoder)
    write_site = staticmethod(write_site)
    spoil = staticmethod(spoil)


@pytest.fixture
def small() -> Small:
    return Small()
