"""The nginx configuration is filled in completely and takes no value that could break out of its directive."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.proxy import main, nginx_conf
from ssl_core.errors import ConfigError

GOOD: dict[str, object] = {
    "listen": "127.0.0.1:8443",
    "certificate": Path("/etc/choral/site.crt"),
    "private_key": Path("/etc/choral/site.key"),
    "superlink_port": 18000,
    "superlink_ca": Path("/etc/choral/ca.crt"),
    "run_folder": Path("/run/choral"),
}


def test_every_place_is_filled() -> None:
    text = nginx_conf(**GOOD)
    code = "\n".join(line.split("#")[0] for line in text.splitlines())
    assert "@" not in code
    assert code.count("proxy_pass") == 1
    assert "server 127.0.0.1:18000;" in code


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen", "127.0.0.1:8443; root /"),
        ("listen", "8443"),
        ("superlink_port", 0),
        ("superlink_port", 70000),
        ("certificate", Path("relative.crt")),
        ("private_key", Path("/a b")),
        ("superlink_ca", Path("/a;b")),
        ("run_folder", Path('/a"b')),
    ],
)
def test_bad_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        nginx_conf(**(GOOD | {field: value}))


def test_command_prints_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [part for name, value in GOOD.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    main(arguments)
    assert capsys.readouterr().out == nginx_conf(**GOOD)
