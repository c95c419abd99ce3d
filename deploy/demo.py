"""`choral demo`: a whole federation on this machine, walked end to end once, on real or on generated data.

Comes in: which data, an output folder. Goes out: a table, `report.html` and the federation's state in that folder, exit
code 0; on a failure or Ctrl-C every process that it started is ended and the log folders are named (ruling 32).
It uses the ordinary commands over the production path: TLS, node authentication, signed plans, approvals, ledgers on disk,
DP-SGD, masked sums. Commands share the loading of their libraries (preloaded.py). It runs on loopback, without the proxy of
deploy/nginx.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import tomli_w
from rich.console import Console

from deploy.demo_choice import DemoChoice
from deploy.demo_data.sites import DemoSites
from deploy.demo_outcome import collect, evaluate, finetune_everywhere, show
from deploy.demo_progress import DemoProgress
from deploy.demo_result import DemoResult
from deploy.loopback import Loopback, SiteSetup
from deploy.supervisor import Supervisor
from ssl_core.errors import ChoralError, ConfigError, StateError

_PIPE_WIDTH = 110
_STUDY_S = 1200.0
# Five sites' watches would never come to an end on cores that are busy all the time.
_POLICY = {"max_epsilon": 20.0, "max_sampling_rate": 0.3, "watch": False}
# Of `choral operator prepare`: under a minute on one core.
_WARM = ("--units", "4096", "--steps", "200", "--batch", "128")
_WARNING = (
    "This federation runs on one machine with a throw-away authority: its keys protect nobody from this machine. "
    "It runs on loopback without the proxy of deploy/nginx."
)


def run_demo(choice: DemoChoice, out: Path, *, console: Console | None = None) -> int:
    """Run the demo; returns the exit code. `out` must be absent, empty or an earlier demo's folder."""
    # A pipe has no width of its own, and 80 columns would cut the table.
    console = console or (Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH))
    choice.check()
    folder = _fresh(out.absolute())
    console.print(_WARNING, style="yellow")
    loopback: Loopback | None = None
    try:
        with _signals(), Supervisor(folder / "run") as supervisor:
            data = choice.write_sites(folder / "data")
            console.print(data.notice, style="cyan", highlight=False)
            setups = [SiteSetup(name=s.name, source=s.source, policy=_POLICY, speed=choice.speed) for s in data.sites]
            loopback = Loopback(folder / "federation", setups, supervisor)
            result = _walk(choice, data, loopback, folder, console)
            supervisor.stop()
        show(result, console, folder)
    except KeyboardInterrupt:
        console.print("\nInterrupted; every process of the demo was ended.", style="red")
        _tell_logs(console, loopback)
        return 130
    except ChoralError as error:
        console.print(f"\n{type(error).__name__}: {error}", style="red", highlight=False, soft_wrap=True)
        _tell_logs(console, loopback)
        return 1
    return 0


def _walk(choice: DemoChoice, data: DemoSites, loopback: Loopback, folder: Path, console: Console) -> DemoResult:
    with DemoProgress(console, [site.name for site in data.sites]) as progress:
        progress.phase("set-up: authority, operator, five sites, one signed roster")
        loopback.preload()
        loopback.set_up()
        progress.phase("start: one SuperLink, five daemons")
        loopback.start()
        plan, start, weights = _plan(choice, data, folder), None, None
        if choice.warm:
            progress.phase("warm start: generated data, no patient")
            start = folder / "start"
            weights = loopback.prepare(plan, start, *_WARM)
        progress.phase("launch: signed plan, invitations")
        plan_hash = loopback.launch(plan, start)
        loopback.follow(plan_hash, progress.event, until=_all_invited(len(data.sites)), timeout_s=120.0)
        progress.phase("approval: each hospital checks plan, policy, data and budget")
        loopback.each_site("site", "approve", plan_hash, "--yes")
        progress.phase("private pretraining together")
        loopback.follow(plan_hash, progress.event, until=_finished, timeout_s=_STUDY_S)
        progress.phase("publish: encoder and signed card")
        release = loopback.publish(plan_hash)
        loopback.stop_daemons()
        progress.phase("private pretraining alone: each site's second, charged study")
        alone = {site.name: _plan_alone(choice, data, folder, site.name, weights) for site in data.sites}
        own = loopback.pretrain_alone(alone, start)
        progress.phase("fine-tuning: each site on its few labels")
        finetune_everywhere(data, loopback)
        progress.phase(f"scoring: every arm, three label budgets, {choice.draws} draws")
        scores = evaluate(data, loopback, folder, release, own, draws=choice.draws, seed=choice.seed)
        progress.phase("ledgers and receipts")
        result = collect(data, loopback, release, scores, machine=machine_line(), seed=choice.seed, warm=choice.warm)
    return replace(result, phases=progress.phases())


def _plan(choice: DemoChoice, data: DemoSites, folder: Path) -> Path:
    sites = [{"name": site.name, "nominal_size": site.nominal_size} for site in data.sites]
    return _write_plan(choice, folder / "study.toml", {"sites": sites})


def _plan_alone(choice: DemoChoice, data: DemoSites, folder: Path, name: str, weights: str | None) -> Path:
    """The same start, privacy, training and number of steps, at one site, with no round that could be void."""
    sites = [{"name": s.name, "nominal_size": s.nominal_size} for s in data.sites if s.name == name]
    start = {} if weights is None else {"start": weights}
    return _write_plan(choice, folder / f"study-{name}.toml", {"sites": sites, "alone": True} | start)


def _write_plan(choice: DemoChoice, path: Path, changes: dict[str, Any]) -> Path:
    plan = choice.plan()
    plan |= changes | {"seed": choice.seed}
    if plan.get("alone"):
        plan["rounds"]["max_void"] = 0
        plan["rounds"]["min_sites"] = 3
        plan["name"] += "-alone"
    path.write_text(tomli_w.dumps(plan))
    return path


def _all_invited(count: int) -> Any:
    waiting: set[str] = set()

    def done(event: dict[str, Any]) -> bool:
        if event["stage"] in {"waiting", "approved"}:
            waiting.add(event["site"])
        return len(waiting) == count

    return done


def _finished(event: dict[str, Any]) -> bool:
    if event["stage"] == "stopped" or (event["stage"] == "failed" and event["final"]):
        raise StateError(f"the study {event['stage']}: {event.get('reason', '')}")
    return bool(event["stage"] == "finished")


def _fresh(out: Path) -> Path:
    """A new run folder below `out`, named by the time; earlier runs stay where they are."""
    if out.exists() and not out.is_dir():
        raise ConfigError("output is not a folder", field="--out", value=str(out))
    folder = out / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _tell_logs(console: Console, loopback: Loopback | None) -> None:
    if loopback is not None:
        console.print("Logs:", highlight=False)
        for path in loopback.log_folders():
            console.print(f"  {path}", highlight=False, soft_wrap=True)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def machine_line() -> str:
    """Cores and processor, for whoever reads the seconds."""
    name = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores, {name}, no GPU used"
