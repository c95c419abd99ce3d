"""After the studies: each site fine-tunes and is scored, its ledger is read, and everything becomes one `DemoResult`.

The harness reads the sites' own folders (ruling 27): no message of the federation carries a score. Goes out: result.json,
report.html and the printed table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo_data.sites import DemoSite, DemoSites
from deploy.demo_result import DemoResult, Scores, SiteOutcome
from deploy.demo_table import print_result
from deploy.loopback import Loopback
from deploy.report import write_report
from ssl_core.card import Card, read_card
from ssl_core.chain import write_durably
from ssl_core.evaluation.label_efficiency import Arm

_LABELLED = 50


def evaluate(
    data: DemoSites, loopback: Loopback, folder: Path, release: Path, own: Mapping[str, Path], *, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Scores of every arm at every site, each site in a process of its own, as many at once as there are cores."""

    def run(site: DemoSite) -> dict[str, Any]:
        out = folder / "scores" / f"{site.name}.json"
        out.parent.mkdir(exist_ok=True)
        loopback.module(
            "deploy.evaluate_site", "--site-folder", str(site.folder), "--federated", str(release),
            "--own", str(own[site.name]), "--draws", str(draws), "--seed", str(seed), "--out", str(out),
        )  # fmt: skip
        scores: dict[str, Any] = json.loads(out.read_text())
        return scores

    return dict(zip([site.name for site in data.sites], loopback.together(run, data.sites), strict=True))


def finetune_everywhere(data: DemoSites, loopback: Loopback) -> None:
    """`choral finetune` at each site on its few labels; the model stays in the site's state folder."""

    def run(site: DemoSite) -> None:
        home = loopback.site_home(site.name)
        (encoder,) = (path for path in (home / "encoders").glob("[!.]*") if read_card(path).kind == "federated")
        loopback.command(
            "finetune", str(encoder), "--source", str(site.pool), "--labels", str(site.labels),
            "--test-source", str(site.test), "--test-labels", str(site.labels),
            "--count", str(_LABELLED), "--out", str(home / "models" / f"from-{encoder.name}"),
        )  # fmt: skip

    loopback.together(run, data.sites)


def collect(
    data: DemoSites,
    loopback: Loopback,
    release: Path,
    scores: Mapping[str, Mapping[str, Any]],
    *,
    machine: str,
    seed: int,
    warm: bool,
) -> DemoResult:
    """Put the ledgers' statements, receipts and scores together; the phases' times are added by the caller."""
    card = read_card(release)
    statements = {name: json.loads(text) for name, text in loopback.each_site("site", "ledger", "--json").items()}
    # The demo's patients are one cohort.
    ledgers = {name: statement["cohorts"][0] for name, statement in statements.items()}
    states = {name: json.loads(text) for name, text in loopback.each_site("site", "status", "--json").items()}
    privacy = card.plan.privacy
    (ledger_delta,) = {ledger["delta"] for ledger in ledgers.values()}
    return DemoResult(
        release=release.name,
        plan_hash=card.plan_hash,
        modality=card.plan.data.kind,
        procedural=data.kind == "procedural",
        simulated_sites=True,
        warm=warm,
        delta=privacy.delta,
        ledger_rule=f"smaller of RDP filter and sum, at the ledger's delta {ledger_delta:g}",
        noise_multiplier=privacy.noise_multiplier,
        sampling_rate=privacy.sampling_rate,
        max_grad_norm=privacy.max_grad_norm,
        rounds_closed=card.rounds_closed,
        rounds_void=card.rounds_void,
        steps_per_round=card.plan.rounds.steps_per_round,
        phases=(),
        sites=tuple(_site(site, card, ledgers[site.name], states[site.name], scores[site.name]) for site in data.sites),
        source=data.source,
        citation=data.citation,
        terms=data.terms,
        machine=machine,
        software=", ".join(f"{name} {version(name)}" for name in ("choral", "torch", "opacus", "flwr", "dp-accounting")),
        seed=seed,
    )


def show(result: DemoResult, console: Console, folder: Path) -> None:
    """Print the table; write result.json and report.html."""
    write_durably(folder / "result.json", result.to_json().encode())
    write_report(result, folder / "report.html")
    print_result(console, result)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"Written {time.strftime('%Y-%m-%d %H:%M')}; the federation's state is beside it.", highlight=False)


def _site(
    site: DemoSite, card: Card, ledger: Mapping[str, Any], state: Mapping[str, Any], scores: Mapping[str, Any]
) -> SiteOutcome:
    charged = {entry["study"]: entry["epsilon"] for entry in ledger["entries"]}
    federated = charged.pop(card.plan_hash)
    (own,) = charged.values()
    return SiteOutcome(
        name=site.name,
        nominal_size=site.nominal_size,
        scores=tuple(Scores(arm=Arm(row["arm"]), budget=row["budget"], auroc=tuple(row["auroc"])) for row in scores["scores"]),
        epsilon_federated=federated,
        epsilon_own=own,
        epsilon_total=ledger["totals"]["spent"],
        epsilon_limit=ledger["limit"],
        bytes_out=sum(study["bytes_out"] for study in state["studies"]),
        short=tuple(scores["short"]),
    )
