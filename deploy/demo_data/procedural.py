"""Generated reports -> five sites; nothing is fetched and nobody is described.

Comes in: a public seed. Goes out: `DemoSites`. A patient has latent findings, some of which come together, and one to
four reports. A report names each finding by a few of that finding's many words, among words of no meaning whose
frequencies follow Zipf's law. Each site prefers other words for the same finding and has words of its own, so that the
sites' wordings overlap only in part: a linear model on the words of 50 labelled reports has seen few of a finding's
words, while masked words can learn which words come together. numpy's seeded generator is right here: these are no
private data, and no noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.demo_data.sites import SITES, DemoSites, Report, Sizes, generated_sites, write_labels, write_reports

LABEL_NAMES = tuple(f"finding-{number:02d}" for number in range(1, 11))
NOTICE = "Procedural reports: generated from a seed, no real patient. Their results say nothing about medicine."
_FINDING_WORDS, _COMMON_WORDS, _SITE_WORDS = 30, 600, 100
_SYLLABLES = [c + v for c in "bdfglmnprstvz" for v in "aeiou"]


@dataclass(frozen=True, slots=True)
class _Language:
    """One site's wording: finding words [10, 30] with their chances [10, 30]; other words with theirs."""

    finding_words: npt.NDArray[np.str_]
    finding_chances: npt.NDArray[np.float64]
    other_words: npt.NDArray[np.str_]
    other_chances: npt.NDArray[np.float64]


def write_sites(folder: Path, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 6_000) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        language = _language(seed, number)
        rng = np.random.default_rng([seed, 1, number])
        labels: list[tuple[str, list[int]]] = []
        for part, ids in parts.items():
            reports: list[Report] = []
            for patient in ids:
                findings = _findings(rng)
                texts = 1 + min(int(rng.poisson(0.6)), 3) if part == "source" else 1
                reports += [Report(patient, f"{patient}-{k}", _text(rng, language, findings)) for k in range(texts)]
                if part != "source":
                    labels.append((patient, findings.astype(int).tolist()))
            write_reports(place, "reports" if part == "source" else part, f"{part}.toml", reports)
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )


def _findings(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Present findings bool [10]: prevalence .08 to .32, raised together by a patient's latent burden."""
    prevalence = np.linspace(0.08, 0.32, len(LABEL_NAMES))
    burden = rng.gamma(2.0, 0.5)
    present: npt.NDArray[np.bool_] = rng.random(len(LABEL_NAMES)) < np.minimum(prevalence * burden, 0.9)
    return present


def _text(rng: np.random.Generator, language: _Language, findings: npt.NDArray[np.bool_]) -> str:
    """One report: 2 to 4 words a finding that is mentioned, 2 to 4 other words, in random order."""
    words: list[str] = []
    for finding, present in enumerate(findings):
        if rng.random() < (0.95 if present else 0.03):
            count = int(rng.integers(2, 5)) if present else 1
            chances = language.finding_chances[finding]
            words += rng.choice(language.finding_words[finding], count, replace=False, p=chances).tolist()
    words += rng.choice(language.other_words, int(rng.integers(2, 5)), p=language.other_chances).tolist()
    return " ".join(words[index] for index in rng.permutation(len(words)))


def _language(seed: int, site: int) -> _Language:
    """The shared vocabulary under `seed`, as `site` uses it."""
    shared = np.random.default_rng([seed, 0])
    total = len(LABEL_NAMES) * _FINDING_WORDS + _COMMON_WORDS + SITES * _SITE_WORDS
    numbers = shared.permutation(len(_SYLLABLES) ** 3)[:total]
    base = len(_SYLLABLES)
    spelled = [_SYLLABLES[n // base**2] + _SYLLABLES[n // base % base] + _SYLLABLES[n % base] for n in numbers.tolist()]
    words = np.array(spelled)
    findings = words[: len(LABEL_NAMES) * _FINDING_WORDS].reshape(len(LABEL_NAMES), _FINDING_WORDS)
    common, own = np.split(words[findings.size :], [_COMMON_WORDS])
    mine = np.random.default_rng([seed, 2, site])
    zipf = 1.0 / np.arange(1, _FINDING_WORDS + 1) ** 0.7
    ranked = np.stack([zipf[mine.permutation(_FINDING_WORDS)] for _ in LABEL_NAMES])
    others = np.concatenate([common, own[site * _SITE_WORDS : (site + 1) * _SITE_WORDS]])
    other_zipf = 1.0 / (1.0 + mine.permutation(len(others)))
    return _Language(findings, ranked / ranked.sum(axis=1, keepdims=True), others, other_zipf / other_zipf.sum())
