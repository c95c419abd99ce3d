"""The line of a fault in a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_core.data.source import read_source
from ssl_core.errors import ConfigError
from ssl_core.toml_lines import line_of

TEXT = '''# a comment
kind = "columns"
note = """
kind = "not a key"
[units]
"""
a.b = 1

[columns]
"AGE years" = "x"
list = [
  1,
  2,
]

[[many]]
x = 1
[[many]]
x = 2
[many.deep]
y = 3
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("kind",), 2),
        (("note",), 3),
        (("a", "b"), 7),
        (("columns",), 9),
        (("columns", "AGE years"), 10),
        (("columns", "list", 1), 11),
        (("columns", "absent"), 9),
        (("many", 0, "x"), 17),
        (("many", 1, "x"), 19),
        (("columns", "image", "list"), 11),
        (("units",), None),
        ((), None),
    ],
)
def test_the_deepest_key_that_is_written(where: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, where) == line


def test_an_error_of_a_source_names_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('kind = "signals"\npath = "a.npz"\n\nrate_hz = -1\nunits = ["mV"]\n')
    with pytest.raises(ConfigError, match=r"source s\.toml is not valid in line 4: ") as raised:
        read_source(path)
    assert raised.value.field == "rate_hz"
    path.write_text('kind = "signals"\npath = "a.npz"\nrate_hz = 1\nunits = ["mV"]\nscales = 2\n')
    with pytest.raises(ConfigError, match=r"line 5") as raised:
        read_source(path)
    assert raised.value.field == "scales" and "known keys" in str(raised.value)
    path.write_text('kind = "signals"\n')
    with pytest.raises(ConfigError, match=r"s\.toml is not valid \(and 2 more\): Field required"):
        read_source(path)
