"""Before step 1: settings that people write for what is computed over patients: batch norm, and constants fitted to records.

Comes in: where in a plan a fault lies, and the value there. Goes out: what is wrong and what to do, or None. No plan has
these: BatchNorm makes one patient's features, and so his gradient, depend on the others of the batch, and its running means and
variances are statistics of patients that no noise covers; so are a dataset's mean, or the words that occur in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ssl_core.spec.refused import plain


class Computed(NamedTuple):
    """What is wrong, as the end of a sentence, and what to do."""

    problem: str
    remedy: str


_OVER_BATCH = Computed(
    "BatchNorm, which couples patients: each one's gradient depends on the others of the batch, and its running statistics are "
    "theirs, without noise",
    "leave it out: encoders here have GroupNorm or LayerNorm, which see one record alone",
)
_FITTED = "constants fitted to the records: they are statistics of patients, and no noise covers them"
_INSTEAD = {
    "text": "words are read as public hash codes (codes, buckets), without a vocabulary",
    "events": "vocabulary is a list of codes that a person writes from a public code system, and so are the bounds gap_hours",
    "image": "each image is standardised by itself; window is written by a person, in the units of the modality",
    "signal": "centre and typical are written by a person, from what is known of such signals",
    "sound": "floor_db and top_db are written by a person",
    "table": "centre and typical of numeric columns, and levels of the others, are written by a person; nothing is imputed",
    "pair": "each image is standardised by itself, and words are read as public hash codes",
}
# Keys that a plan does not have, and keys that it has where a person's numbers stand.
_TRANSFORMS = {
    "standardise", "standardize", "standardisation", "standardization", "standardscaler", "normalise", "normalize",
    "normalisation", "normalization", "scale", "scaler", "scaling", "minmax", "whiten", "whitening", "pca", "quantiles",
    "vocabulary", "vocab", "tokenizer", "tokeniser", "impute", "imputer", "imputation", "mean", "std",
}  # fmt: skip
_CONSTANTS = {"vocabulary", "gaphours", "centre", "typical", "levels", "window", "floordb", "topdb"}
_FROM_RECORDS = {
    "fit", "fitted", "dataset", "data", "train", "training", "trainingset", "auto", "learn", "learned", "learnt", "estimate",
    "cohort", "patients", "records", "global", "mean", "median",
}  # fmt: skip
_BATCH_NORM = ("bn", "bn1d", "bn2d", "bn3d", "syncbn")


def computed(plan: Mapping[str, Any], where: Sequence[str | int], value: object, *, unknown: bool) -> Computed | None:
    """Does the setting at `where` ask for one of these? `unknown`: there is no such key."""
    keys = [part for part in where if isinstance(part, str)]
    if not keys:
        return None
    key, word = plain(keys[-1]), plain(value) if isinstance(value, str) else ""
    # As in resnet-bn, of an encoder.
    short = (unknown and key in _BATCH_NORM) or (keys == ["encoder"] and word.endswith("bn"))
    over_batch = word in (*_BATCH_NORM, "batch", "sync") and ("norm" in key or "standard" in key)
    if "batchnorm" in f"{key} {word}" or short or over_batch:
        return _OVER_BATCH
    from_records = word in _FROM_RECORDS or value is True
    if keys[0] in ("data", "encoder") and from_records and key in (_TRANSFORMS if unknown else _CONSTANTS):
        data = plan.get("data")
        instead = _INSTEAD.get(str(data.get("kind")) if isinstance(data, Mapping) else "", "such constants are a person's")
        return Computed(_FITTED, f"leave it out: {instead}" if unknown else instead)
    return None
