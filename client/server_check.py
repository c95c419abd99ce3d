"""Before the daemon starts: does whoever listens at the SuperLink's address hold the certificate that the roster pins?

Comes in: HOST:PORT and the roster's CA file. Goes out: nothing, or `TrustError` when the certificate does not verify. A
server that does not answer is no error here: the SuperNode goes on trying until it does.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from ssl_core.errors import ConfigError, TrustError

_PATIENCE_S = 5.0


def check_server_certificate(superlink: str, ca: Path) -> bool:
    """True when it verified, False when nobody answered; `ConfigError` where `superlink` is not HOST:PORT."""
    host, _, port = superlink.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ConfigError(
            "address of the server is not HOST:PORT",
            field="superlink",
            value=superlink,
            limit="a name or number, a colon, 1 to 65535",
            remedy="write --superlink HOST:PORT, or leave it out for the roster's",
        )
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return True
    except ssl.SSLCertVerificationError as error:
        raise TrustError(
            f"the server's certificate does not verify: {error.verify_message}",
            field="superlink",
            value=superlink,
            limit="the CA that the authority's roster pins",
            remedy="check the address, and whether a proxy opens TLS on the way; ask the authority before anything else",
        ) from error
    except OSError:
        return False
