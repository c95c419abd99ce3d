"""How the commands speak: one error form, exit code 1 or 2, `--json` or words; no traceback for a person's mistake."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import typer

from ssl_core.errors import ChoralError

P = ParamSpec("P")
R = TypeVar("R")

_REMEDIES = {
    errno.ENOENT: "check the path; one that does not begin with / is taken from the folder in which the command runs",
    errno.EACCES: "run the command as the user who owns it, or give this one the right",
    errno.EPERM: "run the command as the user who owns it, or give this one the right",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOSPC: "make room on that disk, and run the command again",
    errno.EROFS: "this disk is mounted for reading alone: name a path on another",
}


def fail_on_error(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a `ChoralError`, or a file that the system refuses, into one message on stderr and exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ChoralError as error:
            typer.secho(f"{type(error).__name__}: {_lines(error.problem)}", fg="red", err=True)
            for name in ("field", "value", "limit", "remedy"):
                value = getattr(error, name)
                if value is not None:
                    typer.echo(f"  {name}: {_lines(value)}", err=True)
            raise typer.Exit(2) from error
        except OSError as error:
            if error.filename is None:
                raise
            typer.secho(f"{type(error).__name__}: {error.strerror}", fg="red", err=True)
            typer.echo(f"  field: path\n  value: {_lines(error.filename)}", err=True)
            if error.errno in _REMEDIES:
                typer.echo(f"  remedy: {_REMEDIES[error.errno]}", err=True)
            raise typer.Exit(2) from error

    return wrapped


def say(as_json: bool, facts: object, words: str) -> None:
    """Print `facts` as JSON, or `words`."""
    typer.echo(json.dumps(facts, indent=2, default=str) if as_json else words)


def confirm(yes: bool, question: str) -> None:
    """Ask a person unless `--yes`; without a terminal and without `--yes` the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"{question} No: there is no terminal at which a person could say yes.", err=True)
    if not sys.stdin.isatty() or not typer.confirm(question):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


def rows_to_text(rows: list[tuple[str, Any]]) -> str:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(width)}  {_printable(str(value))}" for name, value in rows)


def _lines(value: object) -> str:
    """What a file or a peer wrote may hold a terminal's commands; only the ends of lines are kept."""
    return "\n".join(map(_printable, str(value).split("\n")))


def _printable(text: str) -> str:
    return "".join(ch if ch.isprintable() else "?" for ch in text)
