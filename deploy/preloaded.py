"""Commands without the seconds that their libraries take to load: one process loads them once and forks for each command.

Comes in, `Preloaded`: a supervisor, a folder, an environment; then, once it is `ready`, command lines. Goes out: of each
command what `Supervisor.run` gives: exit code, stdout, stderr. Every command is a process of its own that runs the installed
`choral`, or a module, from its arguments; what it has not loaded itself is the libraries (copy on write, fork(2)). For the
demo and its like, where one machine plays all hospitals; a hospital types its commands into a shell. Each fork is made while
the loading process has one thread, for a lock that another thread held would be held in the child for ever: `StateError` where
a library has started one.

A request is one line of JSON over a socket in `folder` (mode 0700); the answer is one more, then the connection ends. A
command that was killed answers nothing: `StateError`. Whatever becomes of the supervisor ends the loading process and its
commands.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from deploy.supervisor import Finished, ProcessSpec, Supervisor
from ssl_core.errors import StateError

NAME = "commands"
_SOCKET, _READY = "socket", "ready"
_BACKLOG = 64
# torch's optimizers load the compiler's front end when the first one is made, used or not.
_LIBRARIES = (
    "torch", "torch._dynamo", "torch.optim", "scipy.signal", "scipy.stats", "dp_accounting.pld", "dp_accounting.rdp",
    "opacus.accountants", "ssl_core.data.check", "ssl_core.data.source", "ssl_core.privacy.isolation",
    "ssl_core.privacy.training", "ssl_core.objectives.build", "ssl_core.evaluation.label_efficiency",
    "ssl_core.finetuning.run", "ssl_core.card",
)  # fmt: skip


class Preloaded:
    """The loading process, and a way to have it run commands; safe in threads."""

    def __init__(self, supervisor: Supervisor, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        argv = (sys.executable, "-P", "-m", "deploy.preloaded", str(folder))
        spec = ProcessSpec(name=NAME, argv=argv, env=env, log_path=folder / "log")
        supervisor.start(spec)

    @property
    def ready(self) -> bool:
        """Are the libraries loaded?"""
        return (self._folder / _READY).exists()

    def run(self, program: str, arguments: Sequence[str], *, timeout_s: float) -> Finished:
        """`choral ARGUMENTS`, or `python -m PROGRAM ARGUMENTS` for a module, to its end."""
        with _short_path(self._folder) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            try:
                connection.connect(path)
            except OSError as error:
                raise StateError("the process that runs commands has ended", field="program", value=program) from error
            try:
                with connection.makefile("rwb") as stream:
                    stream.write(json.dumps([program, *arguments]).encode() + b"\n")
                    stream.flush()
                    answer = stream.readline()
            except TimeoutError:
                raise StateError("a command did not end", field="program", value=program, limit=f"{timeout_s:g} s") from None
            except ConnectionError:
                # Killed before it read its request: unix(7) then gives no end of file but a reset.
                answer = b""
        if not answer:
            raise StateError("a command was killed", field="program", value=program)
        return Finished(**json.loads(answer))


def serve(folder: Path) -> int:
    """Load, listen, fork for each request; returns in the child, with the command's exit code."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    # Children are never waited for here; each resets this for its own children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        with _short_path(folder) as path:
            listener.bind(path)
        listener.listen(_BACKLOG)
        (folder / _READY).touch()
        while True:
            connection, _ = listener.accept()
            _check_one_thread()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> int:
    with connection, connection.makefile("rwb") as stream, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program, *arguments = json.loads(stream.readline())
        # The descriptors, so that what the command starts writes there too.
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = _run(program, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        answer = {"exit_code": code, "stdout": _text(out), "stderr": _text(err)}
        stream.write(json.dumps(answer).encode() + b"\n")
    return code


def _run(program: str, arguments: list[str]) -> int:
    """As the interpreter would end it: the code of `SystemExit`, or 1 and a traceback."""
    sys.argv = [program, *arguments]
    # A command must not take this module for its own: click names the program after it.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        if program == "choral":
            (command,) = entry_points(group="console_scripts", name="choral")
            command.load()()
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _check_one_thread() -> None:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Threads:"))
    count = int(line.split()[1])
    if count != 1:
        raise StateError("a library has started threads, so no command can be forked", field="threads", value=count, limit=1)


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """A name of the socket below the 107 bytes of unix(7), however deep the folder lies."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}"
    finally:
        os.close(descriptor)


def _text(stream: IO[Any]) -> str:
    stream.seek(0)
    return str(stream.read().decode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])))
