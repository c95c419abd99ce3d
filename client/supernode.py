"""Starts Flower's SuperNode with its idle pause capped: 0.1 s, or 0.3 s after 2 s without a message.

Comes in: `python -m client.supernode`, then the ordinary arguments of `flower-supernode`.

Flower 1.41 sleeps 3 s whenever it finds no message, which would be most of a round (ruling 29). Only the module that
holds that loop gets a clock whose `sleep` is capped, and the pause before looking again for a message's arrays is
shortened; nothing else of Flower is changed.

Flower's fleet loop ends on some network errors while the HTTP thread keeps the process alive, deaf. When the loop
returns, this process therefore ends with exit code 75, and the supervisor starts it again. The same holds for a thread
that ends by an error: Flower's heartbeat does on a status that it does not know (a proxy's 500, say), and the SuperLink
would count this site as offline for good. Then the process signs off in order, so that its key is taken again at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import ModuleType

from deploy.flower_env import shorten_pull_pause

LOOP_ENDED = 75
_IDLE_S = 0.1
# A message follows the last one within a round soon; while a study waits for people or for other sites' training, looking
# ten times a second only keeps the SuperLink busy (measured: 0.3 of a core for five sites).
_LONG_IDLE_S, _SHORT_FOR_S, _GAP_S = 0.3, 2.0, 0.25


class CappedClock:
    """The module `time` as Flower's loop sees it: the same, but no pause is longer than `limit_s`, or `idle_s` once idle.

    Flower pauses only when it finds no message, so a gap between two pauses means that there was one.
    """

    def __init__(self, limit_s: float, idle_s: float = _LONG_IDLE_S) -> None:
        self._limit_s = limit_s
        self._idle_s = idle_s
        self._idle_since = self._last = time.monotonic()

    def sleep(self, seconds: float) -> None:
        now = time.monotonic()
        if now - self._last > _GAP_S:
            self._idle_since = now
        idle = now - self._idle_since > _SHORT_FOR_S
        time.sleep(min(seconds, self._idle_s if idle else self._limit_s))
        self._last = time.monotonic()

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


def cap_idle_pause(loop_module: ModuleType, limit_s: float = _IDLE_S) -> None:
    """Give `loop_module` a capped clock; RuntimeError when it has no `time` to replace."""
    if getattr(loop_module, "time", None) is not time:
        raise RuntimeError(f"{loop_module.__name__} no longer pauses through its `time` module")
    loop_module.time = CappedClock(limit_s)  # type: ignore[attr-defined]  # what a module holds is not in its type


def end_with_any_thread() -> None:
    """From now on a thread that ends by an error ends the process, by SIGTERM to itself."""

    def ended(thread: threading.ExceptHookArgs) -> None:
        logging.getLogger("flwr").error("a thread of the SuperNode ended by %s", thread.exc_type.__name__)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.excepthook = ended


def main() -> None:
    """Run the SuperNode until it is told to end."""
    from flwr.supercore.inflatable.inflatable_utils import pull_objects
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    cap_idle_pause(start_client_internal)
    shorten_pull_pause(pull_objects)
    end_with_any_thread()
    flower_supernode()
    logging.getLogger("flwr").error("the SuperNode's connection loop ended")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LOOP_ENDED)


if __name__ == "__main__":
    main()
