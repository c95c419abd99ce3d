"""The command line in this process, as a person uses it: run a command, look at what it refused, edit a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from typer.testing import CliRunner, Result

import choral


def run(*words: object) -> Result:
    """`choral WORDS`; `output` is what a terminal shows, `stdout` what a script reads."""
    return CliRunner().invoke(choral.app, [str(word) for word in words])


def refused(result: Result, *words: str) -> None:
    """Exit code 2 and one message, in which all of `words` stand; no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.output, (word, result.output)


def edit(path: Path, **changes: Any) -> None:
    """Set some keys of a TOML file."""
    path.write_text(tomli_w.dumps(tomllib.loads(path.read_text()) | changes))


def write(path: Path, data: bytes) -> Path:
    """Put `data` at `path`; the path."""
    path.write_bytes(data)
    return path
