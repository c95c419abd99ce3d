"""Generated images with generated reports -> five sites; nothing is fetched and nobody is described.

Comes in: what a study says of its pairs, a public seed. Goes out: `DemoSites`. The pictures and the two labels are those of
procedural_images.py; a report is made from what its picture was made from, in three sentences at most, in one of three wordings
each, among sentences that say nothing of it. As people's reports do, it leaves out much: each of the three facts (a big body or
none, a part that is mirrored or none, how many shapes) is spoken of in six reports of ten. So words alone tell a label in part.
The generator's seeds are other ones than those of `--modality image`. numpy's seeded generator is right here: these are no
private data, and no noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.demo_data.procedural_images import LABEL_NAMES, eight_bits
from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, generator_seed, write_labels, write_pairs
from ssl_core.procedural.images import FACTORS, made_images
from ssl_core.spec.data import PairData

NOTICE = (
    "Procedural images with procedural reports: generated from a seed, no patient. Their results say nothing about medicine. A "
    "report speaks of six facts in ten, and the raw floor reads it beside the pixels; the encoder's features are of the image."
)
_SPOKEN = 0.6
_OTHER = 1 << 16
_MANY, _SEVERAL = 13, 8

_FACTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("scattered shapes without an outline", "no enclosing body", "isolated forms throughout the field"),
        ("one large body with inner parts", "a rounded outline encloses the forms", "a single dominant mass"),
    ),
    (
        ("no symmetry", "the sides differ", "unequal halves"),
        ("symmetric sides", "the left mirrors the right", "matching halves"),
    ),
    (
        ("few details", "sparse content", "little structure"),
        ("several details", "moderate content", "some structure"),
        ("many details", "dense content", "crowded structure"),
    ),
)
_FILLERS = ("technique as usual", "no earlier picture for comparison", "quality sufficient", "seen and approved", "")


def write_sites(folder: Path, data: PairData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 2_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""
    whole = data.pixels.model_copy(update={"pool": 1})

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        own = generator_seed(seed, number) + _OTHER
        made = made_images(own, sum(map(len, parts.values())), whole)
        pictures = eight_bits(made.records).reshape(-1, *data.image.shape)
        texts = reports(np.random.default_rng([own, 1]), made.factors)
        known = made.factors[:, [FACTORS.index(name) for name in LABEL_NAMES]].astype(int)
        labels: list[tuple[str, list[int]]] = []
        begin = 0
        for part, ids in parts.items():
            rows = slice(begin, begin + len(ids))
            begin += len(ids)
            write_pairs(place, "pairs" if part == "source" else part, f"{part}.toml", pictures[rows], texts[rows], ids)
            if part != "source":
                labels += zip(ids, known[rows].tolist(), strict=True)
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )


def reports(rng: np.random.Generator, factors: npt.NDArray[np.float32]) -> list[str]:
    """One report a row of `factors` float32 [m, 3], of at least one sentence."""
    shapes = factors[:, FACTORS.index("shapes")]
    several, many = shapes >= _SEVERAL, shapes >= _MANY
    facts = [factors[:, FACTORS.index(name)] for name in LABEL_NAMES] + [several.astype(int) + many]
    found = []
    for row in np.stack(facts, axis=1).astype(int).tolist():
        said = [
            wordings[value][rng.integers(len(wordings[value]))]
            for wordings, value in zip(_FACTS, row, strict=True)
            if rng.random() < _SPOKEN
        ]
        said.append(_FILLERS[rng.integers(len(_FILLERS))] if said else _FILLERS[rng.integers(len(_FILLERS) - 1)])
        found.append(". ".join(said[place] for place in rng.permutation(len(said)) if said[place]) + ".")
    return found
