"""X.509 for the one TLS server: a private CA, its server certificate, and the P-384 key of a SuperNode.

The roster carries the CA certificate, so a site trusts exactly the server that its authority signed (RFC 5280).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ssl_core.errors import TrustError
from ssl_core.trust.identity import Secret


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """PEM bytes of one TLS server: `ca` goes to the sites, `certificate` and `key` stay at the server."""

    ca: bytes
    certificate: bytes
    key: Secret


def issue_server_certificate(hosts: list[str], *, now: datetime.datetime, days: int = 825) -> ServerCertificate:
    """A new CA (P-256) whose key is dropped after it signed one certificate for `hosts` (names or IP addresses)."""
    if not hosts:
        raise TrustError("a server certificate needs a host", field="hosts", remedy="give --host")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "choral federation CA")])
    end = now + datetime.timedelta(days=days)
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    certificate = (
        _builder(name, ca_name, key.public_key(), now, end)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return ServerCertificate(
        ca.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.PEM),
        Secret(_private_pem(key)),
    )


def generate_node_key() -> tuple[Secret, str]:
    """A SuperNode's P-384 key: (private key PEM in OpenSSH format, public key as one `ecdsa-sha2-nistp384` line)."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Secret(private), public.decode()


def check_ca(pem: bytes, *, now: datetime.datetime) -> None:
    """Raise `TrustError` unless `pem` is one CA certificate that is valid at `now`."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound) as error:
        raise TrustError("server CA in the roster is not a CA certificate", field="server_ca") from error
    if not authority:
        raise TrustError("server CA in the roster is not a CA certificate", field="server_ca")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise TrustError(
            "server CA is outside its validity",
            field="server_ca",
            value=now.isoformat(timespec="seconds"),
            limit=f"{certificate.not_valid_before_utc.isoformat()} to {certificate.not_valid_after_utc.isoformat()}",
            remedy="check this machine's clock, or ask the authority for a new roster",
        )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - datetime.timedelta(minutes=5))
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
