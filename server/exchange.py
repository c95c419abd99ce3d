"""Step 10 of 12: the server's view of the network: which sites are there, and ask them. No Flower here.

Comes in: one parcel for each site. Goes out: each site's answer, handed to `on_reply` one at a time, so that the caller
can add it to a running sum and let it go. `Exchange` is what the round loop is written against; `LocalExchange` runs
the same loop in one process, for tests and simulation; GridExchange (server/flower_app.py) runs it over Flower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ssl_core.errors import ProtocolError
from ssl_core.parcel import Parcel

OnReply = Callable[[str, Parcel], Parcel | None]
Done = Callable[[], bool]
Handler = Callable[[Parcel], Parcel]


class Exchange(Protocol):
    """Sites by name; delivery is at least once, so a site must answer a repeated parcel with the same bytes."""

    def reachable(self) -> set[str]:
        """Names of the sites that are online now."""

    def ask(self, parcels: Mapping[str, Parcel], *, patience_s: float, on_reply: OnReply, done: Done) -> None:
        """Ask each named site its parcel; each parcel is answered at most once, through `on_reply`.

        What `on_reply` returns is the next parcel for that site, None when the site has no more to be asked. Returns when all
        have answered, when `done()` is true, or after `patience_s` seconds. A site that is offline or
        whose answer is lost is asked again with the same parcel until then. An error raised by `on_reply` or `done`
        ends the asking and passes through.
        """


class LocalExchange:
    """Sites as functions in this process.

    `lost(site, parcel, attempt)` says whether this delivery vanishes (attempt counts from 1 for each `ask`);
    `answer_lost(site, answer, attempt)` the same for the site's answer, after the site has acted; `offline(site)` that
    the site is not there. Patience is counted in deliveries (`attempts` of them), so that simulations never wait.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        lost: Callable[[str, Parcel, int], bool] | None = None,
        answer_lost: Callable[[str, Parcel, int], bool] | None = None,
        offline: Callable[[str], bool] | None = None,
        attempts: int = 3,
    ) -> None:
        self._handlers = dict(handlers)
        self._lost = lost or (lambda _site, _parcel, _attempt: False)
        self._answer_lost = answer_lost or (lambda _site, _parcel, _attempt: False)
        self._offline = offline or (lambda _site: False)
        self._attempts = attempts

    def reachable(self) -> set[str]:
        """Every site that `offline` does not name."""
        return {site for site in self._handlers if not self._offline(site)}

    def ask(self, parcels: Mapping[str, Parcel], *, patience_s: float, on_reply: OnReply, done: Done) -> None:
        """See `Exchange.ask`; with `patience_s` 0 each site is asked once."""
        check_known(parcels, self._handlers)
        waiting = dict(parcels)
        for attempt in range(1, (self._attempts if patience_s > 0 else 1) + 1):
            for site in list(waiting):
                while site in waiting:
                    if done():
                        return
                    if self._offline(site) or self._lost(site, waiting[site], attempt):
                        break
                    answer = self._handlers[site](waiting[site])
                    if self._answer_lost(site, answer, attempt):
                        break
                    del waiting[site]
                    more = on_reply(site, answer)
                    if more is not None:
                        waiting[site] = more


def check_known(parcels: Mapping[str, Parcel], known: Mapping[str, object]) -> None:
    """ProtocolError if a parcel is for a site that this exchange does not know."""
    for site in parcels:
        if site not in known:
            raise ProtocolError("this exchange knows no such site", field="site", value=site)


class Patience:
    """Time that is left, and growing pauses between repeated pushes to one site."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._next: dict[str, float] = {}
        self._pause: dict[str, float] = {}

    @property
    def left_s(self) -> float:
        """Seconds until patience ends; never negative."""
        return max(0.0, self._end - self._clock())

    def may_push(self, site: str) -> bool:
        """Has the pause since the site's last failure passed?"""
        return self._clock() >= self._next.get(site, 0.0)

    def failed(self, site: str, *, first_s: float = 0.2, longest_s: float = 5.0) -> None:
        """Note a failure: pauses of 0.2, 0.4, 0.8 ... 5 s."""
        pause = self._pause.get(site, first_s)
        self._next[site] = self._clock() + pause
        self._pause[site] = min(2 * pause, longest_s)
