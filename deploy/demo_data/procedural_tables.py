"""Generated tables -> five sites; nothing is fetched and nobody is described.

Comes in: a study's columns, a public seed. Goes out: `DemoSites`. A patient belongs to one of twelve latent classes and has
three latent numbers; both move every column. A number is centre + typical x (what its class adds, what the latent numbers add,
noise); a level is drawn from chances that its class and the first latent number set: a latent class model (Lazarsfeld and
Henry, "Latent Structure Analysis", 1968) with a factor model within. Values are missing more often in some columns and
classes. A finding is present in four of the classes, with one patient in twenty changed: no column tells it, and columns that
hang together tell the class. Sites differ in the shares of the classes and in how much is missing.
numpy's seeded generator is right here: these are no private data, and no noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, write_columns, write_labels
from ssl_core.spec.data import TableData

LABEL_NAMES = tuple(f"finding-{number}" for number in range(1, 7))
NOTICE = "Procedural tables: generated from a seed, no patient. Their results say nothing about medicine."
_CLASSES, _FACTORS, _OF_A_FINDING = 12, 3, 4
_CHANGED = 0.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Model:
    """What all sites share, N numeric and C categorical columns: see `draw`."""

    means: Floats
    """[12, N]"""
    loadings: Floats
    """[3, N]"""
    chances: tuple[Floats, ...]
    """C arrays [12, levels] of log-odds; the first latent number is added to those of the last level."""
    missing: Floats
    """[12, N + C]"""
    findings: npt.NDArray[np.bool_]
    """[12, 6]: the classes of a finding."""

    @classmethod
    def draw(cls, seed: int, data: TableData) -> _Model:
        """The model of `seed`."""
        rng = np.random.default_rng([seed, 0])
        numeric, columns = len(data.numeric), len(data.columns)
        findings = np.zeros((_CLASSES, len(LABEL_NAMES)), np.bool_)
        for finding in range(len(LABEL_NAMES)):
            findings[rng.choice(_CLASSES, _OF_A_FINDING, replace=False), finding] = True
        return cls(
            means=rng.normal(0.0, 0.8, (_CLASSES, numeric)),
            loadings=rng.normal(0.0, 0.4, (_FACTORS, numeric)),
            chances=tuple(rng.normal(0.0, 1.0, (_CLASSES, len(column.levels))) for column in data.categorical),
            missing=rng.beta(1.0, 12.0, (1, columns)) * rng.uniform(0.5, 1.5, (_CLASSES, columns)),
            findings=findings,
        )


def write_sites(folder: Path, data: TableData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 3_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""
    model = _Model.draw(seed, data)

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        rng = np.random.default_rng([seed, 1, number])
        shares = rng.dirichlet(np.full(_CLASSES, 3.0))
        more = rng.uniform(0.5, 2.0)
        labels: list[tuple[str, list[int]]] = []
        for part, ids in parts.items():
            classes = rng.choice(_CLASSES, len(ids), p=shares)
            rows = _rows(rng, model, data, classes, more)
            write_columns(place, "columns" if part == "source" else part, f"{part}.toml", rows, ids, data)
            if part != "source":
                present = model.findings[classes] ^ (rng.random((len(ids), len(LABEL_NAMES))) < _CHANGED)
                labels += zip(ids, present.astype(int).tolist(), strict=True)
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )


def _rows(
    rng: np.random.Generator, model: _Model, data: TableData, classes: npt.NDArray[np.int64], more: float
) -> list[Sequence[str]]:
    """One row of cells a patient, in the order of the columns; the first column is never missing: no row is empty."""
    count = len(classes)
    latent = rng.normal(0.0, 1.0, (count, _FACTORS))
    noise = rng.normal(0.0, 0.8, (count, len(data.numeric)))
    scaled = model.means[classes] + latent @ model.loadings + noise
    cells: list[list[str]] = []
    for place, number in enumerate(data.numeric):
        cells.append([f"{value:.6g}" for value in number.centre + number.typical * scaled[:, place]])
    for chances, column in zip(model.chances, data.categorical, strict=True):
        odds = chances[classes]
        odds[:, -1] += latent[:, 0]
        # Gumbel (1954): the largest of log-odds plus such noise is a draw by these odds.
        picked = np.argmax(odds + rng.gumbel(0.0, 1.0, odds.shape), axis=1)
        cells.append([column.levels[index] for index in picked.tolist()])
    missing = rng.random((count, len(cells))) < model.missing[classes] * more
    missing[:, 0] = False
    return [
        ["" if gone else cell for cell, gone in zip(row, lost, strict=True)]
        for row, lost in zip(zip(*cells, strict=True), missing.tolist(), strict=True)
    ]
