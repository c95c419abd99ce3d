"""Processes of a hospital are killed in the middle of a round."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def test_a_killed_supernode_comes_back_and_its_site_answers_from_the_journal(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(2, "site-a")
    executor = chaos.pids("site-a", "client.executor")
    chaos.kill("site-a", "client.supernode")
    kept = chaos.closed(plan)
    # The executor trains on without its SuperNode: the answer is durable, and can reach nobody for a minute.
    chaos.until(lambda: 2 in chaos.said("site-a", plan, "UPLOADED"), "the journaled upload")
    assert [event["round"] for event in chaos.events(plan, "closed")] == [1]
    chaos.in_round(3)
    assert kept and kept.items() <= chaos.closed(plan).items()
    assert chaos.pids("site-a", "client.executor") == executor
    chaos.finish(plan)
    assert [event["survivors"] for event in chaos.events(plan, "closed")] == [4, 4, 4]
    assert chaos.begun("site-a") == chaos.said("site-a", plan, "UPLOADED") == [1, 2, 3]
    # One death, one restart: after the pause Flower took the same key again at the first try.
    assert chaos.said_by_daemon("site-a") == ["supernode ended with code 137"]


def test_rounds_that_do_not_wait_for_a_killed_supernode_close_without_its_site_until_it_is_back(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=30.0, rounds__rounds=6)
    chaos.in_round(2, "site-a")
    chaos.kill("site-a", "client.supernode")
    kept = chaos.closed(plan)
    chaos.in_round(3, "site-b")
    assert kept and kept.items() <= chaos.closed(plan).items()
    chaos.finish(plan, rounds=6)
    survivors = [event["survivors"] for event in chaos.events(plan, "closed")]
    assert survivors[:2] == [4, 3] and survivors[-1] == 4 and set(survivors) == {3, 4}
    # It was charged for each round that it began, heard or not, and never for one that it had no part in.
    heard = {1 + at for at, count in enumerate(survivors) if count == 4}
    begun, sent = chaos.begun("site-a"), chaos.said("site-a", plan, "UPLOADED")
    assert heard | {2} <= set(begun) and begun == sent
    assert chaos.begun("site-b") == [1, 2, 3, 4, 5, 6]
    assert chaos.said_by_daemon("site-a") == ["supernode ended with code 137"]


def test_a_whole_site_that_is_killed_and_started_again_answers_from_its_journal(chaos: Any) -> None:
    plan = chaos.launch_small(rounds__patience_s=240.0)
    chaos.in_round(2, "site-a")
    # With its SuperNode frozen the site's upload becomes durable and cannot leave: it dies with an answer nobody has.
    (supernode,) = chaos.pids("site-a", "client.supernode")
    os.kill(supernode, signal.SIGSTOP)
    chaos.until(lambda: 2 in chaos.said("site-a", plan, "UPLOADED"), "the journaled upload")
    assert "site-a" not in [event["site"] for event in chaos.events(plan, "upload") if event["round"] == 2]
    kept, before = chaos.closed(plan), chaos.log("site-a", f"sum/{plan}")
    chaos.kill_all("site-a")
    chaos.start_site("site-a")
    chaos.in_round(3)
    assert kept and kept.items() <= chaos.closed(plan).items()
    chaos.finish(plan)
    assert [event["survivors"] for event in chaos.events(plan, "closed")] == [4, 4, 4]
    assert chaos.begun("site-a") == chaos.said("site-a", plan, "UPLOADED") == [1, 2, 3]
    assert chaos.log("site-a", f"sum/{plan}")[: len(before)] == before
