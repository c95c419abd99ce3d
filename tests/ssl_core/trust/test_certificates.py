"""The one TLS server: a real handshake under the strict rules (RFC 5280) that Python 3.13 applies by default."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from ssl_core.errors import TrustError
from ssl_core.trust.certificates import ServerCertificate, check_ca, issue_server_certificate

NOW = datetime.datetime.now(datetime.UTC)


def handshake(made: ServerCertificate, folder: Path, *, ca: bytes, host: str) -> None:
    """Client and server talk through memory until both are done; raises what the client refuses."""
    (folder / "chain.pem").write_bytes(made.certificate)
    (folder / "key.pem").write_bytes(made.key.reveal())
    strict = ssl.create_default_context(cadata=ca.decode())
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        strict.wrap_bio(down, up, server_hostname=host),
        serving.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


@pytest.mark.parametrize("host", ["federation.example.org", "127.0.0.1"])
def test_a_site_trusts_exactly_the_hosts_of_the_certificate(tmp_path: Path, host: str) -> None:
    made = issue_server_certificate(["federation.example.org", "127.0.0.1"], now=NOW)
    handshake(made, tmp_path, ca=made.ca, host=host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, tmp_path, ca=made.ca, host="other.example.org")


def test_another_authoritys_server_is_refused(tmp_path: Path) -> None:
    made, other = (issue_server_certificate(["127.0.0.1"], now=NOW) for _ in range(2))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, tmp_path, ca=other.ca, host="127.0.0.1")


def test_only_a_valid_ca_may_stand_in_a_roster() -> None:
    made = issue_server_certificate(["127.0.0.1"], now=NOW, days=2)
    check_ca(made.ca, now=NOW)
    for pem, when in ((made.certificate, NOW), (b"no certificate", NOW), (made.ca, NOW + datetime.timedelta(days=3))):
        with pytest.raises(TrustError) as refused:
            check_ca(pem, now=when)
        assert refused.value.field == "server_ca"
