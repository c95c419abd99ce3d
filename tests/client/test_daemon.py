from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.daemon import _OWN_CONNECTION, _control, _short_path, run_site, site_status
from client.home import SiteHome, create_site
from deploy.supervisor import Supervisor
from server.daemon import run_operator
from ssl_core.errors import StateError
from ssl_core.trust.identity import Identity

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ADDRESS = "127.0.0.1:9443"


class TwoProcesses:
    """What the control socket asks of a supervisor."""

    def names(self) -> list[str]:
        return ["supernode", "executor"]


@pytest.fixture(params=["short", "deeper than a socket's name may be"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteHome:
    monkeypatch.setenv("CHORAL_ANCHORS", str(tmp_path / "anchors"))
    root = tmp_path / "site" if request.param == "short" else tmp_path / "a" / ("b" * 120) / "site"
    made = create_site(root, "site-a", [Identity.generate().public], 1, None)
    assert request.param == "short" or len(str(root / "run" / "control.sock")) > 107
    return made


def health(home: SiteHome) -> int:
    with _short_path(home) as path, grpc.insecure_channel(f"unix:{path}", options=_OWN_CONNECTION) as channel:
        return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5.0).status)


def test_the_socket_tells_health_and_status_to_its_owner_alone(home: SiteHome) -> None:
    socket = home.root / "run" / "control.sock"
    assert site_status(home) is None
    with _control(home, TwoProcesses(), ADDRESS) as healthy:
        assert stat.S_ISSOCK(socket.stat().st_mode) and stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert health(home) == NOT_SERVING
        healthy(True)
        assert health(home) == SERVING
        healthy(False)
        assert health(home) == NOT_SERVING
        facts = site_status(home)
        assert facts is not None and sorted(facts) == ["pid", "processes", "since", "site", "superlink"]
        assert facts["superlink"] == ADDRESS
        assert (facts["pid"], facts["site"], facts["processes"]) == (os.getpid(), "site-a", ["supernode", "executor"])
    assert not socket.exists() and site_status(home) is None


def test_a_socket_that_a_killed_daemon_left_is_no_daemon_and_is_replaced(home: SiteHome) -> None:
    (home.root / "run" / "control.sock").write_text("")
    assert site_status(home) is None
    with _control(home, TwoProcesses(), ADDRESS):
        assert health(home) == NOT_SERVING


def test_one_folder_has_one_supervisor(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "run"):
        with pytest.raises(StateError, match="another daemon") as caught:
            Supervisor(tmp_path / "run")
        assert caught.value.value == str(os.getpid())
    with Supervisor(tmp_path / "run"):
        assert (tmp_path / "run" / "daemon.lock").read_text() == f"{os.getpid()}\n"


class Idle:
    """A supervisor whose processes run at once, without any."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, *_: object) -> None: ...

    def poll(self) -> list[object]:
        return []

    def names(self) -> list[str]:
        return ["supernode", "executor"]


def test_a_daemon_that_runs_says_so_at_once(
    federation: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays in the foreground: a terminal that stays empty would look the same as a daemon that hangs."""
    on_signal: list[Callable[[int, None], None]] = []
    monkeypatch.setattr("signal.signal", lambda _number, act: on_signal.append(act))
    monkeypatch.setattr("time.sleep", lambda _seconds: on_signal[-1](signal.SIGTERM, None))
    for name in ("client", "server"):
        monkeypatch.setattr(f"{name}.daemon.Supervisor", Idle)
    monkeypatch.setattr("client.daemon.check_server_certificate", lambda _address, _ca: False)
    monkeypatch.setattr("server.daemon._serve", lambda _home, _supervisor: None)
    site = SiteHome(federation.root / "site-a")
    run_site(site, superlink=ADDRESS)
    assert f"site site-a runs for the server {ADDRESS}. Ctrl-C ends it" in capsys.readouterr().out
    (federation.operator.root / "run").mkdir(exist_ok=True)
    run_operator(federation.operator)
    assert f"serving on port {federation.operator.config.port}. Ctrl-C ends it" in capsys.readouterr().out
