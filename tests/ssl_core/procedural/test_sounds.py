"""Generated sounds: the same bytes of a seed, files' and readers' form, and what was drawn can be measured in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import find_peaks, welch

from ssl_core.data.declared_recordings import SoundSource
from ssl_core.data.sounds import SoundDecoder
from ssl_core.errors import ConfigError
from ssl_core.procedural.heart_sounds import MURMURS, heart
from ssl_core.procedural.lung_sounds import ADDED, Breath, lungs
from ssl_core.procedural.noise import band_noise, pink_noise, within
from ssl_core.procedural.sounds import FACTORS, Sounds, made_sounds, procedural_sounds
from ssl_core.spec.sound import SoundData

RATE = 4000.0
Floats = npt.NDArray[np.float64]


def study(**changes: Any) -> SoundData:
    given = {"kind": "sound", "rate_hz": RATE, "seconds": 4.16, "mels": 32, "high_hz": 1900, "window": 512, "hop": 256}
    return SoundData.model_validate(given | changes)


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return procedural_sounds(1, 600, study())


def test_the_same_seed_gives_the_same_bytes_and_the_first_records_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many, again = (procedural_sounds(5, count, study(seconds=2.0)) for count in (5, 9, 5))
    for name in ("records", "factors"):
        assert getattr(few, name).tobytes() == getattr(many, name)[:5].tobytes() == getattr(again, name).tobytes()
    assert not np.array_equal(few.records, procedural_sounds(6, 5, study(seconds=2.0)).records)


@pytest.mark.parametrize(
    "changes", [{"rate_hz": 44100.0, "seconds": 2.0, "window": 2048, "hop": 1024}, {"rate_hz": 2000.0, "high_hz": 1000.0}]
)
def test_they_are_sounds_of_the_study_s_length_within_full_scale(changes: dict[str, Any]) -> None:
    data = study(**changes)
    for sound, factors in made_sounds(0, 12, data):
        assert sound.shape == (data.samples,) and sound.dtype == np.float32 and 1e-3 < np.abs(sound).max() <= 1.0
        assert factors.shape == (len(FACTORS),) and np.abs(factors).max() <= 3.0


def test_pictures_are_what_the_study_s_reader_makes_of_a_file_of_the_sound(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    made = procedural_sounds(2, 3, study())
    for number, (sound, factors) in enumerate(made_sounds(2, 3, study())):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, sound, int(RATE), subtype="FLOAT")
        (found,) = SoundDecoder(SoundSource(kind="sound", path="."), study())(path)
        assert isinstance(found.content, np.ndarray) and np.array_equal(found.content, made.records[number])
        assert np.array_equal(factors, made.factors[number])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rate_hz": 1999.0, "high_hz": 900.0}, "data.rate_hz"),
        ({"seconds": 1.9}, "data.seconds"),
        ({"rate_hz": 48000.0, "seconds": 100.0, "window": 8192, "hop": 2048}, "data.seconds"),
    ],
)
def test_where_nothing_can_be_made_a_corpus_is_asked_for(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match="--public") as caught:
        procedural_sounds(0, 1, study(**changes))
    assert caught.value.field == field


def test_every_factor_occurs_both_ways_and_no_record_has_two_murmurs_of_one_kind(sounds: Sounds) -> None:
    column = dict(zip(FACTORS, sounds.factors.T, strict=True))
    for name in ("third sound", "fourth sound", "uneven rhythm", *MURMURS, *ADDED):
        assert 0.07 < (column[name] > 0).mean() < 0.3
    for pair in (MURMURS[:2], MURMURS[2:], ADDED[:2], ADDED[2:]):
        assert not ((column[pair[0]] > 0) & (column[pair[1]] > 0)).any()
    assert np.isfinite(sounds.records).all() and (np.abs(sounds.records) <= 1).all()
    assert len(np.unique(sounds.records, axis=0)) == 600


def test_a_heart_beats_at_its_rate_and_its_second_sound_follows_sooner_when_it_is_fast() -> None:
    counted, systoles, rates = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made = heart(rng, 40_000, RATE, Breath.draw(rng, 10.0))
        if made.uneven or made.murmurs or made.third or made.fourth:
            continue
        loud = np.convolve(np.abs(made.sound), np.hanning(200), "same")
        peaks, _ = find_peaks(loud, height=0.15 * loud.max(), distance=400)
        gaps = np.diff(peaks) / RATE
        counted.append(60.0 / (2.0 * gaps.mean()))
        systoles.append(np.median(np.minimum(gaps[:-1], gaps[1:])))
        rates.append(made.rate)
    assert len(rates) > 10
    right = np.abs(np.array(counted) / rates - 1.0) < 0.08
    assert right.mean() > 0.8
    assert np.corrcoef(np.array(rates)[right], np.array(systoles)[right])[0, 1] < -0.6


def power(sound: Floats, low: float, high: float) -> float:
    """Power of a band, by scipy."""
    hertz, found = welch(sound, RATE, nperseg=1024)
    return float(found[(hertz >= low) & (hertz < high)].sum())


def hearts(name: str | None) -> list[Floats]:
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        made = heart(rng, 16_000, RATE, Breath.draw(rng, 4.0))
        if made.murmurs == (frozenset() if name is None else {name}):
            found.append(made.sound)
    return found


def test_murmurs_are_heard_where_they_are_described() -> None:
    plain = hearts(None)
    for name, band in {"holosystolic": (200, 500), "early diastolic": (250, 600), "rumble": (100, 160)}.items():
        with_it = [power(sound, *band) for sound in hearts(name)]
        assert len(with_it) > 5 and np.median(with_it) > 2 * np.median([power(sound, *band) for sound in plain])
    low, high = (np.median([power(sound, 250, 600) for sound in hearts(name)]) for name in ("rumble", "ejection"))
    assert low < high


def test_breathing_is_louder_inwards_and_falls_off_above_some_hundred_hertz() -> None:
    louder, higher = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        breath = Breath.draw(rng, 10.0)
        made = lungs(rng, 40_000, RATE, breath)
        if made.added:
            continue
        time = np.arange(40_000) / RATE
        inwards = np.array([breath.inside(at) for at in time[::40]]).repeat(40)
        louder.append(np.square(made.sound[inwards]).mean() > np.square(made.sound[~inwards]).mean())
        higher.append(power(made.sound, 800, 1600) < 0.2 * power(made.sound, 100, 400))
    assert len(louder) > 20 and np.mean(louder) > 0.9 and np.mean(higher) > 0.8


def added(name: str) -> list[Floats]:
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        made = lungs(rng, 16_000, RATE, Breath.draw(rng, 4.0))
        if made.added == {name}:
            found.append(made.sound)
    return found


def test_crackles_stand_out_of_breathing_and_fine_ones_are_higher() -> None:
    fine, coarse = added("fine crackles"), added("coarse crackles")

    def centre(sound: Floats) -> float:
        hertz, found = welch(np.where(np.abs(sound) > 4 * sound.std(), sound, 0.0), RATE, nperseg=256)
        return float((hertz * found).sum() / found.sum())

    def kurtosis(sound: Floats) -> float:
        return float(np.mean(sound**4) / np.mean(sound**2) ** 2)

    loud = [sound for sound in fine + coarse if kurtosis(sound) > 12]
    assert len(loud) > 0.7 * len(fine + coarse)
    high, low = (np.median([centre(sound) for sound in kind if kurtosis(sound) > 12]) for kind in (fine, coarse))
    assert high > 1.5 * low


def test_wheezes_are_tones_above_200_hertz_and_rhonchi_below() -> None:
    def loudest(sound: Floats) -> tuple[float, float]:
        hertz, found = welch(sound, RATE, nperseg=2048)
        return float(hertz[found.argmax()]), float(found.max() / np.median(found[(hertz > 60) & (hertz < 900)]))

    high, low = ([loudest(sound) for sound in added(name)] for name in ("wheezes", "rhonchi"))
    assert np.mean([pitch > 190 for pitch, over in high if over > 50]) > 0.9
    assert np.mean([pitch < 240 for pitch, over in low if over > 50]) > 0.9
    assert min(sum(over > 50 for _, over in found) for found in (high, low)) >= 5


def test_noise_is_of_its_band_and_of_size_one() -> None:
    rng = np.random.default_rng(0)
    noise = band_noise(rng, 40_001, RATE, 200.0, 400.0, steep=3)
    assert abs(np.mean(np.square(noise)) - 1.0) < 1e-9 and power(noise, 200, 400) > 0.65 * power(noise, 0, 2001)
    assert max(power(noise, 800, 2001), power(noise, 0, 80)) < 0.01 * power(noise, 0, 2001)
    pink = pink_noise(rng, 40_000, RATE)
    # As much in each octave.
    assert 0.8 < power(pink, 100, 200) / power(pink, 400, 800) < 1.25


@pytest.mark.parametrize(
    ("span", "expected"), [((0.5, 1.0), (5, 10)), ((-1.0, 0.25), (0, 3)), ((0.95, 9.0), (10, 20)), ((3.0, 4.0), (20, 20))]
)
def test_samples_of_a_span_are_those_that_lie_in_it(span: tuple[float, float], expected: tuple[int, int]) -> None:
    found = within(*span, 10.0, 20)
    assert (found.start, found.stop) == expected
