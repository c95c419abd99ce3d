"""What a warm start is worth before any patient: linear probe of a random encoder against the same one prepared.

    python tests/bench/bench_warm_start.py FILE.npz --kind image|signal|... [--task simclr] [--seeds 0 1 2] ...

Image: `image` uint8 [m, 64, 64], `patient`, `label` (two by --classes), recipe R1 (image-vit: vit micro, patch 8, with the
spread of its tokens, masked autoencoding), AUROC, split by patient. Signal: `signal` int16 [m, 3000] at 100 Hz in microvolts,
`label`, one record a patient, signal-transformer micro with its front end and the spread of its tokens (signal-plain: without
both), log-power target, macro F1. image-vit-summary, signal-summary: the same with summary_weight = 1. A seed changes start
weights, generated data and their order; label draws and test set (a third) are the same for every seed and arm. Probe:
standardised features, ridge, its strength by leave-one-out; twelve draws a budget. --task: a coupled one in place of the
plan's. Prints a table; asserts nothing. Sees labels of the test set only to score: nothing is chosen here.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from ssl_core.config import StudyPlan, parse
from ssl_core.data.images import standardise
from ssl_core.objectives.build import build_model
from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.data import ImageData
from ssl_core.warm_start.coupled import Coupled
from ssl_core.warm_start.pretraining import Schedule, pretrain
from ssl_core.warm_start.public import PublicUnits

BUDGETS, DRAWS = (50, 200), 12
IMAGE: dict[str, dict[str, Any]] = {
    "data": {"kind": "image", "height": 64, "width": 64, "pool": 2},
    "encoder": {"name": "mlp-image"},
    "objective": {"name": "masked-image"},
}
SIGNAL: dict[str, dict[str, Any]] = {
    "data": {
        "kind": "signal", "channels": 1, "samples": 3000, "rate_hz": 100, "units": ["mV"], "typical": [0.2],
    },
    "encoder": {"name": "signal-transformer", "size": "micro", "patch": 50},
    "objective": {
        "name": "masked-autoencoding", "mask_fraction": 0.5, "decoder_width": 64, "decoder_depth": 1, "target": "log-power",
    },
}  # fmt: skip
VIT: dict[str, dict[str, Any]] = {
    "data": {"kind": "image", "height": 64, "width": 64},
    "encoder": {"name": "vit", "size": "micro", "patch": 8, "pool": "mean-deviation"},
    "objective": {"name": "masked-autoencoding", "mask_fraction": 0.6, "decoder_width": 64, "decoder_depth": 1},
}
FRONT_END = SIGNAL | {"encoder": {**SIGNAL["encoder"], "front_end": True, "pool": "mean-deviation"}}
REST: dict[str, Any] = {
    "name": "bench",
    "purpose": "measure a warm start",
    "privacy": {
        "unit": "patient", "adjacency": "add-or-remove-one", "noise": "site", "sampling_rate": 0.05, "noise_multiplier": 1.0,
        "max_grad_norm": 1.0, "delta": 1e-5,
    },
    "training": {"optimizer": "adam", "learning_rate": 1e-3},
    "rounds": {"rounds": 1, "steps_per_round": 1},
    "aggregation": {"update_range": 1.0},
    "sites": [{"name": name, "nominal_size": 1000} for name in ("a", "b", "c")],
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Records, their labels, who is in the label pool (the others are the test set), and one arm that learns nothing."""

    records: np.ndarray
    labels: np.ndarray
    pool: np.ndarray
    floor: np.ndarray
    many: bool

    def score(self, features: np.ndarray) -> list[float]:
        """Mean over the draws at each budget: AUROC of two classes, macro F1 of more."""
        return [float(np.mean([self._one(features, self._draw(count, k)) for k in range(DRAWS)])) for count in BUDGETS]

    def _draw(self, count: int, number: int) -> np.ndarray:
        rng, pool = np.random.default_rng([count, number]), np.flatnonzero(self.pool)
        classes = len(np.unique(self.labels))
        while True:
            rows: np.ndarray = rng.permutation(pool)[:count]
            if np.bincount(self.labels[rows], minlength=classes).min() >= 2:
                return rows

    def _one(self, features: np.ndarray, rows: np.ndarray) -> float:
        scaler = StandardScaler().fit(features[rows])
        known, asked = scaler.transform(features[rows]), scaler.transform(features[~self.pool])
        strengths, truth = np.logspace(0, 5, 11), self.labels[~self.pool]
        if self.many:
            ridge = RidgeClassifierCV(strengths, class_weight="balanced").fit(known, self.labels[rows])
            return float(f1_score(truth, ridge.predict(asked), average="macro"))
        return float(roc_auc_score(truth, RidgeCV(strengths).fit(known, 2.0 * self.labels[rows] - 1.0).predict(asked)))


def images(path: Path, classes: list[str], data: dict[str, Any]) -> Task:
    """Two classes of an image file; the floor is the pooled pixels."""
    stored = np.load(path)
    kept = np.isin(stored["label"], classes)
    labels = (stored["label"][kept] == classes[1]).astype(int)
    owners = stored["patient"][kept]
    records = standardise(stored["image"][kept], parse(ImageData, data, "data"))[0]
    names = np.unique(owners)
    tested = np.random.default_rng(7).permutation(names)[: len(names) // 3]
    return Task(records, labels, ~np.isin(owners, tested), records, False)


def signals(path: Path, _classes: list[str], _data: dict[str, Any]) -> Task:
    """All classes of a signal file; the floor is a mean log-power spectrum of two-second pieces."""
    stored = np.load(path)
    records = stored["signal"].astype(np.float32) * np.float32(0.001 / 0.2)
    labels = np.unique(stored["label"], return_inverse=True)[1]
    pool = np.ones(len(labels), bool)
    pool[np.random.default_rng(7).permutation(len(labels))[: len(labels) // 3]] = False
    pieces = np.abs(np.fft.rfft(records.reshape(len(records), 15, 200), axis=2)) ** 2
    return Task(records, labels, pool, np.log(pieces + 1e-3).mean(axis=1), True)


def summarised(parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same plan with a summary of the whole record predicted beside the hidden patches."""
    return parts | {"objective": {**parts["objective"], "summary_weight": 1.0}}


KINDS: dict[str, tuple[Callable[[Path, list[str], dict[str, Any]], Task], dict[str, dict[str, Any]]]] = {
    "image": (images, IMAGE),
    "image-vit": (images, VIT),
    "image-vit-summary": (images, summarised(VIT)),
    "signal": (signals, FRONT_END),
    "signal-plain": (signals, SIGNAL),
    "signal-summary": (signals, summarised(FRONT_END)),
}


def main() -> None:
    """One line an arm and seed, then the mean of the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--classes", nargs=2, default=["bacterial", "viral"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--task", type=CoupledTask, choices=CoupledTask)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--units", type=int, default=16384)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    given = parser.parse_args()
    read, parts = KINDS[given.kind]
    task = read(given.file, given.classes, parts["data"])
    rows: list[dict[str, Any]] = [{"arm": "floor", "seed": None, "scores": task.score(task.floor)}]
    for seed in given.seeds:
        plan = parse(StudyPlan, {**REST, **parts, "seed": seed}, "plan")
        model = build_model(plan)
        rows.append({"arm": "random", "seed": seed, "scores": task.score(model.encoder.features(task.records))})
        begun = time.monotonic()
        public = PublicUnits.from_seed(seed, given.units, plan.data)
        made = time.monotonic()
        schedule = Schedule(steps=given.steps, batch=given.batch, learning_rate=given.learning_rate, seed=seed)
        pretrain(model, public, schedule, given.task and Coupled(given.task, model, plan.data, seed))
        seconds = {"generate_s": round(made - begun), "train_s": round(time.monotonic() - made)}
        rows.append({"arm": "warm", "seed": seed, "scores": task.score(model.encoder.features(task.records)), **seconds})
    for row in rows:
        print(row["arm"], "" if row["seed"] is None else row["seed"], *(f"{score:.3f}" for score in row["scores"]))
    random, warm = (np.array([row["scores"] for row in rows if row["arm"] == arm]) for arm in ("random", "warm"))
    print("warm minus random, by seed:", *(f"{a:+.3f}/{b:+.3f}" for a, b in warm - random))
    if given.json is not None:
        given.json.write_text(json.dumps({"budgets": BUDGETS, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
