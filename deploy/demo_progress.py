"""Live progress of the demo: one line a phase, one row a site, one bar for the rounds; all from events.jsonl.

Without a terminal the same facts are printed as plain lines, once each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo_result import PhaseTime

_WORDS = {
    "waiting": "invited, waiting for the hospital's approval",
    "approved": "approved",
    "declined": "declined",
    "start": "training",
    "upload": "sent its masked vector",
    "unmask": "answered for the survivors",
}


class DemoProgress:
    """A context manager; `phase` names what is going on, `event` takes one line of events.jsonl."""

    def __init__(self, console: Console, sites: Sequence[str]) -> None:
        self._console = console
        self._sites = {name: "" for name in sites}
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._bar.add_task("rounds", total=1)
        self._begun = time.monotonic()
        self._phase = ""
        self._live = Live(self._render(), console=console, refresh_per_second=4, transient=True)
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> DemoProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._live.stop()
        if error is None:
            self._end_phase()

    def phase(self, name: str) -> None:
        """A new phase begins; the one before is timed and printed."""
        self._end_phase()
        self._phase, self._begun = name, time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"... {name}", highlight=False)
        self._update()

    def phases(self) -> tuple[PhaseTime, ...]:
        """Names and seconds of the phases that ended."""
        return tuple(PhaseTime(name=name, seconds=round(seconds, 1)) for name, seconds in self._seconds.items())

    def event(self, event: dict[str, Any]) -> None:
        """Show one event of the round loop."""
        stage, site = event["stage"], event.get("site")
        if stage == "running":
            self._bar.update(self._task, total=event["rounds"])
        elif stage == "closed":
            self._bar.update(self._task, completed=event["done"])
            self._say(f"    round {event['round']}: {event['survivors']} sites summed in {event['seconds']:.1f} s")
        elif stage == "void":
            self._say(f"    round {event['round']}: void ({event['reason']})")
        elif stage == "started-again":
            self._say("    Flower ended the run; the study is launched again where it stood")
        elif stage == "start":
            self._sites = {name: f"round {event['round']}: training" for name in self._sites}
        if site is not None:
            number = f"round {event['round']}: " if "round" in event else ""
            self._sites[site] = number + _WORDS.get(stage, stage)
        self._update()

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)

    def _end_phase(self) -> None:
        if self._phase:
            seconds = time.monotonic() - self._begun
            self._seconds[self._phase] = seconds
            self._console.print(f"  [green]done[/green] {self._phase} [dim]({seconds:.1f} s)[/dim]", highlight=False)
            self._phase = ""

    def _update(self) -> None:
        self._live.update(self._render())

    def _render(self) -> Group:
        table = Table(show_header=False, box=None, padding=(0, 2))
        for name, state in self._sites.items():
            table.add_row(name, state)
        return Group(f"[bold]{self._phase}[/bold]", self._bar, table)
