"""The operator's daemon: SuperLink and SuperExec on loopback under a supervisor (rulings 31, 32).

Comes in: an operator folder with the authority's roster. Goes out: running servers until SIGTERM or Ctrl-C. A newer roster
that is put into the folder is followed within a second: new members' SuperNodes are let in, those of hospitals that left
are not any more. One that does not verify changes nothing and is named once. Outside this machine only `/v1/fleet/` may
be reachable, through the proxy of deploy/nginx.
"""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from types import FrameType

from deploy.flower_env import flower_env, make_secret
from deploy.loopback_ports import answers
from deploy.supervisor import ProcessSpec, RestartRule, Supervisor
from server import members
from server.home import OperatorHome
from server.superlink import FlowerControl, superexec_argv, superlink_argv
from ssl_core.errors import ChoralError, TransportError

_POLL_S, _RETRY_S = 0.5, 5.0
# Nothing of ours is lost by a kill (every promise is durable before it is sent), so ending need not wait long.
_GRACE_S = 2.0
_RESTART = RestartRule(quick_s=1.0, slow_s=2.0)


def run_operator(home: OperatorHome) -> None:
    """Serve until a signal; registers the roster's SuperNodes first and follows the roster from then on."""
    home.roster()
    follower = _Follower(home)
    stop = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with Supervisor(home.root / "run", grace_s=_GRACE_S) as supervisor:
        _serve(home, supervisor)
        print(f"serving on port {home.config.port}. Ctrl-C ends it; look with: choral operator status", flush=True)
        # A daemon that is killed leaves this file, so it says whose word it is.
        (home.root / "run" / "ready").write_text(f"{os.getpid()}\n")
        try:
            while not stop:
                for death in supervisor.poll():
                    print(f"{death.name} ended with code {death.exit_code}; see {death.log_path}", flush=True)
                if back := follower.look():
                    print(f"back on the roster: {', '.join(back)}; the SuperLink starts with a new database", flush=True)
                    supervisor.stop("superexec", "superlink")
                    _serve(home, supervisor)
                time.sleep(_POLL_S)
        finally:
            (home.root / "run" / "ready").unlink(missing_ok=True)


def _serve(home: OperatorHome, supervisor: Supervisor) -> None:
    """Start both servers, neither of which may run, and let the roster's SuperNodes in."""
    roster, _ = home.adopt_roster()
    secret = make_secret(home.root / "run" / "superexec.secret")
    env = flower_env(home.root / "run" / "flwr") | {"CHORAL_HOME": str(home.root.absolute())}
    port, database = home.config.port, _database(home)
    if members.returned(roster, members.nodes(database)):
        members.forget(database)
    superlink = ProcessSpec(
        name="superlink",
        argv=superlink_argv(port=port, tls=home.tls, secret_file=secret, database=database),
        env=env,
        log_path=home.root / "logs" / "superlink.log",
        ready=answers(port),
        restart=_RESTART,
    )
    superexec = ProcessSpec(
        name="superexec",
        argv=superexec_argv(port=port, ca_certificate=home.tls.ca_certificate, secret_file=secret),
        env=env,
        log_path=home.root / "logs" / "superexec.log",
        restart=_RESTART,
    )
    supervisor.start(superlink)
    members.follow(roster, control(home), database, home.root / "run" / "nodes")
    supervisor.start(superexec)


class _Follower:
    """Lets the running SuperLink follow the roster.json of `home`."""

    def __init__(self, home: OperatorHome) -> None:
        self._home = home
        self._seen = _stamp(home.root / "roster.json")
        self._again_at = math.inf

    def look(self) -> list[str]:
        """Follow the file if it was replaced; hospitals that left and came back, which this SuperLink cannot take."""
        found = _stamp(self._home.root / "roster.json")
        if found == self._seen and time.monotonic() < self._again_at:
            return []
        self._seen, self._again_at = found, math.inf
        try:
            return self._follow()
        except (ChoralError, OSError) as error:
            # The list stays as it was. A file that was half copied is looked at again when it changes.
            print(f"roster not followed: {error}", flush=True)
            if isinstance(error, TransportError):
                self._again_at = time.monotonic() + _RETRY_S
            return []

    def _follow(self) -> list[str]:
        roster, _ = self._home.adopt_roster()
        database = _database(self._home)
        back = members.returned(roster, members.nodes(database))
        if not back:
            members.follow(roster, control(self._home), database, self._home.root / "run" / "nodes")
            print(f"following roster version {roster.version}: {len(roster.members)} sites", flush=True)
        return back


def _database(home: OperatorHome) -> Path:
    return home.root / "run" / "superlink.db"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Another value whenever the file was replaced or written to."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def control(home: OperatorHome) -> FlowerControl:
    """The `flwr` command against this operator's SuperLink."""
    return FlowerControl(home.root / "run", port=home.config.port, ca_certificate=home.tls.ca_certificate)
