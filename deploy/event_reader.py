"""Reads a study's events.jsonl as it grows (ruling 33); who writes it: server/events.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "events.jsonl"


@dataclass(slots=True)
class EventReader:
    """Reads what was added since the last call; a line still being written is left for the next call."""

    folder: Path
    _position: int = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Events since the last call, in order."""
        path = self.folder / FILE_NAME
        if not path.is_file():
            return
        with path.open("rb") as stream:
            stream.seek(self._position)
            for raw in stream:
                if not raw.endswith(b"\n"):
                    break
                self._position += len(raw)
                yield json.loads(raw)
