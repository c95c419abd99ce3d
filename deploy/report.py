"""The demo's HTML report: one file, no script, nothing loaded from elsewhere, fit for paper and for a phone.

Comes in: a `DemoResult`. Goes out: HTML text (`render_report`) or a file that is there whole or not (`write_report`).
Values are escaped by jinja2; the only markup that is passed through is our own SVG from `report_plots.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from deploy.demo_result import DemoResult, arm_label, mean, side, signed, start_in_words, verdicts
from deploy.demo_table import findings, number, size
from deploy.report_plots import STYLES, curves, epsilon_bars, site_curves
from ssl_core.chain import write_durably
from ssl_core.evaluation.label_efficiency import Arm, Interval, paired_difference
from ssl_core.privacy.statement import rounded_up

TRUST = (
    ("Server and operator", "may be malicious. They see sums of masked vectors, never one site's update; and each "
     "patient keeps the epsilon of the table above from the site's own noise, even if every mask were broken."),
    ("Other sites", "fewer than a third of them may collude with the server: the same holds; together they learn the sum of "
     "the remaining sites."),
    ("Network, and code that the server sends", "not trusted: TLS, node keys and signed messages; sent code is never run."),
    ("A site's own administrator", "is trusted with that site's patients. On this one machine, a demo's throw-away "
     "authority protects nobody from whoever runs it."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table: text, whether it is the best of its column, and its spread or verdict beneath."""

    text: str
    best: bool = False
    under: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One arm."""

    arm: str
    swatch: Markup
    cells: tuple[Cell, ...]


def write_report(result: DemoResult, path: Path) -> None:
    """Render and write `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, render_report(result).encode())


def render_report(result: DemoResult) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = site_curves(result)
    return environment.get_template("report.html.j2").render(
        result=result,
        start=start_in_words(result),
        draws=len(result.sites[0].scores[0].auroc),
        verdict=verdict(result),
        findings=findings(result),
        averaged=_averaged(result),
        sites=[(site, Markup(svg), _site_rows(result, place)) for place, (site, svg) in enumerate(plots)],  # noqa: S704 - own SVG
        own_gaps=_own_gaps(result),
        curves_wide=Markup(curves(result, wide=True)),  # noqa: S704 - own SVG
        curves_narrow=Markup(curves(result, wide=False)),  # noqa: S704 - own SVG
        epsilon=Markup(epsilon_bars(result)),  # noqa: S704 - own SVG
        legend=[(arm_label(arm, result.modality), _swatch(arm)) for arm in result.arms],
        epsilon_rows=[
            (
                s.name,
                rounded_up(s.epsilon_federated, 2),
                rounded_up(s.epsilon_own, 2),
                rounded_up(s.epsilon_total, 2),
                f"{s.epsilon_limit:.2f}",
                size(s.bytes_out),
                f"{s.nominal_size:,}",
            )
            for s in result.sites
        ],
        epsilon_most=rounded_up(max(s.epsilon_federated for s in result.sites), 2),
        total_most=rounded_up(max(s.epsilon_total for s in result.sites), 2),
        bytes_all=size(sum(s.bytes_out for s in result.sites)),
        bytes_one=size(max(s.bytes_out for s in result.sites)),
        seconds=f"{result.seconds:.0f}",
        trust=TRUST,
        steps=result.steps_per_round * result.rounds_closed,
    )


def verdict(result: DemoResult) -> list[str]:
    """Two or three plain sentences: federated against own, and every arm against the floor, good or bad."""
    budget = min(result.budgets, key=lambda b: abs(b - 50))
    sentences = []
    if Arm.OWN in result.arms and Arm.FEDERATED in result.arms:
        gap = result.difference(Arm.FEDERATED, Arm.OWN, budget)
        word = ("not clearly different from", "better than", "worse than")[side(gap)]
        sentences.append(
            f"At {budget} labels the federated private encoder is {word} what a site gets from its own private "
            f"pretraining: macro AUROC {_mean(result, Arm.FEDERATED, budget)} against {_mean(result, Arm.OWN, budget)}, "
            f"difference {signed(gap)}."
        )
    at = [v for v in verdicts(result) if v.budget == budget]
    above = [arm_label(v.arm, result.modality) for v in at if side(v.gap) > 0]
    unsure = [arm_label(v.arm, result.modality) for v in at if side(v.gap) == 0]
    below = [arm_label(v.arm, result.modality) for v in at if side(v.gap) < 0]
    floor = f"the raw floor ({_mean(result, Arm.FLOOR, budget)}, no encoder at all)"
    if below:
        sentences.append(f"Below {floor}: {', '.join(below)}.")
    if unsure:
        sentences.append(f"Not clearly different from {floor}: {', '.join(unsure)}.")
    sentences.append(f"Above {floor}: {', '.join(above)}." if above else f"No arm is clearly above {floor}.")
    return sentences


def _mean(result: DemoResult, arm: Arm, budget: int) -> str:
    return number(mean(result.averaged(arm, budget)))


def _averaged(result: DemoResult) -> list[Row]:
    """Mean and spread at each budget, then the gap to the floor at each budget."""
    rows = []
    means = {b: {arm: number(mean(result.averaged(arm, b))) for arm in result.arms} for b in result.budgets}
    for arm in result.arms:
        cells = []
        for budget in result.budgets:
            values = result.averaged(arm, budget)
            middle = mean(values)
            spread = (sum((v - middle) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
            best = means[budget][arm] == max(means[budget].values())
            cells.append(Cell(number(middle), best, f"± {number(spread)}"))
        for budget in result.budgets:
            cells.append(Cell("–") if arm is Arm.FLOOR else _gap(result.difference(arm, Arm.FLOOR, budget)))
        rows.append(Row(arm_label(arm, result.modality), _swatch(arm), tuple(cells)))
    return rows


def _gap(gap: Interval) -> Cell:
    tone = ("unclear", "above", "below")[side(gap)]
    mean_text, _, interval = signed(gap).partition(" ")
    return Cell(mean_text, under=f"{interval} {tone}", tone=tone)


def _site_rows(result: DemoResult, place: int) -> list[Row]:
    site = result.sites[place]
    means = {b: {arm: number(mean(site.draws(arm, b))) for arm in result.arms} for b in result.budgets}
    return [
        Row(
            arm_label(arm, result.modality),
            _swatch(arm),
            tuple(Cell(means[b][arm], means[b][arm] == max(means[b].values())) for b in result.budgets),
        )
        for arm in result.arms
    ]


def _own_gaps(result: DemoResult) -> list[tuple[str, tuple[str, ...]]]:
    """Federated minus own with its paired interval: average first, then site by site; empty without both arms."""
    if not {Arm.OWN, Arm.FEDERATED} <= set(result.arms):
        return []
    rows = [("average", tuple(signed(result.difference(Arm.FEDERATED, Arm.OWN, b)) for b in result.budgets))]
    for site in result.sites:
        pairs = [(site.draws(Arm.FEDERATED, b), site.draws(Arm.OWN, b)) for b in result.budgets]
        rows.append((site.name, tuple(signed(paired_difference(*pair)) for pair in pairs)))
    return rows


def _swatch(arm: Arm) -> Markup:
    """A short piece of the arm's line, for legends and tables."""
    style = STYLES[arm]
    return Markup(  # noqa: S704 - constants of report_plots
        f'<svg class="swatch" width="30" height="10" aria-hidden="true"><line x1="1" y1="5" x2="29" y2="5" '
        f'stroke="{style.colour}" stroke-width="3" stroke-dasharray="{_pixels(style.dash_array)}"/></svg>'
    )


def _pixels(dash: str) -> str:
    return dash if dash == "none" else " ".join(f"{1.5 * float(part):g}" for part in dash.split())
