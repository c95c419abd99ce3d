"""The isolation check is made before the approval, and again before a round where site or software are others since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests_commands import run
from tests_network import Network

from client import isolation
from client.approval import prepare
from client.isolation import warm_up
from client.study import Study, store_plan
from ssl_core.errors import PrivacyError
from ssl_core.privacy import isolation as checked


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
        (lambda study, patch: patch.setattr(isolation, "version", lambda _: "9.9") or study, "auto"),
        (lambda study, patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "else") or study, "auto"),
        (lambda study, _: (study.folder / "isolation.json").unlink() or study, "auto"),
    ],
    ids=["engine", "chunk", "torch", "choral", "processor", "note lost"],
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


def test_the_note_is_written_after_a_check_that_passed_alone(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_hash = federation.launch()
    study = store_plan(federation.site("site-a"), (federation.operator.study(plan_hash) / "plan.json").read_bytes())

    def refused(*_: Any, **__: Any) -> Any:
        raise PrivacyError("one patient changed another's gradient", field="engine")

    monkeypatch.setattr(checked, "check_isolation", refused)
    with pytest.raises(PrivacyError, match="another's gradient"):
        prepare(study)
    assert not (study.folder / "isolation.json").exists()
