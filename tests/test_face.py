from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import click
import pytest
import typer
from tests_commands import run

import choral

PUBLIC = ["Encoder", "FineTuner", "SiteModel", "StudyPlan", "load_encoder", "load_site_model", "load_start"]
SCRIPT = """
import sys
import choral
from typer.testing import CliRunner
for words in sys.argv[1:]:
    result = CliRunner().invoke(choral.app, [*words.split()[1:], "--help"], prog_name="choral")
    assert result.exit_code == 0 and "Usage: " + words in result.output, result.output
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "flwr", "opacus"}))
"""


def commands() -> list[tuple[str, click.Command]]:
    """(words, command) of every command and sub-command."""
    found: list[tuple[str, click.Command]] = []

    def walk(words: str, command: click.Command) -> None:
        found.append((words, command))
        for name, child in getattr(command, "commands", {}).items():
            walk(f"{words} {name}", child)

    walk("choral", typer.main.get_command(choral.app))
    return found


def test_the_public_names_are_pinned_and_each_is_there() -> None:
    assert sorted(choral.__all__) == PUBLIC
    for name in PUBLIC:
        assert callable(getattr(choral, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = choral.nothing


def test_help_imports_neither_torch_nor_flwr() -> None:
    every = [words for words, _ in commands()]
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT, *every], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_packages_come_from_this_distribution_alone() -> None:
    owners = packages_distributions()
    for package in ("ssl_core", "client", "server", "deploy", "choral"):
        assert set(owners[package]) == {"choral"}, package


def test_at_most_thirty_commands_each_with_help() -> None:
    listed = commands()
    assert 15 <= len(listed) <= 30
    for words, command in listed:
        assert (command.help or "").strip(), words
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{words} {parameter.name}"


@pytest.mark.skipif(
    tuple(map(int, version("click").split(".")[:2])) >= (8, 5),
    reason="click 8.5 drops the help of typer's arguments; pin click below it",
)
def test_every_argument_has_help() -> None:
    for words, command in commands():
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{words} {parameter.name}"


def test_no_word_of_a_help_text_is_lost_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes words in brackets for markup and drops them."""
    monkeypatch.setenv("COLUMNS", "400")
    for words, command in commands():
        shown = " ".join(run(*words.split()[1:], "--help").output.split())
        for text in (command.help, *(getattr(parameter, "help", None) for parameter in command.params)):
            assert " ".join((text or "").split()) in shown, words


@pytest.mark.parametrize(
    "words",
    [
        "authority init", "authority sign", "operator init", "operator start", "operator launch", "operator status",
        "operator stop", "operator publish", "site init", "site accept", "site start", "site approve", "site status",
        "site ledger", "site data split", "finetune", "embed", "audit", "demo",
    ],
)  # fmt: skip
def test_the_roles_have_the_commands_that_the_readme_names(words: str) -> None:
    assert f"choral {words}" in {name for name, _ in commands()}


def test_no_process_of_ours_leaves_a_core_file(tmp_path: Path) -> None:
    """Neither a command nor what it starts: a daemon's executor holds records, keys and the site's own update."""
    crash = (sys.executable, "-c", "import os; os.abort()")
    script = f"""
import os, resource, subprocess
import choral
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
choral.app = lambda: print(resource.getrlimit(resource.RLIMIT_CORE), subprocess.run({crash!r}).returncode, flush=True)
choral.main()
"""
    # Found by path: the folder in which a core file would lie is not the one to import from.
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    # One byte, and not none: of a limit of 0 the whole memory goes to the program that core_pattern names.
    assert ended.stdout.split() == ["(1,", "1)", str(-signal.SIGABRT)], ended.stdout
    assert list(tmp_path.iterdir()) == []
