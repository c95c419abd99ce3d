"""The operator's daemon: SuperLink and SuperExec on loopback under a supervisor (rulings 31, 32).

Comes in: an operator folder with the authority's roster. Goes out: running servers until SIGTERM or Ctrl-C. Outside this
machine only `/v1/fleet/` may be reachable, through the proxy of deploy/nginx.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from deploy.flower_env import flower_env, make_secret
from deploy.loopback_ports import answers
from deploy.supervisor import ProcessSpec, RestartRule, Supervisor
from server.home import OperatorHome
from server.superlink import FlowerControl, superexec_argv, superlink_argv
from ssl_core.trust.roster import Roster

_POLL_S = 0.5
# Nothing of ours is lost by a kill (every promise is durable before it is sent), so ending need not wait long.
_GRACE_S = 2.0
_RESTART = RestartRule(quick_s=1.0, slow_s=2.0)


def run_operator(home: OperatorHome) -> None:
    """Serve until a signal; registers the roster's SuperNodes first."""
    roster, _ = home.roster()
    stop = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with Supervisor(home.root / "run", grace_s=_GRACE_S) as supervisor:
        secret = make_secret(home.root / "run" / "superexec.secret")
        env = flower_env(home.root / "run" / "flwr") | {"CHORAL_HOME": str(home.root.absolute())}
        port = home.config.port
        superlink = ProcessSpec(
            name="superlink",
            argv=superlink_argv(port=port, tls=home.tls, secret_file=secret, database=home.root / "run" / "superlink.db"),
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
        register_members(home, roster)
        supervisor.start(superexec)
        # A daemon that is killed leaves this file, so it says whose word it is.
        (home.root / "run" / "ready").write_text(f"{os.getpid()}\n")
        try:
            while not stop:
                for death in supervisor.poll():
                    print(f"{death.name} ended with code {death.exit_code}; see {death.log_path}", flush=True)
                time.sleep(_POLL_S)
        finally:
            (home.root / "run" / "ready").unlink(missing_ok=True)


def control(home: OperatorHome) -> FlowerControl:
    """The `flwr` command against this operator's SuperLink."""
    return FlowerControl(home.root / "run", port=home.config.port, ca_certificate=home.tls.ca_certificate)


def register_members(home: OperatorHome, roster: Roster) -> None:
    """Tell the SuperLink the SuperNode key of every member; keys that it knows are left as they are."""
    folder = home.root / "run" / "nodes"
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for member in roster.members:
        files[member.name] = folder / f"{member.name}.pub"
        files[member.name].write_text(member.supernode + "\n")
    control(home).register(files)
