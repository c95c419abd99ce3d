"""The isolation check is made before the approval, and again before a round where site or software are others since."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests_commands import run
from tests_network import Network, begun_rounds

import ssl_core
from client import isolation
from client.approval import prepare
from client.isolation import source_digest, warm_up
from client.study import Study, store_plan
from ssl_core.errors import PrivacyError, StateError
from ssl_core.privacy import isolation as checked
from ssl_core.privacy import planner, training


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engine of each check that is made."""
    engines: list[str] = []
    real = checked.check_isolation

    def noted(plan: Any, **given: Any) -> Any:
        engines.append(given["speed"].engine)
        return real(plan, **given)

    monkeypatch.setattr(checked, "check_isolation", noted)
    return engines


def settings(study: Study, **speed: Any) -> Study:
    """The site as it is after a person wrote this into site.toml and its daemon was started again."""
    path = study.home.root / "site.toml"
    text = path.read_text().split("[speed]")[0]
    path.write_text(text + "[speed]\n" + "\n".join(f"{name} = {value!r}" for name, value in speed.items()))
    return Study(type(study.home)(study.home.root), study.plan_hash)


def test_what_was_checked_before_the_approval_is_not_checked_again(federation: Any, asked: list[str]) -> None:
    plan_hash = federation.launch()
    study = store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    assert run("site", "approve", plan_hash, "--home", study.home.root, "--yes").exit_code == 0
    assert asked == ["auto"]
    warm_up(study)
    warm_up(settings(study, workers=1))
    assert asked == ["auto"], "and readers train nothing"


@pytest.mark.parametrize(
    ("change", "engine"),
    [
        (lambda study, _: settings(study, engine="vmap"), "vmap"),
        (lambda study, _: settings(study, chunk=3), "auto"),
        (lambda study, patch: patch.setattr(torch, "__version__", "2.99.0") or study, "auto"),
        (lambda study, patch: patch.setattr(isolation, "_SOURCE", "of another commit") or study, "auto"),
        (lambda study, patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "else") or study, "auto"),
        (lambda study, _: (study.folder / "isolation.jsonl").unlink() or study, "auto"),
    ],
    ids=["engine", "chunk", "torch", "source", "processor", "note lost"],
)
def test_where_it_would_be_another_check_it_is_made_once_more(
    federation: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch, change: Callable[..., Study], engine: str
) -> None:
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    warm_up(federation.study("site-a", plan_hash))
    assert asked == []
    study = change(federation.study("site-a", plan_hash), monkeypatch)
    warm_up(study)
    warm_up(Study(study.home, plan_hash))
    assert asked == [engine]


def test_a_batch_of_a_size_that_memory_did_not_allow_at_the_approval_is_looked_at_once(
    federation: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = 3 << 20, 16 << 30
    site, plan_hash = federation.site("site-a"), federation.launch()
    store_plan(site, (federation.operator.study(plan_hash) / "plan.json").read_bytes())
    monkeypatch.setattr(planner, "total_memory", lambda _: small)
    assert run("site", "approve", plan_hash, "--home", site.root, "--yes").exit_code == 0
    sizes = []
    for memory in (small, large, large, small, large):
        monkeypatch.setattr(planner, "total_memory", lambda _, memory=memory: memory)
        sizes.append((warm_up(Study(site, plan_hash))[1].size, len(asked)))
    assert sizes[0][0] < sizes[1][0], "else nothing is tried here"
    assert sizes == [(sizes[0][0], 1), (sizes[1][0], 2), (sizes[1][0], 2), (sizes[0][0], 2), (sizes[1][0], 2)]


def test_a_smaller_batch_than_the_one_that_was_looked_at_is_another(
    federation: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    study = federation.study("site-a", plan_hash)
    warm_up(study)
    monkeypatch.setattr(planner, "total_memory", lambda _: 3 << 20)
    warm_up(study)
    assert asked == ["auto"]


def test_a_check_at_another_pace_than_the_rounds_is_none_for_the_round(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    study = federation.study("site-a", plan_hash)
    real = checked.check_isolation

    def meanwhile(*given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        return real(*given, **named)

    monkeypatch.setattr(planner, "total_memory", lambda _: 3 << 20)
    monkeypatch.setattr(checked, "check_isolation", meanwhile)
    with pytest.raises(StateError, match="another pace"):
        warm_up(study)


def test_a_round_trains_at_the_pace_that_was_looked_at(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: Any) -> Any:
        raise AssertionError("the round looked for a pace of its own")

    network = Network(make_federation(3), rounds__rounds=1)
    monkeypatch.setattr(training, "choose_pace", other)
    network.run()
    assert [event["survivors"] for event in network.events("closed")] == [3]


def copies(folder: Path) -> list[Path]:
    """The two packages as another install has them, in another place."""
    packages = [Path(ssl_core.__file__).parent, Path(isolation.__file__).parent]
    for package in packages:
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return [folder / package.name for package in packages]


def test_the_source_is_known_by_its_files_wherever_they_are_installed(tmp_path: Path) -> None:
    here, there = copies(tmp_path / "one"), copies(tmp_path / "two")
    assert source_digest(here) == source_digest(reversed(there)) == isolation._SOURCE
    (here[1] / "notes.txt").write_text("no source")
    (here[1] / ".#isolation.py").symlink_to("a lock that an editor left")
    assert source_digest(here) == isolation._SOURCE
    first, second = here[0] / "privacy" / "gradients.py", here[0] / "privacy" / "hooks.py"
    seen = {isolation._SOURCE}
    for change in (
        lambda: first.write_bytes(first.read_bytes().replace(b"a", b"b", 1)),
        lambda: first.rename(first.with_name("gradient.py")),
        lambda: second.write_bytes(b""),
        lambda: (here[1] / "new.py").write_bytes(b""),
        lambda: (here[1] / "new.py").unlink() or (here[0] / "new.py").write_bytes(b""),
    ):
        change()
        seen.add(source_digest(here))
    assert len(seen) == 6


def test_no_byte_moves_from_one_file_to_the_next_unseen(tmp_path: Path) -> None:
    seen = set()
    for first, second in ((b"ab", b""), (b"a", b"b"), (b"", b"ab")):
        (tmp_path / "a.py").write_bytes(first)
        (tmp_path / "b.py").write_bytes(second)
        seen.add(source_digest([tmp_path]))
    assert len(seen) == 3


DAEMON = """
import json, sys
from pathlib import Path
from types import SimpleNamespace as Of
from client import isolation
from ssl_core.config import SpeedSpec
study = Of(home=Of(config=Of(speed=SpeedSpec())))
pace = Of(facts={"engine": "vmap", "precision": "float32", "units": 8})
changed = Path(sys.argv[1])
for _ in range(2):
    print(isolation.__file__, json.loads(isolation._made_with(study, pace))["source"])
    changed.write_bytes(changed.read_bytes() + b"#")
"""


def test_a_process_names_the_source_that_it_runs_not_what_was_installed_since(tmp_path: Path) -> None:
    packages = copies(tmp_path)

    def said() -> list[str]:
        code = [sys.executable, "-c", DAEMON, str(packages[0] / "privacy" / "gradients.py")]
        lines = subprocess.run(
            code, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True, capture_output=True, text=True
        )
        assert all(line.startswith(str(tmp_path)) for line in lines.stdout.splitlines())
        return [line.rpartition(" ")[2] for line in lines.stdout.splitlines()]

    stale, again = said(), said()
    assert stale[0] == stale[1] == isolation._SOURCE
    assert again[0] == again[1] != stale[0]


def test_a_round_in_which_it_fails_is_declined_and_neither_begun_nor_charged(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(make_federation(4), rounds__rounds=2)
    failed: list[str] = []

    def refused(*_: Any, **__: Any) -> Any:
        failed.append("check")
        raise PrivacyError("one patient changed another's gradient", field="engine")

    def meddle(name: str, parcel: Any) -> Any:
        if name == "site-b" and parcel.kind == "START" and not failed:
            monkeypatch.setattr(checked, "check_isolation", refused)
            settings(network.federation.study("site-b", network.plan_hash), engine="vmap")
            network.restart("site-b")
        return parcel

    network.meddle = meddle
    network.run()
    assert [event["survivors"] for event in network.events("closed")] == [3, 3] and failed
    commits = {name: len(network.federation.site(name).chain.entries("commit")) for name in network.federation.names}
    assert commits == {"site-a": 2, "site-b": 0, "site-c": 2, "site-d": 2}
    begun = {name: begun_rounds(network.federation.site(name).chain, network.plan_hash) for name in commits}
    assert begun == {"site-a": [1, 2], "site-b": [], "site-c": [1, 2], "site-d": [1, 2]}


def test_the_note_is_written_after_a_check_that_passed_alone(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_hash = federation.launch()
    study = store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())

    def refused(*_: Any, **__: Any) -> Any:
        raise PrivacyError("one patient changed another's gradient", field="engine")

    monkeypatch.setattr(checked, "check_isolation", refused)
    with pytest.raises(PrivacyError, match="another's gradient"):
        prepare(study)
    assert not (study.folder / "isolation.jsonl").exists()
