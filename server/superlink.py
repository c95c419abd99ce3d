"""The operator's Flower processes as command lines, and the `flwr` command for its control interface. No flwr import.

Comes in: certificate files, ports, the secret file, SuperNode public keys. Goes out: argument lists for the supervisor;
`FlowerControl` registers and unregisters SuperNode keys, starts, lists and stops runs through the ordinary `flwr` command
with its own FLWR_HOME. The SuperLink listens on loopback only, with TLS, node authentication, `--isolation process` and
the secret (ruling 31); sites reach `/v1/fleet/` through deploy/nginx. A command that fails raises TransportError.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from deploy.flower_env import flower_env, program
from deploy.loopback_ports import LOOPBACK
from ssl_core.chain import write_durably
from ssl_core.errors import ConfigError, TransportError

PLAN_KEY = "choral-plan"
"""The only run-config key: the hash of the study plan (ruling 4)."""

_CONNECTION = "choral"
_IN_MEMORY = ":flwr-in-memory:"
_COMMAND_PATIENCE_S = 60.0
# Flower's ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE, as its command prints it.
_ALREADY = "[code: 23]"
# What it prints when nobody listens at the SuperLink's address.
_AWAY = "Connection to the SuperLink is unavailable"
# Uncompressed points of the NIST curves that Flower accepts: one byte 0x04 and two coordinates.
_POINT_BYTES = (65, 97, 133)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTls:
    """PEM files of the SuperLink; the certificate names 127.0.0.1 and, behind a proxy, whatever the proxy calls."""

    ca_certificate: Path
    certificate: Path
    private_key: Path


def superlink_argv(*, port: int, tls: LinkTls, secret_file: Path, database: Path | None) -> tuple[str, ...]:
    """The SuperLink. `database` is an SQLite file, with which a run survives the SuperLink's restart; None keeps all in
    memory: an exchange takes less than half the time, node keys must be registered again after a restart, and a
    study is then launched again, which resumes it.
    """
    return (
        program("flower-superlink"),
        "--host", LOOPBACK,
        "--port", str(port),
        "--ssl-ca-certfile", str(tls.ca_certificate),
        "--ssl-certfile", str(tls.certificate),
        "--ssl-keyfile", str(tls.private_key),
        "--enable-supernode-auth",
        "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file),
        "--database", _IN_MEMORY if database is None else str(database),
        "--disable-runtime-dependency-installation",
    )  # fmt: skip


def superexec_argv(*, port: int, ca_certificate: Path, secret_file: Path) -> tuple[str, ...]:
    """What starts ServerApps; they inherit its environment, CHORAL_HOME included."""
    return (
        program("flower-superexec"),
        "--runtime-api-address", f"{LOOPBACK}:{port}",
        "--root-certificates", str(ca_certificate),
        "--superexec-auth-secret-file", str(secret_file),
    )  # fmt: skip


def supernode_point(public_key: str | bytes) -> bytes:
    """The curve point of an EC public key in PEM (SubjectPublicKeyInfo) or OpenSSH form; equal keys, equal points."""
    text = public_key.decode("ascii", "replace") if isinstance(public_key, bytes) else public_key
    lines = text.strip().splitlines()
    pem = bool(lines) and lines[0].startswith("-----BEGIN PUBLIC KEY")
    words = lines[0].split() if lines and not pem else []
    try:
        if pem:
            raw = base64.b64decode("".join(lines[1:-1]), validate=True)
        elif len(words) >= 2 and words[0].startswith("ecdsa-sha2-nistp"):
            raw = base64.b64decode(words[1], validate=True)
        else:
            raise ConfigError("not an EC public key in PEM or OpenSSH form", field="SuperNode public key")
    except binascii.Error:
        raise ConfigError("an EC public key has damaged base64", field="SuperNode public key") from None
    # In both encodings the point is the last field, so it is the whole tail of the bytes.
    for size in _POINT_BYTES:
        if len(raw) > size and raw[-size] == 4 and _length_fits(raw, size, pem):
            return raw[-size:]
    raise ConfigError("an EC public key must hold an uncompressed NIST point", field="SuperNode public key")


def _length_fits(raw: bytes, size: int, pem: bool) -> bool:
    """Does the length field before the point say `size`? A BIT STRING counts one more byte, its unused bits."""
    if pem:
        length = bytes([size + 1]) if size + 1 < 128 else bytes([0x81, size + 1])
        return raw[: -size - 1].endswith(b"\x03" + length) and raw[-size - 1] == 0
    return raw[:-size].endswith(size.to_bytes(4, "big"))


class FlowerControl:
    """The `flwr` command against one SuperLink, with `home`/flwr as FLWR_HOME."""

    def __init__(self, home: Path, *, port: int, ca_certificate: Path) -> None:
        flwr_home = home / "flwr"
        self._env = flower_env(flwr_home)
        connection = {"address": f"{LOOPBACK}:{port}", "root-certificates": str(ca_certificate)}
        config = {"superlink": {"default": _CONNECTION, _CONNECTION: connection}}
        # Replaced as a whole: another command of this operator may be reading it.
        write_durably(flwr_home / "config.toml", tomli_w.dumps(config).encode())

    def register(self, public_keys: Mapping[str, Path]) -> None:
        """Register SuperNode public key files by site name; a key that is registered already is left as it is."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            for done in [pool.submit(self._register, name, path) for name, path in public_keys.items()]:
                done.result()

    def unregister(self, node_id: int) -> None:
        """Take a SuperNode's registration away: its key is refused from now on, and Flower never takes that key again."""
        self.call("supernode", "unregister", str(node_id))

    def call(self, *arguments: str, options: Sequence[str] = ()) -> dict[str, object]:
        """`flwr ARGUMENTS choral --format json OPTIONS`: the parsed answer, or TransportError in Flower's words."""
        completed = self._run(arguments, options)
        answer = _last_json(completed.stdout)
        if completed.returncode != 0 or answer is None or answer.get("success") is not True:
            words = _words(completed, answer)
            away = "start the server, choral operator start, and run the command again" if _AWAY in words else None
            raise TransportError(f"flwr {arguments[0]} failed: {words}", remedy=away)
        return answer

    def _register(self, name: str, path: Path) -> None:
        completed = self._run(("supernode", "register", str(path)), ("--name", name))
        answer = _last_json(completed.stdout)
        if completed.returncode == 0 and answer is not None and answer.get("success") is True:
            return
        words = _words(completed, answer)
        if _ALREADY not in words:
            raise TransportError(f"flwr supernode register failed: {words}", field="site", value=name)

    def _run(self, arguments: Sequence[str], options: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = [program("flwr"), *arguments, _CONNECTION, "--format", "json", *options]
        try:
            return subprocess.run(
                command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TransportError(f"flwr {arguments[0]} did not end", limit=f"{_COMMAND_PATIENCE_S:g} s") from None


def _last_json(text: str) -> dict[str, object] | None:
    start = text.find("{")
    if start < 0:
        return None
    try:
        answer = json.loads(text[start:])
    except json.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _words(completed: subprocess.CompletedProcess[str], answer: dict[str, object] | None) -> str:
    told = answer.get("error-message") if answer else None
    text = str(told) if told else f"{completed.stderr} {completed.stdout}"
    return " ".join(text.split())[-400:] or f"exit code {completed.returncode}"
