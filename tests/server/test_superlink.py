"""Command lines of the operator's Flower processes, SuperNode keys in both spellings, and the bundle."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate
from tests_commands import run

from deploy.flower_env import check_secret, flower_env, make_secret
from server.bundle import RunStatus, start_run, write_bundle
from server.home import OperatorHome
from server.superlink import FlowerControl, LinkTls, superexec_argv, superlink_argv, supernode_point
from ssl_core.errors import ConfigError, StateError, TransportError

CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_both_spellings_of_a_key_are_one_point(curve: ec.EllipticCurve) -> None:
    for _ in range(20):
        key = ec.generate_private_key(curve).public_key()
        point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        ssh = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        assert supernode_point(pem) == supernode_point(ssh.decode()) == supernode_point(ssh + b" comment\n") == point


def test_other_keys_are_refused() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    ssh = edwards.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    pem = edwards.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for text in (ssh, pem, b"", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp384 @@@@", b"\xff\xfe"):
        with pytest.raises(ConfigError, match="SuperNode public key"):
            supernode_point(text)


def test_superlink_is_on_loopback_with_tls_auth_isolation_and_secret() -> None:
    tls = LinkTls(ca_certificate=Path("/ca"), certificate=Path("/crt"), private_key=Path("/key"))
    argv = superlink_argv(port=4000, tls=tls, secret_file=Path("/secret"), database=Path("/link.db"))
    pairs = dict(pairwise(argv))
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--isolation"] == "process"
    assert pairs["--superexec-auth-secret-file"] == "/secret"
    assert pairs["--database"] == "/link.db"
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= set(argv)
    assert "--insecure" not in argv
    executor = superexec_argv(port=4000, ca_certificate=Path("/ca"), secret_file=Path("/secret"))
    assert dict(pairwise(executor))["--superexec-auth-secret-file"] == "/secret"
    assert "--allow-runtime-dependency-installation" not in executor


def test_flower_environment_is_silent_and_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    env = flower_env(tmp_path / "flwr")
    assert env["FLWR_TELEMETRY_ENABLED"] == "0"
    assert env["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert env["FLWR_HOME"] == str(tmp_path / "flwr")
    assert Path(env["PATH"].split(os.pathsep)[0], "flwr-serverapp").is_file()
    assert env["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"


def test_secret_is_made_once_and_must_stay_private(tmp_path: Path) -> None:
    path = make_secret(tmp_path / "a" / "secret")
    content = path.read_bytes()
    assert len(content) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_secret(path).read_bytes() == content
    path.chmod(0o640)
    with pytest.raises(StateError, match="read by others"):
        make_secret(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(StateError, match="damaged"):
        check_secret(path)
    with pytest.raises(StateError, match="missing"):
        check_secret(tmp_path / "none")


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_flower_itself_accepts_the_bundle_and_its_client_raises(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    assert "_" not in folder.name
    config, warnings = load_and_validate(folder / "pyproject.toml")
    assert warnings == []
    assert config["tool"]["flwr"]["app"]["config"] == {"choral-plan": ""}
    assert build_fab_from_disk(folder)
    with pytest.raises(RuntimeError, match="never runs code"):
        exec((folder / "client_app.py").read_text(), {})  # noqa: S102 - our own text


def test_bad_plan_hashes_never_reach_the_command_line(tmp_path: Path) -> None:
    control = FlowerControl(tmp_path, port=1, ca_certificate=tmp_path / "ca")
    for text in ("", "abc", "AB" * 16, 'ab" other="1', "../" * 10):
        with pytest.raises(ConfigError, match="plan hash"):
            start_run(control, text)


def test_another_command_never_reads_half_a_configuration(tmp_path: Path) -> None:
    FlowerControl(tmp_path, port=1, ca_certificate=tmp_path / "ca")
    path = tmp_path / "flwr" / "config.toml"
    seen: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: seen.extend(path.read_text() for _ in range(20_000)))
        while not reading.done():
            FlowerControl(tmp_path, port=1, ca_certificate=tmp_path / "ca")
        reading.result()
    assert len(set(seen)) == 1 and "127.0.0.1:1" in seen[0]


def test_a_superlink_that_is_not_there_is_a_transport_error(tmp_path: Path) -> None:
    control = FlowerControl(tmp_path, port=1, ca_certificate=tmp_path / "missing-ca")
    with pytest.raises(TransportError, match="flwr ls failed"):
        control.call("ls")


def test_a_server_that_nobody_started_is_told_with_the_command_that_starts_it(tmp_path: Path) -> None:
    """In Flower's own words, whatever they are in the version that is installed."""
    assert run("operator", "init", "--home", tmp_path / "operator").exit_code == 0
    tls = OperatorHome(tmp_path / "operator").tls
    with pytest.raises(TransportError, match="unavailable") as caught:
        FlowerControl(tmp_path, port=1, ca_certificate=tls.ca_certificate).call("ls")
    assert caught.value.remedy is not None and "choral operator start" in caught.value.remedy


def test_run_status_words() -> None:
    assert RunStatus(1, "finished:completed", "").completed
    assert RunStatus(1, "finished:failed", "").ended
    assert not RunStatus(1, "finished:failed", "").completed
    assert not RunStatus(1, "running", "").ended
