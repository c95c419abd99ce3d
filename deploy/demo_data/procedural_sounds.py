"""Generated heart and lung sounds -> five sites; nothing is fetched and nobody is described.

Comes in: what a study says of its sounds, a public seed. Goes out: `DemoSites`. The sounds are those of a warm start (see
`ssl_core/procedural/sounds.py` for their sources), one WAV file of 16 bits a patient, in a folder of the patient's: what the
site's own reader of sounds reads. Four labels, of what the generator drew: a systolic murmur (ejection or holosystolic), a
diastolic one (early or a rumble), crackles (fine or coarse), wheezes (or rhonchi). The sites differ in nothing but their
patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.demo_data.sites import DemoSites, Sizes, generated_sites, generator_seed, write_labels
from deploy.demo_data.sound_files import declare_sounds, write_sound
from ssl_core.data.optional import needed
from ssl_core.procedural.sounds import FACTORS, made_sounds
from ssl_core.spec.data import SoundData

_LABELS = {
    "systolic-murmur": ("ejection", "holosystolic"),
    "diastolic-murmur": ("early diastolic", "rumble"),
    "crackles": ("fine crackles", "coarse crackles"),
    "wheezes": ("wheezes", "rhonchi"),
}
LABEL_NAMES = tuple(_LABELS)
NOTICE = "Procedural sounds: generated from a seed, no patient. Their results say nothing about medicine."


def write_sites(folder: Path, data: SoundData, *, nominal_sizes: Sizes, seed: int = 0, patients: int = 500) -> DemoSites:
    """Write five sites of `patients` pretraining patients, 400 pool and 500 test patients each under `folder`."""
    # Said now, not when the first hospital checks its files.
    needed("soundfile", "sound files")
    places = [[FACTORS.index(name) for name in names] for names in _LABELS.values()]

    def write(place: Path, number: int, parts: Mapping[str, list[str]]) -> None:
        made = made_sounds(generator_seed(seed, number), sum(map(len, parts.values())), data)
        labels: list[tuple[str, list[int]]] = []
        for part, ids in parts.items():
            stem = "sounds" if part == "source" else part
            declare_sounds(place, stem, f"{part}.toml")
            # The generator goes on where the part before it ended.
            for patient, (sound, factors) in zip(ids, made, strict=False):
                write_sound(place / stem / patient / "chest.wav", sound, data)
                if part != "source":
                    labels.append((patient, [int((factors[found] > 0).any()) for found in places]))
        write_labels(place, LABEL_NAMES, labels)

    return generated_sites(
        folder, write, nominal_sizes=nominal_sizes, label_names=LABEL_NAMES, notice=NOTICE, patients=patients
    )
