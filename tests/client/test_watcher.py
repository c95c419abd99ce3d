"""The daemon looks at the encoder after each round; whatever becomes of it, no bit and no message of the study changes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_commands import edit, run
from tests_federation import seeded

from client import executor, probe_labels, watch
from client import watcher as module
from client.daemon import _say_labels
from client.home import SiteHome
from client.probe_labels import labels_line
from client.site_service import SiteService
from client.watch import Watch, Watched, read_sightings
from client.watcher import Watcher
from client.watching import Watching
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.data.patients import group
from ssl_core.errors import StateError
from ssl_core.parcel import Parcel
from ssl_core.secure_sum.site import SecureSumSite

Message = tuple[str, str, bytes, bytes, bytes, bytes]
PYTHON = (sys.executable, "-c")
# At the priority of any process: on a busy machine one that steps back may wait for ever.
PLAIN = "import sys; from client import watching; watching.step_back = lambda: None; watching.main(sys.argv[1:])"
FAULTS = {
    "is not there": ("/no/such/program",),
    "ends at once": (*PYTHON, "raise SystemExit(3)"),
    "raises when asked": (*PYTHON, "import os; os.close(2); input(); 1 / 0"),
    "hangs": (*PYTHON, "import time; time.sleep(600)"),
    "hangs and will not be told": (
        *PYTHON,
        "import signal, time\nfor n in set(signal.valid_signals()) - {9, 19}: signal.signal(n, 1)\ntime.sleep(600)",
    ),
}


@dataclass(frozen=True)
class Replayed:
    """A run of one approved study from the same state on disk and the same random bytes: every message in its order."""

    home: Path
    plan_hash: str
    run: Callable[..., list[Message]]

    def __call__(self, watchers: dict[str, Watcher], *, done: bool = False) -> list[Message]:
        return self.run(watchers, done=done)


@pytest.fixture
def study(make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Replayed:
    """Of three hospitals; the watched one is the first."""
    federation = make_federation(3)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    names = [name for name in (*federation.names, "operator", "anchors")]
    for name in names:
        shutil.copytree(federation.root / name, federation.root / "before" / name)

    def go(watchers: dict[str, Watcher], *, done: bool = False) -> list[Message]:
        for name in names:
            shutil.rmtree(federation.root / name)
            shutil.copytree(federation.root / "before" / name, federation.root / name)
        random = seeded("watcher")
        monkeypatch.setattr(os, "urandom", random)
        monkeypatch.setattr(SecureSumSite.__init__, "__defaults__", (random,))
        asked: list[Message] = []

        def handler(name: str) -> Callable[[Parcel], Parcel]:
            service, watcher = SiteService(federation.root / name), watchers.get(name)

            def handle(question: Parcel) -> Parcel:
                if watcher is not None:
                    watcher.cut()
                answer = service.handle(question)
                if watcher is not None:
                    watcher.look()
                    while done and watcher._process is not None and not watcher._idle(watcher._process):
                        time.sleep(0.005)
                asked.append((name, question.kind, question.body, _bytes(question), answer.body, _bytes(answer)))
                return answer

            return handle

        run_study(federation.operator.root, plan_hash, LocalExchange({name: handler(name) for name in federation.names}))
        for watcher in watchers.values():
            watcher.close()
        return asked

    return Replayed(federation.root / "site-a", plan_hash, go)


def _bytes(parcel: Parcel) -> bytes:
    return b"" if parcel.vector is None else parcel.vector.tobytes()


def test_a_watch_that_raises_or_hangs_changes_no_bit_and_no_message(
    study: Replayed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STOPS", 2)
    without = study({})
    assert {kind for _, kind, *_ in without} >= {"KEYS", "START", "CLOSE"}
    assert study({}) == without, "two runs from one state and the same random bytes are one and the same"
    weights = _ends(study)
    for fault, argv in FAULTS.items():
        watcher = Watcher(study.home, argv)
        assert study({"site-a": watcher}) == without, fault
        assert _ends(study) == weights and watcher._process is None and not watcher._ended, fault
    said = {record.getMessage() for record in caplog.records if record.name == "choral.executor"}
    # Whether a process that ended is met before or after it is asked is a matter of time.
    assert said - {"the watch did not begin: BrokenPipeError"} == {"the watch did not begin: FileNotFoundError"}
    assert not read_sightings(study.home / "studies" / study.plan_hash)


def test_every_round_is_seen_and_no_message_knows_of_it_or_of_labels_good_or_bad(study: Replayed) -> None:
    without = study({})
    weights = _ends(study)
    federation = study.home.parent
    units = sorted({line.split(",")[0] for line in (federation / "data/site-a/reports.csv").read_text().splitlines()[1:]})
    labels = federation / "labels.csv"
    (federation / "before/site-a/watch.toml").write_text(f'labels = "{labels}"')
    again = f"a column of file 'labels.csv' names a patient again in line {len(units) + 2}"
    for listed, why in (units, None), ([*units, units[0]], again):
        labels.write_text("patient,finding\n" + "".join(f"{unit},{at % 2}\n" for at, unit in enumerate(listed)))
        watcher = Watcher(study.home, (*PYTHON, PLAIN, "--site-home", str(study.home)))
        assert study({"site-a": watcher}, done=True) == without
        assert _ends(study) == weights
        seen = read_sightings(study.home / "studies" / study.plan_hash)
        assert [each.round for each in seen] == [0, 1, 2, 3], (
            "the start, each round, and the last one, whose CLOSE deletes the copy"
        )
        assert len({each.health.uniformity for each in seen}) == 4 and {each.without for each in seen} == {why}
        assert all((each.health.neighbours is None) == (why is not None) for each in seen)
        assert units[0] not in (study.home / "studies" / study.plan_hash / "watch.jsonl").read_text()
    shown = run("site", "watch", study.plan_hash[:8], "--home", study.home).output
    assert (
        "0 (start)" in shown and f"{seen[3].health.uniformity:.3f}, {seen[3].health.apart:.2g}, -" in shown and again in shown
    )


def test_a_look_is_stopped_while_the_site_answers_goes_on_after_it_and_is_ended_at_last(
    study: Replayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    study({})
    (study.home / "studies" / study.plan_hash / "model.safetensors").touch()
    monkeypatch.setattr(module, "MOST_STOPS", 2)
    watcher = Watcher(study.home, FAULTS["hangs"])
    watcher.look()
    first = watcher._process
    assert first is not None
    for _ in range(2):
        watcher.cut()
        _wait(first.pid, "T")
        watcher.look()
        _wait(first.pid, "SRD")
        assert watcher._process is first
    watcher.cut()
    watcher.look()
    assert first.wait(60) == -signal.SIGKILL and watcher._process not in (None, first)
    watcher.close()
    assert watcher._process is None
    assert _done_by_the_executor(monkeypatch, study.home) == ["cut", "answer", "look", "cut", "answer", "look", "close"]


def _done_by_the_executor(monkeypatch: pytest.MonkeyPatch, home: Path) -> list[str]:
    """With two tasks."""
    done, tokens, stop = list[str](), ["one", "two"], threading.Event()

    def acquire(*_: Any) -> str | None:
        if not tokens:
            stop.set()
        return tokens.pop() if tokens else None

    for name in ("cut", "look", "close"):
        monkeypatch.setattr(Watcher, name, lambda _self, name=name: done.append(name))
    monkeypatch.setattr(executor, "shorten_pull_pause", lambda *_: None)
    monkeypatch.setattr(executor, "_acquire", acquire)
    monkeypatch.setattr(executor, "_do_task", lambda *_: done.append("answer"))
    executor.run(home, "127.0.0.1:1", b"secret", stop=stop)
    return done


def _wait(pid: int, states: str) -> None:
    """Until the process is in one of these states (proc(5)); the test's own time limit ends a wait in vain."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in states:
        time.sleep(0.005)


def test_the_hospital_s_policy_turns_it_off(study: Replayed) -> None:
    edit(study.home.parent / "before/site-a/policy.toml", watch=False)
    watcher = Watcher(study.home, ("/no/such/program",))
    study({"site-a": watcher})
    assert SiteHome(study.home).policy.watch is False
    assert not (study.home / "studies" / study.plan_hash / "watch.jsonl").exists()


def test_a_look_that_raises_says_the_type_alone(
    study: Replayed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = study.home.parent / "before/site-a"
    monkeypatch.setattr(Watched, "model_file", property(lambda _self: pytest.fail("read only where a copy is kept")))
    shutil.rmtree(home / "keys")
    Watching(home).look()
    monkeypatch.undo()
    shutil.copytree(study.home / "keys", home / "keys")

    def broken(_self: Watch) -> None:
        raise ValueError("of patient 17")

    (home / "studies" / study.plan_hash / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(Watch, "look", broken)
    Watching(home).look()
    assert caplog.messages == [f"study {study.plan_hash[:12]} was not looked at: ValueError"]


def test_the_process_steps_back_and_ends_with_its_stdin(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    program = (
        "import os, sys; from pathlib import Path; from client.watching import main; main(sys.argv[1:]); "
        "print(os.sched_getscheduler(0) == os.SCHED_IDLE, Path('/proc/self/oom_score_adj').read_text().strip())"
    )
    done = subprocess.run([*PYTHON, program, "--site-home", str(tmp_path)], input=b"\n", stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"\nTrue 1000\n"


def test_a_machine_that_forbids_to_step_back_is_named_and_watched_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    program = (
        "import os, sys; from client.watching import main\n"
        "def forbidden(*_): raise PermissionError('of patient 17')\n"
        "os.sched_setscheduler = forbidden; main(sys.argv[1:])"
    )
    done = subprocess.run([*PYTHON, program, "--site-home", str(tmp_path)], input=b"\n", capture_output=True, check=True)
    assert done.stdout == b"\n" and b"forbids the least of priorities: PermissionError" in done.stderr
    assert b"17" not in done.stderr.rpartition(b"forbids")[2]


def test_a_stopped_one_ends_with_its_executor(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    executor = (
        "import subprocess, sys, time; from client.watcher import watching_argv; from pathlib import Path\n"
        "child = subprocess.Popen(watching_argv(Path(sys.argv[1])), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)\n"
        "child.stdin.write(b'\\n'); child.stdout.read(1); print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([*PYTHON, executor, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        _wait(pid, "T")
        parent.kill()
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.005)


def test_a_look_of_ones_own_does_not_wait_for_one_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOCK_S", 0.1)
    with watch._alone(tmp_path), pytest.raises(StateError, match="ask again"):
        with watch._alone(tmp_path):
            pass
    with watch._alone(tmp_path):
        pass


def test_the_daemon_says_at_its_start_what_the_labels_are_good_for(
    make_federation: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_federation(3, patients=1).root / "site-a"
    _say_labels(SiteHome(home))
    assert capsys.readouterr().out == ""
    own = home / "own.csv"
    own.write_text("patient,finding\nsomebody,1\n")
    (home / "watch.toml").write_text('labels = "own.csv"')
    _say_labels(SiteHome(home))
    said = "watch: after each round the neighbours probe takes the labels of own.csv; they stay here\n"
    assert capsys.readouterr().out == said
    for table, why in (
        ('labels = "other.csv"', "label file is missing"),
        ('labels = "."', "label file is missing"),
        ('files = "own.csv"', "watch watch.toml is not valid"),
        ("labels = own.csv", "watch file is not valid TOML"),
        ("labels = 2020-01-01", "a value has no plain type"),
        ("labels = " + "9" * 5000, "the labels cannot be read (ValueError)"),
    ):
        (home / "watch.toml").write_text(table)
        _say_labels(SiteHome(home))
        said = capsys.readouterr().out
        assert said.startswith(f"watch: no neighbours probe: {why}") and "Studies train all the same" in said, said
        assert SiteHome(home).config.name == "site-a"
    edit(home / "policy.toml", watch=False)
    (home / "watch.toml").write_text('labels = "own.csv"')
    _say_labels(SiteHome(home))
    assert "nobody looks" in capsys.readouterr().out


def test_at_an_approval_the_labels_are_read_and_no_id_is_said(make_federation: Callable[..., Any]) -> None:
    home = make_federation(3, patients=1).root / "site-a"
    patients = group(["somebody"], np.zeros((1, 4), np.float32))
    (home / "watch.toml").write_text('labels = "own.csv"')
    for cells, why in (
        (b"patient,finding\nsomebody,2\n", "a column of file 'own.csv' is neither 0 nor 1 in line 2"),
        (b"patient,finding\nsomebody,1\nsomebody,1\n", "a column of file 'own.csv' names a patient again in line 3"),
        (b"patient,finding\nsome\xffbody,1\n", "label file 'own.csv' cannot be read as UTF-8 CSV"),
        (b"patient,finding\n", "label file 'own.csv' has no rows"),
        (b"patient,finding\nanybody,1\n", "the labels name none of the patients that are looked at"),
        # On its side: what should be the name of a finding is somebody's id.
        (b"patient,somebody\nfinding,x\n", "a column of file 'own.csv' is neither 0 nor 1 in line 2"),
    ):
        (home / "own.csv").write_bytes(cells)
        line = labels_line(SiteHome(home), patients)
        assert line is not None and line.startswith(f"no neighbours probe: {why}"), line
        assert "somebody" not in line
    (home / "own.csv").write_bytes(b"patient,finding\nsomebody,1\n")
    assert labels_line(SiteHome(home), patients) == (
        "after each round the neighbours probe takes the labels of own.csv; they stay here"
    )


def test_an_error_that_is_not_ours_is_told_by_its_type_alone(
    make_federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_federation(3, patients=1).root / "site-a"
    (home / "watch.toml").write_text('labels = "site.toml"')

    def broken(*_: object, **__: object) -> None:
        raise ValueError("of patient 17")

    monkeypatch.setattr(probe_labels, "read_labels", broken)
    line = labels_line(SiteHome(home), group(["somebody"], np.zeros((1, 4), np.float32)))
    assert line is not None and "cannot be read (ValueError)" in line and "17" not in line


def test_a_policy_that_cannot_be_read_stops_the_watch_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "studies/x").mkdir(parents=True)
    (tmp_path / "studies/x/model.safetensors").touch()
    (tmp_path / "site.toml").touch()
    (tmp_path / "policy.toml").write_text("watch = 3")
    with caplog.at_level(logging.WARNING):
        watcher = Watcher(tmp_path)
        watcher.look()
        watcher.cut()
        watcher.close()
    assert caplog.messages == ["the watch did not begin: ConfigError"]


def _ends(study: Replayed) -> bytes:
    (encoder,) = (study.home / "encoders").glob("*/encoder.safetensors")
    content: bytes = encoder.read_bytes()
    return content
