"""The built wheel, outside the checkout: one federation of four sites over Flower, shared by the tests of this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from tests_marks import alive, marked_environment

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that holds Choral's wheel and, by a path file, what this environment holds beside it."""
    folder = tmp_path_factory.mktemp("installed")
    wheels = folder / "wheels"
    quiet = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*quiet, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), str(CHECKOUT)]
    subprocess.run(build, check=True, cwd=folder, timeout=120)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (wheel,) = wheels.iterdir()
    install = [*quiet, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, cwd=folder, timeout=120)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "env" / "lib" / version / "site-packages"
    (packages / "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for script in Path(sys.executable).parent.glob("fl*"):
        body = script.read_text().split("\n", 1)[1]
        (python.parent / script.name).write_text(f"#!{python}\n{body}")
        (python.parent / script.name).chmod(0o755)
    return python


@pytest.fixture(scope="session")
def study(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What driver.py found, and the mark that its processes carried."""
    folder = tmp_path_factory.mktemp("e2e")
    env, mark = marked_environment()
    done = subprocess.run(
        [str(installed), str(HERE / "driver.py"), str(folder / "f")],
        cwd=folder, env=env, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), mark


@pytest.mark.timeout(500)
def test_the_study_ends_although_an_executor_was_killed(study: tuple[dict[str, Any], str]) -> None:
    found, _ = study
    stages = [event["stage"] for event in found["events"]]
    assert found["killed"] and stages[-1] == "finished", stages[-5:]
    closed = [event for event in found["events"] if event["stage"] == "closed"]
    assert [event["done"] for event in closed] == [1, 2, 3]
    assert closed[0]["survivors"] == 4 and all(event["survivors"] >= 3 for event in closed)
    assert found["release"] and found["daemon"]["site"] == "site-b"


def test_it_ran_from_the_wheel_and_every_site_has_the_same_encoder(study: tuple[dict[str, Any], str]) -> None:
    found, _ = study
    assert not Path(found["package"]).is_relative_to(CHECKOUT)
    weights = {weight for site in found["weights"] for weight in site}
    assert len(weights) == 1 and sum(bool(site) for site in found["weights"]) >= 3


def test_the_killed_site_is_charged_for_every_round_that_it_started(study: tuple[dict[str, Any], str]) -> None:
    found, _ = study
    for name, ledger in found["ledgers"].items():
        (entry,) = ledger["cohorts"][0]["entries"]
        assert entry["steps"] == (3 + 2) * 2
        started = entry["steps_started"] // 2
        assert started == 3 or (name == "site-a" and started in {1, 2, 3})


def test_nothing_is_left_running(study: tuple[dict[str, Any], str]) -> None:
    assert alive(study[1]) == []
    assert os.environ.get("CHORAL_TEST_MARK") is None
