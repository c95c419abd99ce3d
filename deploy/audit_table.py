"""`choral audit`, printed: bounds with their controls, checks, membership, inversion, and what none of it proves.

Comes in: an `AuditReport`. Goes out: rich tables. The outcome stands last, where a terminal leaves the eye.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssl_core.audit.control import DIVISOR
from ssl_core.audit.inversion import ARMS, SEEDS, SITES
from ssl_core.audit.membership import Interval, Membership
from ssl_core.audit.report import NOT_PROVEN, AuditReport

_TONES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}
SEEN = {
    "plain": "one site's update, no noise",
    "summed": f"sum of {SITES} sites, no noise",
    "noised": "one site's update, sigma 1",
    "both": f"sum of {SITES} sites, sigma 1",
}


def print_audit(console: Console, report: AuditReport) -> None:
    """All of it."""
    console.print(_render(report))


def _render(report: AuditReport) -> RenderableType:
    parts: list[RenderableType] = [_bounds(report), Text(_explain_bounds(report)), Text(""), _checks(report)]
    if report.training is not None:
        parts += [Text(""), _membership(report.training.membership, report.training.control_membership)]
    parts += [Text(""), _inversion(report), Text("")]
    parts += [Text("What this does not prove"), *(Text(f"- {line}") for line in NOT_PROVEN), Text("")]
    parts.append(Text.assemble("Audit: ", (report.outcome, _TONES[report.outcome]), f" {verdict(report)}"))
    return Group(*parts)


def verdict(report: AuditReport) -> str:
    """What the outcome means, in one sentence."""
    if report.failures:
        also = f" (also: {', '.join(report.failures[1:])})" if report.failures[1:] else ""
        return f"- caught by: {report.failures[0]}{also}. Do not train on patients with this build."
    if report.outcome == "INCONCLUSIVE":
        return "- a cap is not above its claim: more canaries are needed to say anything."
    left_out = "" if report.training is not None else " No shadow site was trained (--quick)."
    return f"- no attack found more than the accountant allows; {report.seconds:.0f} s.{left_out}"


def _bounds(report: AuditReport) -> Table:
    table = Table(title="Lower bounds on epsilon, by canaries", title_justify="left")
    table.add_column("attack")
    for name in ("m", "r", "right", "bound", "claim", "cap", f"noise / {DIVISOR:g}"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    for run, control in zip(report.runs, report.controls, strict=True):
        cells = (run.canaries, run.guesses, run.correct, f"{run.bound:.2f}", f"{run.claim:.2f}", f"{run.cap:.2f}")
        beside = f"{control.bound:.2f} {control.outcome}"
        table.add_row(run.name, *map(str, cells), beside, Text(run.outcome, _TONES[run.outcome]))
    return table


def _explain_bounds(report: AuditReport) -> str:
    run = report.runs[0]
    return (
        f"m canaries, r guesses fixed beforehand, {run.confidence:.0%} confidence, delta {run.delta:g}, add or remove one "
        "patient. The cap is the bound if every guess were right: it must lie above the claim. The control must FAIL."
    )


def _checks(report: AuditReport) -> Table:
    table = Table(title="Parts of the private step", title_justify="left")
    for name in ("check", "measured", "demanded", "outcome"):
        table.add_column(name)
    for check in report.checks:
        outcome = "PASS" if check.passed else "FAIL"
        table.add_row(check.name, check.measured, check.demanded, Text(outcome, _TONES[outcome]))
    return table


def _membership(healthy: Membership, weak: Membership) -> Table:
    table = Table(title="Who was in it? Loss differences of ordinary synthetic patients", title_justify="left")
    table.add_column("noise")
    for name in ("in", "out", "AUROC", "true positives", "at false positives", "epsilon at least"):
        table.add_column(name, justify="right")
    for name, found in (("as claimed", healthy), (f"/ {DIVISOR:g}", weak)):
        table.add_row(name, *membership_cells(found))
    return table


def membership_cells(found: Membership) -> tuple[str, ...]:
    """Numbers with their 95 % intervals."""
    return (
        str(found.inside),
        str(found.outside),
        f"{found.auroc:.3f} {_interval(found.auroc_interval)}",
        f"{found.true_positives:.3f} {_interval(found.true_positives_interval)}",
        f"{found.false_positives:.3f} {_interval(found.false_positives_interval)}",
        f"{found.bound:.2f}",
    )


def _interval(interval: Interval) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _inversion(report: AuditReport) -> Table:
    table = Table(title=f"A picture back from what is seen, medians of {SEEDS}", title_justify="left")
    table.add_column("arm")
    table.add_column("what is seen")
    table.add_column("PSNR, dB", justify="right")
    table.add_column("SSIM", justify="right")
    for arm in ARMS:
        decibels, likeness = report.likeness(arm)
        table.add_row(arm, SEEN[arm], f"{decibels:.1f}", f"{likeness:.3f}")
    return table
