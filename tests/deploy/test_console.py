"""What a person reads when the system refuses a file, or a message holds what a terminal would obey."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.console import fail_on_error, rows_to_text
from ssl_core.errors import ConfigError


def shown(act: Callable[[], None]) -> Result:
    app = typer.Typer()
    app.command()(fail_on_error(act))
    return CliRunner().invoke(app, [])


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "check the path"), (errno.EACCES, "as the user who owns it"), (errno.EISDIR, "name a file"),
        (errno.ENOTDIR, "name a folder"), (errno.ENOSPC, "make room"), (errno.EROFS, "for reading alone"),
    ],
)  # fmt: skip
def test_a_file_that_the_system_refuses_is_named_with_a_remedy(number: int, remedy: str) -> None:
    def act() -> None:
        raise OSError(number, os.strerror(number), "a/b.toml")

    result = shown(act)
    assert result.exit_code == 2 and os.strerror(number) in result.stderr
    assert "  field: path\n  value: a/b.toml\n  remedy: " in result.stderr and remedy in result.stderr


def test_one_that_is_not_known_has_none_and_one_without_a_file_is_a_fault_of_ours() -> None:
    def act() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a/b.toml")

    result = shown(act)
    assert result.exit_code == 2 and "a/b.toml" in result.stderr and "remedy" not in result.stderr

    def without() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert isinstance(shown(without).exception, OSError)


def test_nothing_that_a_file_wrote_reaches_the_terminal_as_a_command() -> None:
    def act() -> None:
        raise ConfigError("bad\x1b[2J", field="name", value="a\x07b\nc", remedy="mend it")

    result = shown(act)
    assert result.exit_code == 2 and "\x1b" not in result.stderr and "\x07" not in result.stderr
    assert result.stderr == "ConfigError: bad?[2J\n  field: name\n  value: a?b\nc\n  remedy: mend it\n"
    assert rows_to_text([("a", "x\x1b"), ("long", 1)]) == "  a     x?\n  long  1"
