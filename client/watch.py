"""`choral site watch`: how the global encoder of a study stands on this hospital's own records, round by round.

Comes in: the study's folder: the site's own copy of the records, and the global weights as the site recomputed them. Goes out:
`Health` (ssl_core/evaluation/collapse.py) of the start weights and of the last closed round, kept beside the study in
`watch.jsonl`. It reads and never writes what rounds use, runs in a process of its own, and nothing of it can leave or change
whether or what this site answers (ruling 22): there is no message for it. Every number is of real patients and not noised.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.study import Study
from ssl_core.chain import write_durably
from ssl_core.data.labels import read_labels
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import StateError
from ssl_core.evaluation.collapse import Health, health, neighbours
from ssl_core.trust.random import unit_tag

MOST_RECORDS = 1024
_FILE = "watch.jsonl"


@dataclass(frozen=True, slots=True)
class Sighting:
    """The encoder after `round` closed rounds; 0: the weights that the study starts from."""

    round: int
    health: Health


class Watch:
    """One study, as its site's staff looks at it."""

    def __init__(self, study: Study, labels: Path | None) -> None:
        self._study = study
        patients = _some(study.patients)
        self._records = patients.whole
        self._owners = np.repeat(np.arange(len(patients)), patients.counts())
        self._labels = None if labels is None else _labels_of(patients, labels)
        if labels is not None and self._labels is None:
            raise StateError(
                "the labels name none of the patients that are looked at",
                field="--labels",
                value=labels.name,
                remedy="give labels of patients of this study, in the ids of its source",
            )

    def look(self) -> list[Sighting]:
        """Everything seen so far, with what stands now; the start weights are seen at the first look."""
        seen = {sighting.round: sighting for sighting in read_sightings(self._study.folder)}
        model = self._study.model
        if self._study.plan.start is None and (0 not in seen or self._labels is not None):
            seen[0] = Sighting(0, self._health(to_vector(model)))
        standing = self._study.model_file.read()
        if standing is not None and (standing.count not in seen or self._labels is not None):
            seen[standing.count] = Sighting(standing.count, self._health(standing.model.weights))
        found = [seen[number] for number in sorted(seen)]
        lines = [json.dumps({"round": each.round, **asdict(each.health)}) for each in found]
        write_durably(self._study.folder / _FILE, "".join(f"{line}\n" for line in lines).encode())
        return found

    def changed(self) -> bool:
        """Has a round closed since the last look?"""
        standing = self._study.model_file.read()
        return standing is not None and standing.count not in {each.round for each in read_sightings(self._study.folder)}

    def _health(self, weights: npt.NDArray[np.float32]) -> Health:
        load_vector(self._study.model, weights)
        features = self._study.model.encoder.features(self._records)
        found = health(features, self._owners)
        if self._labels is None:
            return found
        labels = self._labels[self._owners]
        known = labels[:, 0] >= 0
        return replace(found, neighbours=neighbours(features[known], self._owners[known], labels[known]))


def read_sightings(folder: Path) -> list[Sighting]:
    """What was seen of the study in `folder` so far; raises `StateError` for a file that somebody changed."""
    path = folder / _FILE
    if not path.is_file():
        return []
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Sighting(line.pop("round"), Health(**line)) for line in lines]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError("file of what was watched is damaged", field="path", value=_FILE, remedy="delete it") from error


def rows(sightings: list[Sighting]) -> list[tuple[str, str]]:
    """For a terminal: one line a round."""
    out = [("after round", "effective rank, alignment, uniformity, neighbours")]
    for each in sightings:
        found = each.health
        numbers = [
            f"{found.effective_rank:.1f}",
            _or_none(found.alignment),
            f"{found.uniformity:.3f}",
            _or_none(found.neighbours),
        ]
        out.append((str(each.round) if each.round else "0 (start)", ", ".join(numbers)))
    return out


def _or_none(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _some(patients: Patients) -> Patients:
    """At most `MOST_RECORDS` records of patients at evenly spaced places; at least one patient."""
    step = max(1, -(-len(patients.records) // MOST_RECORDS))
    chosen = np.arange(0, len(patients), step, dtype=np.int64)
    counts = np.cumsum(patients.counts()[chosen])
    return patients.take(chosen[: max(1, int(np.searchsorted(counts, MOST_RECORDS, "right")))])


def _labels_of(patients: Patients, path: Path) -> npt.NDArray[np.int8] | None:
    """int8 [n, K], -1 for a patient without labels; None where no patient has any. A kept copy knows tags, not ids."""
    labels = read_labels(path)
    row = {unit_tag(unit): values for unit, values in zip(labels.units, labels.values, strict=True)}
    none = np.full(len(labels.names), -1, np.int8)
    found = np.stack([row.get(bytes(tag), none) for tag in patients.tags])
    return found if (found >= 0).any() else None
