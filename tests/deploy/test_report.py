"""Report and table say what the numbers say, losses included, and load nothing from elsewhere."""

from __future__ import annotations

import functools
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deploy.demo_result import DemoResult, PhaseTime, Scores, SiteOutcome, side, verdicts
from deploy.demo_table import print_result, size
from deploy.report import render_report, write_report
from ssl_core.errors import ConfigError
from ssl_core.evaluation.label_efficiency import Arm, Interval

SITES = ("imaging-dynamics-1", "imaging-dynamics-2", "imaging-dynamics-3", "philips-1", "philips-2")
LEVEL = {
    Arm.FLOOR: (0.840, 0.894, 0.962),
    Arm.RANDOM: (0.740, 0.798, 0.872),
    Arm.SCRATCH: (0.793, 0.859, 0.932),
    Arm.OWN: (0.788, 0.834, 0.894),
    Arm.OWN_TUNED: (0.818, 0.866, 0.930),
    Arm.FEDERATED: (0.806, 0.854, 0.908),
    Arm.FEDERATED_TUNED: (0.824, 0.875, 0.938),
    Arm.COMBINED: (0.851, 0.903, 0.968),
}


def plausible(seed: int = 1) -> DemoResult:
    """Numbers like those of a run: draws move all arms of a site together."""
    rng = np.random.default_rng(seed)
    sites = []
    for place, name in enumerate(SITES):
        shared = {budget: rng.normal(0, spread, 10) for budget, spread in ((20, 0.02), (50, 0.01), (200, 0.004))}
        own = 0.006 * (place - 2)
        scores = []
        for arm, levels in LEVEL.items():
            for budget, level in zip((20, 50, 200), levels, strict=True):
                draws = level + own + shared[budget] + rng.normal(0, 0.003, 10)
                scores.append(Scores(arm=arm, budget=budget, auroc=tuple(np.clip(draws, 0, 1).tolist())))
        sites.append(
            SiteOutcome(
                name=name,
                nominal_size=10_000 if "philips" in name else 9_000,
                scores=tuple(scores),
                epsilon_federated=7.9212,
                epsilon_own=7.93,
                epsilon_total=11.6112,
                epsilon_limit=16.0,
                bytes_out=7_412_000 + 1_000 * place,
            )
        )
    return DemoResult(
        release="reports-1",
        plan_hash="3f9a" * 16,
        modality="text",
        procedural=False,
        simulated_sites=True,
        warm=False,
        delta=1e-5,
        ledger_rule="the smaller of the RDP filter and the sum of epsilons.",
        noise_multiplier=0.696,
        sampling_rate=0.05,
        max_grad_norm=0.5,
        rounds_closed=10,
        rounds_void=0,
        steps_per_round=10,
        phases=(
            PhaseTime(name="data", seconds=14.2),
            PhaseTime(name="set-up and join", seconds=22.8),
            PhaseTime(name="federated study", seconds=61.0),
            PhaseTime(name="own studies", seconds=58.3),
            PhaseTime(name="evaluation", seconds=21.4),
        ),
        sites=tuple(sites),
        source="PadChest reports (BIMCV, Hospital San Juan de Alicante)",
        citation="Bustos et al.: PadChest. Medical Image Analysis 66, 101797 (2020).",
        terms="Research use only; no row is shipped.",
        machine="2 cores, no GPU",
        software="choral 0.1.0, torch 2.13.0, flwr 1.41.0",
        seed=1,
    )


class _Reader(HTMLParser):
    """Tags, attributes that load something, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "data", "action") and not (value or "").startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


@functools.cache
def page() -> str:
    """The report of `plausible()`; drawing takes a second or two."""
    return render_report(plausible())


def fewer() -> DemoResult:
    """Two sites of `plausible()`: quicker to draw."""
    return replace(plausible(), sites=plausible().sites[:2])


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def printed(result: DemoResult, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_result(console, result)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_result_survives_json() -> None:
    result = plausible()
    assert DemoResult.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("old", "new"), [('"seed"', '"sed"'), ('"budget": 20', '"budget": "x"'), ('"delta"', '"extra": 1, "delta"')]
)
def test_a_result_with_a_wrong_field_is_refused(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match="demo result is not valid"):
        DemoResult.from_json(plausible().to_json().replace(old, new, 1))


def test_report_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(plausible(), path)
    html = path.read_text(encoding="utf-8")
    assert html == page()
    reader = read(html)
    assert reader.loads == []
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(reader.tags)
    assert not re.search(r"url\((?!#)|@import", html)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", html)
    assert "default-src 'none'" in html
    assert reader.tags.count("svg") >= 2 + len(SITES) + 1
    identifiers = re.findall(r'\bid="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers))


def test_report_names_every_arm_site_and_number() -> None:
    result = plausible()
    text = read(page()).text
    for arm in result.arms:
        assert f"{np.mean(result.averaged(arm, 50)):.3f}".removeprefix("0") in text
    for word in (*SITES, "7.93", "11.62", "raw floor: bag of words", "7.4 MB", "10 label draws", "178 s", result.plan_hash):
        assert word in text
    for shown in (text, printed(result)):
        assert "7.93" in shown and "7.92" not in shown and "11.61" not in shown, "epsilon is rounded up"


def test_arms_below_the_floor_are_called_so_and_above_too() -> None:
    result = plausible()
    text = re.sub(r"\s+", " ", read(page()).text)
    below = re.search(r"Below the raw floor \([^)]*\): ([^.]*)\.", text)
    above = re.search(r"Above the raw floor \([^)]*\): ([^.]*)\.", text)
    assert below is not None and "federated private encoder" in below[1] and "supervised from scratch" in below[1]
    assert above is not None and above[1] == "bag of words + federated"
    assert {v.arm for v in verdicts(result) if v.gap.mean > 0 and v.budget == 50} == {Arm.COMBINED}
    assert "federated private encoder" in printed(result).split("Below the raw floor at every budget:")[1].split(".")[0]


def test_a_federation_that_loses_is_shown_to_lose() -> None:
    result = fewer()
    swap = {Arm.FEDERATED: Arm.OWN, Arm.OWN: Arm.FEDERATED}
    sites = tuple(
        replace(site, scores=tuple(replace(s, arm=swap.get(s.arm, s.arm)) for s in site.scores)) for site in result.sites
    )
    lost = replace(result, sites=sites)
    assert "is worse than" in read(render_report(lost)).text
    assert "is better than" in read(page()).text
    assert re.search(r"50 labels: federated minus own -\.0", printed(lost))


def test_best_of_each_column_is_marked_once_in_the_average() -> None:
    html = page()
    table = html.split("<tbody>")[1].split("</tbody>")[0]
    rows = [row for row in table.split("<tr>") if 'class="best"' in row]
    assert len(rows) == 1 and "bag of words + federated" in rows[0] and rows[0].count('class="best"') == 3


def test_procedural_and_simulated_are_said() -> None:
    result = fewer()
    assert "Procedural data" not in page()
    assert "parts of one data set" in page()
    made_up = replace(result, procedural=True, simulated_sites=False)
    html = render_report(made_up)
    assert "Procedural data" in html and "parts of one data set" not in html
    assert "PROCEDURAL" in printed(made_up) and "PROCEDURAL" not in printed(result)


def test_a_difference_that_prints_as_zero_is_neither_won_nor_lost() -> None:
    assert [side(Interval(mean, mean - 0.0001, mean + 0.0001)) for mean in (0.0003, -0.0003, 0.002, -0.002)] == [0, 0, 1, -1]
    result = fewer()
    sites = []
    for site in result.sites:
        floor = {s.budget: s.auroc for s in site.scores if s.arm is Arm.FLOOR}
        hair = (replace(s, auroc=tuple(v + 2e-4 for v in floor[s.budget])) if s.arm is Arm.COMBINED else s for s in site.scores)
        sites.append(replace(site, scores=tuple(hair)))
    same = replace(result, sites=tuple(sites))
    assert "+.000 +.000 +.000 even" in printed(same) and "Not clearly different from the raw floor" in render_report(same)


def test_a_warm_start_is_said() -> None:
    assert "generated data, which costs no epsilon" not in printed(fewer()) + page()
    warm = replace(fewer(), warm=True)
    for text in (" ".join(printed(warm).split()), render_report(warm)):
        assert "generated data, which costs no epsilon" in text and "flatters" not in text
    same = replace(warm, procedural=True)
    assert "flatters" in printed(same) and "flatters" in render_report(same)


def test_values_are_escaped() -> None:
    sites = (replace(fewer().sites[0], name="a<b>&c"),)
    html = render_report(replace(fewer(), terms="<script>alert(1)</script>", sites=sites))
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "a<b>" not in html


def test_an_arm_that_was_not_run_is_left_out() -> None:
    result = fewer()
    kept = tuple(
        replace(site, scores=tuple(s for s in site.scores if s.arm not in (Arm.OWN, Arm.OWN_TUNED))) for site in result.sites
    )
    text = read(render_report(replace(result, sites=kept))).text
    assert "own private encoder" not in text and "federated private encoder" in text


def test_sizes_for_people() -> None:
    assert [size(n) for n in (0, 999, 1_000, 7_412_000, 3_200_000_000)] == ["0 B", "999 B", "1.0 kB", "7.4 MB", "3.2 GB"]
