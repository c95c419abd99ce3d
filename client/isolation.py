"""Before step 2: the isolation check of a study at this site, made again where site or software are not what it was made with.

Comes in: a study and, before the approval, what its source declares of its files. Goes out: the `Pace` of the next round, and
`isolation.jsonl` in the study's folder, a line for all that the check passed with: Choral's source, torch, Opacus, the device,
site.toml's speed, and what came of it on this machine: engine, precision, and how many units make a full batch. A round trains
with what stands there, else ruling 24's check comes first; a round in which it fails is neither begun nor charged.
The reader is not looked at again: rounds read the copy of what was approved (client/kept.py).

A size that was checked does not stand for a smaller one. full_batch.py fills a batch of one size, the greatest that training
makes; a smaller one takes other shapes, maybe other kernels, and in bfloat16 every pass has another shape. Each size is checked
once, so where a machine's memory comes and goes no check is made in every round. Of memory there counts all that the machine or
its container may use, not what is free (planner.py).

The source, because a version's number stays the same from one commit to the next. All of `ssl_core` and `client` is taken: the
check and training are code of the first, called by the second, and whoever picked single files could miss one. `deploy` starts
processes and computes nothing. It is read once, when this process loads its code: what is installed under a running daemon is
not what it runs. (But what a process loads only then is the new code: start the daemon again after an upgrade.)
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import ssl_core
from client.study import Study
from ssl_core.chain import write_durably
from ssl_core.errors import StateError

if TYPE_CHECKING:
    from ssl_core.config import SpeedSpec
    from ssl_core.data.declared import Declared
    from ssl_core.data.patients import Patients
    from ssl_core.objectives.base import PretextModel
    from ssl_core.privacy.isolation import IsolationReport
    from ssl_core.privacy.planner import Pace
    from ssl_core.spec.data import Data


def source_digest(packages: Iterable[Path]) -> str:
    """SHA-256 in hex over the *.py files of the folders `packages`: of each its name and its bytes, framed by their length.

    Names begin with the package's, and are sorted: where all is installed, and in which order a disk lists it, is not in it.
    """
    found = {
        path.relative_to(package.parent).as_posix(): path
        for package in packages
        for path in package.rglob("*.py")
        if path.is_file()
    }
    digest = hashlib.sha256()
    for name in sorted(found):
        for part in (name.encode(errors="surrogateescape"), found[name].read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


_SOURCE = source_digest([Path(ssl_core.__file__).parent, Path(__file__).parent])
_OPACUS = version("opacus")


def check_study(study: Study, declared: Declared | None = None) -> IsolationReport:
    """`check_isolation` with the study's plan and this site's speed; raises `ConfigError`, `PrivacyError`."""
    from ssl_core.privacy.isolation import check_isolation

    report = check_isolation(study.plan, speed=study.home.config.speed, declared=declared, nominal_size=study.nominal_size)
    keep_checked(study, report.pace)
    return report


def keep_checked(study: Study, pace: Pace) -> None:
    """Note with what the study's isolation was checked."""
    lines, line = _lines(study), _made_with(study, pace)
    if line not in lines:
        write_durably(_path(study), b"".join(each + b"\n" for each in [*lines, line]))


def warm_up(study: Study) -> tuple[Patients, Pace]:
    """The patients of the next round, and its pace, at which the isolation is checked unless it was.

    Raises `ConfigError`, `PrivacyError`, and `StateError` where the copy of the patients is gone or damaged, or the machine
    became another one during the check.
    """
    patients, pace = study.patients, pace_of(study)
    if _made_with(study, pace) not in _lines(study):
        check_study(study)
        if _made_with(study, pace) not in _lines(study):
            raise another_pace("nothing; the next round makes the check again")
    return patients, pace


def another_pace(remedy: str) -> StateError:
    """The round's pace is not the one that was checked."""
    return StateError(
        "this machine changed while the isolation check was made: it looked at another pace than the round's",
        field="memory",
        remedy=remedy,
    )


def pace_of(study: Study) -> Pace:
    """At which pace the study's model trains here now; found once for a model and an amount of memory (planner.py)."""
    return pace_here(study.model, study.plan.data, study.home.config.speed)


def pace_here(model: PretextModel, data: Data, speed: SpeedSpec) -> Pace:
    """At which pace `model` trains here now; raises `ConfigError`."""
    from ssl_core.privacy.machine import threads, training_device
    from ssl_core.privacy.planner import choose_pace

    with threads(speed.threads):
        return choose_pace(model, data, speed, training_device(speed))


def _path(study: Study) -> Path:
    return study.folder / "isolation.jsonl"


def _lines(study: Study) -> list[bytes]:
    return _path(study).read_bytes().splitlines() if _path(study).is_file() else []


def _made_with(study: Study, pace: Pace) -> bytes:
    import torch

    speed = study.home.config.speed
    device = torch.backends.cpu.get_cpu_capability()
    if speed.device == "cuda" and torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    facts = {
        "source": _SOURCE,
        "opacus": _OPACUS,
        "torch": torch.__version__,
        "device": f"{platform.machine()} {device}",
        "speed": speed.model_dump(mode="json", exclude={"workers"}),
        "pace": pace.facts,
    }
    return json.dumps(facts).encode()
