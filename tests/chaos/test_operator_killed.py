"""Processes of the operator are killed, or told to stop, in the middle of a round."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
ALL_FOUR = [4, 4, 4]


def last_closed(chaos: Any, plan: str, number: str) -> dict[str, str]:
    """The files of the round that closed last, by hash."""
    kept = {path: value for path, value in chaos.closed(plan).items() if Path(path).parent.name == number}
    assert kept and number == max(Path(path).parent.name for path in chaos.closed(plan))
    return kept


def charged_once(chaos: Any, plan: str) -> bool:
    """Every site began each round once, however often it was asked, and was in each sum."""
    survivors = [event["survivors"] for event in chaos.events(plan, "closed")]
    return survivors == ALL_FOUR and all(chaos.begun(site.name) == [1, 2, 3] for site in chaos.sites)


def test_a_killed_superlink_comes_back_and_launch_finds_the_study_again(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(3)
    killed = chaos.kill("operator", "flower-superlink")
    # Whoever followed the study is gone too: it must not depend on a terminal.
    chaos.kill_all("launch")
    kept = last_closed(chaos, plan, "000002")
    chaos.until(lambda: set(chaos.pids("operator", "flower-superlink")) - {killed}, "the SuperLink's restart")
    chaos.launch_again(plan)
    chaos.finish(plan)
    assert kept.items() <= chaos.closed(plan).items()
    assert charged_once(chaos, plan)
    assert "superlink ended with code 137" in chaos.said_by_daemon("operator")
    for site in chaos.sites:
        assert chaos.said_by_daemon(site.name) == [], "a SuperNode outlives the SuperLink's restart"


def test_a_whole_operator_that_is_killed_and_started_again_goes_on_from_its_last_closed_round(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(3)
    chaos.kill_all("operator")
    chaos.kill_all("launch")
    kept = last_closed(chaos, plan, "000002")
    assert [event["round"] for event in chaos.events(plan, "closed")] == [1, 2]
    chaos.start_operator()
    chaos.launch_again(plan)
    chaos.finish(plan)
    assert kept.items() <= chaos.closed(plan).items()
    assert charged_once(chaos, plan)
    for site in chaos.sites:
        assert chaos.said_by_daemon(site.name) == [], "a SuperNode waits for its SuperLink"


def test_a_killed_serverapp_and_a_killed_superexec_are_started_again_and_launch_says_so(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(2)
    chaos.kill("operator", "flwr-serverapp")
    kept = last_closed(chaos, plan, "000001")
    chaos.in_round(3)
    assert kept.items() <= chaos.closed(plan).items()
    assert len(chaos.events(plan, "started-again")) == 1
    (serverapp,) = chaos.pids("operator", "flwr-serverapp")
    chaos.kill("operator", "flower-superexec")
    kept = last_closed(chaos, plan, "000002")
    chaos.until(lambda: not os.path.exists(f"/proc/{serverapp}"), "the end of the ServerApp with its SuperExec")
    chaos.finish(plan)
    assert kept.items() <= chaos.closed(plan).items()
    assert charged_once(chaos, plan)
    assert [event["start"] for event in chaos.events(plan, "started-again")] == [2, 3]
    assert (chaos.root / "logs" / "launch.log").read_text().count("started-again") == 2
    assert chaos.said_by_daemon("operator") == ["superexec ended with code 137"]


def test_a_stopped_study_leaves_nothing_running_and_goes_on_from_its_last_closed_round(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(2)
    chaos.command("operator", "stop", plan[:12], "--home", str(chaos.operator_home))
    assert chaos.death_of("launch").exit_code == 1
    assert chaos.status(plan)["state"] == "stopped"
    chaos.until(lambda: not chaos.pids("operator", "flwr-serverapp"), "the end of the ServerApp")
    kept = last_closed(chaos, plan, "000001")
    # Each site ends the training that it began, and keeps the answer.
    chaos.until(lambda: all(2 in chaos.said(site.name, plan, "UPLOADED") for site in chaos.sites), "the uploads")
    assert [event["round"] for event in chaos.events(plan, "closed")] == [1]
    chaos.launch_again(plan)
    chaos.in_round(3)
    assert kept.items() <= chaos.closed(plan).items()
    chaos.finish(plan)
    assert charged_once(chaos, plan)
    assert [event["stage"] for event in chaos.events(plan, "running", "stopped", "finished")] == [
        "running", "stopped", "running", "finished",
    ]  # fmt: skip
    assert chaos.said_by_daemon("operator") == []
