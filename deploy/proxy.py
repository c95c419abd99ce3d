"""Fills in the nginx configuration that exposes `/v1/fleet/` alone (deploy/nginx/README.md, ruling 31).

Comes in: addresses, ports and PEM files. Goes out: the text of an nginx.conf. A value that could break out of its
directive, or a relative path, is refused with ConfigError.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.resources import files
from pathlib import Path

from ssl_core.errors import ConfigError

_LISTEN = re.compile(r"(?:[0-9.]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_PATH = re.compile(r"/[A-Za-z0-9._/+-]+")
_PLACE = re.compile(r"@([A-Z_]+)@")


def nginx_conf(
    *,
    listen: str,
    certificate: Path,
    private_key: Path,
    superlink_port: int,
    superlink_ca: Path,
    run_folder: Path,
) -> str:
    """The configuration; `listen` is ADDRESS:PORT, paths are absolute."""
    if _LISTEN.fullmatch(listen) is None:
        raise ConfigError("not an address and port", field="listen", value=listen, limit="ADDRESS:PORT")
    if not 0 < superlink_port < 65536:
        raise ConfigError("not a port", field="superlink_port", value=superlink_port, limit="1 to 65535")
    values = {"LISTEN": listen, "SUPERLINK_PORT": str(superlink_port)}
    paths = {
        "CERTIFICATE": certificate,
        "PRIVATE_KEY": private_key,
        "SUPERLINK_CA": superlink_ca,
        "RUN_FOLDER": run_folder,
    }
    for name, path in paths.items():
        if _PATH.fullmatch(str(path)) is None:
            raise ConfigError("nginx needs an absolute path without spaces or quotes", field=name.lower(), value=path)
        values[name] = str(path)
    template = files("deploy").joinpath("nginx", "nginx.conf.template").read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: values[place.group(1)], template)


def main(arguments: list[str] | None = None) -> None:
    """`python -m deploy.proxy --listen 0.0.0.0:443 ...` prints the configuration."""
    parser = argparse.ArgumentParser(prog="deploy.proxy", description="Print the nginx configuration of an operator.")
    parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--superlink-port", required=True, type=int)
    for name in ("--certificate", "--private-key", "--superlink-ca", "--run-folder"):
        parser.add_argument(name, required=True, type=lambda text: Path(text).absolute())
    chosen = parser.parse_args(arguments)
    try:
        sys.stdout.write(nginx_conf(**vars(chosen)))
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
