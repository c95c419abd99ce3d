"""`choral site`: what a hospital does: init, accept, start, approve, pretrain, status, ledger, watch."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.acceptance import accept_roster
from client.data_cli import app as data_app
from client.find_study import find_study
from client.home import SiteHome, create_site
from client.split_cli import split
from deploy.console import confirm, fail_on_error, rows_to_text, say
from ssl_core.errors import ConfigError
from ssl_core.trust.authority import read_authority
from ssl_core.trust.identity import fingerprint

if TYPE_CHECKING:
    from client.study import Study

app = typer.Typer(no_args_is_help=True, help="A hospital: its daemon, its policy, its approvals, its ledger.")
data_app.command()(split)
app.add_typer(data_app, name="data")
Home = Annotated[Path, typer.Option("--home", envvar="CHORAL_SITE", help="The site's state folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Different = Annotated[bool, typer.Option("--different-people", help="Ids that differ in spelling alone: different people.")]
_HOME = Path("choral-site")
_WATCH_SECONDS = 2.0


@app.command()
@fail_on_error
def init(
    name: Annotated[str, typer.Argument(help="The site's name: lower case letters, digits, hyphens.")],
    authority: Annotated[
        Path, typer.Option("--authority", help="authority.pub or, of several holders, authority-card.pub, from them.")
    ],
    source: Annotated[str | None, typer.Option("--source", help="TOML that declares the patients' records.")] = None,
    home: Home = _HOME,
    json_: Json = False,
) -> None:
    """Make keys, a default policy, an empty ledger and join-request.json for the authority."""
    pinned = read_authority(authority)
    where = None if source is None else os.path.abspath(source)
    site = create_site(home, name, list(pinned.keys), pinned.threshold, where)
    print_ = fingerprint(site.identity.public)
    missing = "" if where is None or os.path.isfile(where) else f"\nThere is no file {where} yet: write it before an approval."
    say(
        json_,
        {
            "name": name,
            "fingerprint": print_,
            "join_request": str(home / "join-request.json"),
            "authority": pinned.facts(),
        },
        f"Site {name} made in {home}. Fingerprint, to read out to the authority and the other hospitals:\n  {print_}\n"
        f"Authority pinned: {pinned.words}. Compare this with its holders by telephone.\n"
        f"Next: send {home / 'join-request.json'} to the authority; set your limits in {home / 'policy.toml'}.{missing}",
    )


@app.command()
@fail_on_error
def accept(
    members: Annotated[list[str] | None, typer.Argument(help="NAME FINGERPRINT pairs that you compared by telephone.")] = None,
    roster: Annotated[Path | None, typer.Option("--roster", help="A signed roster from the authority.")] = None,
    authority: Annotated[
        Path | None, typer.Option("--authority", help="The new authority's card, where the roster hands over to another one.")
    ] = None,
    home: Home = _HOME,
    json_: Json = False,
) -> None:
    """Accept a roster, and accept other hospitals by name and fingerprint. Nobody else can do it for you.

    A newer roster needs the newcomers' names and fingerprints only: whoever was
    accepted before counts on, unless that hospital left meanwhile or has a new
    key. A study that was approved for an earlier roster ends here.
    """
    site = SiteHome(home)
    pairs = members or []
    if len(pairs) % 2 or (roster is None and (not pairs or authority is not None)):
        raise ConfigError("give --roster FILE, or NAME FINGERPRINT pairs, or both", field="arguments", value=len(pairs))
    if roster is not None and not roster.is_file():
        raise ConfigError("file is missing", field="--roster", value=str(roster))
    data = None if roster is None else roster.read_bytes()
    named = list(zip(pairs[::2], pairs[1::2], strict=True))
    accept_roster(site, data, named, None if authority is None else read_authority(authority)).say(json_)


@app.command()
@fail_on_error
def start(
    home: Home = _HOME,
    superlink: Annotated[str | None, typer.Option("--superlink", help="HOST:PORT instead of the roster's.")] = None,
) -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM."""
    from client.daemon import run_site

    run_site(SiteHome(home), superlink=superlink)


@app.command()
@fail_on_error
def approve(
    plan_hash: Annotated[str, typer.Argument(help="Hash of the study plan, as in choral site status; 8 digits are enough.")],
    start: Annotated[
        Path | None, typer.Option("--start", help="The study's published start weights: check the operator's card of them.")
    ] = None,
    different: Different = False,
    home: Home = _HOME,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Show what a study would cost and do, check your data, and approve it: its whole budget is reserved at once.

    The checked records are copied into the site's folder; the study trains on this copy, which is deleted at its end.
    """
    from client.approval import confirm_shown, consent_screen, people_differ, prepare, start_card_rows
    from client.asked import stale_rows
    from client.probe_labels import labels_line
    from client.rule import PERSON, resume_rule
    from client.study import Study

    site = SiteHome(home)
    study = Study(site, find_study(site, plan_hash))
    study.check()
    of_start = [] if start is None else start_card_rows(study, start)
    if study.lost_records:
        _copy_again(study, different, yes, json_)
        return
    if study.approved():
        words = [*([rows_to_text(of_start)] if of_start else []), "This study is approved already. Nothing was changed."]
        say(json_, {**dict(of_start), "plan hash": study.plan_hash, "approved": True}, "\n".join(words))
        return
    shown = consent_screen(study)
    screen = [*shown, *stale_rows(study.folder), *of_start]
    if not json_:
        typer.echo(rows_to_text(screen))
    study.admit()
    typer.echo("Checking your records, and that no patient's part depends on another's. This may take minutes.", err=True)
    (report, census), watched = prepare(study), labels_line(site, study.checked.patients)
    screen += [] if watched is None else [("watch", watched)]
    if not json_:
        typer.echo(report if watched is None else f"{report}\nWatch: {watched}.")
    differ = people_differ(census.alike, different, yes)
    confirm_shown(yes, "Approve this study and reserve its budget?", shown, lambda: consent_screen(study))
    study.approve(PERSON, different_people=differ)
    resume_rule(site)
    say(json_, {**dict(screen), "approved": True}, "Approved. The budget is reserved and is never given back.")


def _copy_again(study: Study, different: bool, yes: bool, json_: bool) -> None:
    from client.approval import people_differ, prepare

    report, census = prepare(study)
    if not json_:
        typer.echo(report)
    differ = people_differ(census.alike, different, yes)
    confirm(yes, "The site's copy of the approved records is gone. Copy them again? Nothing is charged.")
    study.copy_records_again(different_people=differ)
    say(json_, {"plan hash": study.plan_hash, "copied": True}, "Copied. The study goes on once its keys are renewed.")


@app.command()
@fail_on_error
def pretrain(
    plan: Annotated[Path, typer.Argument(help="A study plan (TOML) with alone = true that names this site only.")],
    start: Annotated[
        Path | None, typer.Option("--start", help="The prepared weights whose hash the plan names as its start.")
    ] = None,
    different: Different = False,
    home: Home = _HOME,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Pretrain on this hospital's patients alone, charged to the same ledger. The encoder stays here."""
    from client.approval import asking, confirm_shown
    from client.pretrain import pretrain_alone, quote_alone

    site = SiteHome(home)
    rows = quote_alone(site, plan)
    if not json_:
        typer.echo(rows_to_text(rows))
    confirm_shown(yes, "Run this study and reserve its budget?", rows, lambda: quote_alone(site, plan))
    folder = pretrain_alone(site, plan, start, asking(different, yes, json_), partial(typer.echo, err=True))
    say(json_, {**dict(rows), "encoder": str(folder)}, f"Encoder written to {folder}. It stays in this hospital.")


@app.command()
@fail_on_error
def status(home: Home = _HOME, json_: Json = False) -> None:
    """The daemon, the roster, and every study that this site was invited to."""
    from client.site_status import facts_of, rows_of

    facts = facts_of(SiteHome(home))
    say(json_, facts, rows_to_text(rows_of(facts)))


@app.command()
@fail_on_error
def ledger(home: Home = _HOME, json_: Json = False) -> None:
    """What of this hospital's privacy budget was spent, by which study, what remains, and until when at this pace."""
    from client.budget import site_statement

    statement = site_statement(SiteHome(home))
    if json_:
        say(True, statement.to_dict(), "")
        return
    from client.ledger_page import print_statement

    print_statement(statement)


@app.command()
@fail_on_error
def watch(
    plan_hash: Annotated[str, typer.Argument(help="Hash of an approved study, as in choral site status; 8 digits are enough.")],
    now: Annotated[bool, typer.Option("--now", help="Look now, and keep what was seen with the rest.")] = False,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="A CSV of patients' labels: look now, with the neighbours probe; else watch.toml's."),
    ] = None,
    class_column: Annotated[
        str | None, typer.Option("--class-column", help="With --labels: its column of classes, instead of 0/1 columns.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Look now and after every round, until the study ends.")] = False,
    home: Home = _HOME,
    json_: Json = False,
) -> None:
    """How the shared encoder stands on your own records: has it collapsed? For this hospital's eyes; changes nothing.

    Prints the course over the rounds as the daemon saw it. It looks after each
    round, once it has answered, unless policy.toml says watch = false; with the
    neighbours probe where watch.toml names a file of labels (docs/data.md).
    """
    from client.probe_labels import LabelFile
    from client.watch import Watch, Watched, read_sightings, rows

    if class_column is not None and labels is None:
        raise ConfigError("there is no label file to take it from", field="--class-column", remedy="name it: --labels FILE")
    study = Watched(home, find_study(SiteHome(home), plan_hash))
    looks = (now or follow or labels is not None) and not study.finished
    seen = Watch(study, None if labels is None else LabelFile(labels, class_column)) if looks else None
    while True:
        sightings = read_sightings(study.folder) if seen is None else seen.look()
        found = [each.to_json() | {"in_one_place": each.health.in_one_place} for each in sightings]
        say(json_, {"plan hash": study.plan_hash, "rounds": found}, rows_to_text(rows(sightings)))
        if seen is None or not follow or study.finished:
            return
        while not study.finished and not seen.changed():
            time.sleep(_WATCH_SECONDS)
