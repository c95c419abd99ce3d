"""`choral audit --html`: one file, no script, nothing loaded from elsewhere.

Comes in: an `AuditReport`. Goes out: HTML text (`render_audit`) or a file that is there whole or not (`write_audit`).
Values are escaped by jinja2. The pictures are PNG in data URIs, one pixel of the picture a pixel of the file; the content
security policy of the page allows those and its own style, nothing else.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import jinja2
from matplotlib.image import imsave

from deploy.audit_table import SEEN, membership_cells, verdict
from ssl_core.audit.control import DIVISOR
from ssl_core.audit.inversion import ARMS
from ssl_core.audit.one_run import OneRun
from ssl_core.audit.report import NOT_PROVEN, AuditReport
from ssl_core.audit.similarity import Picture
from ssl_core.chain import write_durably

_SCALE = 100.0
"""Pixels of the bar chart for one unit of epsilon."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture and the words under it."""

    data: str
    alt: str
    under: str


def write_audit(report: AuditReport, path: Path) -> None:
    """Render and write `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, render_audit(report).encode())


def render_audit(report: AuditReport) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    training = report.training
    return environment.get_template("audit.html.j2").render(
        report=report,
        verdict=verdict(report).removeprefix("- "),
        pairs=list(zip(report.runs, report.controls, strict=True)),
        bars=[(run.name, _bars(run, control)) for run, control in zip(report.runs, report.controls, strict=True)],
        scale=_SCALE,
        widest=_SCALE * max(run.cap for run in report.runs),
        divisor=f"{DIVISOR:g}",
        membership=None
        if training is None
        else [
            ("as claimed", membership_cells(training.membership)),
            (f"/ {DIVISOR:g}", membership_cells(training.control_membership)),
        ],
        arms=[(arm, SEEN[arm], *report.likeness(arm)) for arm in ARMS],
        rows=[_row(report, number) for number in range(len(report.inversion))],
        limits=NOT_PROVEN,
    )


def _bars(run: OneRun, control: OneRun) -> dict[str, float]:
    """Lengths in pixels."""
    return {
        "bound": _SCALE * run.bound,
        "control": _SCALE * control.bound,
        "claim": _SCALE * run.claim,
        "cap": _SCALE * run.cap,
    }


def _row(report: AuditReport, number: int) -> list[Shown]:
    trial = report.inversion[number]
    low, high = float(trial.true.min()), float(trial.true.max())
    shown = [Shown(_png(trial.true, low, high), f"picture {number + 1}, as it is", "the picture")]
    for arm in ARMS:
        under = f"{trial.psnr[arm]:.1f} dB, SSIM {trial.ssim[arm]:.3f}"
        shown.append(Shown(_png(trial.found[arm], low, high), f"picture {number + 1}, {arm}: {under}", under))
    return shown


def _png(picture: Picture, low: float, high: float) -> str:
    """A data URI; black and white are the ends of the true picture's range in every arm."""
    out = io.BytesIO()
    imsave(out, picture, vmin=low, vmax=high, cmap="gray", format="png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
