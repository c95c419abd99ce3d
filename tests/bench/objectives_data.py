"""What bench_objectives.py compares on: five data types, each with one site's patients, a label pool and test records.

Comes in: a folder with `chest_xray_64.npz` and `ecg_cinc2017_100hz.npz`; the wheel of deploy/demo_data/padchest.py;
scikit-learn's breast cancer table. Goes out: `Task`. A third of the patients is the test set, by a fixed seed; nobody in it
pretrains. Labels are of a record (each its own unit in pool and test), the split is by patient. Sizes are kept small:

    image   bacterial or viral pneumonia, AUROC; 64 x 64 pixels by means of 2 x 2 squares; the normal images pretrain too
    signal  the first 10 s (1,000 samples), four classes, macro F1; counts taken as microvolts, typical .2 mV
    text    24 words a report, ten groups of physicians' findings, macro AUROC; one of the five sites pretrains
    events  procedural streams of the demo's study, of nobody, four factors, macro AUROC; one of the five sites pretrains
    table   30 columns, malignant or benign, AUROC; centre and typical of each column are those of all 569 rows

That of tables is an exception: a hospital's plan has constants that a person wrote, and nothing may be fitted on patients;
here epsilon covers the pretraining alone. Raises `DataError` where a file is missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer

from deploy.demo_choice import DemoChoice
from deploy.demo_data import padchest, procedural, procedural_events
from deploy.demo_data.sites import DemoSite
from ssl_core.config import parse
from ssl_core.data.images import standardise
from ssl_core.data.labels import read_labels
from ssl_core.data.patients import Patients, group
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError
from ssl_core.evaluation.floor import floor_patients, log_power, one_hot
from ssl_core.evaluation.label_efficiency import Labelled
from ssl_core.spec.data import Data, EventData, ImageData, NumericColumn, SignalData, TableData, TextData

Floats = npt.NDArray[np.float32]
CLASSES = ("bacterial", "viral")
_SPLIT_SEED = 7
_TEXTS = TextData(kind="text", words=24, codes=2, buckets=512)


@dataclass(frozen=True)
class Task:
    """`train` pretrain at one site of `nominal` patients; `batch` = q x nominal; `exclusive`: macro F1 of classes."""

    data: Data
    train: Patients
    pool: Labelled
    test: Labelled
    exclusive: bool
    nominal: int
    batch: int

    @property
    def metric(self) -> str:
        """What is scored, in words."""
        if self.exclusive:
            return "macro F1"
        return "AUROC" if self.pool.labels.shape[1] == 1 else "macro AUROC"


def image(folder: Path, batch: int | None = None) -> Task:
    """Chest X-rays. Of a patient with images of both classes each image keeps its own label."""
    stored = np.load(_there(folder / "chest_xray_64.npz"))
    data = ImageData(kind="image", height=64, width=64, pool=2)
    records, owners = standardise(stored["image"], data)[0], stored["patient"]
    scored = np.isin(stored["label"], CLASSES)
    tested = np.isin(owners, _third(np.unique(owners[scored])))
    labels = (stored["label"] == CLASSES[1]).astype(np.int8)[:, None]
    train = group(list(owners[~tested]), records[~tested])
    pool, test = (_labelled(records[side], records[side], labels[side]) for side in (scored & ~tested, scored & tested))
    return Task(data, train, pool, test, False, 2000, batch or 256)


def signal(folder: Path, batch: int | None = None) -> Task:
    """ECG, one record a patient."""
    stored = np.load(_there(folder / "ecg_cinc2017_100hz.npz"))
    data = SignalData(kind="signal", channels=1, samples=1000, rate_hz=100, units=("mV",), typical=(0.2,))
    records = stored["signal"][:, : data.samples].astype(np.float32) * np.float32(0.001 / data.typical[0])
    names = np.array([f"{row:05d}" for row in range(len(records))])
    tested = np.isin(names, _third(names))
    classes = np.unique(stored["label"])
    labels = (stored["label"][:, None] == classes).astype(np.int8)
    raw = log_power(records, data)
    pool, test = (_labelled(records[side], raw[side], labels[side]) for side in (~tested, tested))
    return Task(data, group(list(names[~tested]), records[~tested]), pool, test, True, 5000, batch or 256)


def table(_folder: Path, batch: int | None = None) -> Task:
    """Wisconsin breast cancer (Street, Wolberg, Mangasarian 1993), one row a patient."""
    values, benign = load_breast_cancer(return_X_y=True)
    centre, typical = values.mean(axis=0), values.std(axis=0)
    columns = tuple(
        NumericColumn(name=f"column {place:02d}", centre=float(centre[place]), typical=float(typical[place]))
        for place in range(values.shape[1])
    )
    data = TableData(kind="table", numeric=columns)
    scaled = (values - centre) / typical
    records = np.hstack([scaled, np.ones_like(scaled)]).astype(np.float32)
    names = np.array([f"{row:05d}" for row in range(len(records))])
    tested = np.isin(names, _third(names))
    labels, raw = (1 - benign).astype(np.int8)[:, None], one_hot(records, data)
    pool, test = (_labelled(records[side], raw[side], labels[side]) for side in (~tested, tested))
    return Task(data, group(list(names[~tested]), records[~tested]), pool, test, False, 400, batch or 100)


def text(_folder: Path, batch: int | None = None) -> Task:
    """PadChest reports: the last of the demo's five sites pretrains; label pool and test patients are those of all five."""
    wheel = padchest.find_wheel()
    with tempfile.TemporaryDirectory(prefix="choral-bench-") as folder:
        return _of_sites(_TEXTS, padchest.write_sites(wheel, Path(folder) / "sites").sites, 10_000, batch or 1000)


def generated_text(_folder: Path, batch: int | None = None) -> Task:
    """The same from generated reports: for a look at the bench, not at medicine."""
    with tempfile.TemporaryDirectory(prefix="choral-bench-") as folder:
        made = procedural.write_sites(Path(folder) / "sites", nominal_sizes=(300,) * 5, patients=300)
        return _of_sites(_TEXTS, made.sites, 300, batch or 100)


def events(_folder: Path, batch: int | None = None) -> Task:
    """Procedural streams: no package carries real ones. With a small `batch`, fewer of them."""
    data, patients = (
        parse(EventData, DemoChoice(modality="events").plan()["data"], "study plan"),
        3000 if batch is None else 300,
    )
    with tempfile.TemporaryDirectory(prefix="choral-bench-") as folder:
        made = procedural_events.write_sites(Path(folder) / "sites", data, nominal_sizes=(patients,) * 5, patients=patients)
        return _of_sites(data, made.sites, patients, batch or 256)


TASKS: dict[str, Callable[[Path, int | None], Task]] = {
    "image": image,
    "signal": signal,
    "text": text,
    "table": table,
    "events": events,
}


def _of_sites(data: Data, sites: Sequence[DemoSite], nominal: int, batch: int) -> Task:
    sides: list[Labelled] = []
    for stem in ("pool", "test"):
        parts = [(read_source(getattr(site, stem)), read_labels(site.labels)) for site in sites]
        read = [load_patients(source, data) for source, _ in parts]
        floors = [floor_patients(source, patients, data) for (source, _), patients in zip(parts, read, strict=True)]
        seen, raw = _joined(read), _joined(floors)
        known = {unit: row for _, labels in parts for unit, row in zip(labels.units, labels.values, strict=True)}
        sides.append(Labelled(seen, raw, np.stack([known[unit] for unit in seen.units])))
    train = load_patients(read_source(sites[-1].source), data)
    return Task(data, train, sides[0], sides[1], False, nominal, batch)


def _joined(parts: Sequence[Patients]) -> Patients:
    owners = [unit for part in parts for unit, count in zip(part.units, part.counts(), strict=True) for _ in range(count)]
    return group(owners, np.concatenate([part.records for part in parts]))


def _labelled(records: Floats, raw: Floats, labels: npt.NDArray[np.int8]) -> Labelled:
    """Each record a unit of its own; the floor's features `raw` are computed from that record alone."""
    names = [f"{row:06d}" for row in range(len(records))]
    return Labelled(group(names, records), group(names, raw), labels)


def _third(names: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    tested: npt.NDArray[np.str_] = np.random.default_rng(_SPLIT_SEED).permutation(names)[: len(names) // 3]
    return tested


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError("an array of the bench is missing", field="file", value=path.name, remedy="name its folder: --folder")
    return path
