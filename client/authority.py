"""The hospitals' authority at the command line: says who belongs, by signing rosters. Lives on no operator's machine.

m hospitals each hold one key; k of them must sign a roster. One makes it from join requests, the others add their
signatures to the same bytes (client/holder.py has the rules). One holder alone is 1 of 1 and needs no card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from client.holder import Holder, combine, create_holder
from deploy.console import confirm, fail_on_error, say
from ssl_core.chain import write_durably
from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.envelope import kind_of
from ssl_core.trust.identity import fingerprint
from ssl_core.trust.roster import Roster, describe, open_as_named, open_request, open_server_identity, signatures
from ssl_core.trust.roster_change import RosterChange, change_of

app = typer.Typer(no_args_is_help=True, help="The hospitals' authority: says who belongs to the federation.")
Home = Annotated[Path, typer.Option("--home", help="This holder's folder of the authority.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprints were compared.")]
_HOME = Path("choral-authority")


@app.command()
@fail_on_error
def init(
    keys: Annotated[
        list[Path] | None, typer.Argument(help="With several holders, once each has a key: authority.pub of every holder.")
    ] = None,
    threshold: Annotated[int | None, typer.Option("--threshold", help="How many holders must sign a roster.")] = None,
    home: Home = _HOME,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Make this holder's key; keep authority.key offline. A holder alone gives authority.pub to every hospital.

    Several holders: each makes a key, then runs this once more with the
    authority.pub of all and --threshold. That writes authority-card.pub, the
    same file at each of them: every hospital gets it instead.
    """
    if keys:
        _agree(Holder(home), keys, threshold, yes, json_)
        return
    if threshold is not None:
        raise ConfigError(
            "threshold goes with the holders' keys", field="--threshold", value=threshold,
            remedy="name authority.pub of every holder",
        )  # fmt: skip
    holder = create_holder(home)
    facts = {"public_key": str(home / "authority.pub"), "fingerprint": fingerprint(holder.identity.public)}
    say(
        json_,
        facts,
        f"Authority made. Fingerprint: {facts['fingerprint']}\nHand {facts['public_key']} to each hospital. With other "
        "holders, hand it to them first: choral authority init --help",
    )


def _agree(holder: Holder, keys: list[Path], threshold: int | None, yes: bool, json_: bool) -> None:
    """Keep the card of several holders."""
    if threshold is None:
        raise ConfigError("say how many holders must sign", field="--threshold", limit=f"1 to {len(keys)}")
    authority = combine(keys, threshold)
    if authority == holder.authority:
        yes = True
    facts = authority.facts() | {"card": str(holder.card)}
    if not yes:
        typer.echo(json.dumps(facts, indent=2), err=json_)
    confirm(yes, "Did every holder read out these fingerprints?")
    holder.agree(authority)
    more = "" if 2 * threshold > len(keys) else "\nWith so few signatures two different rosters of one version are possible."
    say(
        json_,
        facts,
        f"{threshold} of {len(keys)} holders must sign. Card: {holder.card}\n  fingerprint {authority.fingerprint}\n"
        f"Every holder must see this fingerprint; then hand the card to each hospital.{more}",
    )


@app.command()
@fail_on_error
def sign(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="join-request.json of every hospital that belongs: a roster replaces the last. Or one roster.json that "
            "another holder made: adds your signature."
        ),
    ] = None,
    server: Annotated[Path | None, typer.Option("--server", help="server-card.json, from the operator.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the signed roster; every hospital and the operator get it.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--from", help="The roster in force: its hospitals and operator stay; join requests add or replace."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="With --from: a hospital that leaves.")] = None,
    home: Home = _HOME,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Sign a roster: the hospitals and the operator. Compare each fingerprint by telephone before you say yes.

    Several holders: one makes the roster, then others sign the same file
    until enough did; the command says how many are missing.
    """
    holder = Holder(home)
    named = [(path, _read(path)) for path in files or []]
    kinds = [kind_of(data) for _, data in named]
    for (path, _), kind in zip(named, kinds, strict=True):
        if kind not in {"join", "roster"}:
            raise TrustError(
                "file is neither a join request nor a roster", field="path", value=str(path), limit="join, roster",
                remedy="give join-request.json of every hospital, or one roster.json",
            )  # fmt: skip
    if "roster" in kinds:
        if len(named) != 1 or server or base or without:
            raise ConfigError(
                "a roster that another holder made is signed as it is", field="arguments", value=len(named),
                limit="one roster.json", remedy="choral authority sign roster.json",
            )  # fmt: skip
        drafted, target = named[0][1], out or named[0][0]
    else:
        drafted, target = _draft(holder, [data for _, data in named], server, base, without or [], out)
    if not target.absolute().parent.is_dir():
        raise ConfigError("folder is missing", field="--out", value=str(target.parent), remedy="make it first")
    roster = holder.check(drafted)
    last = holder.last
    change = change_of(None if last is None else last[0], roster)
    if not yes:
        typer.echo(_shown(roster, change), err=json_)
    confirm(yes, "Were all these fingerprints compared with the hospitals?")
    # The roster is durable here before the signature leaves: this holder never signs two of one version.
    signed = holder.sign(drafted)
    write_durably(target, signed)
    standing = _standing(signed, roster)
    facts = describe(roster) | {"changes": change.to_json(), "signatures": standing, "roster": str(target)}
    say(json_, facts, f"Roster version {roster.version} with {len(roster.members)} sites written to {target}.{_next(standing)}")


def _draft(
    holder: Holder, requests: list[bytes], server: Path | None, base: Path | None, without: list[str], out: Path | None
) -> tuple[bytes, Path]:
    """An unsigned roster and where it goes."""
    if out is None:
        raise ConfigError("say where the roster goes", field="--out", remedy="--out roster.json")
    if base is None and (without or not requests):
        raise ConfigError(
            "without the roster in force every hospital must be named", field="arguments", value=len(requests),
            remedy="give the join request of every hospital that stays, or --from ROSTER",
        )  # fmt: skip
    started = None if base is None else _complete(_read(base))
    return holder.draft(
        [open_request(data) for data in requests],
        None if server is None else open_server_identity(_read(server)),
        started,
        without,
    ), out


def _complete(data: bytes) -> Roster:
    """A roster that has all its signatures; `TrustError` for another."""
    roster, _ = open_as_named(data)
    for authority, found in signatures(data, roster):
        if len(found) < authority.threshold:
            raise TrustError(
                "roster has too few signatures", field="--from", value=len(found), limit=authority.words,
                remedy="let the other holders sign it first, or begin with the roster in force",
            )  # fmt: skip
    return roster


def _standing(signed: bytes, roster: Roster) -> list[dict[str, Any]]:
    """For each authority that must sign: who did, and how many are missing. The last is the one that the roster names."""
    return [
        {
            "authority": authority.words,
            "signed_by": [fingerprint(key) for key in found],
            "missing": max(0, authority.threshold - len(found)),
        }
        for authority, found in signatures(signed, roster)
    ]


def _next(standing: list[dict[str, Any]]) -> str:
    short = [f"{entry['missing']} of authority {entry['authority']}" for entry in standing if entry["missing"]]
    if not short:
        return "\nIt has all its signatures: hand it to every hospital and to the operator."
    return (
        f"\nSignatures missing: {', '.join(short)}. No hospital accepts it yet: hand it to another holder, who runs "
        "choral authority sign on it."
    )


def _shown(roster: Roster, change: RosterChange) -> str:
    since = "nothing was signed here before" if change.since is None else f"since version {change.since}, the last signed here"
    lines = [json.dumps(describe(roster), indent=2), f"Changes ({since}):"]
    if roster.replaces is not None:
        lines.append(f"  hands over from authority {roster.replaces.authority.words} to {roster.authority.words}")
    return "\n".join([*lines, *(f"  {line}" for line in change.lines(roster))])


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError("file is missing", field="path", value=str(path))
    return path.read_bytes()
