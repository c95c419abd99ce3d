"""Step 9 of 12: when a hospital's rule (`auto_approve_epsilon`) may answer an invitation, and when it leaves that to a person.

Comes in: a site's state folder. Goes out: whether the rule is paused, in the file `rule-paused`, which holds the hash of the
plan that paused it. A check of the records decides between "approved" and "waiting", which the operator sees, and "waiting" is
not charged: so whoever makes plans could ask one question about the records after another. After the first "waiting" that they
brought about the rule answers no plan, and reads nothing, until a person has approved a study or removed the file. The file is
written before the records are read, and removed once they passed: where they end the process (memory), the pause stands.

"Approved" is an answer, too, and need cost nothing: a plan's epsilon may be 0. What the check of the records depends on are the
plan's data, its task and this site's declared size, together its question. Since a person last approved a study the rule
answers one question that is new, and the same again as often as it is asked; every other one waits, unread.
"""

from __future__ import annotations

from pathlib import Path

from client.home import SiteHome
from client.study import Study
from ssl_core.chain import write_durably
from ssl_core.trust.envelope import canonical, peek

PERSON, RULE = "person", "policy rule"
"""Who approved a study, as its entry in the log says."""


def _file(home: SiteHome) -> Path:
    return home.root / "rule-paused"


def pause_rule(home: SiteHome, plan_hash: str) -> None:
    """Durable before a record is read."""
    write_durably(_file(home), f"{plan_hash}\n".encode())


def resume_rule(home: SiteHome) -> None:
    """A person has approved a study, or the records passed the check."""
    _file(home).unlink(missing_ok=True)


def paused_by(home: SiteHome) -> str | None:
    """The hash of the plan that paused the rule; None while it is on, or where the policy has none."""
    if not home.policy.auto_approve_epsilon or not _file(home).is_file():
        return None
    return _file(home).read_text().strip()


def asks_anew(study: Study) -> bool:
    """Is it another question of the records than those answered since a person last approved a study, the rule's among them?"""
    approvals = [entry.body for entry in study.home.chain.entries("approval")]
    last = max((place for place, body in enumerate(approvals) if body["by"] == PERSON), default=0)
    since = approvals[last:]
    if all(body["by"] == PERSON for body in since):
        return False
    return _question(study) not in {_question(Study(study.home, body["plan"])) for body in since}


def _question(study: Study) -> bytes | None:
    """All of a plan that decides, with the records, whether they pass; None where its file is gone."""
    path = study.folder / "plan.json"
    if not path.is_file():
        return None
    # Of a plan for an earlier roster the signature counts no more; these files are the site's own.
    body = peek(path.read_bytes(), "plan")
    sizes = [site["nominal_size"] for site in body["sites"] if site["name"] == study.home.config.name]
    return canonical([body["data"], body["objective"], sizes])


def pause_in_words(home: SiteHome) -> str | None:
    """What a person reads of it, or None."""
    plan_hash = paused_by(home)
    if plan_hash is None:
        return None
    return (
        f"paused: the check of the records left study {plan_hash[:12]} to a person, or has not come to its end "
        "(logs/executor.log says why), and further answers would tell the operator of them; on again once a person approves a "
        f"study, or removes {_file(home)}"
    )
