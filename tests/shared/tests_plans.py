"""Small study plans of images, signals and sounds, as large as procedural data need: signals and sounds last two seconds."""

from __future__ import annotations

from typing import Any

from tests_material import PRIVACY

from ssl_core.config import StudyPlan, parse

IMAGE: dict[str, Any] = {
    "data": {"kind": "image", "height": 16, "width": 16, "records_per_patient": 2},
    "encoder": {"name": "mlp-image", "hidden": 16, "code": 8},
    "objective": {"name": "masked-image"},
}
ROTATION: dict[str, Any] = {
    "data": {"kind": "image", "height": 16, "width": 16},
    "encoder": {"name": "resnet", "size": "nano"},
    "objective": {"name": "rotation"},
}
SIGNAL: dict[str, Any] = {
    "data": {"kind": "signal", "channels": 2, "samples": 80, "rate_hz": 40, "units": ["mV"], "typical": [0.2]},
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 8},
    "objective": {"name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 32, "decoder_depth": 1},
}
SOUND: dict[str, Any] = {
    "data": {"kind": "sound", "rate_hz": 2000, "seconds": 2.048, "mels": 8, "high_hz": 1000, "window": 256, "hop": 256},
    "encoder": {"name": "vit", "size": "nano", "patch": 4},
    "objective": SIGNAL["objective"],
}
ORDER: dict[str, Any] = {
    "data": SIGNAL["data"] | {"records_per_patient": 2},
    "encoder": {"name": "conv1d", "size": "nano"},
    "objective": {"name": "shuffled-order", "segments": 4, "gap": 2},
}


def written(parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A plan of three sites as a person writes it."""
    return {
        "name": "study",
        "purpose": "a test",
        **parts,
        "privacy": PRIVACY,
        "training": {"optimizer": "adam", "learning_rate": 0.01},
        "rounds": {"rounds": 2, "steps_per_round": 2, "max_void": 1},
        "aggregation": {"update_range": 1.0},
        "sites": [{"name": f"site-{letter}", "nominal_size": 40} for letter in "abc"],
        **changes,
    }


def plan_of(parts: dict[str, Any], **changes: Any) -> StudyPlan:
    """The same, read."""
    return parse(StudyPlan, written(parts, **changes), "plan")
