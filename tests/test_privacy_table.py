"""Every test that docs/privacy.md names exists: a promise whose test is gone, or was renamed, fails here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "privacy.md"
ROW = re.compile(r"^\| (?P<condition>[^|]+) \| `(?P<path>[^`]+)::(?P<name>[^`]+)` \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    return [(row["condition"], row["path"], row["name"]) for row in ROW.finditer(PAGE.read_text())]


def collected(path: Path) -> set[str]:
    """Names of the test functions of a file that `make test` runs: none that waits for a nightly run."""
    found = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    later = {name for name, node in found.items() if any("nightly" in ast.unparse(mark) for mark in node.decorator_list)}
    return {name for name in found if name.startswith("test_")} - later


def test_each_condition_names_a_test_that_exists() -> None:
    missing = [f"{path}::{name}" for _, path, name in rows() if name not in collected(TESTS / path)]
    assert missing == []


def test_every_row_of_the_table_was_read_and_names_its_own_test() -> None:
    table = PAGE.read_text().split("| condition | test, under `tests/` |")[1].split("\n\n")[0].splitlines()
    written = [line for line in table if line.startswith("|") and not line.startswith(("|---", "| **")) and line.strip("| ")]
    assert len(rows()) == len(written) >= 40
    named = [(path, name) for _, path, name in rows()]
    assert len(set(named)) == len(named)


def test_every_file_and_command_that_the_page_names_exists() -> None:
    text = PAGE.read_text()
    for path in re.findall(r"`((?:ssl_core|docs|client|tests)/[\w/.]+\.(?:py|md))`", text):
        assert (TESTS.parent / path).is_file(), path
    assert len(text.splitlines()) <= 250
