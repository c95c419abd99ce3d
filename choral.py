"""The face of Choral: its public names and its command. Importing it brings neither torch nor flwr."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from client.authority import app as authority_app
from client.cli import app as site_app
from deploy.console import fail_on_error, say
from server.cli import app as operator_app

if TYPE_CHECKING:
    from ssl_core.card import load_encoder as load_encoder
    from ssl_core.config import StudyPlan as StudyPlan
    from ssl_core.encoders.base import Encoder as Encoder
    from ssl_core.finetuning.model import FineTuner as FineTuner

__version__ = "0.1.0"
__all__ = ["Encoder", "FineTuner", "StudyPlan", "load_encoder"]

_HOMES = {
    "Encoder": "ssl_core.encoders.base",
    "FineTuner": "ssl_core.finetuning.model",
    "StudyPlan": "ssl_core.config",
    "load_encoder": "ssl_core.card",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'choral' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hospitals pretrain one encoder together, in private. Start with: choral demo --help",
)
app.add_typer(authority_app, name="authority")
app.add_typer(operator_app, name="operator")
app.add_typer(site_app, name="site")


@app.command()
@fail_on_error
def finetune(
    encoder: Annotated[Path, typer.Argument(help="Folder of an encoder (a release, or encoders/NAME of a site).")],
    source: Annotated[Path, typer.Option("--source", help="TOML that declares the records.")],
    labels: Annotated[Path, typer.Option("--labels", help="CSV: patient column and label columns.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the model; it never leaves the hospital.")],
    count: Annotated[int | None, typer.Option("--count", help="Use at most so many labelled patients.")] = None,
    method: Annotated[
        Literal["probe", "full"], typer.Option("--method", help="probe: linear head; full: all weights.")
    ] = "probe",
    test_source: Annotated[Path | None, typer.Option("--test-source", help="Records to test on.")] = None,
    test_labels: Annotated[Path | None, typer.Option("--test-labels", help="Their labels.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Fit a model of your own labels on an encoder. The model is private: false, do not share."""
    from ssl_core.finetuning.run import finetune as run

    report = run(encoder, source, labels, out, labels=count, method=method, test_source=test_source, test_labels=test_labels)
    say(json_, report.to_json(), report.to_text())


@app.command()
@fail_on_error
def embed(
    encoder: Annotated[Path, typer.Argument(help="Folder of an encoder.")],
    source: Annotated[Path, typer.Option("--source", help="TOML that declares the records.")],
    out: Annotated[Path, typer.Option("--out", help="New .npz with features float32 [records, F] and unit ids.")],
) -> None:
    """Write the encoder's features of your records. They are private: false, do not share."""
    from ssl_core.finetuning.run import embed as run

    run(encoder, source, out)
    typer.echo(f"Features written to {out}. They describe patients: do not share them.")


@app.command()
@fail_on_error
def demo(
    images: Annotated[Path | None, typer.Option("--images", help="Run on an image array (.npz) instead of reports.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="With --images: evaluate on these labels only, comma separated.")
    ] = None,
    procedural: Annotated[bool, typer.Option("--procedural", help="Run on generated reports; nothing is fetched.")] = False,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="The torchxrayvision 1.5.7 wheel with the PadChest table.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the federation's state.")] = Path("choral-demo"),
) -> None:
    """A whole federation on this machine: five hospitals, one operator, private pretraining, fine-tuning, a report."""
    from deploy.demo import DemoChoice, run_demo

    choice = DemoChoice(images=images, classes=tuple(classes.split(",")) if classes else (), procedural=procedural, wheel=wheel)
    raise typer.Exit(run_demo(choice, out))


def main() -> None:
    """Entry point of the `choral` command."""
    app()


if __name__ == "__main__":
    main()
