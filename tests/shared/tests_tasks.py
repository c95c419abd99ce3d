"""A small plan of every data, encoder and task that go together."""

from __future__ import annotations

from typing import Any

from ssl_core.config import StudyPlan, parse

TEXT = {"kind": "text", "words": 10, "codes": 2, "buckets": 32}
IMAGE = {"kind": "image", "height": 16, "width": 16, "pool": 2}
SIGNAL = {"kind": "signal", "channels": 2, "samples": 96, "rate_hz": 40, "units": ["mV"], "typical": [0.5]}
TABLE = {
    "kind": "table",
    "numeric": [{"name": "age", "centre": 60, "typical": 15}, {"name": "sodium", "typical": 4}],
    "categorical": [{"name": "sex", "levels": ["f", "m"]}],
}
SOUND = {"kind": "sound", "rate_hz": 1000, "seconds": 0.288, "mels": 8, "high_hz": 500, "window": 64, "hop": 32}
EVENTS = {"kind": "events", "vocabulary": ["a", "b", "c"], "events": 8, "gap_hours": [1, 24]}
PAIR = {"kind": "pair", "image": {"height": 16, "width": 16, "pool": 2}, "text": {"words": 6, "buckets": 32}}
DATA: dict[str, dict[str, Any]] = {
    "events": EVENTS, "text": TEXT, "image": IMAGE, "signal": SIGNAL, "table": TABLE, "sound": SOUND, "pair": PAIR
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "hashed-words": {"width": 8},
    "text-transformer": {"size": "nano"},
    "event-transformer": {"size": "nano"},
    "mlp-image": {"hidden": 12, "code": 8},
    "vit": {"size": "nano", "patch": 4},
    "resnet": {"size": "nano"},
    "signal-transformer": {"size": "nano", "patch": 12, "pool": "mean-deviation", "front_end": True},
    "conv1d": {"size": "nano"},
    "table-transformer": {"size": "nano"},
    "two-tower": {"size": "nano", "patch": 4, "joint": 16},
}
TASKS: dict[str, dict[str, Any]] = {
    "masked-image": {"patch": 2},
    "masked-autoencoding": {"decoder_width": 32, "decoder_depth": 1},
    "denoising": {"block": 0.25},
    "own-contrast": {"segments": 4, "gap": 12, "projection": 8},
    "contrastive-predictive": {"pieces": 4, "ahead": 2},
    "shuffled-order": {"segments": 3},
    "latent-prediction": {"blocks": 2, "decoder_width": 32, "decoder_depth": 1},
    "simsiam": {"projector": 32, "predictor": 8, "flip": True},
    "byol": {"projector": 32, "predictor": 8},
    "vicreg-own": {"crops": 3, "projector": 8},
    "crops-contrast": {"crops": 3, "projector": 8},
    "barlow-own": {"crops": 3, "projector": 8},
    "simclr-bank": {"projector": 8, "bank": 64},
    "moco-bank": {"projector": 8, "bank": 64},
    "swav-bank": {"projector": 8, "bank": 64, "prototypes": 6},
    "dino-bank": {"projector": 8, "bank": 64, "prototypes": 6},
    "simclr-buckets": {"projector": 8},
    "text-target": {"bank": 8},
}


# What stands behind the three kinds: "summary".
OPTIONS: dict[str, dict[str, Any]] = {"summary": {"summary_weight": 0.5}}


def plan(kinds: tuple[str, ...], records: int) -> StudyPlan:
    data, encoder, task, *options = kinds
    body: dict[str, Any] = {
        "name": "study",
        "purpose": "a test",
        "data": DATA[data] | {"records_per_patient": records},
        "encoder": {"name": encoder} | ENCODERS[encoder],
        "objective": {"name": task} | TASKS.get(task, {}) | (OPTIONS[options[0]] if options else {}),
        "privacy": {
            "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.05,
            "noise_multiplier": 1.0, "max_grad_norm": 0.5, "delta": 1e-5,
        },
        "training": {"optimizer": "adam", "learning_rate": 0.05},
        "rounds": {"rounds": 2, "steps_per_round": 2},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": name, "nominal_size": 9000} for name in ("a", "b", "c")],
    }  # fmt: skip
    return parse(StudyPlan, body, "plan")
