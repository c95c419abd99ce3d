"""Plots of the demo's report as inline SVG text: no script, no outside resource, text stays text.

Comes in: a `DemoResult`. Goes out: `<svg>` elements as strings. Each arm has its own colour, dash and marker, so that
a grey print and colour-blind readers can tell them apart; bars over the sites carry their numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.demo_result import DemoResult, arm_label, mean
from deploy.demo_table import number
from ssl_core.evaluation.label_efficiency import Arm
from ssl_core.privacy.statement import rounded_up

_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "DejaVu Sans", "sans-serif"]
_INK, _GRID = "#22303c", "#dfe5ea"


@dataclass(frozen=True, slots=True)
class Style:
    """How an arm is drawn."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]]
    marker: str
    width: float = 1.8

    @property
    def dash_array(self) -> str:
        """The same dash for an SVG swatch."""
        return "none" if isinstance(self.dash, str) else " ".join(str(part) for part in self.dash[1])


STYLES: dict[Arm, Style] = {
    Arm.FLOOR: Style("#111111", (0, (6, 2)), "s"),
    Arm.RANDOM: Style("#8a949c", (0, (1, 1.5)), "v"),
    Arm.SCRATCH: Style("#b3541e", (0, (4, 1.5, 1, 1.5)), "D"),
    Arm.OWN: Style("#5b8fd6", (0, (2, 1.5)), "^"),
    Arm.OWN_TUNED: Style("#2c5aa0", (0, (2, 1.5)), "<"),
    Arm.FEDERATED: Style("#17917f", "-", "o", 2.4),
    Arm.FEDERATED_TUNED: Style("#0b5c50", "-", ">", 2.0),
    Arm.COMBINED: Style("#9b2d86", "-", "P", 2.4),
}


def curves(result: DemoResult, *, wide: bool) -> str:
    """Label efficiency averaged over sites; bars: standard deviation over label draws. Wide: arms are named in the plot."""
    figure = Figure(figsize=(10.4, 5.2) if wide else (4.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, result, result.averaged, bars=True)
    axes.set_xlabel("labelled patients")
    axes.set_ylabel("macro AUROC, test patients")
    if wide:
        _name_lines(axes, result)
    return _svg(figure, f"curves-{wide}", "Macro AUROC against the number of labelled patients, averaged over sites")


def site_curves(result: DemoResult) -> list[tuple[str, str]]:
    """One small plot a site, all with the same axes: (site, svg)."""
    low, high = _range(result, [site.draws for site in result.sites])
    plots = []
    for site in result.sites:
        figure = Figure(figsize=(3.9, 3.1), layout="constrained")
        axes = figure.add_subplot()
        _lines(axes, result, site.draws, bars=False)
        axes.set_ylim(low, high)
        plots.append((site.name, _svg(figure, site.name, f"Macro AUROC against labelled patients at {site.name}")))
    return plots


def epsilon_bars(result: DemoResult) -> str:
    """Epsilon of both studies, total and limit, site by site."""
    count = len(result.sites)
    figure = Figure(figsize=(7.6, 0.75 * count + 0.9), layout="constrained")
    axes = figure.add_subplot()
    bars = (
        ("federated study", STYLES[Arm.FEDERATED].colour, [s.epsilon_federated for s in result.sites]),
        ("own study", STYLES[Arm.OWN].colour, [s.epsilon_own for s in result.sites]),
        ("total by the ledger", _INK, [s.epsilon_total for s in result.sites]),
    )
    for place, (name, colour, values) in enumerate(bars):
        heights = [row + (place - 1) * 0.25 for row in range(count)]
        axes.barh(heights, values, 0.22, color=colour, label=name)
        for height, value in zip(heights, values, strict=True):
            axes.annotate(rounded_up(value, 2), (value, height), (4, 0), textcoords="offset points", va="center", fontsize=9)
    for row, site in enumerate(result.sites):
        axes.plot([site.epsilon_limit] * 2, [row - 0.4, row + 0.4], color="#b00020", lw=2, label="limit" if row == 0 else None)
    axes.set_yticks(range(count), [site.name for site in result.sites])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(max(s.epsilon_limit, s.epsilon_total) for s in result.sites))
    axes.set_xlabel(f"epsilon per patient at delta {result.delta:g}")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=10)
    return _svg(figure, "epsilon", "Epsilon spent by each site")


def _lines(axes: Axes, result: DemoResult, draws: Callable[[Arm, int], Sequence[float]], *, bars: bool) -> None:
    arms = result.arms
    for place, arm in enumerate(arms):
        style = STYLES[arm]
        # A little apart on the logarithmic axis, so that error bars do not hide each other.
        shift = 1 + (place - (len(arms) - 1) / 2) * 0.018 if bars else 1.0
        x = [budget * shift for budget in result.budgets]
        rows = [draws(arm, budget) for budget in result.budgets]
        y = [mean(row) for row in rows]
        spread = [(sum((v - mean(row)) ** 2 for v in row) / max(len(row) - 1, 1)) ** 0.5 for row in rows]
        axes.errorbar(
            x, y, yerr=spread if bars else None, color=style.colour, ls=style.dash, marker=style.marker,
            lw=style.width, ms=5.5 if bars else 4, elinewidth=0.9, capsize=2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(result.budgets, [str(budget) for budget in result.budgets])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2f}".removeprefix("0"))


def _name_lines(axes: Axes, result: DemoResult) -> None:
    """Names at the right end of the lines, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) / 20
    last = result.budgets[-1]
    ends = sorted((mean(result.averaged(arm, last)), arm) for arm in result.arms)
    heights = [value for value, _ in ends]
    for _ in range(200):
        for lower in range(len(heights) - 1):
            overlap = gap - (heights[lower + 1] - heights[lower])
            if overlap > 1e-9:
                heights[lower], heights[lower + 1] = heights[lower] - overlap / 2, heights[lower + 1] + overlap / 2
    for height, (value, arm) in zip(heights, ends, strict=True):
        colour = STYLES[arm].colour
        axes.plot([last * 1.1, last * 1.19], [value, height], color=colour, lw=0.7, clip_on=False)
        name = f"{arm_label(arm, result.modality)}  {number(value)}"
        axes.text(last * 1.21, height, name, va="center", fontsize=10.5, color=colour)
    axes.set_xlim(right=last * 1.1)
    axes.set_ylim(low, high)


def _range(result: DemoResult, sites: Sequence[Callable[[Arm, int], Sequence[float]]]) -> tuple[float, float]:
    values = [mean(draws(arm, budget)) for draws in sites for arm in result.arms for budget in result.budgets]
    edge = 0.06 * (max(values) - min(values)) + 1e-3
    return min(values) - edge, max(values) + edge


def _svg(figure: Figure, salt: str, title: str) -> str:
    """The figure as one <svg> that scales with its container; ids salted, so that several fit one page."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color=_GRID, lw=0.8, axis="y" if axes.get_xscale() == "log" else "x")
        axes.set_axisbelow(True)
        axes.tick_params(colors=_INK, labelsize=10.5)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(_INK)
            label.set_fontsize(11)
    text = io.StringIO()
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
    }
    with matplotlib.rc_context(settings):
        figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'id="(figure|axes|patch|text|line2d|matplotlib|xtick|ytick|legend|LineCollection|PathCollection)[^"]*"', "", svg
    )
    svg = svg.replace("DejaVu Sans", ", ".join(_FONT))
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escaped}"', 1)
