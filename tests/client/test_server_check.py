from __future__ import annotations

import datetime
import socket
from pathlib import Path

import pytest
from tests_tls import tls_server

from client.server_check import check_server_certificate
from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.certificates import ServerCertificate, issue_server_certificate

NOW = datetime.datetime.now(datetime.UTC)


def test_a_certificate_of_the_pinned_ca_verifies(tmp_path: Path) -> None:
    issued = issue_server_certificate(["127.0.0.1"], now=NOW)
    (tmp_path / "ca.crt").write_bytes(issued.ca)
    with tls_server(tmp_path, issued) as port:
        assert check_server_certificate(f"127.0.0.1:{port}", tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("presented", "word"),
    [
        (issue_server_certificate(["127.0.0.1"], now=NOW), "certificate"),
        (issue_server_certificate(["elsewhere.example"], now=NOW), "certificate"),
    ],
)
def test_a_certificate_of_another_ca_is_refused_by_name(tmp_path: Path, presented: ServerCertificate, word: str) -> None:
    (tmp_path / "ca.crt").write_bytes(issue_server_certificate(["127.0.0.1"], now=NOW).ca)
    with tls_server(tmp_path, presented) as port, pytest.raises(TrustError, match=word):
        check_server_certificate(f"127.0.0.1:{port}", tmp_path / "ca.crt")


def test_the_right_ca_for_another_host_is_refused(tmp_path: Path) -> None:
    issued = issue_server_certificate(["elsewhere.example"], now=NOW)
    (tmp_path / "ca.crt").write_bytes(issued.ca)
    with tls_server(tmp_path, issued) as port, pytest.raises(TrustError, match="does not verify"):
        check_server_certificate(f"127.0.0.1:{port}", tmp_path / "ca.crt")


def test_a_server_that_does_not_answer_yet_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(issue_server_certificate(["127.0.0.1"], now=NOW).ca)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not check_server_certificate(f"127.0.0.1:{port}", tmp_path / "ca.crt")


@pytest.mark.parametrize(
    "address", ["nonsense", "server", ":443", "server:", "server:https", "server:0", "server:65536", "server:-1"]
)
def test_what_is_no_address_is_refused_by_name(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"not HOST:PORT.*superlink"):
        check_server_certificate(address, tmp_path / "ca.crt")
