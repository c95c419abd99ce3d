"""Progress of a study: one JSON line per stage and site in `studies/<hash>/events.jsonl` (ruling 33).

Written by the operator's side alone; status, follow, the demo and later the dashboard read this file, never Flower's log.
An event holds its time (Unix, to the millisecond), stage, round, site, seconds and counts of sites. When a site answered
depends on its patients (docs/privacy.md, "Timing"), so the file stays at the operator: nothing publishes it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from deploy.event_reader import FILE_NAME


class EventLog:
    """Appends to one study's file; a line is complete or absent."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def write(self, stage: str, *, round: int | None = None, site: str | None = None, **facts: float | str) -> None:
        """One line; `stage` is lower case, `facts` are public numbers or words."""
        line: dict[str, Any] = {"time": time.time_ns() // 10**6 / 1000, "stage": stage}
        if round is not None:
            line["round"] = round
        if site is not None:
            line["site"] = site
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line | facts, separators=(",", ":")) + "\n")
