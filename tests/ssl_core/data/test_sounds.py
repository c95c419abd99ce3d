"""Sounds written by soundfile; the log-mel picture against scipy's transform and against a loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from scipy.signal import stft
from tests_recordings import HERE, decode, faults, mutate

from ssl_core.config import parse
from ssl_core.data.declared_recordings import SoundSource
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.sounds import SoundDecoder, filters, log_mel
from ssl_core.data.source import Source, read_records
from ssl_core.errors import ConfigError
from ssl_core.spec.data import SoundData

DATA = SoundData(kind="sound", rate_hz=4000, seconds=1.056, mels=32, low_hz=50, high_hz=1800, window=256, hop=128)


def noise(samples: int = 4224, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


def recorded(root: Path, data: SoundData = DATA, **more: Any) -> Reading:
    return read_records(Source(root, SoundSource(**({"kind": "sound"} | more))), data, HERE)


def write(path: Path, values: np.ndarray, rate: int = 4000, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, values, rate, **more)
    return path


def test_the_picture_is_that_of_scipys_transform() -> None:
    sound = noise()
    _, _, found = stft(sound, 4000, "hann", 256, 128, boundary=None, padded=False, scaling="spectrum")
    decibels = 10 * np.log10(np.maximum(filters(DATA) @ np.square(2 * np.abs(found)), 1e-8))
    assert (DATA.height, DATA.width, DATA.values) == (32, 32, 1024) == (*decibels.shape, decibels.size)
    np.testing.assert_allclose(log_mel(sound, DATA), (np.clip(decibels, -80, 0) / 40 + 1).ravel(), rtol=1e-5, atol=1e-5)


def test_the_picture_is_that_of_the_definition() -> None:
    """Every sum written out, for a small study."""
    data = SoundData(
        kind="sound", rate_hz=1000, seconds=0.064, mels=8, low_hz=0, high_hz=500, window=32, hop=16, floor_db=-60, top_db=-10
    )
    sound = noise(64)
    mel = [2595 * math.log10(1 + hertz / 700) for hertz in (0, 500)]
    edges = [700 * (10 ** ((mel[0] + (mel[1] - mel[0]) * i / 9) / 2595) - 1) for i in range(10)]
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / 32) for n in range(32)]
    out = []
    for band in range(8):
        low, middle, high = edges[band : band + 3]
        for frame in range(3):
            power = 0.0
            for k in range(17):
                hertz = k * 1000 / 32
                weight = max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
                real = sum(hann[n] * sound[16 * frame + n] * math.cos(2 * math.pi * k * n / 32) for n in range(32))
                imaginary = sum(hann[n] * sound[16 * frame + n] * math.sin(2 * math.pi * k * n / 32) for n in range(32))
                power += weight * 4 * (real**2 + imaginary**2) / sum(hann) ** 2
            level = 10 * math.log10(power) if power > 0 else -math.inf
            out.append(2 * (min(max(level, -60), -10) + 60) / 50 - 1)
    np.testing.assert_allclose(log_mel(sound, data), out, rtol=1e-5, atol=1e-5)


def test_a_tone_of_full_scale_is_the_top_of_its_band_and_silence_the_floor() -> None:
    middle = round(DATA.edges[11] / (4000 / 256)) * 4000 / 256
    picture = log_mel(np.sin(2 * np.pi * middle * np.arange(4224) / 4000), DATA).reshape(32, 32)
    assert picture[10].min() > 0.95 and picture[20:].max() < -0.4 and picture.max() <= 1.0
    assert (log_mel(np.zeros(4224), DATA) == -1).all()


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.FLAC", "PCM_16")]
)
def test_what_soundfile_writes_is_read(tmp_path: Path, name: str, subtype: str) -> None:
    sound = np.stack([noise(), noise(seed=1)], axis=1)
    path = write(tmp_path / "p1" / name, sound, subtype=subtype, format=name[2:].upper())
    reading = recorded(tmp_path)
    assert reading.owners == ["p1"] and reading.order == reading.names == [f"p1/{name}"] and not faults(reading)
    assert reading.records.dtype == np.float32
    theirs = soundfile.read(path, always_2d=True)[0].mean(axis=1)
    assert reading.records[0].tobytes() == log_mel(theirs, DATA).tobytes()
    np.testing.assert_allclose(reading.records[0], log_mel(sound.mean(axis=1), DATA), atol=2e-2)


def test_pieces_rates_and_lengths_are_those_of_any_recording(tmp_path: Path) -> None:
    sound = noise(9000)
    write(tmp_path / "p1" / "a.wav", sound, subtype="DOUBLE")
    reading = recorded(tmp_path, windows=9)
    assert len(reading.records) == 2
    assert np.array_equal(reading.records[1], log_mel(sound[9000 - 4224 :], DATA))
    write(tmp_path / "p1" / "a.wav", sound[:3000], subtype="DOUBLE")
    assert faults(recorded(tmp_path)) == {Fault.SHAPE: 1}
    padded = recorded(tmp_path, pad=True).records[0]
    assert np.array_equal(padded, log_mel(np.concatenate([sound[:3000], np.zeros(1224)]), DATA))
    low = np.sin(2 * np.pi * 300 * np.arange(2 * 8448) / 16000) * 0.3
    write(tmp_path / "p1" / "a.wav", low, rate=16000)
    assert faults(recorded(tmp_path)) == {Fault.RATE: 1}
    found = recorded(tmp_path, resample=True).records[0].reshape(32, 32)
    wanted = log_mel(np.sin(2 * np.pi * 300 * np.arange(4224) / 4000) * 0.3, DATA).reshape(32, 32)
    assert np.abs(found - wanted)[found > -0.5].max() < 0.05


def _not_finite(sound: np.ndarray) -> np.ndarray:
    sound[7] = np.inf
    return sound


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_not_finite, Fault.MISSING),
        (lambda sound: 1e31 * sound, Fault.MISSING),
        (lambda sound: np.stack([sound + np.inf, sound - np.inf], axis=1), Fault.MISSING),
        (lambda sound: 0 * sound, Fault.FLAT),
        (lambda sound: 0 * sound + 0.1, Fault.FLAT),
        (lambda sound: 1e-7 * sound, Fault.FLAT),
        (lambda sound: sound[:0], Fault.EMPTY),
    ],
)
def test_bad_sounds_are_zero_records(tmp_path: Path, change: Any, fault: Fault) -> None:
    write(tmp_path / "p1" / "a.wav", change(noise()), subtype="DOUBLE")
    reading = recorded(tmp_path, pad=True)
    assert faults(reading) == {fault: 1} and not reading.records.any() and reading.owners == ["p1"]


def test_files_that_were_cut_or_are_of_another_format_are_refused(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        path = write(tmp_path / "p1" / name, noise())
        whole = path.read_bytes()
        for end in (len(whole) - 2, len(whole) // 2, 60, 20, 7):
            path.write_bytes(whole[:end])
            assert faults(recorded(tmp_path, files=("*" + name[1:],))) == {Fault.UNREADABLE: 1}
    (tmp_path / "p1" / "a.wav").unlink()
    write(tmp_path / "p1" / "a.wav", noise(), format="AIFF")
    assert faults(recorded(tmp_path, files=("*.wav",))) == {Fault.CODEC: 1}
    write(tmp_path / "p1" / "a.wav", noise(600_000), subtype="PCM_U8")
    assert faults(recorded(tmp_path, files=("*.wav",), largest_mib=1)) == {Fault.TOO_LARGE: 1}


def test_the_wav_files_of_scipy_are_read_or_named(tmp_path: Path) -> None:
    import scipy.io

    folder = Path(scipy.io.__file__).parent / "tests" / "data"
    names = sorted(path.name for path in folder.glob("test-*.wav"))
    if not names:
        pytest.skip("scipy is installed here without its tests' files")
    for name in names:
        (tmp_path / "p1").mkdir(exist_ok=True)
        (tmp_path / "p1" / name).write_bytes((folder / name).read_bytes())
    reading = recorded(tmp_path, resample=True, pad=True)
    assert len(reading.records) == len(names) and set(faults(reading)) <= {
        Fault.UNREADABLE,
        Fault.CODEC,
        Fault.EMPTY,
        Fault.FLAT,
        Fault.RATE,
    }
    assert 0 < sum(faults(reading).values()) < len(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high_hz": 2001}, "half of rate_hz"),
        ({"low_hz": 1900}, "above low_hz"),
        ({"top_db": -80}, "above floor_db"),
        ({"hop": 300}, "hop must be at most window"),
        ({"seconds": 0.01}, "frames"),
        ({"seconds": 0.07}, "2 to 4096 frames"),
        ({"mels": 128}, "holds no frequency"),
    ],
)
def test_constants_that_give_no_picture_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(SoundData, DATA.model_dump() | changes, "plan")


@pytest.mark.parametrize(("window", "mels"), [(256, 32), (512, 64), (64, 8), (1024, 128)])
def test_every_band_hears_something(window: int, mels: int) -> None:
    data = SoundData(kind="sound", rate_hz=4000, seconds=3, mels=mels, low_hz=50, high_hz=2000, window=window, hop=window // 2)
    weights = filters(data)
    assert weights.shape == (mels, window // 2 + 1) and (weights.sum(axis=1) > 0).all() and weights.max() <= 1


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_the_decoder_raise(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    name, subtype = data.draw(st.sampled_from([("a.wav", "PCM_16"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16")]))
    path = write(tmp_path_factory.mktemp("fuzz") / name, noise(5000), subtype=subtype)
    path.write_bytes(mutate(path.read_bytes(), data.draw, st))
    found = decode(SoundDecoder(SoundSource(kind="sound", largest_mib=1, resample=True, pad=True), DATA), path)
    if not isinstance(found, Fault):
        for each in found:
            assert isinstance(each.content, Fault) or (each.content.shape == (1024,) and np.abs(each.content).max() <= 1)
