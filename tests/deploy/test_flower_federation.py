"""One real federation on loopback: SuperLink, superexec, two SuperNodes, two executors, over TLS with node keys; then
the same SuperLink behind nginx.

The sites' service is injected by a runner script; the server's end is a test ServerApp in a hostile bundle whose client
module writes a marker file wherever it is imported.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType

from client.processes import EXECUTOR_RESTART, SUPERNODE_RESTART, supernode_argv
from deploy.flower_env import flower_env, make_secret
from deploy.loopback_ports import answers, held_ports, wait_for
from deploy.proxy import nginx_conf
from deploy.supervisor import ProcessSpec, Supervisor
from server.bundle import RunStatus, run_bundle, run_status, start_run, stop_run
from server.superlink import FlowerControl, LinkTls, superexec_argv, superlink_argv
from ssl_core.trust.certificates import generate_node_key, issue_server_certificate

ROOT = Path(__file__).resolve().parents[2]
SITES = ("alpha", "beta")
WIDTH = 130_000

RUNNER = """
import sys
from pathlib import Path
import numpy as np
from client.executor import run
from ssl_core.parcel import OutgoingKind, Parcel

class Echo:
    def handle(self, parcel):
        if parcel.body == b"fail":
            raise RuntimeError("name of a patient")
        if parcel.kind == "START":
            return Parcel(OutgoingKind.UPLOAD, parcel.body, parcel.vector)
        return Parcel(OutgoingKind.CLOSE_ACK, parcel.body)

run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes(), service=Echo())
"""

SERVER_APP = """
import json, os, time
import numpy as np
from flwr.serverapp import ServerApp
from server.flower_app import GridExchange
from ssl_core.parcel import IncomingKind, Parcel

app = ServerApp()

@app.main()
def main(grid, context):
    keys = json.loads(os.environ["CHORAL_TEST_KEYS"])
    out = os.environ["CHORAL_TEST_OUT"]
    exchange = GridExchange(grid, keys)
    end = time.monotonic() + 60
    while exchange.reachable() != set(keys) and time.monotonic() < end:
        time.sleep(0.1)
    report = {"plan": context.run_config["choral-plan"], "reachable": sorted(exchange.reachable()),
              "exact": [], "seconds": [], "kinds": []}
    rng = np.random.default_rng(7)
    def ask(parcels):
        answers = {}
        start = time.monotonic()
        exchange.ask(parcels, patience_s=60, on_reply=answers.__setitem__, done=lambda: False)
        report["seconds"].append(round(time.monotonic() - start, 3))
        return answers
    for turn in range(8):
        vectors = {site: rng.integers(0, 2**32, size=WIDTH, dtype=np.uint32) for site in keys}
        answers = ask({site: Parcel(IncomingKind.START, f"{turn}{site}".encode(), vectors[site]) for site in keys})
        report["exact"].append(all(answers[site] == Parcel("UPLOAD", f"{turn}{site}".encode(), vectors[site])
                                   and answers[site].vector.dtype == np.uint32 for site in keys))
    answers = ask({"alpha": Parcel(IncomingKind.CLOSE, b"fail"), "beta": Parcel(IncomingKind.CLOSE, b"ok")})
    report["kinds"] = {site: [answer.kind, answer.body.decode()] for site, answer in answers.items()}
    with open(out + ".tmp", "w") as file:
        json.dump(report, file)
    os.replace(out + ".tmp", out)
""".replace("WIDTH", str(WIDTH))

HOSTILE_CLIENT = """
import os
with open(MARKER, "a") as file:
    file.write(f"{os.getpid()}")
from flwr.clientapp import ClientApp
app = ClientApp()
"""


def make_tls(folder: Path) -> LinkTls:
    """A CA and a loopback server certificate, as an operator makes them."""
    made = issue_server_certificate(["localhost", "127.0.0.1"], now=datetime.datetime.now(datetime.UTC), days=1)
    files = {name: folder / name for name in ("ca.crt", "server.crt", "server.key")}
    files["ca.crt"].write_bytes(made.ca)
    files["server.crt"].write_bytes(made.certificate)
    files["server.key"].write_bytes(made.key.reveal())
    return LinkTls(ca_certificate=files["ca.crt"], certificate=files["server.crt"], private_key=files["server.key"])


def runner_argv(home: Path, port: int, secret: Path) -> tuple[str, ...]:
    return (sys.executable, str(home / "runner.py"), str(home), f"127.0.0.1:{port}", str(secret))


@dataclass(frozen=True)
class Federation:
    home: Path
    tls: LinkTls
    link_port: int
    node_ports: dict[str, int]
    control: FlowerControl
    out: Path
    supervisor: Supervisor
    started_s: float


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    home = tmp_path_factory.mktemp("federation")
    tls = make_tls(home)
    secret = make_secret(home / "server.secret")
    (home / "runner.py").write_text(RUNNER, encoding="utf-8")
    keys: dict[str, str] = {}
    public_files: dict[str, Path] = {}
    for site in SITES:
        private, keys[site] = generate_node_key()
        (home / f"{site}.key").write_bytes(private.reveal())
        public_files[site] = home / f"{site}.pub"
        public_files[site].write_text(keys[site])
        make_secret(home / f"{site}.secret")
    out = home / "report.json"
    started = time.monotonic()
    with held_ports(1 + len(SITES)) as ports, Supervisor(home / "state") as supervisor:
        link_port, node_ports = ports[0], dict(zip(SITES, ports[1:], strict=True))

        def env(name: str) -> dict[str, str]:
            values = flower_env(home / f"flwr-{name}")
            return values | {
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "CHORAL_TEST_KEYS": json.dumps(keys),
                "CHORAL_TEST_OUT": str(out),
            }

        link = ProcessSpec(
            name="superlink",
            argv=superlink_argv(port=link_port, tls=tls, secret_file=secret, database=None),
            env=env("link"),
            log_path=home / "superlink.log",
            ready=answers(link_port),
        )
        supervisor.start(link)
        control = FlowerControl(home / "operator", port=link_port, ca_certificate=tls.ca_certificate)
        control.register(public_files)
        rest = [
            ProcessSpec(
                name="superexec",
                argv=superexec_argv(port=link_port, ca_certificate=tls.ca_certificate, secret_file=secret),
                env=env("exec"),
                log_path=home / "superexec.log",
            )
        ]
        for site in SITES:
            port = node_ports[site]
            rest.append(
                ProcessSpec(
                    name=f"supernode-{site}",
                    argv=supernode_argv(
                        superlink=f"127.0.0.1:{link_port}",
                        ca_certificate=tls.ca_certificate,
                        private_key=home / f"{site}.key",
                        runtime_port=port,
                        secret_file=home / f"{site}.secret",
                    ),
                    env=env(site),
                    log_path=home / f"supernode-{site}.log",
                    ready=answers(port),
                    restart=SUPERNODE_RESTART,
                )
            )
            rest.append(
                ProcessSpec(
                    name=f"executor-{site}",
                    argv=runner_argv(home, port, home / f"{site}.secret"),
                    env=env(site),
                    log_path=home / f"executor-{site}.log",
                    restart=EXECUTOR_RESTART,
                )
            )
        supervisor.start(*rest)
        yield Federation(home, tls, link_port, node_ports, control, out, supervisor, time.monotonic() - started)


def hostile_bundle(folder: Path, marker: Path) -> Path:
    """A bundle of an ill-meaning server: ordinary but for its client module."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "hostile"\nversion = "1.0.0"\ndescription = ""\nlicense = "Apache-2.0"\ndependencies = []\n'
        '[tool.flwr.app]\npublisher = "mallory"\n'
        '[tool.flwr.app.components]\nserverapp = "server_app:app"\nclientapp = "client_app:app"\n'
        '[tool.flwr.app.config]\nchoral-plan = ""\n',
        encoding="utf-8",
    )
    (folder / "server_app.py").write_text(SERVER_APP, encoding="utf-8")
    (folder / "client_app.py").write_text(HOSTILE_CLIENT.replace("MARKER", repr(str(marker))), encoding="utf-8")
    return folder


def trusting(tls: LinkTls) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.ca_certificate))


def wait_ended(federation: Federation, run_id: int, timeout_s: float) -> RunStatus:
    """Wait for the report first: each `flwr ls` is a program that would compete with what is being timed."""
    deadline = time.monotonic() + timeout_s
    while not federation.out.exists() and time.monotonic() < deadline:
        assert federation.supervisor.poll() == []
        time.sleep(0.2)
    while True:
        status = run_status(federation.control, run_id)
        if status.ended or time.monotonic() > deadline:
            return status
        time.sleep(0.3)


def test_vectors_travel_exactly_and_shipped_code_runs_nowhere(federation: Federation, tmp_path: Path) -> None:
    marker = federation.home / "marker"
    user_home = Path.home() / ".flwr"
    before = user_home.exists()
    run_id = run_bundle(federation.control, hostile_bundle(tmp_path / "hostile", marker), "ab" * 32)
    status = wait_ended(federation, run_id, 120)
    log = (federation.home / "superexec.log").read_text()
    assert status.completed, f"{status} {log[-2000:]}"
    report = json.loads(federation.out.read_text())
    print("start", round(federation.started_s, 2), "s; seconds per exchange:", report["seconds"])
    assert report["plan"] == "ab" * 32
    assert report["reachable"] == sorted(SITES)
    assert report["exact"] == [True] * 8
    assert report["kinds"] == {"alpha": ["DECLINED", ""], "beta": ["CLOSE_ACK", "ok"]}
    assert not marker.exists()
    assert user_home.exists() == before
    for site in SITES:
        assert "name of a patient" not in (federation.home / f"executor-{site}.log").read_text()
        assert not (federation.home / f"flwr-{site}" / "apps").exists()


def test_no_task_without_the_secret(federation: Federation) -> None:
    body = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP, TaskType.SERVER_APP]).SerializeToString()
    bases = [f"https://127.0.0.1:{federation.link_port}"]
    bases += [f"http://127.0.0.1:{port}" for port in federation.node_ports.values()]
    headers = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    with httpx.Client(verify=trusting(federation.tls)) as client:
        for base in bases:
            answer = client.post(f"{base}/v1/runtime/acquire-task", content=body, headers=headers)
            assert answer.status_code == 401, base


def test_an_executor_with_a_wrong_secret_waits_and_lives(federation: Federation, tmp_path: Path) -> None:
    wrong = make_secret(tmp_path / "wrong.secret")
    port = federation.node_ports["alpha"]
    log = tmp_path / "wrong.log"
    with Supervisor() as supervisor:
        supervisor.start(
            ProcessSpec(
                name="wrong",
                argv=runner_argv(federation.home, port, wrong),
                env=flower_env(tmp_path / "flwr") | {"PYTHONPATH": str(ROOT)},
                log_path=log,
            )
        )
        refused = "refuses this executor with HTTP status 401"
        wait_for(lambda: log.exists() and refused in log.read_text(), timeout_s=30, what="the refusal")
        time.sleep(0.5)
        assert supervisor.poll() == []


def test_the_products_own_bundle_runs_and_can_be_stopped(federation: Federation) -> None:
    """Only as far as this file's floor goes: the bundle is built, shipped, accepted and listed."""
    run_id = start_run(federation.control, "cd" * 32)
    status = run_status(federation.control, run_id)
    assert status.run_id == run_id
    if not status.ended:
        stop_run(federation.control, run_id)
    wait_for(lambda: run_status(federation.control, run_id).ended, timeout_s=30, what="the end of the run")
    assert not run_status(federation.control, run_id).completed
    federation.control.register({"alpha": federation.home / "alpha.pub"})


def test_nginx_exposes_the_fleet_path_alone(federation: Federation, tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    private, public = generate_node_key()
    key_file, public_file = tmp_path / "gamma.key", tmp_path / "gamma.pub"
    key_file.write_bytes(private.reveal())
    public_file.write_text(public)
    federation.control.register({"gamma": public_file})
    with held_ports(2) as (port, node_port), Supervisor() as supervisor:
        conf = tmp_path / "nginx.conf"
        conf.write_text(
            nginx_conf(
                listen=f"127.0.0.1:{port}",
                certificate=federation.tls.certificate,
                private_key=federation.tls.private_key,
                superlink_port=federation.link_port,
                superlink_ca=federation.tls.ca_certificate,
                run_folder=tmp_path,
            )
        )
        # In a container the tests run as root, whose nginx workers would not be let into the temporary folder.
        directives = "daemon off; user root;" if os.geteuid() == 0 else "daemon off;"
        argv = (nginx, "-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log"), "-g", directives)
        subprocess.run([*argv, "-t"], check=True, capture_output=True)
        supervisor.start(ProcessSpec(name="nginx", argv=argv, env={}, log_path=tmp_path / "nginx.log", ready=answers(port)))
        direct, proxied = f"https://localhost:{federation.link_port}", f"https://localhost:{port}"
        with httpx.Client(verify=trusting(federation.tls), headers={"content-type": "application/protobuf"}) as client:
            # Each path exists on the SuperLink itself, so that a 404 below is the proxy's.
            for method, path in (
                ("POST", "/v1/control/list-runs"),
                ("POST", "/v1/runtime/acquire-task"),
                ("GET", "/docs"),
                ("GET", "/openapi.json"),
            ):
                assert client.request(method, direct + path).status_code != 404, path
                assert client.request(method, proxied + path).status_code == 404, path
            detours = ("/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet", "/health")
            for path in detours:
                raw = httpx.URL(proxied).copy_with(raw_path=path.encode())
                assert client.post(raw).status_code == 404, path
            assert client.get(f"{proxied}/v1/fleet/pull-messages").status_code == 403
            assert client.post(f"{proxied}/v1/fleet/pull-messages").status_code == 401
        log = tmp_path / "gamma.log"
        node = ProcessSpec(
            name="gamma",
            argv=supernode_argv(
                superlink=f"localhost:{port}",
                ca_certificate=federation.tls.ca_certificate,
                private_key=key_file,
                runtime_port=node_port,
                secret_file=make_secret(tmp_path / "gamma.secret"),
            ),
            env=flower_env(tmp_path / "flwr") | {"PYTHONPATH": str(ROOT)},
            log_path=log,
        )
        supervisor.start(node)
        wait_for(lambda: "SuperNode ID" in log.read_text(), timeout_s=30, what="a SuperNode behind nginx")
