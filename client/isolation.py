"""Before step 2: the isolation check of a study at this site, made again where site or software are not what it was made with.

Comes in: a study and, before the approval, what its source declares of its files. Goes out: `isolation.json` in the study's
folder: this build, torch, the device and site.toml's speed. A round is trained and charged only where these are the same;
where one is another, ruling 24's check comes first, and a round in which it fails is declined. The reader is not looked
at again: rounds read the copy of what was approved (client/kept.py).
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from client.study import Study
from ssl_core.chain import write_durably

if TYPE_CHECKING:
    from ssl_core.data.declared import Declared
    from ssl_core.privacy.isolation import IsolationReport


def check_study(study: Study, declared: Declared | None = None) -> IsolationReport:
    """`check_isolation` with the study's plan and this site's speed; raises `ConfigError`, `PrivacyError`."""
    from ssl_core.privacy.isolation import check_isolation

    report = check_isolation(study.plan, speed=study.home.config.speed, declared=declared, nominal_size=study.nominal_size)
    keep_checked(study)
    return report


def keep_checked(study: Study) -> None:
    """Note with what the study's isolation was checked."""
    write_durably(_path(study), _made_with(study))


def warm_up(study: Study) -> None:
    """Load model and patients before a round asks for them; check the isolation unless it was, with what there is now."""
    _ = study.model, study.patients
    path = _path(study)
    if not path.is_file() or path.read_bytes() != _made_with(study):
        check_study(study)


def _path(study: Study) -> Path:
    return study.folder / "isolation.json"


def _made_with(study: Study) -> bytes:
    import torch

    speed = study.home.config.speed
    device = torch.backends.cpu.get_cpu_capability()
    if speed.device == "cuda" and torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    facts = {
        "choral": version("choral"),
        "opacus": version("opacus"),
        "torch": torch.__version__,
        "device": f"{platform.machine()} {device}",
        "speed": speed.model_dump(mode="json", exclude={"workers"}),
    }
    return json.dumps(facts, indent=1).encode()
