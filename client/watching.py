"""The process that looks at the encoder after each round, below everything else: `python -m client.watching --site-home DIR`.

Comes in: one line on stdin for each look (watcher.py, in the executor). Goes out: `watch.jsonl` beside each study that is open
here (watch.py), and one line on stdout when the look is over; no figure is printed or logged. It may be stopped or killed at
any line.

It takes only processor time that nobody else wants (SCHED_IDLE, sched(7)), one thread, and is the first to be ended where
memory is short. It opens no key and not the site's log, whose locks a round needs. Between looks it holds the records that it
looks at, so that the last round too can be seen, whose CLOSE deletes the copy: they are gone after that look, or with a kill.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

from client.watch import Watch, Watched
from ssl_core.core_files import leave_no_core_file

_PR_SET_PDEATHSIG = 1
_LOG = logging.getLogger("choral.watch")


class Watching:
    """All studies of one site."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, Watch] = {}

    def look(self) -> None:
        """Look once at each study that trains here, and for the last time at one that has ended."""
        for folder in sorted((self._root / "studies").iterdir()):
            study = Watched(self._root, folder.name)
            try:
                if folder.name not in self._open and study.records.kept and study.model_file.kept:
                    self._open[folder.name] = Watch(study)
                if folder.name in self._open:
                    self._open[folder.name].look()
            except Exception as error:
                # Of an error of any kind the log gets the type alone: its text may tell of patients.
                _LOG.warning("study %s was not looked at: %s", folder.name[:12], type(error).__name__)
            if not study.records.kept:
                self._open.pop(folder.name, None)


def step_back() -> None:
    """This process yields to every other: processor, memory, and no core file of a process that holds records."""
    # Also a stopped one ends with its executor.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    leave_no_core_file()
    os.nice(19)
    for what, step in (
        ("the least of priorities", lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))),
        ("being ended first where memory is short", lambda: Path("/proc/self/oom_score_adj").write_text("1000")),
    ):
        try:
            step()
        except OSError as error:
            _LOG.warning("this machine forbids %s: %s", what, type(error).__name__)


def main(arguments: list[str] | None = None) -> None:
    """Look once a line until stdin ends."""
    parser = argparse.ArgumentParser(prog="client.watching", description="Looks at a study's encoder on this site's records.")
    parser.add_argument("--site-home", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    step_back()
    watching = Watching(given.site_home)
    while sys.stdin.buffer.readline():
        watching.look()
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
