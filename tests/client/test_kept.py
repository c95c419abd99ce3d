"""Data are checked once: what was approved is kept, trained on and deleted, whatever becomes of the declared files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from tests_commands import run

import client
from client import kept
from client.kept import KeptRecords
from client.leftovers import drop_leftovers
from client.site_service import SiteService
from client.study import store_plan
from deploy.event_reader import EventReader
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.chain import Chain
from ssl_core.data.check import check_and_load
from ssl_core.data.source import read_source
from ssl_core.errors import BudgetError, DataError, StateError
from ssl_core.parcel import Parcel
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.session import open_approval
from ssl_core.trust.roster import sign_roster

IMAGES: dict[str, Any] = {
    "data": {"kind": "image", "height": 8, "width": 8},
    "encoder": {"name": "mlp-image", "hidden": 8, "code": 4},
    "objective": {"name": "masked-image"},
}


def to_images(federation: Any) -> dict[str, Any]:
    """Give every site an image array instead of its table; changes to the plan."""
    for number, name in enumerate(federation.names):
        folder = federation.root / "data" / name
        (folder / "reports.csv").unlink()
        pixels = np.random.default_rng(number).integers(0, 255, (60, 8, 8), np.uint8)
        np.savez(folder / "images.npz", image=pixels, patient=np.array([f"p{n % 40}" for n in range(60)]))
        (folder / "source.toml").write_text(tomli_w.dumps({"kind": "npz", "path": "images.npz"}))
    return IMAGES


def keys(federation: Any, name: str, plan_hash: str) -> Path:
    folder: Path = federation.root / name / "keys" / plan_hash
    return folder


def copies(federation: Any) -> list[Path]:
    """All copies of records, drafts included, in all state folders."""
    return sorted(federation.root.glob("site-*/keys/*/*patients*"))


def lose_column(folder: Path) -> None:
    table = folder / "reports.csv"
    table.write_text(table.read_text().replace("patient,text", "id,text", 1))


def lose_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def become_other_patients(folder: Path) -> None:
    (folder / "reports.csv").write_text("patient,text\nq1,new words\n")


def lose_array(folder: Path) -> None:
    np.savez(folder / "images.npz", image=np.zeros((3, 8, 8), np.uint8))


def change_type(folder: Path) -> None:
    np.savez(folder / "images.npz", image=np.zeros((3, 8, 8), np.bool_), patient=np.arange(3))


@pytest.mark.parametrize(
    ("images", "change"),
    [
        (False, lose_column), (False, lose_files), (False, become_other_patients), (False, shutil.rmtree),
        (True, lose_array), (True, change_type), (True, lose_files),
    ],
)  # fmt: skip
def test_files_that_change_after_the_approval_decide_nothing(
    make_federation: Callable[..., Any], images: bool, change: Callable[[Path], None]
) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch(**(to_images(federation) if images else {}))
    federation.invite_and_approve(plan_hash)
    source = read_source(federation.root / "data" / "site-a" / "source.toml")
    approved = check_and_load(source, federation.study("site-a", plan_hash).plan.data).patients
    change(federation.root / "data" / "site-a")
    trained_on = federation.study("site-a", plan_hash).patients
    for name in ("tags", "offsets", "records"):
        assert np.asarray(getattr(trained_on, name)).tobytes() == np.asarray(getattr(approved, name)).tobytes()
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    closed = [e for e in EventReader(federation.operator.study(plan_hash)).new() if e["stage"] == "closed"]
    assert [e["survivors"] for e in closed] == [4, 4, 4]


def test_the_copy_is_its_owners_alone_out_of_backups_and_names_nobody(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    folder = keys(federation, "site-a", plan_hash)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"patients.npz", "CACHEDIR.TAG"}
    assert stat.S_IMODE((folder / "patients.npz").stat().st_mode) == 0o600
    units = check_and_load(read_source(federation.root / "data" / "site-a" / "source.toml"),
                           federation.study("site-a", plan_hash).plan.data).patients.units  # fmt: skip
    content = (folder / "patients.npz").read_bytes()
    assert len(units) == 40 and not any(f'"{unit}"'.encode() in content for unit in units)
    log = federation.site("site-a").chain
    assert [entry.body for entry in log.entries("approval")] == [{"plan": plan_hash, "by": "person"}]


def test_it_is_whole_and_on_disk_before_the_approval_is(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    study = store_plan(federation.site("site-a"), plan)
    folder, steps = keys(federation, "site-a", plan_hash), list[str]()
    honest_append, honest_replace, honest_sync = Chain.append, os.replace, os.fsync

    def append(chain: Chain, kind: str, body: Any) -> Any:
        if kind == "approval":
            assert len(KeptRecords(folder).read(study.plan.data)) == 40
        steps.append(kind)
        return honest_append(chain, kind, body)

    def replace(source: Path, target: Path) -> None:
        honest_replace(source, target)
        if Path(target).parent == folder:
            steps.append(f"rename {Path(target).name}")

    def sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("fsync folder" if path == folder else f"fsync {path.name}")
        honest_sync(descriptor)

    monkeypatch.setattr(Chain, "append", append)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", sync)
    study.approve("person")
    steps = steps[steps.index(f"fsync .patients.npz.{os.getpid()}") :]
    assert steps[:6] == [
        f"fsync .patients.npz.{os.getpid()}", "fsync units.key", "reserve", "rename patients.npz", "fsync folder", "approval",
    ]  # fmt: skip


def test_it_is_deleted_with_the_last_close_and_no_earlier(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    services = {name: SiteService(federation.root / name) for name in federation.names}
    there: dict[str, list[bool]] = {}

    def handle(name: str, parcel: Parcel) -> Parcel:
        there.setdefault(parcel.kind, []).append((keys(federation, name, plan_hash) / "patients.npz").is_file())
        return services[name].handle(parcel)

    handlers = {name: lambda parcel, name=name: handle(name, parcel) for name in federation.names}
    run_study(federation.operator.root, plan_hash, LocalExchange(handlers))
    assert there["START"] == [True] * 12 and there["CLOSE"] == [True] * 4
    assert copies(federation) == [] and list(federation.root.glob("site-*/keys/*/optimizer.npz")) == []
    assert all(service._studies == {} for service in services.values()), "nor are they kept in memory"
    # Asked again, the site says the same of the last CLOSE; approved again, it keeps no new copy.
    status = run("site", "status", "--home", federation.root / "site-a")
    assert "copy of records: none" in status.output
    federation.study("site-a", plan_hash).approve("person")
    assert run("site", "approve", plan_hash, "--home", federation.root / "site-a", "--yes").exit_code == 0
    assert copies(federation) == []
    with pytest.raises(StateError, match="no copy of the approved records"):
        _ = federation.study("site-a", plan_hash).patients


def test_a_round_is_neither_begun_nor_charged_without_the_copy(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    handlers = federation.services()
    copy = keys(federation, "site-b", plan_hash) / "patients.npz"

    def damaged(parcel: Parcel) -> Parcel:
        if parcel.kind == "START":
            copy.write_bytes(copy.read_bytes()[:100])
            handlers["site-b"] = SiteService(federation.root / "site-b").handle
        return handlers["site-b"](parcel)

    with pytest.raises(StateError, match="damaged"):
        run_study(federation.operator.root, plan_hash, LocalExchange({**handlers, "site-b": damaged}))
    assert federation.site("site-b").chain.entries("commit") == []


def test_an_approval_that_fails_leaves_no_copy_and_charges_nothing(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    home = federation.site("site-a")
    before = home.chain.entries()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(kept, "write_kept", full)
        with pytest.raises(StateError, match=r"could not be written.*No space left on device"):
            store_plan(home, plan).approve("person")
    with monkeypatch.context() as patched:
        patched.setattr(Chain, "append", full)
        with pytest.raises(OSError, match="No space"):
            store_plan(home, plan).approve("person")
    policy = (home.root / "policy.toml").read_text()
    (home.root / "policy.toml").write_text(policy.replace("max_epsilon = 10.0", "max_epsilon = 0.1"))
    with pytest.raises(BudgetError):
        store_plan(home, plan).approve("person")
    (home.root / "policy.toml").write_text(policy)
    (federation.root / "data" / "site-a" / "reports.csv").write_text("patient,text\np1,\n")
    with pytest.raises(DataError):
        store_plan(home, plan).approve("person")
    assert run("site", "approve", plan_hash, "--home", home.root).exit_code == 2
    assert copies(federation) == [] and home.chain.entries() == before
    become_other_patients(federation.root / "data" / "site-a")
    assert run("site", "approve", plan_hash, "--home", home.root).exit_code == 1, "nobody said yes"
    assert copies(federation) == [] and home.chain.entries() == before


def test_a_disk_that_is_full_leaves_a_study_of_the_rule_to_a_person(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.site("site-a")
    policy = home.root / "policy.toml"
    policy.write_text(policy.read_text().replace("auto_approve_epsilon = 0.0", "auto_approve_epsilon = 9.0"))
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept, "write_kept", full)
    answer = SiteService(home.root).handle(Parcel("INVITE", plan))
    assert open_approval(answer.body, home.identity.public, plan_hash).status == "waiting"
    assert home.chain.entries("reserve") == [] and copies(federation) == []


CHILD = """
import os, signal, sys
from pathlib import Path
from client import kept
from client.home import SiteHome
from client.study import Study

honest = kept.write_kept

def write(stream, patients):
    honest(stream, patients)
    os.kill(os.getpid(), signal.SIGKILL)

kept.write_kept = write
Study(SiteHome(Path(sys.argv[1])), sys.argv[2]).approve("person")
"""


def test_what_a_killed_approval_left_is_deleted_and_a_draft_in_the_making_is_not(
    make_federation: Callable[..., Any], tmp_path: Path
) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    home = federation.site("site-a")
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    study = store_plan(home, plan)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": str(Path(client.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    child = subprocess.run([sys.executable, str(script), str(home.root), plan_hash], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL and len(copies(federation)) == 1
    with study.kept_records.draft(synthetic_patients(study.plan.data, 3)) as draft:
        assert copies(federation) == [draft.draft], "the next approval removes what the last one left"
    assert copies(federation) == []
    subprocess.run([sys.executable, str(script), str(home.root), plan_hash], env=environment, check=False)
    # And one that had its name already when power went, before the approval was on disk.
    (keys(federation, "site-a", plan_hash) / "patients.npz").write_bytes(b"records")
    with study.kept_records.draft(synthetic_patients(study.plan.data, 3)) as draft:
        drop_leftovers(home)
        assert copies(federation) == [draft.draft]
    assert copies(federation) == []
    assert home.chain.entries("reserve") == [] and home.chain.entries("approval") == []
    # The executor looks for such a copy with its first message.
    (keys(federation, "site-a", plan_hash) / "patients.npz").write_bytes(b"records")
    SiteService(home.root).handle(Parcel("INVITE", plan))
    assert copies(federation) == []


def test_a_roster_that_ends_the_study_deletes_its_copy_and_no_other(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(4)
    old = federation.launch()
    federation.invite_and_approve(old)
    roster, _ = federation.site("site-a").roster()
    second = sign_roster(roster.model_copy(update={"version": 2}), [federation.authority])
    given = federation.root / "given.json"
    given.write_bytes((federation.root / "site-a" / "roster.json").read_bytes())
    assert run("site", "accept", "--roster", given, "--home", federation.root / "site-a").exit_code == 0
    assert len(copies(federation)) == 4, "the same roster ends nothing"
    given.write_bytes(second)
    (federation.operator.root / "roster.json").write_bytes(second)
    assert run("site", "accept", "--roster", given, "--home", federation.root / "site-a").exit_code == 0
    assert copies(federation) == [keys(federation, f"site-{letter}", old) / "patients.npz" for letter in "bcd"]
    new = federation.launch(seed=5)
    store_plan(federation.site("site-a"), (federation.operator.study(new) / "plan.json").read_bytes()).approve("person")
    third = roster.model_copy(update={"version": 2})
    given.write_bytes(sign_roster(third, [federation.authority]))
    assert run("site", "accept", "--roster", given, "--home", federation.root / "site-a").exit_code == 0
    assert keys(federation, "site-a", new) / "patients.npz" in copies(federation)


def test_the_ledger_needs_nothing_of_the_folder_that_backups_leave_out(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    home = federation.root / "site-a"
    before = run("site", "ledger", "--home", home, "--json").stdout
    shutil.rmtree(home / "keys")
    assert run("site", "ledger", "--home", home, "--json").stdout == before and plan_hash in before
    assert "approved" in run("site", "status", "--home", home).output
    plan = (federation.operator.study(plan_hash) / "plan.json").read_bytes()
    answer = SiteService(home).handle(Parcel("INVITE", plan))
    assert open_approval(answer.body, federation.site("site-a").identity.public, plan_hash).status == "approved"


@pytest.mark.parametrize("keep_state", [True, False])
def test_what_lies_on_the_disk_between_two_rounds(make_federation: Callable[..., Any], keep_state: bool) -> None:
    """The list of docs/privacy.md."""
    federation = make_federation(3)
    plan_hash = federation.launch(training__keep_state=keep_state)
    federation.invite_and_approve(plan_hash)
    handlers = federation.services()
    listed: list[set[str]] = []

    def handle(parcel: Parcel) -> Parcel:
        if parcel.kind == "UNMASK":
            folder = keys(federation, "site-a", plan_hash)
            listed.append({path.name for path in folder.iterdir()})
            assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
        return handlers["site-a"](parcel)

    run_study(federation.operator.root, plan_hash, LocalExchange({**handlers, "site-a": handle}))
    common = {"CACHEDIR.TAG", "secrets.bin", "patients.npz"} | ({"optimizer.npz"} if keep_state else set())
    assert listed == [common | {f"vector-{number}.u32", f"parts-{number}.bin"} for number in (1, 2, 3)]


def test_a_copy_that_belongs_to_no_approval_is_deleted_and_nothing_else(make_federation: Callable[..., Any]) -> None:
    federation = make_federation(3)
    home = federation.site("site-a")
    stray = home.root / "keys" / ("0" * 64)
    stray.mkdir()
    (stray / "patients.npz").write_bytes(b"records of a study that nobody approved")
    (home.root / "keys" / "notes.txt").write_text("a stray file")
    drop_leftovers(home)
    assert not (stray / "patients.npz").exists() and (home.root / "keys" / "notes.txt").exists()
