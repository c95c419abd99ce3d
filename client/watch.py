"""How the global encoder of a study stands on this hospital's own records, round by round, for its own staff.

Comes in: the site's state folder and a plan hash. Of the folder it opens the study's plan, the site's copy of the records, the
global weights as the site recomputed them (after the last round: the encoder) and watch.toml, which may name labels
(probe_labels.py), and no key, secret or log. Goes out:
`Health` (ssl_core/evaluation/collapse.py) of the start weights and of closed rounds, kept beside the study in `watch.jsonl`,
at most `MOST_SIGHTINGS` lines. The daemon looks after each round in a process of its own (watcher.py); `choral site watch`
prints the course. It writes nothing that rounds use, and nothing of it can leave or change whether or what this site answers
(ruling 22): there is no message for it. Every number is of real patients and not noised.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from client.global_model import ModelFile
from client.kept import KeptRecords
from client.probe_labels import LabelFile, own_labels
from ssl_core.chain import write_durably
from ssl_core.config import StudyPlan, parse
from ssl_core.data.patients import Patients
from ssl_core.errors import StateError
from ssl_core.evaluation.collapse import ONE_PLACE, Health, health, neighbours
from ssl_core.trust.envelope import canonical, digest, peek

if TYPE_CHECKING:
    from ssl_core.encoders.base import Encoder

MOST_RECORDS = 1024
RECORDS_EACH = 4
MOST_SIGHTINGS = 1000
_LONGEST = 200
_ONE_CLASS = "no label has both values among the records that are looked at"
_COLLAPSED = "any rank, 0, 0, 0, 0.5"
_FILE = "watch.jsonl"
_LOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """The encoder after `round` closed rounds; 0: the weights that the study starts from.

    without: why labels were named and there are no neighbours.
    """

    round: int
    health: Health
    without: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"round": self.round, **asdict(self.health), "without": self.without}


@dataclass(frozen=True)
class Watched:
    """What may be opened of one study to look at its encoder."""

    root: Path
    plan_hash: str

    @property
    def folder(self) -> Path:
        """Where the site keeps the study."""
        return self.root / "studies" / self.plan_hash

    @cached_property
    def plan(self) -> StudyPlan:
        """The stored plan; its hash tells that it is the one that was approved. Raises `StateError`."""
        body = peek((self.folder / "plan.json").read_bytes(), "plan")
        if digest(canonical(body)) != self.plan_hash:
            raise StateError("stored plan has another hash", field="plan hash", limit=self.plan_hash)
        return parse(StudyPlan, body, "study plan")

    @property
    def records(self) -> KeptRecords:
        """The site's copy of the approved records."""
        return KeptRecords(self.root / "keys" / self.plan_hash)

    @property
    def model_file(self) -> ModelFile:
        """The global model after the last round that this site knows to be closed."""
        return ModelFile(self.folder / "model.safetensors")

    @property
    def encoder(self) -> Path:
        """What the study gives at its end."""
        return self.root / "encoders" / f"{self.plan.name}-{self.plan_hash[:8]}"

    @property
    def finished(self) -> bool:
        """Did the study give its encoder here?"""
        return self.encoder.exists()


class Watch:
    """One study, as its site's staff looks at it; holds at most `MOST_RECORDS` records. Raises `StateError`, `DataError`.

    `labels`: given by a person, who is told what is wrong with them; else those that watch.toml names, where it can be done.
    """

    def __init__(self, study: Watched, labels: LabelFile | None = None) -> None:
        from ssl_core.encoders.vector import to_vector
        from ssl_core.objectives.build import build_model

        self._study = study
        self._patients = _some(study.records.read(study.plan.data))
        self._records = self._patients.whole
        self._owners = np.repeat(np.arange(len(self._patients)), self._patients.counts())
        self._given = None if labels is None else labels.of(self._patients)
        self._labels: tuple[npt.NDArray[np.int8] | None, str | None] = (self._given, None)
        self._model = build_model(study.plan)
        self._start = to_vector(self._model) if study.plan.start is None else None

    def look(self) -> list[Sighting]:
        """Everything seen so far, with what stands now; the start weights are seen at the first look.

        What stands now is looked at again where it went without labels that can be read since.
        """
        self._labels = (self._given, None) if self._given is not None else own_labels(self._study.root, self._patients)
        seen = [] if self._given is not None else read_sightings(self._study.folder)
        mended = self._labels[0] is not None
        known = {each.round for each in seen if not (mended and each.without not in (None, _ONE_CLASS))}
        found: list[Sighting] = []
        if self._start is not None and 0 not in known:
            found.append(self._seen(0, self._with(self._start)))
        rounds = self._study.plan.rounds.rounds
        standing = self._study.model_file.read()
        if standing is not None and standing.count not in known and (standing.count or self._start is None):
            found.append(self._seen(standing.count, self._with(standing.model.weights)))
        elif standing is None and self._study.finished and rounds not in known:
            found.append(self._seen(rounds, self._last()))
        return _keep(self._study.folder, found)

    def changed(self) -> bool:
        """Has a round closed since the last look?"""
        standing = self._study.model_file.read()
        return standing is not None and standing.count not in {each.round for each in read_sightings(self._study.folder)}

    def _last(self) -> Encoder:
        from ssl_core.card import read_encoder

        return read_encoder(self._study.encoder).model.encoder

    def _with(self, weights: npt.NDArray[np.float32]) -> Encoder:
        from ssl_core.encoders.vector import load_vector

        load_vector(self._model, weights)
        return self._model.encoder

    def _seen(self, number: int, encoder: Encoder) -> Sighting:
        features = encoder.features(self._records)
        found = health(features, self._owners)
        labels, why = self._labels
        if labels is None:
            return Sighting(number, found, None if why is None else ascii(why)[1:-1][:_LONGEST])
        labels = labels[self._owners]
        known = labels[:, 0] >= 0
        score = neighbours(features[known], self._owners[known], labels[known])
        return Sighting(number, replace(found, neighbours=score), _ONE_CLASS if score is None else None)


def read_sightings(folder: Path) -> list[Sighting]:
    """What was seen of the study in `folder` so far; raises `StateError` for a file that somebody changed."""
    path = folder / _FILE
    if not path.is_file():
        return []
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Sighting(line.pop("round"), without=line.pop("without", None), health=Health(**line)) for line in lines]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError("file of what was watched is damaged", field="path", value=_FILE, remedy="delete it") from error


def _keep(folder: Path, found: list[Sighting]) -> list[Sighting]:
    """Add `found` to what is kept; of more than `MOST_SIGHTINGS`, the first and the last ones."""
    with _alone(folder):
        for left in folder.glob(f".{_FILE}.*"):
            # Of a look that was cut while it wrote.
            left.unlink()
        seen = {each.round: each for each in [*read_sightings(folder), *found]}
        kept = [seen[number] for number in sorted(seen)]
        if len(kept) > MOST_SIGHTINGS:
            kept = [kept[0], *kept[1 - MOST_SIGHTINGS :]]
        if found:
            lines = [json.dumps(each.to_json()) for each in kept]
            write_durably(folder / _FILE, "".join(f"{line}\n" for line in lines).encode())
    return kept


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # The daemon and a person may look at once, and neither may lose what the other saw.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + _LOCK_S
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise StateError(
                    "the daemon is at a look, which waits for an answer of this site",
                    field="study", limit=f"{_LOCK_S:g} s", remedy="ask again in a few minutes",
                )  # fmt: skip
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def rows(sightings: list[Sighting]) -> list[tuple[str, str]]:
    """For a terminal: one line a round."""
    if not sightings:
        return [("nothing was seen yet", "the daemon looks after each round (policy.toml: watch = true); --now looks at once")]
    out = [("after round", "effective rank, alignment, uniformity, apart, neighbours"), ("in one place", _COLLAPSED)]
    for each in sightings:
        found = each.health
        numbers = [
            f"{found.effective_rank:.1f}",
            _or_none(found.alignment),
            f"{found.uniformity:z.3f}",
            "-" if found.apart is None else f"{found.apart:.2g}",
            _or_none(found.neighbours),
        ]
        out.append((str(each.round) if each.round else "0 (start)", ", ".join(numbers)))
    if sightings[-1].health.in_one_place:
        out.append(("collapse?", f"all patients in nearly one place: less than {ONE_PLACE:g} apart. Nothing changes by itself"))
    if sightings[-1].without is not None:
        out.append(("no neighbours", sightings[-1].without))
    return out


def _or_none(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _some(patients: Patients) -> Patients:
    """Patients at evenly spaced places, as many as keep within `MOST_RECORDS`, and of each `RECORDS_EACH`, evenly spaced too.

    Two of a patient would do for the alignment; more tell more where there are few patients. The choice is a function of how
    many records each has. At least `MOST_RECORDS / RECORDS_EACH` patients, or all where there are fewer.
    """
    each = np.minimum(patients.counts(), RECORDS_EACH)
    many = min(len(patients), MOST_RECORDS)
    while each[_evenly(many, len(patients))].sum() > MOST_RECORDS:
        many -= 1
    chosen = _evenly(many, len(patients))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(each[chosen])])
    places = [patients.offsets[i] + _evenly(each[i], count) for i, count in zip(chosen, patients.counts()[chosen], strict=True)]
    units = tuple(patients.units[i] for i in chosen)
    return Patients(units, patients.tags[chosen], offsets, patients.records[np.concatenate(places)])


def _evenly(many: int, count: int) -> npt.NDArray[np.int64]:
    return np.arange(many, dtype=np.int64) * count // many
