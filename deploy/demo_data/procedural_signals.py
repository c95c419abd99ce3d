"""Generated signals of a heart-like rhythm -> five sites; nothing is fetched and nobody is described.

Comes in: what a study says of its signals, a public seed. Goes out: `DemoSites`. The signals are those of a warm start (see
`ssl_core/procedural/signals.py` for their source), float32 in the study's units. Four labels, thresholds on the factors that
the generator drew: an irregular rhythm without P waves, early beats (more than one in twenty), wide beats (1.6 times the
usual), a fast rate (above 95 a minute). Each patient has one signal; the sites differ in nothing but their patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, generator_seed, write_labels, write_signals
from ssl_core.procedural.signals import FACTORS, procedural_signals
from ssl_core.spec.data import SignalData

# (label, factor, above what value of the factor as FACTORS scales it)
_LABELS = (
    ("irregular", "irregular without P", 0.0),
    ("early-beats", "early beats", 0.2),
    ("wide-beats", "width", 0.6),
    ("fast", "rate", 0.491),
)
LABEL_NAMES = tuple(name for name, _, _ in _LABELS)
NOTICE = "Procedural signals: generated from a seed, no patient. Their results say nothing about medicine."


def write_sites(folder: Path, data: SignalData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 1_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""
    typical, centre = (np.array(each, np.float32)[:, None] for each in (data.typical, data.centre))

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        made = procedural_signals(generator_seed(seed, number), sum(map(len, parts.values())), data)
        signals = (made.records.reshape(-1, *data.shape) * typical + centre).astype(np.float32)
        known = np.stack([made.factors[:, FACTORS.index(factor)] > least for _, factor, least in _LABELS], axis=1).astype(int)
        labels: list[tuple[str, list[int]]] = []
        begin = 0
        for part, ids in parts.items():
            rows = slice(begin, begin + len(ids))
            begin += len(ids)
            write_signals(place, "signals" if part == "source" else part, f"{part}.toml", signals[rows], np.array(ids), data)
            if part != "source":
                labels += zip(ids, known[rows].tolist(), strict=True)
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )
