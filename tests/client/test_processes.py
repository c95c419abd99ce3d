"""A site's command lines always carry process isolation and the secret; the executor talks to loopback alone."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from client import executor, flower_app, processes
from client.processes import EXECUTOR_RESTART, SUPERNODE_RESTART, executor_argv, supernode_argv
from client.supernode import LOOP_ENDED
from ssl_core.errors import ConfigError, StateError


def test_supernode_is_isolated_and_guarded() -> None:
    argv = supernode_argv(
        superlink="operator.example:443",
        ca_certificate=Path("/ca"),
        private_key=Path("/key"),
        runtime_port=4000,
        secret_file=Path("/secret"),
    )
    pairs = dict(pairwise(argv))
    assert pairs["--isolation"] == "process"
    assert pairs["--superexec-auth-secret-file"] == "/secret"
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--port"] == "4000"
    assert "--insecure" not in argv
    assert "-P" in argv


def test_executor_arguments() -> None:
    argv = executor_argv(site_home=Path("/home"), runtime_port=4000, secret_file=Path("/secret"))
    assert argv[1:4] == ("-P", "-m", "client.executor")
    assert dict(pairwise(argv))["--runtime-api"] == "127.0.0.1:4000"


def test_a_killed_supernode_waits_longer_than_flower_keeps_it_online() -> None:
    assert SUPERNODE_RESTART.slow_s > 60
    assert SUPERNODE_RESTART.quick_codes == {0, LOOP_ENDED}
    assert EXECUTOR_RESTART.slow_s == EXECUTOR_RESTART.quick_s == 1.0


def test_executor_refuses_a_runtime_api_elsewhere(tmp_path: Path) -> None:
    arguments = ["--site-home", str(tmp_path), "--secret-file", str(tmp_path / "none")]
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1:80"):
        executor.main([*arguments, "--runtime-api", "10.0.0.1:80"])
    with pytest.raises(StateError, match="secret"):
        executor.main([*arguments, "--runtime-api", "127.0.0.1:80"])


@pytest.mark.parametrize("module", [executor, flower_app, processes])
def test_no_door_for_foreign_code(module: object) -> None:
    """Neither environment variables nor dynamic imports choose what a site runs."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"exec", "eval", "__import__", "compile", "importlib"}
    assert not imports & {"os", "importlib", "runpy", "pickle", "subprocess"}
