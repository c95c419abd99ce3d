"""The bundle that `flwr run` ships, and the life of a run: start, look, stop.

Comes in: a plan hash. Goes out: a Flower run id. Flower insists on shipping an app to every node, so this one is as
thin as can be: its server module imports the installed `server.flower_app`, its client module raises; sites never look
at it (client/executor.py). It is written to a temporary folder that is removed once Flower has read it (ruling 34).
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from server.superlink import PLAN_KEY, FlowerControl
from ssl_core.errors import ConfigError, TransportError

_HASH = re.compile(r"[0-9a-f]{16,128}")
# `flwr build` refuses folder names with underscores.
_FOLDER = "choral-study"
_SERVER_MODULE = '''"""Runs the installed server; nothing is shipped."""

from server.flower_app import app

__all__ = ["app"]
'''
_CLIENT_MODULE = '''"""Sites run their installed code. Whoever imports this is not a Choral site."""

raise RuntimeError("a Choral site never runs code that a server sends")

app = None  # never reached: `flwr run` refuses a module whose text does not name it
'''


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as Flower sees it; what a study did is in its events.jsonl."""

    run_id: int
    status: str
    details: str

    @property
    def ended(self) -> bool:
        """No ServerApp works on it any more."""
        return self.status.startswith("finished")

    @property
    def completed(self) -> bool:
        """The ServerApp returned without an error."""
        return self.status == "finished:completed"


def write_bundle(parent: Path) -> Path:
    """Write the three files of the bundle into a new folder below `parent`; returns that folder."""
    folder = parent / _FOLDER
    folder.mkdir()
    project = {
        "project": {
            "name": _FOLDER,
            "version": "1.0.0",
            "description": "A Choral study. The code is installed, not shipped.",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "choral",
                    "components": {"serverapp": "server_app:app", "clientapp": "client_app:app"},
                    "config": {PLAN_KEY: ""},
                }
            }
        },
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), encoding="utf-8")
    (folder / "server_app.py").write_text(_SERVER_MODULE, encoding="utf-8")
    (folder / "client_app.py").write_text(_CLIENT_MODULE, encoding="utf-8")
    return folder


def start_run(control: FlowerControl, plan_hash: str) -> int:
    """Ship the bundle and start a run for this plan; returns Flower's run id."""
    if _HASH.fullmatch(plan_hash) is None:
        raise ConfigError("not a plan hash", field="plan hash", value=plan_hash, limit="lower-case hexadecimal")
    with tempfile.TemporaryDirectory(prefix="choral-bundle-") as parent:
        return run_bundle(control, write_bundle(Path(parent)), plan_hash)


def run_bundle(control: FlowerControl, folder: Path, plan_hash: str) -> int:
    """`flwr run` on a bundle folder."""
    answer = control.call("run", str(folder), options=("--run-config", f'{PLAN_KEY}="{plan_hash}"'))
    return _run_id(answer.get("run-id"))


def run_status(control: FlowerControl, run_id: int) -> RunStatus:
    """`flwr ls --run-id`; TransportError when the SuperLink knows no such run."""
    runs = control.call("ls", options=("--run-id", str(run_id))).get("runs")
    if not isinstance(runs, list) or len(runs) != 1 or not isinstance(runs[0], dict):
        raise TransportError("flwr ls answered in an unknown form", field="run id", value=run_id)
    return RunStatus(run_id, str(runs[0].get("status", "")), str(runs[0].get("status-details", "")))


def stop_run(control: FlowerControl, run_id: int) -> None:
    """`flwr stop`; a run that has just ended by itself is left as it is. The study keeps its state."""
    try:
        control.call("stop", str(run_id))
    except TransportError:
        if not run_status(control, run_id).ended:
            raise


def _run_id(value: object) -> int:
    if not isinstance(value, str) or not value.isdigit():
        raise TransportError("flwr run answered without a run id", value=value)
    return int(value)
