"""What `choral site status` shows: the daemon and its server, the roster, and every study that this site was invited to.

Comes in: a site's state folder. Goes out: facts for a script, and rows for a person. Nothing is charged or answered here. While
a daemon runs, its server is asked for its certificate, as the daemon does (server_check.py), so that a wrong address or a
server that is down is seen by the people at the site.
"""

from __future__ import annotations

from typing import Any

from client.alarms import alarms_of
from client.asked import asked_ago_s, no_longer_asked
from client.daemon import site_status
from client.home import SiteHome
from client.receipts import bytes_out
from client.rule import asks_anew, pause_in_words
from client.server_check import check_server_certificate
from client.study import Study
from ssl_core.errors import TrustError

_ANSWERS = "answers with the certificate of the roster"
_SILENT = "does not answer; the daemon goes on trying"


def facts_of(site: SiteHome) -> dict[str, Any]:
    """Plain values: site, daemon, server, roster_version, studies."""
    daemon = site_status(site)
    # A daemon of an earlier version does not say.
    address = None if daemon is None else daemon.get("superlink")
    folders = sorted((site.root / "studies").iterdir())
    return {
        "site": site.config.name,
        "daemon": daemon,
        "server": None if address is None else {"address": address, "state": _server(site, address)},
        "rule_paused": pause_in_words(site),
        "roster_version": site.roster()[0].version if (site.root / "roster.json").is_file() else None,
        "studies": [_study(site, folder.name) for folder in folders if (folder / "plan.json").is_file()],
    }


def rows_of(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """The same for people."""
    daemon, server, studies = facts["daemon"], facts["server"], facts["studies"]
    rows: list[tuple[str, Any]] = [
        ("site", facts["site"]),
        ("daemon", "not running" if daemon is None else f"running, pid {daemon['pid']}, {', '.join(daemon['processes'])}"),
    ]
    rows += [] if server is None else [("server", f"{server['address']} {server['state']}")]
    rows += [] if facts["rule_paused"] is None else [("approval by rule", facts["rule_paused"])]
    rows.append(("roster version", facts["roster_version"] or "none yet"))
    rows += [
        (
            f"study {s['name']}",
            f"{s['state']}; rounds answered: {s['rounds_answered']}; bytes out: {s['bytes_out']}; "
            f"copy of records: {'kept' if s['records_kept'] else 'none'}",
        )
        for s in studies
    ]
    rows += [(f"ALARM {s['name']}", f"{alarm['against']} {alarm['what']}") for s in studies for alarm in s["alarms"]]
    if any(s["alarms"] for s in studies):
        rows.append(("what to do", "stop, and show the evidence (--json) to the authority"))
    return rows


def _server(site: SiteHome, address: str) -> str:
    try:
        answers = check_server_certificate(address, site.root / "run" / "ca.crt")
    except TrustError as error:
        return f"is not the server of the roster: {error.problem}"
    return _ANSWERS if answers else _SILENT


def _study(site: SiteHome, plan_hash: str) -> dict[str, Any]:
    study = Study(site, plan_hash)
    name, over = study.outlived() or (study.plan.name, None)
    state = "approved" if study.approved() else _waiting(study)
    if over is None and study.finished:
        state = "finished"
    return {
        "plan": plan_hash,
        "name": name,
        "state": state if over is None else f"over here: {over}{_afterwards(site, name, plan_hash)}",
        "asked_ago_s": asked_ago_s(study.folder),
        "rounds_answered": study.answered(),
        "bytes_out": bytes_out(site.chain, plan_hash),
        "records_kept": study.kept_records.kept,
        "alarms": alarms_of(site, plan_hash),
    }


def _waiting(study: Study) -> str:
    """What a person is to do, and whether anybody still asks for it."""
    stale = no_longer_asked(study.folder)
    said = f"waiting for: choral site approve {study.plan_hash[:12]}" + ("" if stale is None else f" ({stale})")
    if study.home.policy.auto_approve_epsilon and asks_anew(study):
        said += "; the rule leaves it to a person, since it reads the records in another way than the studies it approved"
    return said


def _afterwards(site: SiteHome, name: str, plan_hash: str) -> str:
    """What follows for a study that a roster ended before it was done."""
    finished = (site.root / "encoders" / f"{name}-{plan_hash[:8]}").is_dir()
    return "" if finished else "; to go on, the operator launches its plan again and you approve it anew"
