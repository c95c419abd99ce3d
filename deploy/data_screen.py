"""`choral site data check` on a terminal: counts, then what to do, the worst first.

Comes in: a `Look`. Goes out: words and tables of rich. No text, value or id of a patient is in it; names of files are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.datacheck.look import Cost, Look

if TYPE_CHECKING:
    # It loads torch, which a look without it does not need.
    from ssl_core.datacheck.training_cost import TrainingCost

_MIB = 1 << 20
_BAR = 30
_ENOUGH = 200
"""Records from which on the time of starting says little."""
_STYLES = {Weight.REFUSED: "bold red", Weight.WARNING: "yellow", Weight.NOTE: "dim"}


def print_look(console: Console, look: Look) -> None:
    """Print all of it."""
    for line in facts(look):
        console.print(Text(f"{line[0]:>16}  {line[1]}"))
    console.print(_histogram(look))
    if not look.findings:
        console.print(Text("Nothing was found that a person must look at.", "green"))
    for weight in reversed(Weight):
        found = look.weigh(weight)
        if found:
            console.print(_findings(weight, found))
    console.print(Text(verdict(look), "bold"))
    console.print(Text("All of this stays on this machine.", "dim"))


def facts(look: Look) -> list[tuple[str, str]]:
    """What the source holds, what reading it costs, and what training on this machine would."""
    report = look.report
    return [
        ("source", f"{look.kind}, read as {look.data}"),
        ("files", f"{look.files:,}, {size(look.cost.file_bytes)}"),
        ("patients", f"{report.patients:,}"),
        ("records", f"{report.records:,}"),
        *([("part", report.part)] if report.part else []),
        ("bad records", f"{report.bad_share:.2%}, declared at most {report.max_bad_share:.2%}"),
        ("time to read", _time(look.cost, report.records)),
        ("room", f"{size(look.cost.kept)} on disk, where a study reads them: {size(look.cost.record_bytes)} a record"),
        *([] if look.training is None else _training(look.training)),
    ]


def verdict(look: Look) -> str:
    """One sentence."""
    if look.weigh(Weight.REFUSED):
        return "A study on these files would be refused here: correct what is named, and check again."
    warnings = len(look.weigh(Weight.WARNING))
    if warnings:
        return f"{warnings} warning{'s' if warnings > 1 else ''}: a person should look before a study is approved."
    return "These files can be approved as they are."


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def share(finding: Finding) -> str:
    """count of all."""
    return f"{finding.count:,} of {finding.of:,}" if finding.of else ""


def _time(cost: Cost, records: int) -> str:
    if records < _ENOUGH:
        return f"{cost.seconds:.1f} s here: too few records to tell of more; once more at approval"
    return f"{cost.seconds:.1f} s here, {duration(cost.seconds / records * 100_000)} for 100,000 records; once more at approval"


def _training(cost: TrainingCost) -> list[tuple[str, str]]:
    how = f"engine {cost.engine}, {cost.batch} patients at once"
    if cost.memory is None:
        how += "; memory not looked at: the site's own speed.chunk counts as it stands"
    elif cost.engine is None:
        # With room, since one look foretold it: the next one may take longer.
        more = math.ceil(1.5 * cost.search_seconds)
        how = f"at least {cost.memory / _MIB:,.0f} MiB of memory; engine and batch are found with --training-seconds {more}"
    else:
        how += f", about {cost.memory / _MIB:,.0f} MiB of memory at its peak"
    less = " or less" if cost.engine is None else ""
    whose = "of the plan's largest site" if cost.site is None else f"that the plan says of {cost.site}"
    again = f" + up to {cost.void_rounds} that fail" if cost.void_rounds else ""
    course = f"{cost.rounds} rounds of {cost.steps} steps ({duration(cost.round_seconds)} each){again}"
    return [
        ("to train", how),
        ("a step", f"about {duration(cost.step_seconds)}{less}: {cost.sample:,.0f} of the {cost.patients:,} patients {whose}"),
        ("the study", f"about {duration(cost.study_seconds)}{less} of computing: {course}"),
    ]


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _histogram(look: Look) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("records a patient", justify="right")
    table.add_column("patients", justify="right")
    table.add_column("")
    most = max((count for _, count in look.histogram), default=1) or 1
    for name, count in look.histogram:
        table.add_row(name, f"{count:,}", "█" * round(_BAR * count / most) or ("▏" if count else ""))
    return table


def _findings(weight: Weight, found: list[Finding]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=Text(f"{weight.upper()}", _STYLES[weight]), title_justify="left", show_lines=True)
    table.add_column("what", ratio=5, overflow="fold")
    table.add_column("how many", justify="right", no_wrap=True)
    table.add_column("what to do", ratio=6, overflow="fold")
    for finding in found:
        what = Text(f"{finding.topic}: ", "bold").append(Text(printable(finding.what), ""))
        if finding.places:
            what.append("\n" + "; ".join(map(printable, finding.places)), "dim")
        table.add_row(what, share(finding), Text(finding.remedy))
    return table


def printable(text: str) -> str:
    """A file's name cannot forge a line of the screen."""
    return "".join(char if char.isprintable() else "?" for char in text)
