"""Step 9 of 12: when the operator last asked for a study, so that nobody approves one that does not wait any more.

An operator who launches a study asks each hospital that has not approved again and again, at last every minute or a little
more; who stops it says so to nobody. What an approval reserves is never given back, so a person is told where the asking ended.
Comes in: a study's folder, whose file `asked` is as old as the last invitation. Goes out: words. An operator can go on asking
without a study; no promise rests on this.
"""

from __future__ import annotations

import time
from pathlib import Path

_FILE = "asked"
# The operator's longest pause is a minute (server/invitation.py); a site or a network may be away for some.
_RECENT_S = 600.0


def note_asked(folder: Path) -> None:
    """An invitation came just now."""
    (folder / _FILE).touch()


def asked_ago_s(folder: Path) -> float | None:
    """Seconds since the last invitation; None where none was noted."""
    try:
        return max(0.0, time.time() - (folder / _FILE).stat().st_mtime)
    except FileNotFoundError:
        return None


def no_longer_asked(folder: Path) -> str | None:
    """What a person reads where the last invitation is some time ago; None while the operator asks, or none was noted."""
    ago = asked_ago_s(folder)
    if ago is None or ago <= _RECENT_S:
        return None
    return f"last asked {_for_people(ago)} ago: if this daemon ran since, ask the operator whether the study still waits"


def stale_rows(folder: Path) -> list[tuple[str, str]]:
    """The same as a row of the approval's screen, or none."""
    stale = no_longer_asked(folder)
    return [] if stale is None else [("WARNING", stale)]


def _for_people(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds / 60:.0f} minutes"
