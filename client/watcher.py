"""The executor's hold on the process that watches for collapse (watching.py): it looks after an answer, stopped by a question.

Comes in: `look()` once an answer has been handed over, `cut()` when the next question has come. Goes out: nothing: both return
at once, raise nothing, and read of that process only whether it is done. A look that is not done when a question comes is
stopped (SIGSTOP) and goes on after the answer, so nothing of it runs while the site answers. What is not done after
`MOST_STOPS` questions is ended, and the next look begins anew; a round that closed meanwhile is missing from the course. As
that process opens neither the site's log nor its keys, a stopped one holds nothing that an answer waits for.

Off with `watch = false` in policy.toml. It is on by default: nothing of it leaves, it costs the guarantee nothing, and a
collapse is found by whoever did not expect one. What it does cost is memory, over 320 MB, and processor time that nobody else
wants.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from client.home import SiteHome

MOST_STOPS = 100
_LOG = logging.getLogger("choral.executor")


def watching_argv(site_home: Path) -> tuple[str, ...]:
    """The process that looks."""
    return (sys.executable, "-P", "-m", "client.watching", "--site-home", str(site_home))


class Watcher:
    """At most one such process; it is started by the first look at a site that has a global model."""

    def __init__(self, site_home: Path, argv: tuple[str, ...] | None = None) -> None:
        self._root = site_home
        self._argv = argv or watching_argv(site_home)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._stops = 0
        self._ended: list[subprocess.Popen[bytes]] = []

    def look(self) -> None:
        """Let it look, if this hospital's policy wants it to and there is something to look at."""
        try:
            self._look()
        except Exception as error:
            # Whatever it is, the answer has been given and the next question must find the executor as it was.
            _LOG.warning("the watch did not begin: %s", type(error).__name__)

    def cut(self) -> None:
        """No look runs once this has returned; what is not done goes on with the next `look`."""
        try:
            if self._process is not None and not self._idle(self._process):
                self._process.send_signal(signal.SIGSTOP)
                self._stops += 1
        except Exception as error:
            _LOG.warning("the watch was not cut: %s", type(error).__name__)

    def close(self) -> None:
        """End it for good, and wait until it has ended."""
        if self._process is not None:
            self._kill(self._process)
        for process in self._ended:
            process.wait()
        self._ended.clear()

    def _look(self) -> None:
        self._ended = [process for process in self._ended if process.poll() is None]
        if not any((self._root / "studies").glob("*/model.safetensors")) and self._process is None:
            return
        if not SiteHome(self._root).policy.watch:
            self.close()
            return
        if self._process is not None and (self._process.poll() is not None or self._stops > MOST_STOPS):
            self._kill(self._process)
        if self._process is None:
            self._process = self._start()
        if self._stops:
            self._process.send_signal(signal.SIGCONT)
        if self._process.stdin is not None and self._idle(self._process):
            self._asked, self._stops = True, 0
            self._process.stdin.write(b"\n")

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
        return process

    def _idle(self, process: subprocess.Popen[bytes]) -> bool:
        """Is the look that it was asked for done?"""
        if self._asked and process.stdout is not None and process.stdout.read(1):
            self._asked = False
        return not self._asked

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        self._ended.append(process)
        self._process, self._asked, self._stops = None, False, 0
