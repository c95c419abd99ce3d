"""Which data a demo runs on, and the frozen study plan that goes with it.

Comes in: what a person asked for. Goes out: `DemoSites` on disk and the plan of `deploy/studies` as plain values. Options that
do not go together are refused with `ConfigError` before anything is written.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from deploy.demo_data.sites import DemoSites, Sizes
from ssl_core.config import parse
from ssl_core.errors import ConfigError
from ssl_core.spec.data import EventData, ImageData, PairData, SignalData, SoundData, TableData

Modality = Literal["text", "image", "signal", "table", "sound", "events", "pair"]
Study = Literal[
    "reports",
    "images",
    "signals",
    "procedural-images",
    "procedural-signals",
    "procedural-tables",
    "procedural-sounds",
    "procedural-events",
    "procedural-pairs",
]

_GENERATED_ALONE: dict[Modality, Study] = {
    "table": "procedural-tables",
    "sound": "procedural-sounds",
    "events": "procedural-events",
    "pair": "procedural-pairs",
}
_DRAWS: dict[Modality, int] = {"signal": 3, "table": 3, "sound": 2, "events": 2, "pair": 2}
_WARM: tuple[Modality, ...] = ("image", "signal", "sound")
# Typed by a person; never computed from the data (ruling 16).
_NOMINAL: dict[str, Sizes] = {
    "reports": (6000,) * 5,
    "images": (400,) * 5,
    "signals": (800,) * 5,
    "procedural-images": (2000,) * 5,
    "procedural-signals": (1000,) * 5,
    "procedural-tables": (3000,) * 5,
    "procedural-sounds": (500,) * 5,
    "procedural-events": (3000,) * 5,
    "procedural-pairs": (2000,) * 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoChoice:
    """`modality` None: that of the array given, else text. Texts come from the wheel unless `procedural`; images and signals
    from an array where one is given; what is not given is generated.
    """

    modality: Modality | None = None
    images: Path | None = None
    signals: Path | None = None
    classes: tuple[str, ...] = ()
    procedural: bool = False
    wheel: Path | None = None
    warm: bool = False
    seed: int = 1

    def check(self) -> None:
        """`ConfigError` unless the options go together."""
        arrays = {"image": ("--images", self.images), "signal": ("--signals", self.signals)}
        given = [option for option, path in arrays.values() if path is not None]
        if len(given) == 2:
            raise ConfigError("choose one of --images and --signals", field="--images, --signals")
        if given and self.procedural:
            raise ConfigError(f"choose one of {given[0]} and --procedural", field=f"{given[0]}, --procedural")
        if self.wheel is not None and (self.kind != "text" or self.procedural):
            raise ConfigError("--wheel goes with the text of its table", field="--wheel", remedy="leave it out")
        for kind, (option, path) in arrays.items():
            if path is not None and self.kind != kind:
                raise ConfigError(f"{option} goes with --modality {kind}", field="--modality", value=self.kind)
        if self.classes and not given:
            raise ConfigError("--classes goes with --images or --signals", field="--classes")
        if self.warm and self.kind not in _WARM:
            raise ConfigError(
                "there are no generated data that would teach anything of real ones", field="--warm", value=self.kind,
                limit=", ".join(_WARM),
            )  # fmt: skip

    @property
    def kind(self) -> Modality:
        """What the records are."""
        if self.modality is not None:
            return self.modality
        return "image" if self.images is not None else "signal" if self.signals is not None else "text"

    @property
    def study(self) -> Study:
        """Name of the frozen study plan."""
        if self.kind == "text":
            return "reports"
        if self.kind == "image":
            return "procedural-images" if self.images is None else "images"
        if self.kind == "signal":
            return "procedural-signals" if self.signals is None else "signals"
        return _GENERATED_ALONE[self.kind]

    @property
    def nominal_sizes(self) -> Sizes:
        """A public size of each site; of the wheel's sites padchest.py has its own."""
        return _NOMINAL[self.study]

    @property
    def draws(self) -> int:
        """Label draws of the scoring: a transformer is trained whole in three arms for each, which takes minutes."""
        return _DRAWS.get(self.kind, 10)

    @property
    def speed(self) -> dict[str, int | str]:
        """The sites' own: the check before an approval writes and reads sounds of over twice so many patients, seven times."""
        return {"chunk": 16} if self.kind == "sound" else {}

    def plan(self) -> dict[str, Any]:
        """The frozen study plan, without its sites."""
        return tomllib.loads((files("deploy") / "studies" / f"{self.study}.toml").read_text())

    def write_sites(self, folder: Path) -> DemoSites:
        """Write the sites' data under `folder`; call `check` before."""
        sizes, data, classes = self.nominal_sizes, self.plan()["data"], self.classes or None
        if self.kind == "text":
            return self._texts(folder, sizes)
        if self.kind == "table":
            from deploy.demo_data import procedural_tables

            columns = parse(TableData, data, "study plan")
            return procedural_tables.write_sites(folder, columns, nominal_sizes=sizes, seed=self.seed)
        if self.kind == "sound":
            from deploy.demo_data import procedural_sounds

            sounds = parse(SoundData, data, "study plan")
            return procedural_sounds.write_sites(folder, sounds, nominal_sizes=sizes, seed=self.seed)
        if self.kind == "events":
            from deploy.demo_data import procedural_events

            streams = parse(EventData, data, "study plan")
            return procedural_events.write_sites(folder, streams, nominal_sizes=sizes, seed=self.seed)
        if self.kind == "pair":
            from deploy.demo_data import procedural_pairs

            pairs = parse(PairData, data, "study plan")
            return procedural_pairs.write_sites(folder, pairs, nominal_sizes=sizes, seed=self.seed)
        if self.images is not None:
            from deploy.demo_data import images

            return images.write_sites(self.images, folder, nominal_sizes=sizes, classes=classes)
        if self.kind == "image":
            from deploy.demo_data import procedural_images

            pixels = parse(ImageData, data, "study plan")
            return procedural_images.write_sites(folder, pixels, nominal_sizes=sizes, seed=self.seed)
        waves = parse(SignalData, data, "study plan")
        if self.signals is not None:
            from deploy.demo_data import signals

            return signals.write_sites(self.signals, folder, waves, nominal_sizes=sizes, classes=classes)
        from deploy.demo_data import procedural_signals

        return procedural_signals.write_sites(folder, waves, nominal_sizes=sizes, seed=self.seed)

    def _texts(self, folder: Path, sizes: Sizes) -> DemoSites:
        if self.procedural:
            from deploy.demo_data import procedural

            return procedural.write_sites(folder, nominal_sizes=sizes, seed=self.seed)
        from deploy.demo_data import padchest

        return padchest.write_sites(self.wheel or padchest.find_wheel(), folder)
