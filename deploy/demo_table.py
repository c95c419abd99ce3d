"""The demo's printed result: macro AUROC averaged and for each site, then privacy and cost.

The best number of each column is marked, the floor's included; every other row says in words whether it beats the
floor. Differences are paired over label draws, with a 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.demo_result import DemoResult, arm_label, mean, side, signed, start_in_words
from ssl_core.evaluation.label_efficiency import Arm, paired_difference
from ssl_core.privacy.statement import rounded_up

_BEST = "bold green"


def print_result(console: Console, result: DemoResult) -> None:
    """All of it."""
    console.print(render(result))


def render(result: DemoResult) -> RenderableType:
    """The tables and sentences, top to bottom."""
    return Group(
        *(Text(line) for line in heading(result)),
        Text(""),
        _averaged(result),
        *(Text(line) for line in findings(result)),
        Text(""),
        _sites(result),
        Text(""),
        _privacy(result),
        *(Text(line) for line in cost(result)),
    )


def heading(result: DemoResult) -> list[str]:
    """What the data are, before any number."""
    kind = (
        "PROCEDURAL data: generated, no patient; these numbers say nothing about medicine."
        if result.procedural
        else result.source
    )
    lines = [f"Macro AUROC on test patients, {_draws(result)} label draws. {kind}"]
    if result.simulated_sites:
        lines.append("The sites are parts of one data set, not separate hospitals.")
    if start := start_in_words(result):
        lines.append(start)
    return lines


def findings(result: DemoResult) -> list[str]:
    """Federated against own and against the floor, in words; a loss is called a loss."""
    lines = []
    for budget in result.budgets:
        parts = []
        if Arm.OWN in result.arms and Arm.FEDERATED in result.arms:
            parts.append(f"federated minus own {signed(result.difference(Arm.FEDERATED, Arm.OWN, budget))}")
        if Arm.COMBINED in result.arms:
            parts.append(
                f"with federated features minus raw floor {signed(result.difference(Arm.COMBINED, Arm.FLOOR, budget))}"
            )
        if parts:
            lines.append(f"{budget} labels: {'; '.join(parts)}")
    losing = [
        arm_label(arm, result.modality)
        for arm in result.arms
        if arm is not Arm.FLOOR and all(result.difference(arm, Arm.FLOOR, b).mean <= 0 for b in result.budgets)
    ]
    if losing:
        lines.append(f"Below the raw floor at every budget: {', '.join(losing)}.")
    lines.append("In brackets: 95 % interval over label draws, for these encoders and these test patients alone.")
    short = sorted({name for site in result.sites for name in site.short})
    if short:
        lines.append(f"Fewer than two positives or negatives in some draws: {', '.join(short)}.")
    return lines


def cost(result: DemoResult) -> list[str]:
    """Rounds, time, machine."""
    phases = ", ".join(f"{phase.name} {phase.seconds:.0f} s" for phase in result.phases)
    return [
        f"Rounds: {result.rounds_closed} closed, {result.rounds_void} void. {result.seconds:.0f} s in all: {phases}.",
        f"{result.machine}. Release {result.release}, study plan {result.plan_hash[:16]}.",
    ]


def number(value: float) -> str:
    """.856; 1.000 stays."""
    text = f"{value:.3f}"
    return text.removeprefix("0")


def size(count: int) -> str:
    """Bytes for people: 1.4 MB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _draws(result: DemoResult) -> int:
    return len(result.sites[0].scores[0].auroc)


def _averaged(result: DemoResult) -> Table:
    table = Table(title=f"Average of {len(result.sites)} sites (± standard deviation over draws)", title_justify="left")
    table.add_column("arm", no_wrap=True)
    for budget in result.budgets:
        table.add_column(f"{budget} labels", justify="right", no_wrap=True)
    table.add_column("minus floor, the same budgets", no_wrap=True)
    best = _best(result, result.averaged)
    for arm in result.arms:
        cells = []
        for budget in result.budgets:
            draws = result.averaged(arm, budget)
            middle = mean(draws)
            spread = (sum((d - middle) ** 2 for d in draws) / max(len(draws) - 1, 1)) ** 0.5
            mark = "*" if arm in best[budget] else " "
            cells.append(Text(f"{number(middle)} ± {number(spread)}{mark}", _BEST if mark == "*" else ""))
        cells.append(Text("-") if arm is Arm.FLOOR else _against_floor(result, arm))
        table.add_row(arm_label(arm, result.modality), *cells)
    table.caption = "* best of its column"
    table.caption_justify = "left"
    return table


def _against_floor(result: DemoResult, arm: Arm) -> Text:
    """The gap at each budget and one word: wins, loses (all intervals on one side of zero), even (none is) or mixed."""
    gaps = [result.difference(arm, Arm.FLOOR, budget) for budget in result.budgets]
    text = Text()
    for gap in gaps:
        text.append(f"{signed(gap).partition(' ')[0]} ", ("yellow", "green", "red")[side(gap)])
    sides = {side(gap) for gap in gaps}
    return text.append({1: "wins", -1: "loses", 0: "even"}[sides.pop()] if len(sides) == 1 else "mixed")


def _sites(result: DemoResult) -> Table:
    table = Table(title="Each site (mean of draws)", title_justify="left")
    table.add_column("site", no_wrap=True)
    table.add_column("arm", no_wrap=True)
    for budget in result.budgets:
        table.add_column(f"{budget} labels", justify="right", no_wrap=True)
    if Arm.OWN in result.arms and Arm.FEDERATED in result.arms and 50 in result.budgets:
        table.add_column("federated - own, 50", justify="right")
    for site in result.sites:
        best = _best(result, site.draws)
        for place, arm in enumerate(result.arms):
            cells: list[str | Text] = [site.name if place == 0 else "", arm_label(arm, result.modality)]
            for budget in result.budgets:
                won = arm in best[budget]
                cells.append(Text(f"{number(mean(site.draws(arm, budget)))}{'*' if won else ' '}", _BEST if won else ""))
            if len(table.columns) > len(cells) and arm is Arm.FEDERATED:
                cells.append(signed(paired_difference(site.draws(arm, 50), site.draws(Arm.OWN, 50))))
            table.add_row(*cells, end_section=place == len(result.arms) - 1)
    return table


def _best(result: DemoResult, draws: Callable[[Arm, int], tuple[float, ...]]) -> dict[int, set[Arm]]:
    """The arms whose mean, as printed, is the highest of a budget; more than one where they print alike."""
    found = {}
    for budget in result.budgets:
        printed = {arm: number(mean(draws(arm, budget))) for arm in result.arms}
        top = max(float(text) for text in printed.values())
        found[budget] = {arm for arm, text in printed.items() if float(text) == top}
    return found


def _privacy(result: DemoResult) -> Table:
    table = Table(title=f"Privacy spent, per patient: epsilon of each study at delta {result.delta:g}", title_justify="left")
    for name in ("site", "federated study", "own study", "total by the ledger", "limit", "bytes out"):
        table.add_column(name, justify="left" if name == "site" else "right")
    for site in result.sites:
        spent = (rounded_up(value, 2) for value in (site.epsilon_federated, site.epsilon_own, site.epsilon_total))
        table.add_row(site.name, *spent, f"{site.epsilon_limit:.2f}", size(site.bytes_out))
    table.caption = f"Total: {result.ledger_rule}. The raw floor, the random encoder and training from scratch release nothing."
    table.caption_justify = "left"
    return table
