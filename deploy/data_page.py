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
from ssl_core.datacheck.measurements import Measurements
from ssl_core.datacheck.shown import Shown
from ssl_core.spec.data import Data, EventData, PairData, TableData, TextData

_UNSEEN = "(not one cell of a file)"


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
    return environment.get_template("data.html.j2").render(
        look=look,
        verdict=verdict(look),
        tone=("good", "warn", "bad")[look.exit_code],
        facts=facts(look),
        bars=[(name, count, 100 * count / most) for name, count in look.histogram],
        groups=[(str(weight), look.weigh(weight)) for weight in reversed(Weight) if look.weigh(weight)],
        share=share,
        halves=[] if look.shown is None else _halves(look.shown, data),
    )


def _halves(shown: Shown, data: Data) -> list[dict[str, object]]:
    """What is shown of a record: of a pair its image and its report, each as it would be shown alone."""
    if isinstance(data, PairData):
        image = {**_half(shown, data.pixels), "title": "The image"}
        return [image, *([] if shown.report is None else [{**_half(shown.report, data.words), "title": "Its report"}])]
    return [{**_half(shown, data), "title": ""}]


def _half(shown: Shown, data: Data) -> dict[str, object]:
    return {
        "kind": data.kind,
        "pictures": pictures(shown, data),
        "text": shown.before if isinstance(data, TextData) and isinstance(shown.before, str) else None,
        "words": _words(shown, data) if isinstance(data, TextData) else [],
        "limit": data.words if isinstance(data, TextData) else 0,
        **_table(shown, data),
    }


def _table(shown: Shown, data: Data) -> dict[str, object]:
    """Rows as written, each beside what the study sees of it; what is to be said of them all."""
    if isinstance(data, TableData):
        return {"said": "", "head": ("column", "as written", "as the study sees it"), "rows": _cells(shown, data)}
    if isinstance(data, EventData):
        return {"said": "", "head": ("time", "code", "as the study sees it"), "rows": _events(shown, data)}
    if isinstance(shown.before, Measurements):
        head = ("time", "name", "value", "as the study sees it")
        return {"said": _left_out(shown.before), "head": head, "rows": shown.before.rows}
    return {"said": "", "head": (), "rows": ()}


def _left_out(found: Measurements) -> str:
    """What the rows are that are shown, and how many are not."""
    counts = {
        "more of this record": found.unlisted, "later than it": found.later, "of names that are not declared": found.other
    }  # fmt: skip
    left = [f"{count:,} {what}" for what, count in counts.items() if count]
    return "Rows of this record as they lie in the file, by time" + (f". Not shown: {', '.join(left)}" if left else "") + "."


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
        scale = f"(number - {column.centre:g}) / {column.typical:g}" if column.centre else f"number / {column.typical:g}"
        after = f"{float(shown.after[place]):+.3f} = {scale}{unit}" if there else "missing"
        out.append((column.name, before.get(column.name, _UNSEEN), after))
    for place, named in enumerate(data.categorical, start=2 * numbers):
        code = int(shown.after[place])
        after = (
            ("missing", "not declared")[code]
            if code < 2
            else f"level {code - 1} of {len(named.levels)}: {named.levels[code - 2]}"
        )
        out.append((named.name, before.get(named.name, _UNSEEN), after))
    return out


def _events(shown: Shown, data: EventData) -> list[tuple[str, str, str]]:
    """Time and code as written, what the study sees of each event."""
    before = shown.before if isinstance(shown.before, tuple) else ()
    out = []
    for (code, gap), (when, written) in zip(shown.after.tolist(), before, strict=False):
        known = f"code {code + 1} of {len(data.vocabulary)}" if code < len(data.vocabulary) else "a code that is not declared"
        out.append((when, written, f"{known}, {_gap(gap, data)}"))
    return out


def _gap(gap: int, data: EventData) -> str:
    """A bucket of gaps in words."""
    bounds = [f"{hours:g} h" for hours in data.gap_hours]
    if gap == 0:
        return "the first"
    if not bounds:
        return "later"
    if gap == 1:
        return f"less than {bounds[0]} later"
    return f"{bounds[gap - 2]} or more later" if gap > len(bounds) else f"{bounds[gap - 2]} to {bounds[gap - 1]} later"
