"""The table of docs/mutants.md, written and read; and the checks that are declared redundant."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

Name = tuple[str, str, str, str, int]

HEAD = """# Every check of the secure sum, left out one at a time

`make mutants` writes this file. A mutant is the code without one check, one durable write or one condition of several
(`tests/mutants/mutation.py` says which kinds there are); it is killed when a test fails. The tests of a mutant are those
that run its function, first those in which that very line refused a message. Source files are not changed for it.

mutmut 3 and cosmic-ray 8 were looked at first. mutmut swaps operators, names and literals from a fixed list, which has no
"statement left out" and cannot be added to from outside. cosmic-ray takes operators as plugins and keeps a session that can
be stopped, but runs one fixed test command for every mutant and knows no two mutants that must be killed together.
"""
_ROW = re.compile(r"^\| `(?P<function>.*?)` \| (?P<kind>\w+) \| `(?P<check>.*)`(?: \((?P<count>\d+)\))? \| (?P<rest>.*) \|$")


@dataclass
class Line:
    """One mutant of the table."""

    file: str
    function: str
    kind: str
    check: str
    count: int
    verdict: str
    test: str = ""
    because: str = ""
    other: str = ""

    @property
    def name(self) -> Name:
        """As `Mutant.name`."""
        return self.file, self.function, self.kind, self.check, self.count

    @property
    def killed(self) -> bool:
        """Whether a test failed, or never ended."""
        return self.verdict in ("killed", "timeout")

    @property
    def wrong(self) -> bool:
        """Whether the check is neither tested nor known to be redundant."""
        return not self.killed and not self.because


def read_declared() -> dict[Name, dict]:
    """{name: {because, other}} of redundant.toml."""
    data = tomllib.loads(Path(__file__).with_name("redundant.toml").read_text())
    found = {}
    for entry in data.get("redundant", []):
        name = _name(entry)
        found[name] = {"because": entry["because"]} | ({"other": _name(entry["other"])} if "other" in entry else {})
    return found


def _name(entry: dict) -> Name:
    return entry["file"], entry["function"], entry["kind"], entry["check"], entry.get("count", 1)


def write_table(path: Path, lines: list[Line]) -> None:
    """Summary, what is wrong, then every mutant, file by file."""
    lines = sorted(lines, key=lambda line: line.file)
    counted = Counter("killed" if line.killed else "redundant" if line.because else "survived" for line in lines)
    text = [HEAD, f"**{len(lines)} mutants: {counted['killed']} killed, {counted['redundant']} redundant, "
            f"{counted['survived']} survived.**", ""]  # fmt: skip
    text += ["| file | mutants | killed | redundant | survived |", "|---|---|---|---|---|"]
    for file, group in groupby(lines, key=lambda line: line.file):
        rows = list(group)
        killed, redundant = sum(row.killed for row in rows), sum(bool(row.because) for row in rows)
        text.append(f"| {file}.py | {len(rows)} | {killed} | {redundant} | {len(rows) - killed - redundant} |")
    for file, group in groupby(lines, key=lambda line: line.file):
        text += ["", f"## {file}.py", "", "| function | kind | left out | found by |", "|---|---|---|---|"]
        text += [_row(line) for line in group]
    path.write_text("\n".join(text) + "\n")


def _row(line: Line) -> str:
    test = line.test.rpartition("/")[2].replace("|", "\\|")
    if line.because:
        both = f" Without `{line.other.replace('|', '¦')}` as well: `{test}`." if line.other else ""
        found = f"redundant: {line.because}{both}"
    else:
        found = f"`{test}`" if line.verdict == "killed" else f"**{line.verdict}**" + (f" `{test}`" if test else "")
    count = f" ({line.count})" if line.count > 1 else ""
    return f"| `{line.function}` | {line.kind} | `{line.check.replace('|', '¦')}`{count} | {found} |"


def read_table(path: Path) -> list[Line]:
    """What `write_table` wrote, as far as names and verdicts go."""
    lines, file = [], ""
    for row in path.read_text().splitlines() if path.exists() else []:
        if row.startswith("## "):
            file = row.removeprefix("## ").removesuffix(".py")
        found = _ROW.match(row)
        if found is None:
            continue
        because = found["rest"].removeprefix("redundant: ") if found["rest"].startswith("redundant: ") else ""
        verdict = "survived" if because else "killed" if found["rest"].startswith("`") else found["rest"].strip("*")
        check, count = found["check"].replace("¦", "|"), int(found["count"] or 1)
        line = Line(file, found["function"], found["kind"], check, count, verdict, found["rest"].strip("`"), because)
        lines.append(line)
    return lines
