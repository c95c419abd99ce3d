"""The hospital's daemon: one SuperNode and one pinned executor under a supervisor, and a control socket for its staff.

Comes in: a state folder with an accepted roster. Goes out: a running site until SIGTERM or Ctrl-C; gRPC health
(`grpc.health.v1`) and `choral.site.v1.Control/Status` on the unix socket `run/control.sock` (mode 0600), nowhere else.
A second daemon on the same folder is refused by the supervisor's lock.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from types import FrameType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client.home import SiteHome
from client.probe_labels import labels_line
from client.processes import EXECUTOR_RESTART, SUPERNODE_RESTART, executor_argv, supernode_argv
from client.server_check import check_server_certificate
from deploy.flower_env import flower_env, make_secret
from deploy.loopback_ports import answers, held_ports
from deploy.supervisor import ProcessSpec, Supervisor
from ssl_core.chain import write_durably
from ssl_core.trust.certificates import check_ca

_METHOD = "/choral.site.v1.Control/Status"
_POLL_S = 0.5
# Nothing of ours is lost by a kill (every promise is durable before it is sent), so ending need not wait long.
_GRACE_S = 2.0
_SOCKET = "control.sock"
# gRPC otherwise shares connections by address, and with them the pause after an earlier failure.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def run_site(home: SiteHome, *, superlink: str | None = None) -> None:
    """Serve until a signal; `superlink` HOST:PORT overrides the roster's address (a tunnel, a test)."""
    roster, _ = home.roster()
    address = superlink or roster.server.superlink
    check_ca(roster.server.server_ca.encode(), now=datetime.datetime.now(datetime.UTC))
    ca = home.root / "run" / "ca.crt"
    home.chain.verify()
    stopped = _stop_on_signals()
    with Supervisor(home.root / "run", grace_s=_GRACE_S) as supervisor, held_ports(1) as [port]:
        write_durably(ca, roster.server.server_ca.encode())
        check_server_certificate(address, ca)
        secret = make_secret(home.root / "run" / "superexec.secret")
        env = flower_env(home.root / "run" / "flwr") | {"OMP_NUM_THREADS": str(home.config.speed.threads)}
        supernode = supernode_argv(
            superlink=address,
            ca_certificate=ca,
            private_key=home.root / "supernode.key",
            runtime_port=port,
            secret_file=secret,
        )
        executor = executor_argv(site_home=home.root, runtime_port=port, secret_file=secret)
        with _control(home, supervisor, address) as healthy:
            supervisor.start(_spec(home, "supernode", supernode, env, port), _spec(home, "executor", executor, env, None))
            healthy(True)
            print(
                f"site {home.config.name} runs for the server {address}. Ctrl-C ends it; look with: choral site status",
                flush=True,
            )
            # Beside the rest: no file of labels, on whatever disk, may keep this site from its rounds.
            Thread(target=_say_labels, args=(home,), daemon=True).start()
            while not stopped():
                for death in supervisor.poll():
                    print(f"{death.name} ended with code {death.exit_code}; see {death.log_path}", flush=True)
                healthy(set(supervisor.names()) == {"supernode", "executor"})
                time.sleep(_POLL_S)


def site_status(home: SiteHome) -> dict[str, Any] | None:
    """What a running daemon says of itself, or None when none answers on the socket."""
    if not (home.root / "run" / _SOCKET).exists():
        return None
    with _short_path(home) as path, grpc.insecure_channel(f"unix:{path}", options=_OWN_CONNECTION) as channel:
        call = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
        try:
            answer: dict[str, Any] = json.loads(call(b"", timeout=3.0))
        except grpc.RpcError:
            return None
    return answer


@contextmanager
def _control(home: SiteHome, supervisor: Supervisor, superlink: str) -> Iterator[Any]:
    (home.root / "run" / _SOCKET).unlink(missing_ok=True)
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    begun = time.time()

    def status(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        facts = {"pid": os.getpid(), "site": home.config.name, "since": begun, "processes": supervisor.names()}
        return json.dumps(facts | {"superlink": superlink}).encode()

    handler = grpc.unary_unary_rpc_method_handler(status, request_deserializer=bytes, response_serializer=bytes)
    service = _METHOD.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Status": handler}),))
    with _short_path(home) as path:
        previous = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(previous)
        server.start()

    def healthy(well: bool) -> None:
        state = health_pb2.HealthCheckResponse
        servicer.set("", state.SERVING if well else state.NOT_SERVING)

    healthy(False)
    try:
        yield healthy
    finally:
        server.stop(grace=0.5).wait()
        (home.root / "run" / _SOCKET).unlink(missing_ok=True)


@contextmanager
def _short_path(home: SiteHome) -> Iterator[str]:
    """A name of the socket below the 107 bytes of unix(7), however deep the state folder lies."""
    folder = os.open(home.root / "run", os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{_SOCKET}"
    finally:
        os.close(folder)


def _say_labels(home: SiteHome) -> None:
    line = labels_line(home)
    if line is not None:
        print(f"watch: {line}", flush=True)


def _spec(home: SiteHome, name: str, argv: tuple[str, ...], env: dict[str, str], port: int | None) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        argv=argv,
        env=env,
        log_path=home.root / "logs" / f"{name}.log",
        ready=None if port is None else answers(port),
        restart=SUPERNODE_RESTART if name == "supernode" else EXECUTOR_RESTART,
    )


def _stop_on_signals() -> Any:
    stop = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return lambda: stop
