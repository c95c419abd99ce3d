"""The demo over several seeds: federated minus own, paired, with its interval. Prints a table; asserts nothing.

    python tests/bench/bench_demo.py --wheel data/torchxrayvision-1.5.7-py3-none-any.whl [--seeds 1 2 3] [--json FILE]

A seed changes the start weights and the label draws; noise and samples are fresh in every run by construction. The
interval is Student's over seeds x draws of the average over sites; target: at least +.005 at 50 labels.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.demo import machine_line, run_demo
from deploy.demo_choice import DemoChoice
from deploy.demo_result import DemoResult, arm_label, mean, signed
from ssl_core.evaluation.label_efficiency import Arm, paired_difference

_TARGET, _AT = 0.005, 50


def main() -> int:
    """Run the demo once a seed; exit code of the first run that failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wheel", type=Path, help="the wheel with the PadChest table; without it, generated reports")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, help="also write machine and rows here")
    given = parser.parse_args()
    console = Console()
    results: list[DemoResult] = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory(prefix="choral-bench-") as folder:
            choice = DemoChoice(wheel=given.wheel, procedural=given.wheel is None, seed=seed)
            code = run_demo(choice, Path(folder), console=Console(quiet=True))
            if code:
                return code
            (found,) = Path(folder).glob("*/result.json")
            results.append(DemoResult.from_json(found.read_text()))
            console.print(f"seed {seed}: {results[-1].seconds:.0f} s", highlight=False)
    rows = table(results, console)
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine_line(), "rows": rows}, indent=1))
    return 0


def table(results: list[DemoResult], console: Console) -> list[dict[str, object]]:
    """Print arms by budget and the paired differences; return them as rows."""
    first = results[0]
    shown = Table(title=f"Macro AUROC, mean of {len(results)} seeds; {machine_line()}")
    shown.add_column("arm")
    for budget in first.budgets:
        shown.add_column(f"{budget} labels", justify="right")
    rows: list[dict[str, object]] = []
    for arm in first.arms:
        means = [mean([mean(r.averaged(arm, b)) for r in results]) for b in first.budgets]
        shown.add_row(arm_label(arm, first.modality), *(f"{value:.3f}" for value in means))
        rows += [{"arm": str(arm), "budget": b, "auroc": v} for b, v in zip(first.budgets, means, strict=True)]
    console.print(shown)
    for budget in first.budgets:
        gaps = [r.difference(Arm.FEDERATED, Arm.OWN, budget).mean for r in results]
        pooled = paired_difference(
            tuple(v for r in results for v in r.averaged(Arm.FEDERATED, budget)),
            tuple(v for r in results for v in r.averaged(Arm.OWN, budget)),
        )
        target = f"; target {_TARGET:+.3f}: {'met' if pooled.mean >= _TARGET else 'MISSED'}" if budget == _AT else ""
        by_seed = " ".join(f"{gap:+.3f}" for gap in gaps)
        console.print(f"{budget} labels: federated minus own {signed(pooled)} (by seed {by_seed}){target}", highlight=False)
        rows.append(
            {"difference": "federated-own", "budget": budget, "mean": pooled.mean, "low": pooled.low, "high": pooled.high}
        )
    console.print(f"seconds of each demo: {', '.join(f'{r.seconds:.0f}' for r in results)}", highlight=False)
    return rows


if __name__ == "__main__":
    sys.exit(main())
