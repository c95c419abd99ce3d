"""The fuzzing targets on a bounded corpus: real messages, those spoiled in every way of spoil.py, and stored findings.

`make fuzz` is the long run, with atheris; what it finds is stored as a file in corpus/TARGET/ and stays here for good.
"""

from __future__ import annotations

import importlib
import sys
import tracemalloc
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
# Inputs of a target: what a few seconds allow.
COUNTS = {"codec": 6000, "parcel": 6000, "trust": 4000, "site": 2500, "coordinator": 2500}

sys.path.insert(0, str(HERE))
try:
    from spoil import spoiled

    TARGETS = {name: importlib.import_module(f"fuzz_{name}") for name in COUNTS}
finally:
    sys.path.remove(str(HERE))


@pytest.mark.parametrize("name", COUNTS)
def test_real_and_spoiled_messages(name):
    target = TARGETS[name]
    for data in spoiled(target.seeds(), COUNTS[name], seed=1):
        target.run(data)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_stays_found(path):
    TARGETS[path.parent.name].run(path.read_bytes())


def test_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 200_000


@pytest.mark.parametrize("name", ["codec", "site", "coordinator"])
def test_a_message_costs_memory_in_proportion_to_its_length(name):
    target = TARGETS[name]
    for data in list(target.seeds())[:20]:
        target.run(data)
    worst = 0.0
    for data in spoiled(target.seeds(), 150, seed=2):
        tracemalloc.start()
        try:
            target.run(data)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - 200 * len(data))
        finally:
            tracemalloc.stop()
    assert worst < 1 << 20


def test_spoiling_is_the_same_every_time():
    seeds = TARGETS["codec"].seeds()
    assert list(spoiled(seeds, 50, seed=3)) == list(spoiled(seeds, 50, seed=3)) != list(spoiled(seeds, 50, seed=4))
