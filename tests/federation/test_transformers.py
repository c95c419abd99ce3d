"""A whole study of each transformer, from invitation to fine-tuning, by the way that any study takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from server.exchange import LocalExchange
from server.registry import publish
from server.round_state import RoundState
from server.rounds import run_study
from ssl_core.card import load_encoder, read_card
from ssl_core.data.source import load_patients, read_source
from ssl_core.encoders.signal_transformer import SignalTransformer
from ssl_core.encoders.table_transformer import TableTransformer
from ssl_core.encoders.text_transformer import TextTransformer
from ssl_core.encoders.vit import VisionTransformer
from ssl_core.finetuning.run import embed, finetune

LANGUAGE: dict[str, Any] = {
    "encoder": {"name": "text-transformer", "size": "nano"},
    "objective": {"name": "masked-language", "mask_fraction": 0.4},
}
AUTOENCODING: dict[str, Any] = {
    "data": {"kind": "image", "height": 16, "width": 16, "pool": 2, "records_per_patient": 2},
    "encoder": {"name": "vit", "size": "nano", "patch": 2},
    "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
}

SIGNALS: dict[str, Any] = {
    "data": {"kind": "signal", "channels": 2, "samples": 40, "rate_hz": 100, "units": ["mV"], "typical": [0.5]},
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 8},
    "objective": {"name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1},
}


TABLES: dict[str, Any] = {
    "data": {
        "kind": "table",
        "numeric": [{"name": "age", "unit": "years", "centre": 60, "typical": 15}, {"name": "sodium", "typical": 4}],
        "categorical": [{"name": "sex", "levels": ["f", "m"]}],
        "records_per_patient": 2,
    },
    "encoder": {"name": "table-transformer", "size": "nano"},
    "objective": {"name": "masked-features"},
}


def give_images(federation: Any) -> None:
    """Every site gets an image array instead of its table."""
    for number, name in enumerate(federation.names):
        folder: Path = federation.root / "data" / name
        pixels = np.random.default_rng(number).integers(0, 255, (60, 16, 16), np.uint8)
        np.savez(folder / "images.npz", image=pixels, patient=np.array([f"p{n % 40}" for n in range(60)]))
        (folder / "source.toml").write_text(tomli_w.dumps({"kind": "npz", "path": "images.npz"}))


def give_signals(federation: Any) -> None:
    """Every site gets a signal array instead of its table."""
    for number, name in enumerate(federation.names):
        folder: Path = federation.root / "data" / name
        counts = np.random.default_rng(number).integers(-900, 900, (60, 2, 40)).astype(np.int16)
        np.savez(folder / "signals.npz", signal=counts, patient=np.array([f"p{n % 40}" for n in range(60)]))
        source = {"kind": "signals", "path": "signals.npz", "rate_hz": 100, "units": ["mV"], "scale": [0.001]}
        (folder / "source.toml").write_text(tomli_w.dumps(source))


def give_tables(federation: Any) -> None:
    """Every site gets typed columns, some of them missing, instead of its texts."""
    for number, name in enumerate(federation.names):
        folder: Path = federation.root / "data" / name
        rng = np.random.default_rng(number)
        rows = [f"p{n % 40},{rng.integers(20, 90)}.{n},{140 + 4 * rng.normal():.2f},{('f', 'm', '')[n % 3]}" for n in range(60)]
        (folder / "table.csv").write_text("\n".join(["patient,AGE,sodium,sex", *rows]) + "\n")
        source = {"kind": "columns", "path": "table.csv", "patient_column": "patient", "columns": {"age": "AGE"}}
        (folder / "source.toml").write_text(tomli_w.dumps(source | {"units": {"age": "years"}}))


GIVE = {"image": give_images, "signal": give_signals, "table": give_tables}


@pytest.mark.parametrize(
    ("parts", "encoder"),
    [
        (LANGUAGE, TextTransformer),
        (AUTOENCODING, VisionTransformer),
        (SIGNALS, SignalTransformer),
        (TABLES, TableTransformer),
    ],
    ids=["language", "autoencoding", "signals", "tables"],
)
def test_a_transformer_is_trained_published_and_fine_tuned(
    make_federation: Callable[..., Any], tmp_path: Path, parts: dict[str, Any], encoder: type
) -> None:
    federation = make_federation(3)
    if "data" in parts:
        GIVE[parts["data"]["kind"]](federation)
    plan_hash = federation.launch(**parts, rounds__rounds=2)
    federation.invite_and_approve(plan_hash)
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    state = RoundState(federation.operator.study(plan_hash))
    closed = state.closed()
    assert (closed.count, closed.round, state.used()) == (2, 2, (2, []))
    initial = np.frombuffer((state.folder / "initial.f32").read_bytes(), "<f4")
    moved = closed.model.weights != initial
    assert moved.mean() > 0.99

    release = publish(federation.operator, plan_hash)
    loaded = load_encoder(release, keys=[federation.operator.operator.public])
    assert isinstance(loaded.model.encoder, encoder) and loaded.card.rounds_closed == 2
    page = (release / "card.md").read_text()
    assert parts["encoder"]["name"] in page
    assert ("signal, 2 x 40 samples at 100 Hz, in mV" in page) == (parts is SIGNALS)
    assert ("table, 3 columns: age (years); sodium; sex (f, m)" in page) == (parts is TABLES)
    for name in federation.names:
        folder = next((federation.root / name / "encoders").iterdir())
        assert read_card(folder).weights == loaded.card.weights

    source = federation.root / "data" / "site-a" / "source.toml"
    patients = load_patients(read_source(source), loaded.card.plan.data)
    features, _ = embed(loaded, source, tmp_path / "features.npz")
    assert features.shape == (len(patients.records), 32) and np.isfinite(features).all()
    assert len(np.unique(features.round(5), axis=0)) > 0.9 * len(features)
    lines = ["patient,finding", *(f"{unit},{number % 2}" for number, unit in enumerate(patients.units))]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    for method in ("probe", "full"):
        report = finetune(loaded, source, tmp_path / "labels.csv", tmp_path / method, method=method)
        assert report.patients == 40 and (tmp_path / method / "model.safetensors").is_file()
