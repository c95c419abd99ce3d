"""Runs a study in this process and kills it with SIGKILL at a named line: `kill_runner.py ROOT PLAN_HASH [LINE]`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from client.site_service import SiteService
from server.exchange import LocalExchange
from server.rounds import run_study

root, plan_hash, *line = sys.argv[1:]


def at(reached: str) -> None:
    if line and reached == line[0]:
        os.kill(os.getpid(), signal.SIGKILL)


sites = sorted(p.parent.name for p in Path(root).glob("*/site.toml"))
exchange = LocalExchange({name: SiteService(Path(root) / name).handle for name in sites})
run_study(Path(root) / "operator", plan_hash, exchange, at=at)
