"""The two processes of a site as command lines: Flower's SuperNode and the pinned executor. No flwr import.

Comes in: the SuperLink's address and CA, the site's SuperNode key, a loopback port, the secret file. Goes out: argument
lists for the supervisor. `-P` keeps the working folder off the import path. The SuperNode always runs with
`--isolation process` and the secret (ruling 30).
"""

from __future__ import annotations

import sys
from pathlib import Path

from client.supernode import LOOP_ENDED
from deploy.loopback_ports import LOOPBACK
from deploy.supervisor import RestartRule

# A killed SuperNode counts as online at the SuperLink for 60 s and would be refused until then.
SUPERNODE_RESTART = RestartRule(quick_s=1.0, slow_s=65.0, quick_codes=frozenset({0, LOOP_ENDED}))
EXECUTOR_RESTART = RestartRule(quick_s=1.0, slow_s=1.0)


def supernode_argv(
    *, superlink: str, ca_certificate: Path, private_key: Path, runtime_port: int, secret_file: Path
) -> tuple[str, ...]:
    """`superlink` is HOST:PORT of the operator's `/v1/fleet/` proxy, or of the SuperLink itself on loopback."""
    return (
        sys.executable, "-P", "-m", "client.supernode",
        "--superlink", superlink,
        "--root-certificates", str(ca_certificate),
        "--auth-supernode-private-key", str(private_key),
        "--host", LOOPBACK,
        "--port", str(runtime_port),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file),
    )  # fmt: skip


def executor_argv(*, site_home: Path, runtime_port: int, secret_file: Path) -> tuple[str, ...]:
    """The executor for the SuperNode whose Runtime API listens on `runtime_port`."""
    return (
        sys.executable, "-P", "-m", "client.executor",
        "--site-home", str(site_home),
        "--runtime-api", f"{LOOPBACK}:{runtime_port}",
        "--secret-file", str(secret_file),
    )  # fmt: skip
