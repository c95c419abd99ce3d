"""The hospitals' authority at the command line: says who belongs, by signing rosters. Lives on no operator's machine.

One key for now (k of m comes with roster changes while running); the format already names threshold and keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from deploy.console import confirm, fail_on_error, say
from ssl_core.chain import write_durably
from ssl_core.errors import ConfigError, StateError, TrustError
from ssl_core.trust.identity import Identity, fingerprint
from ssl_core.trust.roster import Roster, describe, open_request, open_server_identity, sign_roster

app = typer.Typer(no_args_is_help=True, help="The hospitals' authority: says who belongs to the federation.")
Home = Annotated[Path, typer.Option("--home", help="The authority's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
@fail_on_error
def init(home: Home = Path("choral-authority"), json_: Json = False) -> None:
    """Make the authority's key. Give authority.pub to every hospital; keep authority.key offline."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise StateError("folder is not empty", field="home", value=str(home), remedy="name a new folder")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = Identity.generate()
    identity.save(home / "authority.key")
    (home / "authority.pub").write_text(identity.public_hex + "\n")
    facts = {"public_key": str(home / "authority.pub"), "fingerprint": fingerprint(identity.public)}
    say(
        json_,
        facts,
        f"Authority made. Fingerprint: {facts['fingerprint']}\nHand {facts['public_key']} to each hospital.",
    )


@app.command()
@fail_on_error
def sign(
    members: Annotated[
        list[Path], typer.Argument(help="join-request.json of every hospital that belongs: a roster replaces the last.")
    ],
    server: Annotated[Path, typer.Option("--server", help="server-card.json, from the operator.")],
    out: Annotated[Path, typer.Option("--out", help="File for the signed roster; every hospital and the operator get it.")],
    home: Home = Path("choral-authority"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprints were compared.")] = False,
    json_: Json = False,
) -> None:
    """Sign a roster: the hospitals and the operator. Compare each fingerprint by telephone before you say yes."""
    identity = Identity.load(home / "authority.key")
    if not out.absolute().parent.is_dir():
        raise ConfigError("folder is missing", field="--out", value=str(out.parent), remedy="make it first")
    last = home / "last-version"
    version = int(last.read_text()) + 1 if last.is_file() else 1
    requests = sorted((open_request(_read(path)) for path in members), key=lambda request: request.name)
    try:
        roster = Roster(
            version=version,
            authorities=(identity.public_hex,),
            threshold=1,
            server=open_server_identity(_read(server)),
            members=tuple(requests),
        )
    except ValidationError as error:
        raise TrustError(
            f"roster is not possible: {error.errors(include_url=False)[0]['msg']}",
            field="members",
            value=len(requests),
            limit="at least 3 sites, each with a name and keys of its own",
        ) from error
    facts = describe(roster)
    if not yes:
        typer.echo(json.dumps(facts, indent=2), err=json_)
    confirm(yes, "Were all these fingerprints compared with the hospitals?")
    # The version is durable before the signature leaves: two rosters never carry one number.
    write_durably(last, f"{version}\n".encode())
    write_durably(out, sign_roster(roster, [identity]))
    say(json_, facts, f"Roster version {version} with {len(requests)} sites written to {out}.")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError("file is missing", field="path", value=str(path))
    return path.read_bytes()
