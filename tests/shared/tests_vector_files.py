"""The files of tests/vectors/secure_sum: what makes each, how it is spelled, and reading it back."""

from __future__ import annotations

import json
from pathlib import Path

import tests_vector_codec
import tests_vector_evidence
import tests_vector_rounds
import tests_vector_themes

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "secure_sum"


def files():
    """{name: what makes the file}."""
    return {
        "codec.json": tests_vector_codec.messages,
        "context.json": tests_vector_themes.context,
        "keys.json": tests_vector_themes.epoch_keys,
        "seals.json": tests_vector_themes.seals,
        "shamir.json": tests_vector_themes.sharing,
        "masks.json": tests_vector_themes.mask_streams,
        "ring.json": tests_vector_themes.rounding,
        "rotation.json": tests_vector_themes.turning,
        "upload.json": tests_vector_rounds.uploads,
        "round.json": tests_vector_rounds.rounds,
        "evidence.json": tests_vector_evidence.evidence,
    }


def text_of(value, margin=""):
    """JSON with one line for each field or item, and for a whole list of numbers or strings."""
    inner = margin + " "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {text_of(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + text_of(item, inner) for item in value) + f"\n{margin}]"
    return json.dumps(value, allow_nan=False)


def frozen(name):
    """A file of the folder as it is kept."""
    return json.loads((FOLDER / name).read_text())


def unhex(values):
    return [bytes.fromhex(value) for value in values]
