"""Runs one whole study over Flower with the installed distribution: `driver.py FOLDER`; prints what was found as JSON.

Round 2 begins, site-a's executor is killed while its SuperNode stays up; the study must end all the same (ruling 30).
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomli_w

import ssl_core
from deploy.loopback import Loopback, SiteSetup
from deploy.supervisor import Supervisor

NAMES = ["site-a", "site-b", "site-c", "site-d"]
WORDS = [f"{a}{b}" for a in ("lung", "heart", "rib", "left", "right", "no", "new") for b in ("", "ic", "al", "ous")]


def write_source(folder: Path, seed: int) -> Path:
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    with (folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "text"])
        writer.writerows([f"p{n}", " ".join(draw.choices(WORDS, k=6))] for n in range(60))
    source = {"kind": "table", "path": "reports.csv", "format": "csv", "patient_column": "patient", "text_column": "text"}
    (folder / "source.toml").write_text(tomli_w.dumps(source))
    return folder / "source.toml"


def write_plan(path: Path) -> Path:
    plan = tomllib.loads((files("deploy") / "studies" / "reports.toml").read_text())
    plan["data"] |= {"words": 8, "codes": 1, "buckets": 64}
    plan["encoder"]["width"] = 8
    plan["rounds"] |= {"rounds": 3, "steps_per_round": 2, "min_sites": 3, "max_void": 2, "patience_s": 15.0}
    plan["privacy"] |= {"sampling_rate": 0.1, "noise_multiplier": 2.0}
    plan["sites"] = [{"name": name, "nominal_size": 60} for name in NAMES]
    path.write_text(tomli_w.dumps(plan))
    return path


def kill_executor(home: Path) -> bool:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:4] == [b"-P", b"-m", b"client.executor"] and str(home).encode() in words:
            os.kill(int(entry.name), signal.SIGKILL)
            return True
    return False


def main(folder: Path) -> dict[str, Any]:
    setups = [SiteSetup(name=n, source=write_source(folder / "data" / n, i)) for i, n in enumerate(NAMES)]
    killed = False
    with Supervisor(folder / "run") as supervisor:
        federation = Loopback(folder / "federation", setups, supervisor)
        federation.set_up()
        federation.start()
        plan_hash = federation.launch(write_plan(folder / "plan.toml"))
        waiting: set[str] = set()

        def invited(event: dict[str, Any]) -> bool:
            waiting.update([event["site"]] if event["stage"] == "waiting" else [])
            return len(waiting) == len(NAMES)

        events: list[dict[str, Any]] = []
        federation.follow(plan_hash, events.append, until=invited, timeout_s=120)
        federation.each_site("site", "approve", plan_hash[:12], "--yes")

        def finished(event: dict[str, Any]) -> bool:
            nonlocal killed
            if event["stage"] == "start" and event["round"] == 2:
                killed = kill_executor(federation.site_home("site-a"))
            return bool(event["stage"] in {"finished", "failed", "stopped"})

        federation.follow(plan_hash, events.append, until=finished, timeout_s=240)
        release = federation.publish(plan_hash)
        status = json.loads(federation.command("site", "status", "--json", "--home", str(federation.site_home("site-b"))))
        ledgers = {name: json.loads(text) for name, text in federation.each_site("site", "ledger", "--json").items()}
    homes = [federation.site_home(name) for name in NAMES]
    return {
        "package": str(Path(ssl_core.__file__).parent),
        "killed": killed,
        "events": events,
        "release": json.loads((release / "card.json").read_text())["payload"] is not None,
        "weights": [[json.loads((e / "card.json").read_text())["weights"] for e in (h / "encoders").iterdir()] for h in homes],
        "daemon": status["daemon"],
        "ledgers": ledgers,
        "client_code": [str(p) for h in homes for p in (h / "run" / "flwr").rglob("client_app.py")],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
