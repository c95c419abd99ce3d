"""A PostgreSQL server of the test's own, on a socket in a folder of its own; none where Debian's programs are absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """The folder of initdb and postgres, the newest version first."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@dataclass(frozen=True)
class Server:
    """A running server; `url` of its superuser, whom it trusts on its socket alone."""

    url: str
    folder: Path

    def url_of(self, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@/postgres?host={self.folder}"


@contextmanager
def server(bin_folder: Path) -> Iterator[Server]:
    """Start one and stop it. PostgreSQL refuses to run as root: then it runs as Debian's user `postgres`."""
    who: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    # A short path: the name of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="choral-pg-", dir="/tmp") as name:
        folder = Path(name)
        if who:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **who}
        make = [str(bin_folder / "initdb"), "-D", str(data), "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*make, "--locale=C"], **quiet)
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=20"
        control = [str(bin_folder / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
        subprocess.run([*control, "-o", options, "start"], **quiet)
        try:
            yield Server(f"postgresql://owner@/postgres?host={folder}", folder)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
