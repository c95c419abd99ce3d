"""`choral site data`: what a hospital does with its own files before a study: check, describe, schema. Nothing of it leaves."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from client.home import SiteHome
from deploy.console import fail_on_error, say
from ssl_core.config import SpeedSpec, StudyPlan, read_toml
from ssl_core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Your own files, before a study reads them. Nothing of it leaves this machine.")
Home = Annotated[Path, typer.Option("--home", envvar="CHORAL_SITE", help="The site's state folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
HOME = Path("choral-site")


@app.command()
@fail_on_error
def check(
    home: Home = HOME,
    source: Annotated[Path | None, typer.Option("--source", help="Source TOML; default: the one that site.toml names.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Hash of a study that this site was invited to.")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A study plan (TOML), instead of --study.")] = None,
    labels: Annotated[
        list[Path] | None, typer.Option("--labels", help="A label CSV, one for each split: what two have in common is a leak.")
    ] = None,
    record_column: Annotated[
        str | None, typer.Option("--record-column", help="With --labels of records: their column of record ids.")
    ] = None,
    patient: Annotated[str | None, typer.Option("--patient", help="With --html: whose record; default: the first.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with a patient's record in it: readable by you alone.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that decode the files of a folder.")] = 2,
    training_seconds: Annotated[
        float, typer.Option("--training-seconds", min=0, help="How long to look at what training takes here; 0: not at all.")
    ] = 10.0,
    json_: Json = False,
) -> None:
    """Look at everything that a study would read, and say what is wrong with it and what to do.

    Exit code 0: nothing, or notes alone; 1: warnings; 2: an approval would be
    refused, or the files cannot be read at all.
    """
    from ssl_core.data.reading import Effort
    from ssl_core.data.source import read_source
    from ssl_core.datacheck.look import look_at

    if not math.isfinite(training_seconds):
        raise ConfigError("the time to look at training is no number of seconds", field="--training-seconds", limit="finite")
    asked = plan_asked(home, study, plan)
    data = asked.data
    declared = read_source(SiteHome(home).source_path if source is None else source)
    site = SiteHome(home).config if (home / "site.toml").is_file() else None
    effort = Effort(workers, scratch_of(home))
    look = look_at(
        declared, data, effort, labels=labels or (), record_column=record_column, patient=patient, picture=html is not None
    )
    if training_seconds > 0:
        from ssl_core.datacheck.training_cost import training_cost

        speed, name = (SpeedSpec(), None) if site is None else (site.speed, site.name)
        look = look.with_training(training_cost(asked, speed, seconds=training_seconds, site=name))
    if html is not None:
        from deploy.data_page import write_page

        write_page(look, data, html)
    if json_:
        say(True, look.to_json(), "")
    else:
        from rich.console import Console

        from deploy.data_screen import print_look

        print_look(Console() if sys.stdout.isatty() else Console(width=110), look)
        if html is not None:
            typer.echo(f"Written to {html}. It shows a patient's record: do not send it on.")
    raise typer.Exit(look.exit_code)


def plan_asked(home: Path, study: str | None, plan: Path | None) -> StudyPlan:
    """The plan of the study that is asked about."""
    if study is not None and plan is not None:
        raise ConfigError("give a study or a plan, not both", field="--plan", value=str(plan))
    if plan is not None:
        return read_toml(StudyPlan, plan, "plan")
    if study is None and not (home / "site.toml").is_file():
        raise ConfigError(
            "what is read of a source, a study says", field="--plan", remedy="give --plan FILE, or --home and --study"
        )
    from client.find_study import find_study, only_study
    from client.study import Study

    site = SiteHome(home)
    return Study(site, only_study(site) if study is None else find_study(site, study)).plan


def scratch_of(home: Path) -> Path | None:
    """Where a site's state folder exists, records that do not fit in memory lie there, as when a study reads them."""
    return home if (home / "site.toml").is_file() else None


@app.command()
@fail_on_error
def describe(
    folder: Annotated[Path, typer.Argument(help="A folder of files, or of folders of files.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; default: source.toml in the folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a first version of a source TOML by looking at a folder. A person must read and correct it."""
    from ssl_core.chain import write_durably
    from ssl_core.datacheck.describe import describe as look

    path = folder / "source.toml" if out is None else out
    if path.exists() and not force:
        raise ConfigError(
            "file exists and is not overwritten", field="--out", value=str(path), remedy="name another, or --force"
        )
    if path.parent.resolve() != folder.resolve():
        raise ConfigError(
            "a source file lies in the folder of its data: its paths are relative to it", field="--out", value=str(path),
            limit=str(folder), remedy="name a file there",
        )  # fmt: skip
    text = look(folder)
    write_durably(path, text.encode())
    typer.echo(f"{text}\nWritten to {path}. Read it, decide what it asks, then check it.")


@app.command()
@fail_on_error
def schema() -> None:
    """Print the JSON schema of source TOML files, for your editor."""
    from ssl_core.datacheck.schema import source_schema

    say(True, source_schema(), "")
