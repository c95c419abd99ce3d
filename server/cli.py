"""`choral operator`: init, start, prepare, launch, status, stop, publish."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.console import confirm, fail_on_error, rows_to_text, say
from server.home import OperatorHome, create_operator
from ssl_core.chain import write_durably
from ssl_core.errors import ConfigError
from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.sizes import epilog
from ssl_core.trust.identity import fingerprint

if TYPE_CHECKING:
    from ssl_core.warm_start.pretraining import Schedule

app = typer.Typer(
    no_args_is_help=True, help="The operator: runs the server, launches studies, publishes encoders; sees only sums."
)
Home = Annotated[Path, typer.Option("--home", envvar="CHORAL_HOME", help="The operator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_HOME = Path("choral-operator")
# To choose is to train a dozen tasks at three seeds: less of each, 11 minutes of one core on the procedural signals.
_PREPARING = {"steps": 600, "units": 16384, "batch": 256}
_CHOOSING = {"steps": 300, "units": 4096, "batch": 64}
_SEEDS = 3


@app.command()
@fail_on_error
def init(
    address: Annotated[
        str, typer.Option("--address", help="HOST:PORT that the hospitals dial: the proxy's.")
    ] = "127.0.0.1:9443",
    port: Annotated[int, typer.Option("--port", help="Port of Flower's SuperLink on this machine.")] = 9443,
    home: Home = _HOME,
    json_: Json = False,
) -> None:
    """Make the operator's and the server's keys, a TLS certificate, and server-card.json for the authority."""
    hosts = list(dict.fromkeys([address.rsplit(":", 1)[0], "127.0.0.1", "localhost"]))
    made = create_operator(home, hosts, port, address)
    card = home / "server-card.json"
    facts = {
        "operator": fingerprint(made.operator.public),
        "server": fingerprint(made.server.public),
        "server_card": str(card),
    }
    say(
        json_,
        facts,
        f"Operator made in {home}.\n  operator key {facts['operator']}\n  server key   {facts['server']}\n"
        f"Next: send {card} to the hospitals' authority, and put the roster that it signs at {home / 'roster.json'}.\n"
        "Later rosters go there too, or to launch --roster; the first one pins its authority here.\n"
        "operator.key signs plans and releases: keep it on another machine and bring signed plans to launch.",
    )


@app.command()
@fail_on_error
def start(home: Home = _HOME) -> None:
    """Run the server (Flower's SuperLink and SuperExec, on loopback alone) in the foreground until Ctrl-C or SIGTERM."""
    from server.daemon import run_operator

    run_operator(OperatorHome(home))


@app.command(epilog=epilog())
@fail_on_error
def prepare(
    plan: Annotated[Path, typer.Argument(help="A study plan (.toml).")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the start weights; must not exist.")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=0, help="Steps of Adam (600; to --choose 300); 0 only takes what --from names."),
    ] = None,
    units: Annotated[
        int | None, typer.Option("--units", min=1, help="Generated units to train on (16384; to --choose 4096).")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Units a step (256; to --choose 64).")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of Adam, at its greatest (0.001).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the generated data and of their order (0).")] = None,
    public: Annotated[
        Path | None, typer.Option("--public", help="Train on this public corpus (a source TOML), not on generated data.")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option("--from", help="Begin from a release, or from a public model's safetensors file.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take of --from what fits, though not all does.")] = False,
    task: Annotated[
        CoupledTask | None,
        typer.Option("--task", help="Train the encoder by this task, legal on public data alone; else the plan's."),
    ] = None,
    choose: Annotated[
        bool,
        typer.Option("--choose", help="Write nothing: train every task that fits the plan's data and encoder, and rank them."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, max=20, help="With --choose: from --seed on (3); it takes so many times the time of one."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="With --choose and --public: a CSV of public labels to rank by.")
    ] = None,
    json_: Json = False,
) -> None:
    """Pretrain a plan's model on generated or public data, before any patient is read: it costs no epsilon."""
    from server.prepare import prepare as make
    from ssl_core.warm_start.pretraining import Schedule

    usual = _CHOOSING if choose else _PREPARING
    trained = {"--units": units, "--batch": batch, "--learning-rate": learning_rate, "--seed": seed}
    if choose:
        _refuse_idle({"--task": task, "--from": begin, "--partial": partial or None, "--out": out}, "with --choose")
    else:
        _refuse_idle({"--labels": labels, "--seeds": seeds}, "without --choose")
    if steps == 0:
        _refuse_idle(trained | {"--public": public}, "with --steps 0, which trains nothing")
    if public is not None:
        _refuse_idle({"--units": units}, "with --public, all of which is trained on")
    steps, units, batch = (
        usual[name] if value is None else value for name, value in (("steps", steps), ("units", units), ("batch", batch))
    )
    rate = 1e-3 if learning_rate is None else learning_rate
    schedule = Schedule(steps=steps, batch=batch, learning_rate=rate, seed=seed or 0) if steps else None
    if choose:
        _choose(plan, units=units, schedule=schedule, seeds=seeds or _SEEDS, public=public, labels=labels, json_=json_)
        return
    if out is None:
        raise ConfigError("no folder to write to", field="--out", remedy="name one, or ask to --choose")
    facts, matched = make(plan, out, units=units, schedule=schedule, public=public, begin=begin, partial=partial, task=task)
    rows: list[tuple[str, Any]] = [("from", line) for line in ([] if matched is None else matched.lines())]
    rows += [("from", facts.taken["translated"])] if facts.taken and "translated" in facts.taken else []
    rows += [(f"loss, {name}", f"{values[0]:.4f} -> {values[-1]:.4f}") for name, values in facts.losses.items()]
    say(
        json_,
        facts.model_dump(mode="json"),
        rows_to_text([("SHA-256", facts.weights), *rows])
        + f"\nStart weights written to {out}. Next: choral operator launch {plan} --start {out}",
    )


def _refuse_idle(options: dict[str, object], where: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} does nothing {where}", field=name, value=value, remedy="leave it out")


def _choose(
    plan: Path, *, units: int, schedule: Schedule | None, seeds: int, public: Path | None, labels: Path | None, json_: bool
) -> None:
    from server.choose import choose, lines, price

    if schedule is None:
        raise ConfigError("tasks cannot be compared without training", field="--steps", value=0, remedy="give --steps")
    read, ranking = choose(plan, units=units, schedule=schedule, seeds=seeds, public=public, labels=labels)
    cost = price(read, len(ranking.tasks) * len(ranking.seeds))
    best = [each.task for each in ranking.winners()]
    facts = {**asdict(ranking), "winners": best, "epsilon_on_patients": cost, "delta": read.privacy.delta}
    say(json_, facts, rows_to_text(lines(read, ranking)))


@app.command(epilog=epilog())
@fail_on_error
def launch(
    plan: Annotated[
        str, typer.Argument(help="A study plan (.toml), a signed plan (.json), or the hash of a study to go on with.")
    ],
    home: Home = _HOME,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="First take this newer roster from the authority; a running server follows.")
    ] = None,
    sign_only: Annotated[
        Path | None, typer.Option("--sign-only", help="Only sign the plan, to this file; launch that elsewhere.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="Start from these weights of choral operator prepare, and no others.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once instead of following the rounds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    json_: Json = False,
) -> None:
    """Sign a study plan and run it. No hospital trains before it approved. Launching a study again goes on where it was."""
    from server import launch as studies

    operator = OperatorHome(home)
    if roster is not None and not roster.is_file():
        raise ConfigError("file is missing", field="--roster", value=str(roster))
    operator.adopt_roster(None if roster is None else roster.read_bytes())
    path = Path(plan)
    if path.suffix == ".toml":
        signed = studies.sign_plan(operator, path, start)
    elif path.suffix == ".json":
        if not path.is_file():
            raise ConfigError("file is missing", field="plan", value=plan)
        signed = path.read_bytes()
    else:
        signed = (operator.study(studies.find_study(operator, plan)) / "plan.json").read_bytes()
    if sign_only is not None:
        write_durably(sign_only, signed)
        say(json_, {"signed_plan": str(sign_only)}, f"Signed plan written to {sign_only}.")
        return
    if not (yes or json_):
        confirm(False, studies.question(operator, signed))
    plan_hash = studies.store_study(operator, signed, start)
    run_id = studies.launch(operator, plan_hash)
    if detach:
        say(json_, {"plan": plan_hash, "run": run_id}, f"Study {plan_hash} launched as run {run_id}.")
        return
    finished = studies.watch(
        operator, plan_hash, on_event=lambda event: typer.echo(json.dumps(event) if json_ else _line(event))
    )
    if finished and not json_:
        typer.echo(f"Study {plan_hash} is finished. Next: choral operator publish {plan_hash[:8]}")
    raise typer.Exit(0 if finished else 1)


@app.command()
@fail_on_error
def status(
    plan: Annotated[str | None, typer.Argument(help="A study's hash, or its first 8 digits; without it, all studies.")] = None,
    home: Home = _HOME,
    json_: Json = False,
) -> None:
    """Where each study stands: rounds closed and void, and what each site did last."""
    from server import launch as studies

    operator = OperatorHome(home)
    hashes = operator.studies() if plan is None else [studies.find_study(operator, plan)]
    facts = [studies.progress(operator, h) for h in hashes]
    words = []
    for fact in facts:
        rows: list[tuple[str, Any]] = [("study", fact["plan"]), ("state", fact["state"])]
        rows.append(("rounds", f"{fact['rounds_closed']} of {fact.get('rounds', '?')} closed, {fact['rounds_void']} void"))
        rows += [(f"site {name}", stage) for name, stage in sorted(fact["sites"].items())]
        words.append(rows_to_text(rows))
    say(json_, facts, "\n\n".join(words) or "No study yet. Start one: choral operator launch PLAN.toml")


@app.command()
@fail_on_error
def stop(
    plan: Annotated[str, typer.Argument(help="The study's hash, or its first 8 digits.")],
    home: Home = _HOME,
) -> None:
    """Stop a running study. It keeps every closed round; launch it again to go on."""
    from server import launch as studies

    operator = OperatorHome(home)
    plan_hash = studies.find_study(operator, plan)
    typer.echo(f"Study {plan_hash} {studies.stop(operator, plan_hash)}.")


@app.command()
@fail_on_error
def publish(
    plan: Annotated[
        str, typer.Argument(help="The finished study's hash, or its first 8 digits; or a folder of choral operator prepare.")
    ],
    home: Home = _HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before start weights are signed on your word.")] = False,
    json_: Json = False,
) -> None:
    """Write a finished study's encoder, or prepared start weights, with a card that operator.key signs, to releases/."""
    from server import launch as studies
    from server.registry import publish as make

    operator = OperatorHome(home)
    if Path(plan).is_dir():
        _publish_start(operator, Path(plan), yes=yes, json_=json_)
        return
    folder = make(operator, studies.find_study(operator, plan))
    say(json_, {"release": str(folder)}, f"Release written to {folder}")


def _publish_start(operator: OperatorHome, prepared: Path, *, yes: bool, json_: bool) -> None:
    from server.registry import publish_prepared
    from ssl_core.start_card import history, read_facts, rests_on

    facts = read_facts(prepared)
    if not json_:
        made_from = [("weights", facts.weights), *(("made", line) for line in history(facts))]
        typer.echo(rows_to_text([*made_from, *(("your word", line) for line in rests_on(facts))]))
    confirm(yes, "Sign that these weights add epsilon 0, on your word for each of these lines?")
    folder, made = publish_prepared(operator, prepared, facts)
    say(json_, {"release": str(folder), **made.card.model_dump(mode="json")}, f"Start weights and card written to {folder}")


def _line(event: dict[str, Any]) -> str:
    where = " ".join(str(event[key]) for key in ("round", "site") if key in event)
    rest = {k: v for k, v in event.items() if k not in {"time", "stage", "round", "site"}}
    facts = " ".join(f"{k}={v}" for k, v in rest.items())
    return f"{event['stage']:<16}{where:<24}{facts}".rstrip()
