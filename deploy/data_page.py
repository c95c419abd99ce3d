"""`choral site data check --html`: one file, no script, nothing loaded from elsewhere; it holds a patient's record.

Comes in: a `Look` and the plan's data. Goes out: a file of mode 0600 that is there whole or not. Values are escaped by jinja2;
pictures are PNG in data URIs; the content security policy of the page allows those and its own style, nothing else.
"""

from __future__ import annotations

from pathlib import Path

import jinja2

from deploy.data_plots import pictures
from deploy.data_screen import facts, printable, share, verdict
from ssl_core.chain import write_durably
from ssl_core.data.words import split
from ssl_core.datacheck.findings import Weight
from ssl_core.datacheck.look import Look
from ssl_core.datacheck.shown import Shown
from ssl_core.spec.data import Data, TableData, TextData


def write_page(look: Look, data: Data, path: Path) -> None:
    """Render and write `path`, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, render_page(look, data).encode())


def render_page(look: Look, data: Data) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    most = max((count for _, count in look.histogram), default=1) or 1
    shown = look.shown
    return environment.get_template("data.html.j2").render(
        look=look,
        verdict=verdict(look),
        tone=("good", "warn", "bad")[look.exit_code],
        facts=facts(look),
        bars=[(name, count, 100 * count / most) for name, count in look.histogram],
        groups=[(str(weight), look.weigh(weight)) for weight in reversed(Weight) if look.weigh(weight)],
        share=share,
        shown=shown,
        pictures=[] if shown is None else pictures(shown, data),
        words=[] if shown is None or not isinstance(data, TextData) else _words(shown, data),
        cells=[] if shown is None or not isinstance(data, TableData) else _cells(shown, data),
        limit=data.words if isinstance(data, TextData) else 0,
    )


def _words(shown: Shown, data: TextData) -> list[tuple[str, bool]]:
    """Every word of the text, and whether the study reads it."""
    text = shown.before if isinstance(shown.before, str) else ""
    return [(word, place < data.words) for place, word in enumerate(split(text))]


def _cells(shown: Shown, data: TableData) -> list[tuple[str, str, str]]:
    """Column, cell as written, what it becomes."""
    before = dict(shown.before) if isinstance(shown.before, tuple) else {}
    numbers = len(data.numeric)
    out = []
    for place, column in enumerate(data.numeric):
        unit = f" {column.unit}" if column.unit else ""
        there = shown.after[numbers + place] > 0
        after = f"{float(shown.after[place]):+.3f} times {column.typical:g}{unit}" if there else "missing"
        out.append((column.name, before.get(column.name, ""), after))
    for place, named in enumerate(data.categorical, start=2 * numbers):
        code = int(shown.after[place])
        after = (
            ("missing", "not declared")[code]
            if code < 2
            else f"level {code - 1} of {len(named.levels)}: {named.levels[code - 2]}"
        )
        out.append((named.name, before.get(named.name, ""), after))
    return out
