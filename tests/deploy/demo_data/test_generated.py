"""Generated images, signals, sounds, tables, events and pairs: what is written is read back, and labels are the generator's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests_demo_sites import check_shape, digest

from deploy.demo_choice import DemoChoice
from deploy.demo_data import (
    procedural_events,
    procedural_images,
    procedural_pairs,
    procedural_signals,
    procedural_sounds,
    procedural_tables,
    sites,
)
from deploy.demo_data.sites import DemoSites
from ssl_core.config import parse
from ssl_core.data.labels import read_labels
from ssl_core.data.pair_rows import parted
from ssl_core.data.reading import Effort
from ssl_core.data.source import load_patients, read_source
from ssl_core.data.words import word_codes
from ssl_core.errors import ConfigError
from ssl_core.evaluation.auroc import macro_auroc
from ssl_core.evaluation.floor import one_hot
from ssl_core.finetuning.probe import fit_ridge, standardise
from ssl_core.procedural.events import made_events
from ssl_core.procedural.images import procedural_images as pictures
from ssl_core.procedural.signals import procedural_signals as waves
from ssl_core.procedural.sounds import FACTORS as SOUND_FACTORS
from ssl_core.procedural.sounds import procedural_sounds as sounds
from ssl_core.spec.data import Data, EventData, ImageData, ImageForm, PairData, SignalData, SoundData, TableData, TextForm

SIZES = (400, 400, 400, 400, 400)
IMAGES = ImageData(kind="image", height=16, width=16)
SIGNALS = SignalData(
    kind="signal", channels=2, samples=120, rate_hz=40.0, units=("mV", "V"), typical=(0.2, 0.0002), centre=(0.0, 1.0)
)
SOUNDS = SoundData(kind="sound", rate_hz=2000, seconds=2.048, mels=8, high_hz=1000, window=128, hop=64)
PAIRS = PairData(kind="pair", image=ImageForm(height=16, width=16), text=TextForm(words=16))
EVENTS = EventData(kind="events", vocabulary=tuple("ABCDEFGHI"), events=12, gap_hours=(1.0, 24.0))
TABLES = parse(TableData, DemoChoice(modality="table").plan()["data"], "study plan")


@dataclass(frozen=True)
class Kind:
    write: Callable[..., DemoSites]
    data: Data
    labels: tuple[str, ...]


KINDS = [
    Kind(procedural_images.write_sites, IMAGES, procedural_images.LABEL_NAMES),
    Kind(procedural_signals.write_sites, SIGNALS, procedural_signals.LABEL_NAMES),
    Kind(procedural_tables.write_sites, TABLES, procedural_tables.LABEL_NAMES),
    Kind(procedural_sounds.write_sites, SOUNDS, procedural_sounds.LABEL_NAMES),
    Kind(procedural_events.write_sites, EVENTS, procedural_events.LABEL_NAMES),
    Kind(procedural_pairs.write_sites, PAIRS, procedural_pairs.LABEL_NAMES),
]
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.data.kind)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer labelled patients than a demo has."""
    monkeypatch.setattr(sites, "_POOL", 100)
    monkeypatch.setattr(sites, "_TEST", 120)


def records(path: Path, data: Data) -> npt.NDArray[Any]:
    return np.asarray(load_patients(read_source(path), data, Effort(workers=0)).records)


@BY_KIND
@pytest.mark.usefixtures("few")
def test_readers_read_what_is_written_and_no_patient_is_in_two_parts(kind: Kind, tmp_path: Path) -> None:
    demo = kind.write(tmp_path / "a", kind.data, nominal_sizes=SIZES, seed=3, patients=150)
    check_shape(demo, kind.data)
    assert demo.label_names == kind.labels and demo.kind == "procedural"
    assert "Procedural" in demo.notice and "no patient" in demo.notice and "nothing about medicine" in demo.notice
    assert [site.nominal_size for site in demo.sites] == list(SIZES)
    read = [records(path, kind.data) for site in demo.sites for path in (site.source, site.pool, site.test)]
    assert [len(part) for part in read] == [150, 100, 120] * 5
    whole = np.concatenate(read)
    assert np.isfinite(whole).all() and (whole != 0).any(axis=1).all(), "no record is bad, which a reader makes zeros"
    assert len(np.unique(whole, axis=0)) == len(whole), "no site has what another has"


@BY_KIND
def test_a_seed_gives_the_same_bytes_and_another_seed_others(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "_POOL", 10)
    monkeypatch.setattr(sites, "_TEST", 10)
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        kind.write(folder, kind.data, nominal_sizes=SIZES, seed=seed, patients=10)
    first, again, other = map(digest, folders)
    assert first == again != other


@pytest.mark.usefixtures("few")
def test_pictures_come_back_from_their_files_as_the_generator_made_them(tmp_path: Path) -> None:
    demo = procedural_images.write_sites(tmp_path / "a", IMAGES, nominal_sizes=SIZES, seed=3, patients=100)
    made = pictures(sites.generator_seed(3, 0), 320, IMAGES)
    site = demo.sites[0]
    read = np.concatenate([records(path, IMAGES) for path in (site.source, site.pool, site.test)])
    # Grey values are rounded to a fortieth of a standard deviation, and few lie beyond 3.2 of them.
    assert np.median(np.abs(read - made)) < 0.02 and np.abs(read - made).mean() < 0.03


def test_signals_come_back_from_their_files_in_the_study_s_units(tmp_path: Path) -> None:
    demo = procedural_signals.write_sites(tmp_path / "a", SIGNALS, nominal_sizes=SIZES, seed=3, patients=100)
    made = waves(sites.generator_seed(3, 1), 1000, SIGNALS).records
    site = demo.sites[1]
    read = np.concatenate([records(path, SIGNALS) for path in (site.source, site.pool, site.test)])
    # float32 around 1 V in units of .0002 V.
    assert np.abs(read - made)[:, :120].max() < 1e-4 and np.abs(read - made)[:, 120:].max() < 2e-3


def test_labels_of_signals_are_the_generator_s(tmp_path: Path) -> None:
    demo = procedural_signals.write_sites(tmp_path / "a", SIGNALS, nominal_sizes=SIZES, seed=3, patients=100)
    factors = waves(sites.generator_seed(3, 0), 1000, SIGNALS).factors[100:]
    labels = read_labels(demo.sites[0].labels).values
    assert np.array_equal(labels[:, 0], factors[:, 2] > 0) and 0.2 < labels[:, 0].mean() < 0.4
    assert np.array_equal(labels[:, 3], factors[:, 0] > 0.491)


@pytest.mark.usefixtures("few")
def test_sounds_come_back_from_their_files_as_the_generator_made_them_and_so_do_their_labels(tmp_path: Path) -> None:
    demo = procedural_sounds.write_sites(tmp_path / "a", SOUNDS, nominal_sizes=SIZES, seed=3, patients=100)
    made = sounds(sites.generator_seed(3, 1), 320, SOUNDS)
    site = demo.sites[1]
    assert [len(list((site.folder / part).glob("*/chest.wav"))) for part in ("sounds", "pool", "test")] == [100, 100, 120]
    read = np.concatenate([records(path, SOUNDS) for path in (site.source, site.pool, site.test)])
    # 16 bits: what they cut away lies near the floor of -80 dB.
    assert np.abs(read - made.records)[made.records > -0.5].max() < 0.01 and np.abs(read - made.records).mean() < 0.002
    labels = read_labels(site.labels).values
    present = dict(zip(SOUND_FACTORS, made.factors[100:].T > 0, strict=True))
    assert np.array_equal(labels[:, 0], present["ejection"] | present["holosystolic"]) and 0.15 < labels[:, 0].mean() < 0.45
    assert np.array_equal(labels[:, 1], present["early diastolic"] | present["rumble"])
    assert np.array_equal(labels[:, 2], present["fine crackles"] | present["coarse crackles"])
    assert np.array_equal(labels[:, 3], present["wheezes"] | present["rhonchi"]) and 0.15 < labels[:, 3].mean() < 0.45


@pytest.mark.usefixtures("few")
def test_events_come_back_in_their_order_from_rows_in_none_and_labels_are_the_generator_s(tmp_path: Path) -> None:
    demo = procedural_events.write_sites(tmp_path / "a", EVENTS, nominal_sizes=SIZES, seed=3, patients=100)
    site = demo.sites[2]
    made = list(made_events(sites.generator_seed(3, 2), 320, EVENTS))
    read = np.concatenate([records(path, EVENTS) for path in (site.source, site.pool, site.test)])
    for record, (places, hours, _) in zip(read, made, strict=True):
        assert record[: len(places), 0].tolist() == places.tolist() and (record[len(places) :] == -1).all()
        # Times are written in whole seconds, so a gap within a second of a bound may fall on its other side.
        gaps, near = np.diff(hours), np.abs(np.subtract.outer(np.diff(hours), EVENTS.gap_hours)).min(axis=1) < 1 / 3600
        expected = 1 + np.searchsorted(EVENTS.gap_hours, gaps, "right")
        assert record[0, 1] == 0 and (record[1 : len(places), 1][~near] == expected[~near]).all()
    labels = read_labels(site.labels).values
    assert np.array_equal(labels, np.stack([factors for _, _, factors in made[100:]])) and (labels.mean(axis=0) > 0.2).all()
    lines = (site.folder / "events.csv").read_text().splitlines()[1:]
    assert lines != sorted(lines), "the reader must bring them into order"


def test_a_rate_that_no_wav_file_names_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    odd = SOUNDS.model_copy(update={"rate_hz": 2000.5})
    with pytest.raises(ConfigError, match="whole number of samples a second"):
        procedural_sounds.write_sites(tmp_path / "a", odd, nominal_sizes=SIZES, patients=2)
    assert list(tmp_path.iterdir()) == []


def auroc(demo: DemoSites, *, shuffled: bool) -> float:
    """Macro AUROC of a linear model on the columns of one site's pool, on its test patients."""
    site = demo.sites[0]
    table = read_labels(site.labels)
    pool, test = (load_patients(read_source(path), TABLES) for path in (site.pool, site.test))
    (_, known), (_, wanted) = (table.align(part) for part in (pool, test))
    if shuffled:
        known = known[np.random.default_rng(0).permutation(len(known))]
    raw = [one_hot(np.asarray(part.records, np.float32), TABLES).astype(np.float64) for part in (pool, test)]
    scaling = standardise(raw[0])
    return macro_auroc(scaling(raw[1]) @ fit_ridge(scaling(raw[0]), known).weight, wanted)


def test_columns_tell_findings_in_part_and_some_values_are_missing(tmp_path: Path) -> None:
    demo = procedural_tables.write_sites(tmp_path / "a", TABLES, nominal_sizes=SIZES, seed=3, patients=100)
    assert 0.65 < auroc(demo, shuffled=False) < 0.97 and abs(auroc(demo, shuffled=True) - 0.5) < 0.1
    rows = records(demo.sites[0].source, TABLES)
    codes = rows[:, len(TABLES.numeric) :]
    assert 0.01 < (codes == 0).mean() < 0.3 and (codes[:, 0] == 1).all()
    assert not (codes[:, len(TABLES.numeric) :] == 1).any(), "every level is declared"


@pytest.mark.usefixtures("few")
def test_reports_tell_what_their_pictures_were_made_from_in_part(tmp_path: Path) -> None:
    demo = procedural_pairs.write_sites(tmp_path / "a", PAIRS, nominal_sizes=SIZES, seed=3, patients=20)
    site = demo.sites[0]
    source, table = read_source(site.pool), read_labels(site.labels)
    patients = load_patients(source, PAIRS)
    _, known = table.align(patients)
    _, codes, pairs = parted(np.asarray(patients.records, np.float32), PAIRS)
    assert pairs.all()
    for word in ("outline", "symmetric"):
        said = (codes == np.array(word_codes(word, 2, 512))).all(axis=2).any(axis=1)
        assert 0.02 < said.mean() < 0.5, "many reports are silent, or say it in other words"
    body = (codes == np.array(word_codes("dominant", 2, 512))).all(axis=2).any(axis=1)
    assert body.any() and known[body, 0].all() and (known[:, 0] & ~body).any(), "what is said is true, and not all is said"


def test_a_report_says_something_and_is_the_generator_s() -> None:
    factors = np.array([[1, 0, 4], [0, 1, 17]] * 200, np.float32)
    texts = procedural_pairs.reports(np.random.default_rng(1), factors)
    assert texts == procedural_pairs.reports(np.random.default_rng(1), factors) and all(len(text) > 5 for text in texts)
    few, many = (" ".join(texts[first::2]) for first in (0, 1))
    assert "few details" in few and "many details" not in few and "symmetric sides" in many and "symmetric sides" not in few
