"""The face of Choral: its public names and its command. Importing it brings neither torch nor flwr."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from client.authority import app as authority_app
from client.cli import app as site_app
from deploy.console import fail_on_error, say
from server.cli import app as operator_app
from ssl_core.errors import ConfigError

if TYPE_CHECKING:
    from ssl_core.card import load_encoder as load_encoder
    from ssl_core.config import StudyPlan as StudyPlan
    from ssl_core.encoders.base import Encoder as Encoder
    from ssl_core.finetuning.model import FineTuner as FineTuner
    from ssl_core.finetuning.model import SiteModel as SiteModel
    from ssl_core.finetuning.model import load_site_model as load_site_model
    from ssl_core.start_card import load_start as load_start

__version__ = "0.1.0"
__all__ = ["Encoder", "FineTuner", "SiteModel", "StudyPlan", "load_encoder", "load_site_model", "load_start"]

_HOMES = {
    "Encoder": "ssl_core.encoders.base",
    "FineTuner": "ssl_core.finetuning.model",
    "SiteModel": "ssl_core.finetuning.model",
    "StudyPlan": "ssl_core.config",
    "load_encoder": "ssl_core.card",
    "load_site_model": "ssl_core.finetuning.model",
    "load_start": "ssl_core.start_card",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'choral' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hospitals pretrain one encoder together, in private; each then fits its own model on it. To see it all on this "
    "machine: choral demo --procedural",
)
app.add_typer(authority_app, name="authority")
app.add_typer(operator_app, name="operator")
app.add_typer(site_app, name="site")


EncoderFolder = Annotated[
    Path, typer.Argument(help="Folder of an encoder: a release from the operator, or encoders/NAME in your site's folder.")
]
Source = Annotated[Path, typer.Option("--source", help="TOML that declares the patients' records.")]
RosterFile = Annotated[
    Path | None,
    typer.Option("--roster", help="Roster whose operator must have signed the encoder's card: the one your site accepted."),
]


@app.command()
@fail_on_error
def finetune(
    encoder: EncoderFolder,
    source: Source,
    labels: Annotated[
        Path, typer.Option("--labels", help="CSV: a column patient, and a 0/1 column for each finding, or as named below.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for the model.")],
    roster: RosterFile = None,
    count: Annotated[
        int | None, typer.Option("--count", help="Fit on so many of the labelled patients, drawn at random; default: all.")
    ] = None,
    method: Annotated[
        Literal["probe", "full"],
        typer.Option("--method", help="probe: a linear model on the encoder as it is; full: train the encoder too."),
    ] = "probe",
    test_source: Annotated[Path | None, typer.Option("--test-source", help="TOML of other patients, to test on.")] = None,
    test_labels: Annotated[Path | None, typer.Option("--test-labels", help="Their labels, as in --labels.")] = None,
    class_column: Annotated[
        str | None, typer.Option("--class-column", help="Column of classes, one of two or more a row, instead of 0/1 columns.")
    ] = None,
    record_column: Annotated[
        str | None,
        typer.Option(
            "--record-column",
            help="Column of record ids: each row of the labels is one record of a patient, and the model is fitted to records. "
            "Draws and tests are by patient all the same.",
        ),
    ] = None,
    values: Annotated[
        str | None, typer.Option("--values", help="Columns of numbers to tell instead of 0/1 labels, such as AGE,EF.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of times to an event, or to the last look.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="With --time: 1 where the event happened then, else 0.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Fit a model to your own labels on an encoder. The model knows your patients: it never leaves the hospital."""
    from client.origin import open_encoder
    from ssl_core.finetuning.run import finetune as run

    loaded, origin = open_encoder(encoder, roster)
    typer.echo(origin, err=True)
    if values is not None or time is not None or event is not None:
        from ssl_core.finetuning.outcome import Columns, finetune_outcome

        if count is not None or method != "probe":
            raise ConfigError("outcomes that are no 0/1 labels take all patients and a linear head", field="--count, --method")
        if class_column is not None:
            raise ConfigError("give classes, or numbers, or a time and an event", field="--class-column", value=class_column)
        columns = Columns(values=tuple(values.split(",")) if values else (), time=time, event=event, record=record_column)
        told = finetune_outcome(loaded, source, labels, out, columns, test_source=test_source, test_outcomes=test_labels)
        say(json_, told.to_json() | {"origin": origin}, told.to_text())
        return
    report = run(
        loaded, source, labels, out, labels=count, method=method, test_source=test_source, test_labels=test_labels,
        class_column=class_column, record_column=record_column,
    )  # fmt: skip
    say(json_, report.to_json() | {"origin": origin}, report.to_text())


@app.command()
@fail_on_error
def embed(
    encoder: Annotated[
        Path,
        typer.Argument(
            help="Folder of an encoder, as for choral finetune; or of a model that choral finetune made, for its scores."
        ),
    ],
    source: Source,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="New .npz: features (float32, one row a record), the patient of each row, whether its record is good. Of a "
            "model, new .csv: a row for each patient, or record, and a column of scores for each label.",
        ),
    ],
    roster: RosterFile = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write an encoder's features, or a fine-tuned model's scores, of your records. They never leave the hospital."""
    from client.origin import open_encoder
    from ssl_core.finetuning.predict import is_site_model, predict
    from ssl_core.finetuning.run import embed as run

    if is_site_model(encoder):
        if roster is not None:
            raise ConfigError(
                "nobody signs a hospital's own model", field="--roster", value=roster.name,
                remedy="leave it out; the encoder was checked when the model was fitted",
            )  # fmt: skip
        told = predict(encoder, source, out)
        say(json_, told.to_json(), told.to_text())
        return
    loaded, origin = open_encoder(encoder, roster)
    typer.echo(origin, err=True)
    features, good = run(loaded, source, out)
    bad = int((~good).sum())
    spoilt = f"{bad} of {len(good)} records are bad, and their features those of nothing: good is False there.\n" if bad else ""
    say(
        json_,
        {"file": str(out), "records": features.shape[0], "bad": bad, "width": features.shape[1], "origin": origin},
        f"{spoilt}Features written to {out}. They describe patients: do not share them.",
    )


@app.command()
@fail_on_error
def audit(
    quick: Annotated[
        bool, typer.Option("--quick", help="Attack the private step alone; train no shadow site. Seconds, not minutes.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write it all, with pictures, to one HTML file.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Attack this installation's private step on synthetic patients. Exit code 0 unless it FAILs or the audit is broken."""
    from rich.console import Console

    from deploy.audit_page import write_audit
    from deploy.audit_table import print_audit
    from ssl_core.audit.report import run_audit

    report = run_audit(quick=quick)
    if html is not None:
        write_audit(report, html)
    if json_:
        say(True, report.to_json(), "")
    else:
        print_audit(Console() if sys.stdout.isatty() else Console(width=110), report)
    raise typer.Exit(1 if report.outcome == "FAIL" else 0)


@app.command()
@fail_on_error
def demo(
    modality: Annotated[
        Literal["text", "image", "signal", "table", "sound", "audio", "events", "pair"] | None,
        typer.Option(
            "--modality", help="Default: text, from the wheel. The others are generated; nothing is fetched. audio: sound."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Run on images of yours: .npz with image, patient, label.")
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option("--signals", help="Run on signals of yours: .npz with signal, record, label; 100 Hz, 3000 samples, mV."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="With --images or --signals: evaluate on these labels alone, such as a,b.")
    ] = None,
    procedural: Annotated[bool, typer.Option("--procedural", help="Generate the text, too; nothing is fetched.")] = False,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="The torchxrayvision 1.5.7 wheel with the PadChest table.")
    ] = None,
    warm: Annotated[
        bool,
        typer.Option("--warm", help="Begin from weights pretrained on generated records (image, signal, sound): no epsilon."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the federation's state.")] = Path("choral-demo"),
) -> None:
    """A whole federation on this machine, in minutes: five hospitals, one operator, private pretraining, a report."""
    from deploy.demo import run_demo
    from deploy.demo_choice import DemoChoice

    choice = DemoChoice(
        modality="sound" if modality == "audio" else modality,
        images=images,
        signals=signals,
        classes=tuple(classes.split(",")) if classes else (),
        procedural=procedural,
        wheel=wheel,
        warm=warm,
    )
    raise typer.Exit(run_demo(choice, out))


def main() -> None:
    """Entry point of the `choral` command."""
    from ssl_core.core_files import leave_no_core_file

    # Processes that are started from here, the executor too, inherit it.
    leave_no_core_file()
    app()


if __name__ == "__main__":
    main()
