"""A whole federation on this machine through the ordinary commands: for the demo, end-to-end tests and chaos.

Comes in: a folder, site names and their data sources. Goes out: an authority, an operator and N sites, each with its own
state folder, identity and processes, ended together. Every step is a `choral` command as an operator or a hospital would
type it; nothing is imported from client or server. The throw-away authority's key lies on this machine, so it protects
nobody from this machine.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from deploy.event_reader import EventReader
from deploy.flower_env import flower_env, program
from deploy.loopback_ports import held_ports, wait_for
from deploy.preloaded import NAME as COMMANDS
from deploy.preloaded import Preloaded
from deploy.supervisor import ProcessSpec, Supervisor
from ssl_core.errors import StateError

_COMMAND_S, _LAUNCH_S = 900.0, 90.0
_POLL_S = 0.1

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSetup:
    """One hospital: its name, the TOML of its data source, and changes to its default policy and speed."""

    name: str
    source: Path
    policy: Mapping[str, float] = field(default_factory=dict)
    speed: Mapping[str, int | str] = field(default_factory=dict)


class Loopback:
    """Folders under `root`: authority/, operator/, sites/NAME/, anchors/, logs/."""

    def __init__(self, root: Path, sites: Sequence[SiteSetup], supervisor: Supervisor) -> None:
        self.root = root.absolute()
        self.sites = tuple(sites)
        self.supervisor = supervisor
        self.operator_home = self.root / "operator"
        self.at_once = max(2, os.cpu_count() or 2)
        self._fingerprints: dict[str, str] = {}
        self._readers: dict[str, EventReader] = {}
        self._env = flower_env(self.root / "flwr") | {
            "CHORAL_ANCHORS": str(self.root / "anchors"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
        }
        self._commands: Preloaded | None = None

    def preload(self) -> None:
        """Load the commands' libraries once for all of them; until that is done, each command still loads its own."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._commands = Preloaded(self.supervisor, self.root / "commands", self._env)

    def site_home(self, name: str) -> Path:
        """State folder of one site."""
        return self.root / "sites" / name

    def command(self, *arguments: str) -> str:
        """Run `choral ARGUMENTS` to its end; its output, or `StateError` with what it said on stderr."""
        return self._run("choral", (program("choral"),), arguments)

    def module(self, name: str, *arguments: str) -> str:
        """The same for `python -m NAME ARGUMENTS`."""
        return self._run(name, (sys.executable, "-m", name), arguments)

    def _run(self, name: str, begin: tuple[str, ...], arguments: tuple[str, ...]) -> str:
        """A process to its end in the federation's environment, ended with the supervisor."""
        if self._commands is not None and self._commands.ready:
            done = self._commands.run(name, arguments, timeout_s=_COMMAND_S)
        else:
            done = self.supervisor.run((*begin, *arguments), self._env, timeout_s=_COMMAND_S)
        if done.exit_code != 0:
            raise StateError(
                f"{name} {' '.join(arguments[:2])} failed: {' '.join(done.stderr.split())[-600:]}",
                field="exit code",
                value=done.exit_code,
            )
        return done.stdout

    def each_site(self, *arguments: str) -> dict[str, str]:
        """Run one `choral` command at every site, as many at once as there are cores."""

        def run(name: str) -> str:
            return self.command(*arguments, "--home", str(self.site_home(name)))

        names = [site.name for site in self.sites]
        return dict(zip(names, self.together(run, names), strict=True))

    def together(self, run: Callable[[Given], Found], each: Sequence[Given]) -> list[Found]:
        """`run` of each, as many at once as there are cores; Ctrl-C ends every process here, and does not wait for them."""
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                return list(pool.map(run, each))
            except KeyboardInterrupt:
                # Else leaving the pool would wait until what runs has ended by itself.
                self.supervisor.close()
                raise

    def set_up(self) -> None:
        """Authority, operator, sites, signed roster, acceptance of every member by every site."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = self.root / "authority"
        with held_ports(1) as [port]:
            address = f"127.0.0.1:{port}"
        operator = ("operator", "init", "--home", str(self.operator_home), "--address", address, "--port", str(port))
        self.together(lambda words: self.command(*words), [("authority", "init", "--home", str(authority)), operator])
        self.together(lambda site: self._init_site(site, authority / "authority.pub"), self.sites)
        roster = self.operator_home / "roster.json"
        requests = [str(self.site_home(site.name) / "join-request.json") for site in self.sites]
        self.command(
            "authority", "sign", *requests, "--server", str(self.operator_home / "server-card.json"),
            "--out", str(roster), "--home", str(authority), "--yes",
        )  # fmt: skip
        # In a hospital a person compares each fingerprint by telephone; here they are read from the sites' own folders.
        pairs = [word for site in self.sites for word in (site.name, self._fingerprints[site.name])]
        self.each_site("site", "accept", *pairs, "--roster", str(roster))

    def start(self) -> None:
        """Start the operator's and all sites' daemons."""
        self._start("operator", "operator", "start", "--home", str(self.operator_home))
        ready = self.operator_home / "run" / "ready"
        wait_for(ready.exists, timeout_s=90.0, what="the operator's daemon")
        for site in self.sites:
            self._start(site.name, "site", "start", "--home", str(self.site_home(site.name)))

    def prepare(self, plan: Path, out: Path, *options: str) -> str:
        """`choral operator prepare`: start weights in the folder `out`; their SHA-256."""
        said = self.command("operator", "prepare", str(plan), "--out", str(out), *options, "--json")
        return str(json.loads(said)["weights"])

    def launch(self, plan: Path, start: Path | None = None) -> str:
        """`choral operator launch` in the background, which starts a failed run again; returns the plan hash."""
        studies = self.operator_home / "studies"
        known = set(studies.iterdir())
        words = ("operator", "launch", str(plan), *_start_options(start), "--yes", "--home", str(self.operator_home))
        self._start("launch", *words)

        def stored() -> bool:
            self._check_alive()
            return any((folder / "run").is_file() for folder in set(studies.iterdir()) - known)

        wait_for(stored, timeout_s=_LAUNCH_S, what="the launch")
        (folder,) = set(studies.iterdir()) - known
        return folder.name

    def status(self, plan_hash: str) -> dict[str, Any]:
        """`choral operator status` of one study."""
        out = self.command("operator", "status", plan_hash, "--json", "--home", str(self.operator_home))
        facts: list[dict[str, Any]] = json.loads(out)
        return facts[0]

    def follow(
        self,
        plan_hash: str,
        on_event: Callable[[dict[str, Any]], None],
        *,
        until: Callable[[dict[str, Any]], bool],
        timeout_s: float,
    ) -> None:
        """Hand on the study's events as they come until one satisfies `until`; `StateError` when time is up."""
        reader = self._readers.setdefault(plan_hash, EventReader(self.operator_home / "studies" / plan_hash))
        deadline = time.monotonic() + timeout_s
        while True:
            for event in reader.new():
                on_event(event)
                if until(event):
                    return
            self._check_alive()
            if time.monotonic() > deadline:
                raise StateError("the study did not get on in time", field=plan_hash[:12], limit=f"{timeout_s:g} s")
            time.sleep(_POLL_S)

    def publish(self, plan_hash: str) -> Path:
        """`choral operator publish`; the release's folder."""
        out = self.command("operator", "publish", plan_hash, "--json", "--home", str(self.operator_home))
        return Path(json.loads(out)["release"])

    def pretrain_alone(self, plans: Mapping[str, Path], start: Path | None = None) -> dict[str, Path]:
        """`choral site pretrain` at every site, as many at once as there are cores; the encoders' folders."""

        def run(name: str) -> Path:
            home = str(self.site_home(name))
            said = self.command("site", "pretrain", str(plans[name]), *_start_options(start), "--yes", "--json", "--home", home)
            return Path(json.loads(said)["encoder"])

        return dict(zip(plans, self.together(run, list(plans)), strict=True))

    def stop_daemons(self) -> None:
        """End the operator's and the sites' daemons."""
        daemons = [name for name in self.supervisor.names() if name != COMMANDS]
        if daemons:
            self.supervisor.stop(*daemons)

    def log_folders(self) -> list[Path]:
        """Where to look when something failed."""
        return [self.root / "logs", self.operator_home / "logs", *(self.site_home(s.name) / "logs" for s in self.sites)]

    def _check_alive(self) -> None:
        for death in self.supervisor.poll():
            if (death.name, death.exit_code) != ("launch", 0):
                raise StateError(
                    f"{death.name} ended", field="exit code", value=death.exit_code, remedy=f"read {death.log_path}"
                )

    def _init_site(self, site: SiteSetup, authority: Path) -> None:
        home = self.site_home(site.name)
        out = self.command(
            "site", "init", site.name, "--authority", str(authority), "--source", str(site.source),
            "--home", str(home), "--json",
        )  # fmt: skip
        self._fingerprints[site.name] = json.loads(out)["fingerprint"]
        _edit(home / "policy.toml", dict(site.policy))
        if site.speed:
            _edit(home / "site.toml", {"speed": dict(site.speed)})

    def _start(self, name: str, *arguments: str) -> None:
        self.supervisor.start(
            ProcessSpec(
                name=name,
                argv=(program("choral"), *arguments),
                env=self._env,
                log_path=self.root / "logs" / f"{name}.log",
            )
        )


def _start_options(weights: Path | None) -> list[str]:
    return [] if weights is None else ["--start", str(weights)]


def _edit(path: Path, changes: dict[str, Any]) -> None:
    """What a person does in an editor: set some keys of a TOML file."""
    if changes:
        path.write_text(tomli_w.dumps(tomllib.loads(path.read_text()) | changes))
