"""The list of attacks has 36 rows; each has its test here, named by its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROWS = 36


def names():
    """Of every test of this folder."""
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_row_"):
                yield node.name


def test_every_row_has_a_test_of_its_number():
    found = [re.fullmatch(r"test_row_(\d\d)_(?:([a-z])_)?[a-z0-9_]{5,}", name) for name in names()]
    assert all(found), "a test's name has another form"
    assert {int(match[1]) for match in found} == set(range(1, ROWS + 1))
    marked = [(match[1], match[2]) for match in found if match[2]]
    assert len(set(marked)) == len(marked), "two tests of one row have one letter"
