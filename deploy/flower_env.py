"""The environment in which every Flower process runs, the secret that guards a Runtime API, and one pause shortened.

Comes in: a folder that belongs to one daemon. Goes out: an environment with Flower's telemetry, update check and
colours off, FLWR_HOME inside that folder (the user's ~/.flwr is never touched), this virtual environment's programs
first on PATH, since flower-superexec finds `flwr-serverapp` there, and loopback never through a web proxy; a secret
file of 32 random bytes, 0600.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from ssl_core.errors import StateError

SECRET_BYTES = 32


def bin_folder() -> Path:
    """Folder of the programs that were installed with this interpreter."""
    return Path(sys.executable).parent


def program(name: str) -> str:
    """Path of an installed program; StateError when it is absent."""
    path = bin_folder() / name
    if not path.is_file():
        raise StateError(
            "a program that Choral needs is not installed", field=name, remedy="install choral into this environment"
        )
    return str(path)


def flower_env(flwr_home: Path) -> dict[str, str]:
    """The whole environment for a Flower process."""
    flwr_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = dict(os.environ)
    env.update(
        FLWR_HOME=str(flwr_home),
        FLWR_TELEMETRY_ENABLED="0",
        FLWR_DISABLE_UPDATE_CHECK="1",
        FLWR_SUPEREXEC_TASK_POLL_INTERVAL="0.5",
        NO_COLOR="1",
        PYTHONUNBUFFERED="1",
        NO_PROXY=",".join(filter(None, [env.get("NO_PROXY") or env.get("no_proxy"), "127.0.0.1,localhost"])),
        PATH=os.pathsep.join([str(bin_folder()), env.get("PATH", os.defpath)]),
    )
    return env


def shorten_pull_pause(*functions: Callable[..., object]) -> None:
    """Let Flower's pulling functions look again after 0.05 s, growing to 1 s, instead of 1 s growing to 10 s.

    A message is announced before its arrays have been uploaded. Whoever polls every 0.1 s nearly always comes in
    between, and would lose a second at each of the three hops. Handed in by the caller, for flwr is not imported here.
    """
    for function in functions:
        defaults = getattr(function, "__kwdefaults__", None)
        if defaults is None or not {"initial_backoff", "backoff_cap"} <= set(defaults):
            raise RuntimeError("Flower's pulling functions no longer have the pauses that Choral shortens")
        defaults.update(initial_backoff=0.05, backoff_cap=1.0)


def make_secret(path: Path) -> Path:
    """Create the secret file once; a file that others can read, or of another length, is refused."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return check_secret(path)
    with os.fdopen(fd, "wb") as file:
        file.write(os.urandom(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return path


def check_secret(path: Path) -> Path:
    """StateError unless `path` is a secret file that only its owner can read."""
    try:
        info = path.stat()
    except FileNotFoundError:
        raise StateError("the secret file is missing", field=str(path), remedy="start the daemon again") from None
    if stat.S_IMODE(info.st_mode) & 0o077:
        raise StateError(
            "the secret file can be read by others",
            field=str(path),
            value=oct(stat.S_IMODE(info.st_mode)),
            limit="0o600",
            remedy="delete it and start the daemon again",
        )
    if info.st_size != SECRET_BYTES:
        raise StateError(
            "the secret file is damaged",
            field=str(path),
            value=f"{info.st_size} bytes",
            limit=f"{SECRET_BYTES} bytes",
            remedy="delete it and start the daemon again",
        )
    return path
