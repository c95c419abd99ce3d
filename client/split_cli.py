"""`choral site data split`: patients that a person holds, to training and test or to simulated sites. Nothing of it leaves.

Comes in: a source or a label CSV, and how to draw. Goes out: files (ssl_core/data/split_files.py), and counts on this terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from client.data_cli import HOME, Home, Json, plan_asked, scratch_of
from deploy.console import fail_on_error, say
from ssl_core.errors import ConfigError

if TYPE_CHECKING:
    from ssl_core.data.drawing import Asked, Drawn
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import Source
    from ssl_core.spec.data import Data

_SHARE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,39})=([0-9]*\.?[0-9]+)")
_WAYS = {
    "--parts": (("--key",), ("--stratify",)),
    "--by-label": (("--sites", "--alpha", "--seed"), ("--least",)),
    "--by-size": (("--sites", "--sigma", "--seed"), ("--least",)),
    "--by-domain": ((), ("--least",)),
}
"""How to draw: what each way needs, and what it may take."""
_COLUMNS = ("--stratify", "--by-label", "--by-domain")


@fail_on_error
def split(
    out: Annotated[Path, typer.Option("--out", help="New folder for the split; with --source, in the folder of that file.")],
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Source TOML whose patients are split; it is read as --plan or --study asks."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Label CSV, divided too; without --source, its patients are split.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option("--parts", help="Parts by a hash, such as train=.8,test=.2; needs --key.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Any text; the same key and shares give the same parts.")] = None,
    stratify: Annotated[
        str | None, typer.Option("--stratify", help="Column of --labels whose classes all parts share.")
    ] = None,
    sites: Annotated[int | None, typer.Option("--sites", help="How many simulated sites, by label or by size.")] = None,
    by_label: Annotated[
        str | None, typer.Option("--by-label", help="Column of --labels: sites with other shares of it.")
    ] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Of --by-label: .1 is strong skew, 100 next to none.")] = None,
    by_size: Annotated[bool, typer.Option("--by-size", help="Sites of other sizes.")] = False,
    sigma: Annotated[
        float | None, typer.Option("--sigma", help="Of --by-size: spread of log sizes; 0 gives equal ones.")
    ] = None,
    by_domain: Annotated[
        str | None, typer.Option("--by-domain", help="Column of --labels, such as the machine: a site for each of its values.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a draw of sites; the same seed gives the same sites.")] = None,
    least: Annotated[int | None, typer.Option("--least", help="Patients that every site must have; default: 1.")] = None,
    home: Home = HOME,
    study: Annotated[str | None, typer.Option("--study", help="With --source: a study that this site was invited to.")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="With --source: a study plan (TOML), instead of --study.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that decode the files of a folder.")] = 2,
    json_: Json = False,
) -> None:
    """Divide patients for research: into parts such as train and test, or among simulated sites. By patient, reproducible.

    Give one of --parts, --by-label, --by-size and --by-domain. Writes who is
    in which part (split.csv), the labels of each part, and beside the source
    a TOML for each part. The files name patients: they stay here.
    """
    from ssl_core.data.drawing import draw, labelled
    from ssl_core.data.label_table import read_label_table
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import read_source
    from ssl_core.data.split_files import check_out, write_split

    given = {
        "--parts": parts, "--by-label": by_label, "--by-size": by_size or None, "--by-domain": by_domain, "--key": key,
        "--stratify": stratify, "--sites": sites, "--alpha": alpha, "--sigma": sigma, "--seed": seed, "--least": least,
    }  # fmt: skip
    asked = _asked(given, labels)
    declared = None if source is None else read_source(source)
    check_out(out, source, None if declared is None else declared.declared)
    table = None if labels is None else read_label_table(labels)
    if declared is not None:
        units = _read(declared, plan_asked(home, study, plan).data, Effort(workers, scratch_of(home)))
    elif table is not None:
        units = labelled(table)
    else:
        raise ConfigError("whose patients are to be split?", field="--source, --labels", remedy="give one of them, or both")
    drawn = draw(asked, units, table)
    elsewhere = 0 if table is None else len(set(labelled(table)).difference(units))
    written = write_split(drawn.assignment, out, table, source)
    if json_:
        facts = {
            "parameters": dict(drawn.assignment.parameters), "patients": drawn.assignment.sizes(), "classes": drawn.classes,
            "without_a_record": elsewhere, "sha256": drawn.assignment.digest, "files": [str(path) for path in written],
            "stays_here": True,
        }  # fmt: skip
        say(True, facts, "")
    else:
        _print(drawn, elsewhere, written)


def _asked(given: Mapping[str, Any], labels: Path | None) -> Asked:
    """The one way to draw that was given, with what goes with it; `ConfigError` for anything else."""
    from ssl_core.data.drawing import Asked

    ways = [name for name in _WAYS if given[name] is not None]
    if len(ways) != 1:
        raise ConfigError("give one way to draw", field=", ".join(_WAYS), value=", ".join(ways) or "none")
    (way,) = ways
    needs, takes = _WAYS[way]
    for name, value in given.items():
        if value is None and name in needs:
            raise ConfigError(f"{way} needs {name}", field=name, remedy="say it, so that the same can be drawn again")
        if value is not None and name not in (way, *needs, *takes):
            raise ConfigError(f"{name} does not go with {way}", field=name, limit=", ".join((*needs, *takes)))
        if value is not None and name in _COLUMNS and labels is None:
            raise ConfigError(f"{name} names a column of --labels", field="--labels", remedy="give the file, too")
    column = next((given[name] for name in _COLUMNS if given[name] is not None), None)
    apart = (*_WAYS, *_COLUMNS)
    said = {name.removeprefix("--"): value for name, value in given.items() if value is not None and name not in apart}
    by = cast("Any", way.removeprefix("--").removeprefix("by-"))
    return Asked(by=by, column=column, shares=_shares(given["--parts"]) if given["--parts"] is not None else {}, **said)


def _shares(text: str) -> dict[str, float]:
    """Part -> share, of train=.8,test=.2."""
    found: dict[str, float] = {}
    for each in text.split(","):
        match = _SHARE.fullmatch(each.strip())
        if match is None or match[1] in found:
            raise ConfigError(
                "parts and their shares cannot be read", field="--parts", value=text,
                remedy="write --parts train=.8,test=.2: different names of letters, digits, - and _",
            )  # fmt: skip
        found[match[1]] = float(match[2])
    return found


def _read(source: Source, data: Data, effort: Effort) -> list[str]:
    """The patients of whom a study would read a record."""
    from ssl_core.data.source import read_records, refuse_hiding

    reading = read_records(source, data, effort)
    refuse_hiding(source, reading)
    return sorted(set(reading.owners))


def _print(drawn: Drawn, elsewhere: int, written: Sequence[Path]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from deploy.data_screen import printable

    made, counts = drawn.assignment, drawn.classes
    console = Console() if sys.stdout.isatty() else Console(width=110)
    told = dict(made.parameters)
    console.print(Text(f"{told.pop('made by')}: " + ", ".join(f"{name} {printable(str(told[name]))}" for name in sorted(told))))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("part", overflow="fold")
    table.add_column("patients", justify="right")
    table.add_column("share", justify="right")
    if counts is not None:
        table.add_column("patients of each class", overflow="fold")
    for part, size in made.sizes().items():
        row = [part, f"{size:,}", f"{size / len(made.parts):.1%}"]
        row += [] if counts is None else [", ".join(f"{name}: {count:,}" for name, count in counts[part].items())]
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    if elsewhere:
        typer.echo(f"{elsewhere:,} patients of the label file have no record in the source: they are in no part.")
    typer.echo(f"SHA-256 of {written[0].name}: {made.digest}")
    typer.echo("\n".join(f"Written: {path}" for path in written))
    typer.echo("These files name patients: they stay here, and so do these numbers.")
