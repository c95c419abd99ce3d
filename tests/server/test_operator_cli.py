from __future__ import annotations

import copy
import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from tests_commands import refused
from tests_commands import run as choral

from deploy.console import confirm
from deploy.supervisor import StateLock
from server.bundle import RunStatus
from server.events import EventLog
from server.round_state import Closed, RoundState
from server.study_lock import working_on
from ssl_core.card import load_encoder
from ssl_core.chain import write_durably
from ssl_core.model_update import GlobalModel, ServerState
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.session import open_plan
from ssl_core.trust.envelope import seal
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import Roster, open_server_identity, sign_roster

run = partial(choral, "operator")


def write_plan(federation: Any, plan: dict[str, Any]) -> Path:
    path: Path = federation.root / "written.toml"
    path.write_text(tomli_w.dumps(plan))
    return path


def base(federation: Any, **changes: Any) -> dict[str, Any]:
    """The plan that `federation.launch` would sign, as a person writes it."""
    from tomllib import loads

    federation.launch(**changes)
    return loads((federation.root / "plan.toml").read_text())


def studies(federation: Any) -> list[str]:
    return sorted(path.name for path in (federation.operator.root / "studies").iterdir())


def test_init_makes_private_keys_and_a_card_that_both_keys_signed(tmp_path: Path) -> None:
    home = tmp_path / "operator"
    facts = json.loads(run("init", "--home", home, "--address", "sum.example.org:443", "--port", 9555, "--json").stdout)
    card = open_server_identity(Path(facts["server_card"]).read_bytes())
    assert card.superlink == "sum.example.org:443" and card.server_ca.startswith("-----BEGIN CERTIFICATE-----")
    for name in ("operator.key", "server.key", "tls/server.key"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
    refused(run("init", "--home", home), "folder is not empty")


@pytest.mark.parametrize(
    ("words", "field"), [(("--port", "80"), "port"), (("--address", "nowhere"), "address"), (("--port", "70000"), "port")]
)
def test_init_with_a_wrong_port_or_address_leaves_nothing_behind(tmp_path: Path, words: tuple[str, str], field: str) -> None:
    refused(run("init", "--home", tmp_path / "operator", *words), "ConfigError", f"field: {field}", f"value: {words[1]}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_operators_is_refused(tmp_path: Path) -> None:
    for command in (["status"], ["launch", "x.toml"], ["stop", "0" * 64], ["publish", "0" * 64], ["start"]):
        refused(run(*command, "--home", tmp_path), "not an operator's folder", "choral operator init")


FAULTS: list[tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = [
    (lambda p: p.update(extra=1), ("field: extra", "remove it; known keys:")),
    (lambda p: p["privacy"].update(noise_multiplyer=1.0), ("field: privacy.noise_multiplyer",)),
    (lambda p: p["privacy"].update(noise="shared"), ("field: privacy.noise", "value: shared")),
    (lambda p: p["privacy"].pop("delta"), ("field: privacy.delta", "remedy: add it")),
    (lambda p: p["rounds"].update(rounds="many"), ("field: rounds.rounds", "value: many")),
    (lambda p: p["sites"].pop(), ("2 sites; at least 3",)),
    (lambda p: p["rounds"].update(min_sites=2), ("field: rounds.min_sites", "value: 2")),
    (lambda p: p["sites"][0].update(nominal_size=41), ("one significant digit",)),
    (lambda p: p["sites"].append({"name": "site-z", "nominal_size": 40}), ("not on the roster", "value: site-z")),
    (lambda p: p.update(roster="0" * 64), ("filled in at launch", "remove both keys")),
    (lambda p: p.update(alone=True, sites=p["sites"][:1]), ("field: alone", "choral site pretrain")),
]


def test_a_plan_with_a_fault_is_refused_by_name_and_nothing_is_kept(federation: Any) -> None:
    right = base(federation)
    before = studies(federation)
    for change, words in FAULTS:
        plan = copy.deepcopy(right)
        change(plan)
        refused(run("launch", write_plan(federation, plan), "--yes", "--home", federation.operator.root), *words)
        assert studies(federation) == before


def test_a_plan_file_that_is_missing_or_no_toml_names_itself(federation: Any) -> None:
    home = federation.operator.root
    refused(run("launch", federation.root / "none.toml", "--home", home), "file is missing", "none.toml")
    refused(run("launch", federation.root / "none.json", "--home", home), "file is missing", "none.json")
    refused(run("launch", "0123abcd", "--home", home), "no single study", "value: 0123abcd", "choral operator status")
    (federation.root / "bad.toml").write_text("a = [")
    refused(run("launch", federation.root / "bad.toml", "--home", home), "not valid TOML", "bad.toml")


def test_signing_on_one_machine_and_launching_on_another(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home, out = federation.operator.root, federation.root / "signed.json"
    plan = write_plan(federation, base(federation, name="elsewhere"))
    known = studies(federation)
    assert json.loads(run("launch", plan, "--sign-only", out, "--json", "--home", home).stdout) == {"signed_plan": str(out)}
    signed, plan_hash = open_plan(out.read_bytes(), federation.operator.operator.public)
    assert signed.name == "elsewhere" and signed.roster == federation.operator.roster()[1]

    questions: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("server.cli.confirm", lambda yes, question: questions.append(question) or confirm(yes, question))
        asked = run("launch", out, "--home", home)
    assert asked.exit_code == 1 and "Nothing was changed" in asked.output
    assert f"{questions[0]} No: there is no terminal" in asked.output
    steps = (signed.rounds.rounds + signed.rounds.max_void) * signed.rounds.steps_per_round
    privacy = signed.privacy
    cost = epsilon([Schedule(privacy.noise_multiplier, privacy.sampling_rate, steps)], privacy.delta)
    assert len(questions) == 1 and f"epsilon {cost:.2f} at delta {privacy.delta:g}," in questions[0]
    assert studies(federation) == known

    started: list[str] = []
    monkeypatch.setattr("server.launch.start_run", lambda _control, found: started.append(found) or 7)
    (home / "run" / "flwr").mkdir(exist_ok=True)
    facts = json.loads(run("launch", out, "--detach", "--json", "--home", home).stdout)
    assert facts == {"plan": plan_hash, "run": 7} and started == [plan_hash]
    again = run("launch", plan_hash[:8], "--detach", "--yes", "--home", home)
    assert again.exit_code == 0 and "as run 7" in again.output and started == [plan_hash] * 2

    refused(run("launch", plan, "--sign-only", home / "no" / "x.json", "--home", home), "No such file", "field: path")


def test_launch_follows_the_study_to_its_end(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_hash = federation.launch()
    home = federation.operator.root
    (home / "run" / "flwr").mkdir(exist_ok=True)
    log = EventLog(federation.operator.study(plan_hash))

    def start(_control: object, _hash: str) -> int:
        log.write("running", rounds=3, sites=3)
        log.write("upload", round=1, site="site-a")
        log.write("finished" if ended else "stopped", done=3)
        return 1

    monkeypatch.setattr("server.launch.start_run", start)
    for ended in (True, False):
        log_path = federation.operator.study(plan_hash) / "events.jsonl"
        log_path.unlink(missing_ok=True)
        result = run("launch", plan_hash, "--json", "--home", home)
        assert result.exit_code == (0 if ended else 1), result.output
        assert [json.loads(line)["stage"] for line in result.stdout.splitlines()][:2] == ["running", "upload"]
    words = run("status", "--home", home).output
    assert "stopped" in words and "site site-a" in words
    heard = dict(line.split(maxsplit=2)[1:] for line in words.splitlines() if line.startswith("  site "))
    assert heard["site-a"] == "upload" and heard["site-b"] == "no message yet: is its daemon running?"


def test_a_finished_study_is_neither_stopped_nor_launched_without_a_word(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_hash, home = federation.launch(), federation.operator.root
    (home / "run" / "flwr").mkdir(exist_ok=True)
    folder = federation.operator.study(plan_hash)
    monkeypatch.setattr("server.launch.start_run", lambda _control, _hash: 5)
    monkeypatch.setattr("server.launch.run_status", lambda _control, run_id: RunStatus(run_id, "finished:completed", ""))
    monkeypatch.setattr("server.launch._RUN_LOOK_S", 0.0)
    (folder / "finished").write_text("")
    assert run("stop", plan_hash, "--home", home).output == f"Study {plan_hash} is finished: there is nothing to stop.\n"
    assert not (folder / "stop").exists()
    words = run("launch", plan_hash, "--yes", "--home", home)
    assert words.exit_code == 0 and f"is finished. Next: choral operator publish {plan_hash[:8]}" in words.output


def test_a_plan_that_another_key_signed_or_that_was_changed_is_refused(federation: Any) -> None:
    home = federation.operator.root
    plan_hash = federation.launch()
    envelope = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    plan, _ = open_plan(envelope, federation.operator.operator.public)
    out = federation.root / "foreign.json"
    out.write_bytes(seal("plan", plan.model_dump(mode="json"), Identity.generate()))
    refused(run("launch", out, "--yes", "--home", home), "TrustError", "plan is not signed by the keys", "never edit")
    other = json.loads(seal("plan", plan.model_dump(mode="json") | {"seed": 2}, Identity.generate()))
    out.write_text(json.dumps(json.loads(envelope) | {"payload": other["payload"]}))
    refused(run("launch", out, "--yes", "--home", home), "plan is not signed by the keys")
    out.write_text("no envelope")
    refused(run("launch", out, "--yes", "--home", home), "not a signed envelope")
    moved = plan.model_dump(mode="json") | {"roster": "0" * 64}
    out.write_bytes(seal("plan", moved, federation.operator.operator))
    refused(run("launch", out, "--yes", "--home", home), "another roster", "value: " + "0" * 64, "limit: ")
    assert studies(federation) == [plan_hash]


def test_a_missing_foreign_or_garbled_roster_is_refused(federation: Any) -> None:
    home = federation.operator.root
    plan = write_plan(federation, base(federation))
    roster, _ = federation.operator.roster()
    path = home / "roster.json"
    card = roster.server.model_copy(update={"superlink": "127.0.0.1:9444"})
    write_durably(path, sign_roster(roster.model_copy(update={"server": card}), [federation.authority]))
    refused(run("launch", plan, "--yes", "--home", home), "another server than this one", "field: server")
    body = roster.model_dump(mode="json") | {"threshold": "many"}
    write_durably(path, seal("roster", body, federation.authority))
    refused(run("launch", plan, "--yes", "--home", home), "field: threshold", "value: many")
    write_durably(path, sign_roster(roster, [Identity.generate()]))
    refused(run("launch", plan, "--yes", "--home", home), "roster is not signed by the keys")
    path.unlink()
    refused(run("launch", plan, "--yes", "--home", home), "roster is missing", "field: roster.json")
    assert isinstance(roster, Roster)


def test_status_counts_from_the_events_alone(federation: Any) -> None:
    home = federation.operator.root
    assert "No study yet" in run("status", "--home", home).output and run("status", "--json", "--home", home).stdout == "[]\n"
    first = federation.launch(seed=1)
    os.utime(federation.operator.study(first) / "plan.json", ns=(1, 1))
    second = federation.launch(seed=2)
    log = EventLog(federation.operator.study(first))
    log.write("running", rounds=3, sites=3)
    log.write("waiting", site="site-b")
    log.write("void", round=1, reason="too few")
    log.write("closed", round=2, done=1, survivors=3)
    log.write("failed", reason="lost", final=True)
    facts = json.loads(run("status", "--json", "--home", home).stdout)
    assert [fact["plan"] for fact in facts] == [first, second], "oldest first, whatever happened in a study since"
    assert facts[0] == {
        "plan": first, "state": "failed: lost", "rounds": 3, "rounds_closed": 1, "rounds_void": 1,
        "sites": {"site-b": "waiting"},
    }  # fmt: skip
    assert json.loads(run("status", second[:8], "--json", "--home", home).stdout) == [facts[1]]
    refused(run("status", second[:7], "--home", home), "at least 8 hexadecimal digits")


def test_a_study_that_nobody_works_on_any_more_is_not_said_to_run(federation: Any) -> None:
    """As after the operator's machine was restarted: its last event is still that it runs."""
    plan_hash = federation.launch()
    folder = federation.operator.study(plan_hash)
    EventLog(folder).write("running", rounds=3, sites=3)

    def state() -> str:
        (fact,) = json.loads(run("status", plan_hash[:8], "--json", "--home", federation.operator.root).stdout)
        return str(fact["state"])

    before = sorted(path.name for path in folder.iterdir())
    assert state() == f"interrupted: nobody works on it; choral operator launch {plan_hash[:8]} goes on where it was"
    assert sorted(path.name for path in folder.iterdir()) == before
    with working_on(folder, patience_s=0.0):
        assert state() == "running"
    assert state().startswith("interrupted")
    EventLog(folder).write("finished")
    assert state() == "finished"


def test_stop_asks_the_round_loop_and_launch_takes_it_back(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = federation.operator.root
    plan_hash = federation.launch()
    folder = federation.operator.study(plan_hash)
    (home / "run" / "flwr").mkdir(exist_ok=True)
    monkeypatch.setattr("server.launch.start_run", lambda _control, _hash: 5)
    monkeypatch.setattr("server.launch.run_status", lambda _control, run_id: RunStatus(run_id, "finished:stopped", ""))
    assert run("launch", plan_hash, "--detach", "--yes", "--home", home).exit_code == 0
    assert run("stop", plan_hash[:8], "--home", home).output == f"Study {plan_hash} stopped.\n"
    assert (folder / "stop").exists()
    assert run("launch", plan_hash, "--detach", "--yes", "--home", home).exit_code == 0
    assert not (folder / "stop").exists()


def test_publish_before_the_end_is_refused_and_afterwards_gives_one_release(federation: Any) -> None:
    home = federation.operator.root
    plan_hash = federation.launch(rounds__rounds=1)
    refused(run("publish", plan_hash, "--home", home), "not finished", "field: rounds closed", "value: 0", "limit: 1")
    assert list((home / "releases").iterdir()) == []
    state = RoundState(federation.operator.study(plan_hash))
    weights = state.closed().model.weights + np.float32(0.5)
    state.open_round(1, b"start")
    state.close(Closed(1, 1, GlobalModel(weights, ServerState.empty()), b"close", weights.view(np.uint32)))
    release = Path(json.loads(run("publish", plan_hash[:12], "--json", "--home", home).stdout)["release"])
    assert load_encoder(release, keys=[federation.operator.operator.public]).card.plan_hash == plan_hash
    refused(run("publish", plan_hash, "--home", home), "not overwritten", release.name)


@pytest.mark.usefixtures("kept_signals")
def test_a_second_daemon_on_the_folder_is_refused(federation: Any) -> None:
    lock = StateLock(federation.operator.root / "run")
    try:
        refused(run("start", "--home", federation.operator.root), "another daemon", f"value: {os.getpid()}", "stop that")
    finally:
        lock.release()
    assert not (federation.operator.root / "run" / "ready").exists()
